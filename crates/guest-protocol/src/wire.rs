//! Frames in and out of an asynchronous byte stream, by one task.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frame::{CUT, Frame, FrameDecoder};
use crate::mux::Outbox;

/// Bytes read at once.
const READ: usize = 32 * 1024;
/// Encoded bytes are collected up to this, so that small frames share a write.
const COLLECT: usize = 64 * 1024;

/// A byte stream that carries frames. The stream must not buffer what is written to it.
#[derive(Debug)]
pub struct Wire<S> {
    io: S,
    input: Box<[u8]>,
    decoder: FrameDecoder,
    output: Vec<u8>,
    /// Bytes of `output` that are on their way.
    written: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Starts in the middle of whatever an earlier connection left in the stream.
    pub fn new(io: S) -> Self {
        Self {
            io,
            input: vec![0; READ].into_boxed_slice(),
            decoder: FrameDecoder::default(),
            output: CUT.to_vec(),
            written: 0,
        }
    }

    /// Forgets what has not been sent, as it belonged to a connection that has ended.
    pub fn restart(&mut self) {
        self.output.clear();
        self.written = 0;
        self.output.extend_from_slice(&CUT);
    }

    /// Sends a frame ahead of everything in the outbox.
    pub fn send_first(&mut self, frame: &Frame) {
        frame.encode(&mut self.output);
    }

    /// How many stretches of what was received were no valid frame.
    pub fn dropped(&self) -> u64 {
        self.decoder.dropped()
    }

    /// Sends what is in the outbox until a frame arrives. `None` when the peer has closed the
    /// stream, or nobody is left who could send on it. Cancelling the future loses nothing.
    pub async fn next(&mut self, outbox: &mut Outbox) -> io::Result<Option<Frame>> {
        poll_fn(|cx| self.poll_next(cx, outbox)).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
    ) -> Poll<io::Result<Option<Frame>>> {
        if let Some(frame) = self.decoder.next_frame() {
            return Poll::Ready(Ok(Some(frame)));
        }
        match self.poll_send(cx, outbox) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(None)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        loop {
            let mut input = ReadBuf::new(&mut self.input);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut input))?;
            if input.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            self.decoder.push(input.filled());
            if let Some(frame) = self.decoder.next_frame() {
                return Poll::Ready(Ok(Some(frame)));
            }
        }
    }

    /// Sends as much as the stream takes now. Ready when no more can ever come.
    fn poll_send(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
        let mut closed = false;
        loop {
            while !closed && self.output.len() - self.written < COLLECT {
                match outbox.poll_recv(cx) {
                    Poll::Ready(Some(frame)) => frame.encode(&mut self.output),
                    Poll::Ready(None) => closed = true,
                    Poll::Pending => break,
                }
            }
            let output = &self.output[self.written..];
            if output.is_empty() {
                self.output.clear();
                self.written = 0;
                return if closed { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            match Pin::new(&mut self.io).poll_write(cx, output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                // A peer that reads nothing must not keep a stream open that nobody uses.
                Poll::Pending if closed => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
            if self.written > COLLECT {
                self.output.drain(..self.written);
                self.written = 0;
            }
        }
    }
}
