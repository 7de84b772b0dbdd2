//! Noticing that nothing happens on a connection which carries many requests at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::body::AnswerBody;

/// Counts the requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct Idle(Arc<Counter>);

#[derive(Debug, Default)]
struct Counter {
    requests: AtomicUsize,
    /// Told when the first begins and when the last ends.
    changed: Notify,
}

/// A request, until dropped.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Counter>);

/// An answer that keeps its connection busy.
#[derive(Debug)]
pub(crate) struct BusyBody {
    body: AnswerBody,
    _busy: Busy,
}

impl Idle {
    /// Counts one more request.
    pub(crate) fn busy(&self) -> Busy {
        if self.0.requests.fetch_add(1, Ordering::AcqRel) == 0 {
            self.0.changed.notify_one();
        }
        Busy(self.0.clone())
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
}

impl Busy {
    pub(crate) fn until_end_of(self, body: AnswerBody) -> BusyBody {
        BusyBody { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_one();
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
        Pin::new(&mut self.get_mut().body).poll_frame(context)
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
