//! Bodies on their way through: neither is ever held as a whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};

use crate::pool::Lease;

/// How far a request's body has come.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    /// When its last bytes were passed on: milliseconds since it began.
    last: AtomicU64,
    finished: AtomicBool,
}

impl Progress {
    fn new() -> Self {
        let (last, finished) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { began: Instant::now(), last, finished }
    }

    fn moved(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    /// When its last bytes were passed on.
    pub(crate) fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// The body of a request, from the client to the guest.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    #[default]
    Empty,
    Upload(Upload),
}

#[derive(Debug)]
pub(crate) struct Upload {
    incoming: Incoming,
    progress: Arc<Progress>,
    /// How long the client is waited for, and the time that runs while it is.
    stall: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

/// The client stopped in the middle of its request.
#[derive(Debug, thiserror::Error)]
#[error("the request was not finished in time")]
pub(crate) struct Stalled;

impl RequestBody {
    /// The client may pause for as long as `stall`.
    pub(crate) fn new(incoming: Incoming, stall: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::Empty;
        }
        let progress = Arc::new(Progress::new());
        Self::Upload(Upload { incoming, progress, stall, waiting: None })
    }

    /// `None` for a body that has nothing to send.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Empty => None,
            Self::Upload(upload) => Some(upload.progress.clone()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self::Upload(upload) = self.get_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(&mut upload.incoming).poll_frame(context);
        if frame.is_pending() {
            let stall = upload.stall;
            let waiting = upload.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
            ready!(waiting.as_mut().poll(context));
            return Poll::Ready(Some(Err(Stalled.into())));
        }
        upload.waiting = None;
        upload.progress.moved();
        if upload.incoming.is_end_stream() {
            upload.progress.finished.store(true, Ordering::Release);
        }
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Upload(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Upload(upload) => upload.incoming.size_hint(),
        }
    }
}

/// The body of an answer, to the client.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// The edge's own words.
    Own(Full<Bytes>),
    /// The guest's.
    Guest(Download),
}

impl AnswerBody {
    pub(crate) fn text(text: String) -> Self {
        Self::Own(Full::new(Bytes::from(text)))
    }

    pub(crate) fn nothing() -> Self {
        Self::Own(Full::default())
    }
}

/// What a guest answers. Its connection is used again if all was said on it.
#[derive(Debug)]
pub(crate) struct Download {
    incoming: Incoming,
    lease: Option<Lease>,
    upload: Option<Arc<Progress>>,
    _request: OwnedSemaphorePermit,
}

impl Download {
    /// `upload` is the body of the request, `request` its place among those that are being served.
    pub(crate) fn new(
        incoming: Incoming,
        lease: Lease,
        upload: Option<Arc<Progress>>,
        request: OwnedSemaphorePermit,
    ) -> Self {
        let mut body = Self { incoming, lease: Some(lease), upload, _request: request };
        body.return_lease_at_end();
        body
    }

    fn return_lease_at_end(&mut self) {
        if !self.incoming.is_end_stream() {
            return;
        }
        // A guest may have answered before it had heard everything.
        let all_sent = |upload: &Arc<Progress>| upload.finished.load(Ordering::Acquire);
        if let Some(lease) = self.lease.take()
            && self.upload.as_ref().is_none_or(all_sent)
        {
            lease.give_back();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(text) => Pin::new(text).poll_frame(context).map_err(|never| match never {}),
            Self::Guest(body) => {
                let frame = ready!(Pin::new(&mut body.incoming).poll_frame(context));
                body.return_lease_at_end();
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_end_stream(),
            Self::Guest(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => text.size_hint(),
            Self::Guest(body) => body.incoming.size_hint(),
        }
    }
}
