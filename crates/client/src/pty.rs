//! Terminal sessions: a WebSocket to a program in a VM.

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::wire::{PtyClientMessage, PtyServerMessage, PtySignal};

/// Longest message that is taken: the screen of a session, with its scrollback.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A terminal session that is looked at: two halves, to be used at once. A program that prints is not
/// typed on while nobody takes what it prints.
///
/// Dropping the halves detaches; the session goes on.
#[derive(Debug)]
pub struct Pty {
    /// What the session says.
    pub output: PtyReader,
    /// What is said to it.
    pub input: PtyWriter,
}

/// What a session says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PtyEvent {
    /// The session's name: the first event of one that was opened.
    Session(String),
    /// The program printed something. Of a session that was attached to, the first one draws its screen,
    /// after a [`PTY_RESET`](crate::wire::PTY_RESET).
    Output(Bytes),
    /// The program has ended, with its exit code or 128 + the signal's number.
    Exited(i32),
    /// The connection is closed. The last event.
    Closed {
        /// Why, in the server's words; empty where there are none.
        reason: String,
    },
}

impl Pty {
    pub(crate) async fn new(upgraded: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let io = TokioIo::new(upgraded);
        let socket = WebSocketStream::from_raw_socket(io, Role::Client, Some(config)).await;
        let (input, output) = socket.split();
        Self { output: PtyReader(output), input: PtyWriter(input) }
    }
}

/// The half that is read. It also answers the server's pings, so it must be.
#[derive(Debug)]
pub struct PtyReader(SplitStream<Socket>);

impl PtyReader {
    /// Waits for the next event. After [`PtyEvent::Closed`] there is none but that.
    pub async fn next(&mut self) -> PtyEvent {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => return PtyEvent::Output(bytes),
                // What a later server may say besides is not for this client.
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(PtyServerMessage::SessionInfo { session_id }) => {
                        return PtyEvent::Session(session_id);
                    }
                    Ok(PtyServerMessage::Exited { exit_code }) => {
                        return PtyEvent::Exited(exit_code);
                    }
                    Err(_) => {}
                },
                Some(Ok(Message::Close(frame))) => {
                    let reason = frame.map(|frame| frame.reason.to_string());
                    return PtyEvent::Closed { reason: reason.unwrap_or_default() };
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return PtyEvent::Closed { reason: error.to_string() },
                None => return PtyEvent::Closed { reason: String::new() },
            }
        }
    }
}

/// The half that is written. Its calls wait while the program does not read, and fail silently once the
/// connection is closed: the other half tells why.
#[derive(Debug)]
pub struct PtyWriter(SplitSink<Socket, Message>);

impl PtyWriter {
    /// Types.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) {
        self.send(Message::Binary(bytes.into())).await;
    }

    /// Says that the window has another size.
    pub async fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = (cols.into(), rows.into());
        self.say(&PtyClientMessage::Resize { cols, rows }).await;
    }

    /// Sends the program a signal.
    pub async fn signal(&mut self, signal: PtySignal) {
        self.say(&PtyClientMessage::Signal { signal }).await;
    }

    /// Leaves, once what was typed has been sent.
    pub async fn detach(mut self) {
        let _ = self.0.close().await;
    }

    async fn say(&mut self, message: &PtyClientMessage) {
        let text = serde_json::to_string(message);
        let text = text.expect("wire types have string keys and finite numbers");
        self.send(Message::Text(text.into())).await;
    }

    async fn send(&mut self, message: Message) {
        let _ = self.0.send(message).await;
    }
}
