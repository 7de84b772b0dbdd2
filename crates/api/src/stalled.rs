//! Connections whose peer reads nothing are ended: otherwise whoever asks for a large answer and does
//! not take it keeps it in memory for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection on which a write that makes no progress for a time is an error.
pub(crate) struct Stalled<T> {
    inner: T,
    time: Duration,
    /// Since when a write has been waiting.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T> Stalled<T> {
    pub(crate) fn after(time: Duration, inner: T) -> Self {
        Self { inner, time, waiting: None }
    }

    /// What a write came to, or the error if it has been waiting for too long.
    fn judge<R>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let time = self.time;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + time)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stalled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stalled<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.inner).poll_shutdown(context);
        self.judge(context, ended)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_ends_the_connection() {
        let (server, _client) = tokio::io::duplex(1024);
        let started = Instant::now();
        let error = Stalled::after(TIME, server).write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), TIME.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_slow_gets_everything() {
        let (server, mut client) = tokio::io::duplex(1024);
        let mut server = Stalled::after(TIME, server);
        let reading = tokio::spawn(async move {
            let mut got = 0;
            let mut part = [0; 1024];
            while got < 8192 {
                tokio::time::sleep(TIME - Duration::from_secs(1)).await;
                got += client.read(&mut part).await.unwrap();
            }
            got
        });
        server.write_all(&[0; 8192]).await.unwrap();
        assert_eq!(reading.await.unwrap(), 8192);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_anything_to_send_may_wait() {
        let (server, mut client) = tokio::io::duplex(1024);
        let mut server = Stalled::after(TIME, server);
        let asking = tokio::spawn(async move {
            tokio::time::sleep(10 * TIME).await;
            client.write_all(b"x").await.unwrap();
            client
        });
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.write_all(b"y").await.unwrap();
        drop(asking.await.unwrap());
    }
}
