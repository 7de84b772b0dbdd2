//! A connection to one peer: the transport with a stream below it.

use std::future::pending;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::error::Error;
use crate::transport::{Incoming, Role, Transport};

/// What we are, as every peer is told.
const OUR_ID: &[u8] = b"SSH-2.0-freestyle";
/// Longest line in which a peer says what it is (RFC 4253 section 4.2), its end included.
const MAX_ID: usize = 255;
/// Lines that a server may say before that, such as why it does not want to talk.
const MAX_LINES: usize = 20;
/// Read at once.
const READ_SIZE: usize = 64 * 1024;
/// Above this much unsent output nothing is taken from the other peer.
const MAX_OUTPUT: usize = 256 * 1024;
/// How long a peer may take to read the last of what we have to say.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A stream to a peer.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A connection whose peer has said what it is.
pub(crate) struct Connection<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    transport: Transport,
}

impl<S: Stream> Connection<S> {
    /// Says what we are, hears what the peer is, and exchanges the first keys.
    pub(crate) async fn open(stream: S, role: Role) -> Result<Self, Error> {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let is_client = matches!(role, Role::Client);
        let mut input = BytesMut::new();
        let line = [OUR_ID, b"\r\n"].concat();
        let say = writer.write_all(&line);
        let peer_id = if is_client {
            // One who says why it will not talk, and hangs up, must be heard out first.
            let peer_id = read_id(&mut reader, &mut input, true).await?;
            say.await?;
            peer_id
        } else {
            say.await?;
            read_id(&mut reader, &mut input, false).await?
        };
        let mut transport = Transport::new(role, OUR_ID, &peer_id)?;
        transport.input = input;
        let mut connection = Self { reader, writer, transport };
        match connection.first_exchange().await {
            Ok(()) => Ok(connection),
            Err(error) => Err(connection.fail(error).await),
        }
    }

    async fn first_exchange(&mut self) -> Result<(), Error> {
        while !self.transport.is_ready() {
            match self.transport.receive()? {
                Incoming::Nothing => self.move_bytes(true).await?,
                Incoming::Own => {}
                Incoming::Payload(_) => return Err(Error::Protocol("a message came out of turn")),
            }
        }
        Ok(())
    }

    pub(crate) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Whether messages can be sent without too many being kept for a peer that does not read.
    pub(crate) fn has_room(&self) -> bool {
        !self.transport.is_exchanging() && self.transport.output.len() < MAX_OUTPUT
    }

    /// Waits until bytes were sent or, `read` allowing, received. Loses none if it is dropped.
    pub(crate) async fn move_bytes(&mut self, read: bool) -> Result<(), Error> {
        let Self { reader, writer, transport } = self;
        let Transport { input, output, .. } = transport;
        let reading = async {
            if !read {
                return pending().await;
            }
            input.reserve(READ_SIZE);
            reader.read_buf(input).await
        };
        let writing = async {
            if output.is_empty() {
                return pending().await;
            }
            writer.write_buf(output).await
        };
        let moved = tokio::select! {
            moved = reading => moved?,
            moved = writing => moved?,
        };
        if moved == 0 { Err(Error::Closed) } else { Ok(()) }
    }

    /// The next message of the layers above, for as long as one is talked to and nothing else.
    pub(crate) async fn read(&mut self) -> Result<BytesMut, Error> {
        loop {
            match self.transport.receive()? {
                Incoming::Payload(payload) => return Ok(payload),
                Incoming::Own => {}
                Incoming::Nothing => self.move_bytes(true).await?,
            }
        }
    }

    /// Sends a message and waits until it is on its way.
    pub(crate) async fn write(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.transport.send(payload)?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        while !self.transport.output.is_empty() {
            self.move_bytes(false).await?;
        }
        Ok(())
    }

    /// Resolves once the peer is gone. What it says meanwhile is kept, up to a bound.
    pub(crate) async fn closed(&mut self) -> Error {
        loop {
            let has_room = self.transport.input.len() < READ_SIZE;
            if let Err(error) = self.move_bytes(has_room).await {
                return error;
            }
        }
    }

    /// Says good-bye and closes.
    pub(crate) async fn disconnect(mut self, reason: u32, description: &str) {
        let last_words = async {
            self.transport.disconnect(reason, description)?;
            self.flush().await?;
            Ok::<_, Error>(self.writer.shutdown().await?)
        };
        // A peer that is gone or does not listen need not be told.
        let _ = timeout(LAST_WORDS, last_words).await;
    }

    /// Tells the peer of an error that is its own, and hands it back.
    pub(crate) async fn fail(self, error: Error) -> Error {
        if let Some((reason, description)) = error.disconnect() {
            self.disconnect(reason, &description).await;
        }
        error
    }
}

/// Reads up to and with the line that says what the peer is.
async fn read_id(
    reader: &mut (impl AsyncRead + Unpin),
    input: &mut BytesMut,
    may_talk: bool,
) -> Result<Vec<u8>, Error> {
    let mut said = String::new();
    for _ in 0..MAX_LINES {
        let end = loop {
            match input.iter().take(MAX_ID).position(|byte| *byte == b'\n') {
                Some(end) => break end,
                None if input.len() >= MAX_ID => {
                    return Err(Error::Protocol("the first line is too long"));
                }
                None => {}
            }
            if reader.read_buf(input).await? == 0 {
                return Err(if said.is_empty() { Error::Closed } else { Error::NotSsh(said) });
            }
        };
        let line = input.split_to(end);
        input.advance(1);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.starts_with(b"SSH-2.0-") || line.starts_with(b"SSH-1.99-") {
            return Ok(line.to_vec());
        }
        if said.is_empty() {
            said = String::from_utf8_lossy(line).into_owned();
        }
        if !may_talk || line.starts_with(b"SSH-") {
            break;
        }
    }
    Err(Error::NotSsh(said))
}
