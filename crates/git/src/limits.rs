//! What requests may cost, and the queue of those that have to wait for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::GitError;

/// What requests may cost. [`Limits::default`] suits a small host.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one push, after decompression of the request.
    pub push_bytes: u64,
    /// Bytes of one fetch request (not its answer), after decompression.
    pub fetch_request_bytes: u64,
    /// Bytes of the largest file a repository may have, that is of its largest pack.
    pub repository_bytes: u64,
    /// Bytes of a file or blob that is read into memory.
    pub blob_bytes: u64,
    /// Bytes of all files above a megabyte that answers hold at one time; more of them wait.
    pub large_files_bytes: u64,
    /// Bytes of all files of one API commit.
    pub commit_bytes: u64,
    /// Files of one API commit.
    pub commit_files: usize,
    /// Private memory of one `git` process.
    pub process_memory: u64,
    /// Imports that run at one time.
    pub imports_per_host: usize,
    /// Packs that are being prepared at one time. Sending what is prepared does not count.
    pub packing_per_host: usize,
    /// Clones, fetches and pushes of all repositories at one time, senders included.
    pub transfers_per_host: usize,
    /// The same of one repository.
    pub transfers_per_repository: usize,
    /// Requests of one repository that may wait; more are refused.
    pub queue_per_repository: usize,
    /// Requests of all repositories that may wait; more are refused.
    pub queue_per_host: usize,
    /// How long a request waits for its turn.
    pub queue_time: Duration,
    /// How long one request may take, and the processor time of its processes.
    pub request_time: Duration,
    /// How long the peer of a transfer may be silent.
    pub stall_time: Duration,
    /// How long one read of the API (content, compare, search) may take.
    pub read_time: Duration,
    /// Searches that run at one time; each uses all processors.
    pub searches_per_host: usize,
    /// Reads and commits of the API that run at one time.
    pub blocking_per_host: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            push_bytes: 2 << 30,
            fetch_request_bytes: 32 << 20,
            repository_bytes: 16 << 30,
            blob_bytes: 100 << 20,
            large_files_bytes: 256 << 20,
            commit_bytes: 256 << 20,
            commit_files: 20_000,
            process_memory: 2 << 30,
            imports_per_host: 4 * cores,
            packing_per_host: cores,
            transfers_per_host: 32 * cores,
            transfers_per_repository: 32,
            queue_per_repository: 128,
            queue_per_host: 1024,
            queue_time: Duration::from_secs(60),
            request_time: Duration::from_secs(3600),
            stall_time: Duration::from_secs(120),
            read_time: Duration::from_secs(20),
            blocking_per_host: 4 * cores,
            searches_per_host: cores,
        }
    }
}

/// What an answer may hold besides files. A repository can be made in which a few kilobytes of a
/// pack are gigabytes of an answer.
const ANSWER_BYTES: usize = 32 << 20;

/// Bytes that an answer, or something on the way to it, may still hold.
#[derive(Debug)]
pub(crate) struct Room {
    what: &'static str,
    limit: usize,
    left: usize,
}

impl Room {
    /// For an answer that is refused when it does not fit.
    pub(crate) fn of_answer() -> Self {
        Self::new("the answer, which can be had in parts,", ANSWER_BYTES)
    }

    pub(crate) fn new(what: &'static str, limit: usize) -> Self {
        Self { what, limit, left: limit }
    }

    /// The part of each of `count` items of an answer that leaves out what does not fit.
    pub(crate) fn share(count: usize) -> usize {
        ANSWER_BYTES / count.max(1)
    }

    /// `TooLarge` if there is no room for so many bytes.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), GitError> {
        let too_large =
            || GitError::TooLarge { what: self.what.to_owned(), limit: self.limit as u64 };
        self.left = self.left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }
}

/// A number of places and a bounded queue in front of them.
#[derive(Debug)]
pub(crate) struct Queue {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    longest: usize,
    time: Duration,
}

/// A place that is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Queue {
    fn new(places: usize, longest: usize, time: Duration) -> Self {
        let places = Arc::new(Semaphore::new(places));
        Self { places, waiting: AtomicUsize::new(0), longest, time }
    }

    /// Waits for a place. `Busy` at once when the queue is full, and later when it takes too long.
    pub(crate) async fn enter(&self) -> Result<Place, GitError> {
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let waiting = Waiting(&self.waiting);
        if waiting.0.fetch_add(1, Ordering::Relaxed) >= self.longest {
            return Err(GitError::Busy);
        }
        let permit = tokio::time::timeout(self.time, self.places.clone().acquire_owned()).await;
        match permit {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            _ => Err(GitError::Busy),
        }
    }
}

/// Counted as waiting until dropped, also when the request is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    /// A queue for the writers of one repository: one at a time, the next would only find that the
    /// branch has moved.
    pub(crate) fn of_writers(limits: &Limits) -> Self {
        Self::new(1, limits.queue_per_repository, limits.queue_time)
    }

    /// A queue for imports, which mostly wait for the other side.
    pub(crate) fn of_imports(limits: &Limits) -> Self {
        Self::new(limits.imports_per_host, limits.queue_per_host, limits.queue_time)
    }
}

/// The queues of the host, or of one repository.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Processes that exist, the senders included.
    pub(crate) transfers: Queue,
    /// Processes that search and compress objects.
    pub(crate) packing: Queue,
    /// Searches of the API.
    pub(crate) searching: Queue,
}

impl Admission {
    pub(crate) fn per_host(limits: &Limits) -> Self {
        let queue = |places| Queue::new(places, limits.queue_per_host, limits.queue_time);
        Self {
            transfers: queue(limits.transfers_per_host),
            packing: queue(limits.packing_per_host),
            searching: queue(limits.searches_per_host),
        }
    }

    pub(crate) fn per_repository(limits: &Limits) -> Self {
        let queue = |places| Queue::new(places, limits.queue_per_repository, limits.queue_time);
        // One repository cannot take all places of the host.
        let packing = limits.packing_per_host.div_ceil(2);
        let searching = limits.searches_per_host.div_ceil(2);
        Self {
            transfers: queue(limits.transfers_per_repository),
            packing: queue(packing),
            searching: queue(searching),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    /// Polls once.
    async fn is_waiting<F: Future>(future: &mut Pin<Box<F>>) -> bool {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_those_who_wait_get_their_turn() {
        let queue = Arc::new(Queue::new(1, 1, Duration::from_secs(60)));
        let first = queue.enter().await.unwrap();
        let mut second = Box::pin(queue.enter());
        // Polled once: it waits now.
        assert!(is_waiting(&mut second).await);
        assert!(matches!(queue.enter().await, Err(GitError::Busy)));
        drop(first);
        drop(second.await.unwrap());
        drop(queue.enter().await.unwrap());
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_leaves_the_queue() {
        let queue = Queue::new(1, 1, Duration::from_secs(60));
        let _first = queue.enter().await.unwrap();
        for _ in 0..3 {
            let mut given_up = Box::pin(queue.enter());
            assert!(is_waiting(&mut given_up).await);
        }
    }
}
