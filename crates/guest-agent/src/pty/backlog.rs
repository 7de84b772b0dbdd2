//! What a viewer has yet to be sent.
//!
//! The fastest viewer sets the pace: a program waits only while every one of its viewers is behind.
//! Nobody can make it wait for long: who falls too far behind a faster one is dropped, and so is who
//! takes too long to catch up. Without viewers a program never waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freestyle_guest_protocol::message::Reply;
use freestyle_guest_protocol::mux::MAX_DATA;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A viewer with so many bytes to be sent is behind.
const BEHIND: usize = 1024 * 1024;
/// And is so until it has only so many.
const CAUGHT_UP: usize = BEHIND / 2;
/// With more than this it is too far behind those that are not.
const TOO_FAR: usize = 2 * BEHIND;
/// How long it may be behind.
const PATIENCE: Duration = Duration::from_secs(10);
/// An empty backlog holds on to no more memory than this.
const IDLE_CAPACITY: usize = 64 * 1024;

/// Shared by the session, which adds to it, and the viewer, who takes from it.
#[derive(Debug)]
pub(super) struct Backlog {
    queue: Mutex<Queue>,
    /// Told when there is something to take.
    more: Notify,
    /// Told when the viewer is not behind any more.
    room: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: VecDeque<u8>,
    behind_since: Option<Instant>,
    /// The last word, once all bytes were taken.
    end: Option<Reply>,
}

/// What a viewer is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At most [`MAX_DATA`].
    Bytes(Vec<u8>),
    End(Reply),
}

impl Backlog {
    /// `room` is told whenever the viewer has caught up.
    pub(super) fn new(room: Arc<Notify>) -> Self {
        Self { queue: Mutex::default(), more: Notify::new(), room }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // It is never left half-changed, so a panic elsewhere does not spoil it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a program printed. `false` if the viewer is too far behind and was given up.
    pub(super) fn push(&self, bytes: &[u8]) -> bool {
        let mut queue = self.queue();
        queue.bytes.extend(bytes);
        if queue.bytes.len() > TOO_FAR {
            drop(queue);
            self.give_up();
            return false;
        }
        if queue.bytes.len() >= BEHIND && queue.behind_since.is_none() {
            queue.behind_since = Some(Instant::now());
        }
        drop(queue);
        self.more.notify_one();
        true
    }

    /// Until when the viewer has to catch up; `None` if it is not behind.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue().behind_since.map(|since| since + PATIENCE)
    }

    /// Lets nothing but the word that the viewer is too slow go to it.
    pub(super) fn give_up(&self) {
        let ended = Queue { end: Some(Reply::ViewerTooSlow), ..Queue::default() };
        *self.queue() = ended;
        self.more.notify_one();
    }

    /// The last word, behind all that was added.
    pub(super) fn end(&self, reply: Reply) {
        self.queue().end.get_or_insert(reply);
        self.more.notify_one();
    }

    /// Waits for something to send. Cancelling the future loses nothing.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.more.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut queue = self.queue();
        if queue.bytes.is_empty() {
            return queue.end.clone().map(Next::End);
        }
        let count = queue.bytes.len().min(MAX_DATA);
        let bytes = queue.bytes.drain(..count).collect();
        if queue.bytes.is_empty() && queue.bytes.capacity() > IDLE_CAPACITY {
            queue.bytes = VecDeque::new();
        }
        if queue.bytes.len() <= CAUGHT_UP && queue.behind_since.take().is_some() {
            self.room.notify_one();
        }
        Some(Next::Bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlog() -> Backlog {
        Backlog::new(Arc::default())
    }

    #[tokio::test]
    async fn bytes_come_in_order_and_the_last_word_after_them() {
        let backlog = backlog();
        let text: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        for piece in text.chunks(4095) {
            assert!(backlog.push(piece));
        }
        backlog.end(Reply::Exited { status: 3 });
        let mut taken = Vec::new();
        let end = loop {
            match backlog.next().await {
                Next::Bytes(bytes) => {
                    assert!((1..=MAX_DATA).contains(&bytes.len()));
                    taken.extend(bytes);
                }
                Next::End(reply) => break reply,
            }
        };
        assert_eq!((taken, end), (text, Reply::Exited { status: 3 }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_viewer_is_behind_until_it_has_caught_up() {
        let backlog = backlog();
        assert!(backlog.push(&vec![0; BEHIND - 1]));
        assert_eq!(backlog.deadline(), None);
        assert!(backlog.push(&[0]));
        let deadline = Some(Instant::now() + PATIENCE);
        assert_eq!(backlog.deadline(), deadline);
        tokio::time::advance(PATIENCE / 2).await;
        while backlog.queue().bytes.len() > CAUGHT_UP + MAX_DATA {
            backlog.next().await;
            assert_eq!(backlog.deadline(), deadline, "more does not move it");
        }
        backlog.next().await;
        assert_eq!(backlog.deadline(), None);
        // It was told to who waits for it.
        backlog.room.notified().await;
    }

    #[tokio::test]
    async fn a_viewer_that_is_too_far_behind_hears_nothing_but_that() {
        let backlog = backlog();
        assert!(backlog.push(&vec![0; TOO_FAR]));
        assert!(!backlog.push(&[0]));
        backlog.end(Reply::Exited { status: 0 });
        assert_eq!(backlog.next().await, Next::End(Reply::ViewerTooSlow));
    }

    #[tokio::test]
    async fn an_empty_backlog_holds_no_memory() {
        let backlog = backlog();
        backlog.push(&vec![0; BEHIND]);
        while !backlog.queue().bytes.is_empty() {
            backlog.next().await;
        }
        assert!(backlog.queue().bytes.capacity() <= IDLE_CAPACITY);
    }
}
