//! Noticing that nothing happens on a connection which carries many requests at once.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, timeout};

use crate::body::AnswerBody;

/// Counts the requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct Idle(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicUsize,
    /// Told when the first begins and when the last ends.
    changed: Notify,
    numbers: AtomicU64,
    /// Answers of which the client has been given a piece and not asked for the next, by the number
    /// of the request, and since when. While a guest is waited for, its answer is not among them.
    given: Mutex<HashMap<u64, Instant>>,
}

/// A request, until dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    connection: Arc<Counter>,
    number: u64,
}

/// An answer that keeps its connection busy.
#[derive(Debug)]
pub(crate) struct BusyBody {
    body: AnswerBody,
    busy: Busy,
}

impl Idle {
    /// Counts one more request.
    pub(crate) fn busy(&self) -> Busy {
        if self.0.requests.fetch_add(1, Ordering::AcqRel) == 0 {
            self.0.changed.notify_one();
        }
        let number = self.0.numbers.fetch_add(1, Ordering::Relaxed);
        Busy { connection: self.0.clone(), number }
    }

    /// Returns once there has been no request for so long.
    pub(crate) async fn for_longer_than(&self, limit: Duration) {
        loop {
            let changed = self.0.changed.notified();
            if self.0.requests.load(Ordering::Acquire) > 0 {
                changed.await;
            } else if timeout(limit, changed).await.is_err() {
                return;
            }
        }
    }

    /// Returns once the client has left an answer alone for so long of which there is more.
    pub(crate) async fn stalled_for(&self, limit: Duration) {
        let mut look = interval(limit / 4);
        loop {
            look.tick().await;
            if self.0.given().values().any(|since| since.elapsed() >= limit) {
                return;
            }
        }
    }
}

impl Counter {
    fn given(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    pub(crate) fn until_end_of(self, body: AnswerBody) -> BusyBody {
        BusyBody { body, busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.connection.given().remove(&self.number);
        if self.connection.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.connection.changed.notify_one();
        }
    }
}

impl Body for BusyBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // Whoever asks has taken what was there before: over HTTP/2, the client decides when.
        let Self { body, busy } = self.get_mut();
        let frame = Pin::new(body).poll_frame(context);
        let mut given = busy.connection.given();
        match frame {
            Poll::Ready(_) => given.insert(busy.number, Instant::now()),
            Poll::Pending => given.remove(&busy.number),
        };
        drop(given);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const SOON: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_its_last_request_ended_long_ago() {
        let idle = Idle::default();
        let (first, second) = (idle.busy(), idle.busy());
        let expired = idle.for_longer_than(LIMIT);
        tokio::pin!(expired);
        assert!(timeout(LIMIT * 2, expired.as_mut()).await.is_err());
        drop(first);
        assert!(timeout(LIMIT * 2, expired.as_mut()).await.is_err());
        drop(second);
        assert!(timeout(LIMIT - SOON, expired.as_mut()).await.is_err());
        drop(idle.busy());
        assert!(timeout(LIMIT - SOON, expired.as_mut()).await.is_err());
        assert!(timeout(SOON * 2, expired.as_mut()).await.is_ok());
    }
}
