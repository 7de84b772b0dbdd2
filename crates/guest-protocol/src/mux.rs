//! Streams: many requests at once over one link, none of which can hold up another.
//!
//! Data is sent on credit. The receiver of a stream starts with [`WINDOW`] bytes to give and gives
//! back what its user has consumed; a sender without credit waits, and everyone else goes on. A
//! frame costs its payload and [`FRAME_COST`], so that a window bounds the memory behind it however
//! small the frames are. What a peer sends beyond its credit breaks the connection.
//!
//! Frames leave in two queues. *Data* is short, and waiting for a place in it is what divides the
//! link among the streams. *Control* is never waited for; each stream puts at most a handful of
//! frames into it (its request, a cancel, credit for a window), so that it is bounded by the number
//! of streams. It overtakes data: nothing in it may depend on data that was sent before it.

use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::{Semaphore, mpsc};

use crate::frame::{Frame, Kind};
use crate::pty::MAX_VIEWERS;

/// Bytes a peer may send on a stream ahead of what was consumed.
pub const WINDOW: u32 = 256 * 1024;
/// What a data frame costs besides its payload.
pub const FRAME_COST: u32 = 64;
/// Most payload bytes in a data frame: small enough that streams take turns often.
pub const MAX_DATA: usize = 32 * 1024;
/// Most streams at once: of requests, and of viewers of terminal sessions, which stay as long as
/// somebody looks on and must not take the places of requests.
pub const MAX_STREAMS: usize = MAX_REQUESTS + MAX_VIEWERS;
/// Most requests at once that are no viewers.
pub const MAX_REQUESTS: usize = 256;
/// Credit is given back in portions of this size.
const CREDIT_PORTION: u32 = WINDOW / 2;
/// Data frames waiting to be sent.
const DATA_QUEUE: usize = 8;

fn cost(payload: &[u8]) -> u32 {
    u32::try_from(payload.len()).unwrap_or(u32::MAX).saturating_add(FRAME_COST)
}

/// The stream has ended: it was cancelled, replied to, or the link is gone. Which of them is what
/// [`Receiver::recv`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended")]
pub struct Ended;

/// The peer broke the rules; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub &'static str);

/// A stream carries two sequences of data, kept apart but in order: what one side sent on both
/// arrives as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output, file content, what a terminal shows and what is typed.
    Main,
    /// Standard error; messages about a terminal, one in each frame.
    Side,
}

/// What arrives on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes.
    Data(Channel, Vec<u8>),
    /// No more bytes will come.
    End,
    /// Encoded `message::Reply`: the last event.
    Reply(Vec<u8>),
    /// The host gave the request up: the last event.
    Cancel,
}

/// Both queues, written to.
#[derive(Debug, Clone)]
pub struct Outbound {
    data: mpsc::Sender<Frame>,
    control: mpsc::UnboundedSender<Frame>,
}

impl Outbound {
    /// Queues a frame that may overtake data. If the link is gone, so is the frame.
    pub fn control(&self, frame: Frame) {
        // Only a link that is gone refuses it, and whoever cares learns that from its stream.
        let _ = self.control.send(frame);
    }

    /// Queues a frame behind the data that was queued before it, once there is a place.
    pub async fn data(&self, frame: Frame) -> Result<(), Ended> {
        self.data.send(frame).await.map_err(|_| Ended)
    }
}

/// Both queues, read from.
#[derive(Debug)]
pub struct Outbox {
    data: mpsc::Receiver<Frame>,
    control: mpsc::UnboundedReceiver<Frame>,
}

impl Outbox {
    /// The next frame to send; `None` when every [`Outbound`] is gone and nothing is left.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        match self.control.poll_recv(cx) {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(frame)),
            Poll::Ready(None) => self.data.poll_recv(cx),
            Poll::Pending => match ready!(self.data.poll_recv(cx)) {
                Some(frame) => Poll::Ready(Some(frame)),
                None => Poll::Pending,
            },
        }
    }
}

/// The queues of a new connection.
pub fn queues() -> (Outbound, Outbox) {
    let (data, data_out) = mpsc::channel(DATA_QUEUE);
    let (control, control_out) = mpsc::unbounded_channel();
    (Outbound { data, control }, Outbox { data: data_out, control: control_out })
}

/// The sending half of a stream. Clones share its credit.
#[derive(Debug, Clone)]
pub struct Sender {
    stream: u32,
    credit: Arc<Semaphore>,
    outbound: Outbound,
}

impl Sender {
    /// Sends up to [`MAX_DATA`] bytes once the peer gives credit for them.
    pub async fn send(&self, channel: Channel, payload: Vec<u8>) -> Result<(), Ended> {
        debug_assert!(payload.len() <= MAX_DATA, "longer data is cut up by its sender");
        self.credit.acquire_many(cost(&payload)).await.map_err(|_| Ended)?.forget();
        let kind = match channel {
            Channel::Main => Kind::Data,
            Channel::Side => Kind::SideData,
        };
        self.outbound.data(Frame { stream: self.stream, kind, payload }).await
    }

    /// Says that no more data comes from this side.
    pub async fn end(&self) -> Result<(), Ended> {
        let frame = Frame { stream: self.stream, kind: Kind::End, payload: Vec::new() };
        self.outbound.data(frame).await
    }

    /// The queues of the link.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// The stream's number.
    pub fn stream(&self) -> u32 {
        self.stream
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct Receiver {
    stream: u32,
    events: mpsc::UnboundedReceiver<Event>,
    /// Cost of what was received and not yet given back as credit.
    received: Arc<AtomicU32>,
    /// Cost of what was consumed and not yet given back as credit.
    consumed: u32,
    outbound: Outbound,
}

impl Receiver {
    /// The next event; `None` if the link is gone. Giving it out gives the peer credit for it.
    /// Cancelling the future loses nothing.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.recv_unpaid().await?;
        if let Event::Data(_, payload) = &event {
            self.pay(payload);
        }
        Some(event)
    }

    /// As [`Receiver::recv`], but the peer gets credit for data only when [`Receiver::pay`] is
    /// called with it: for who must see all events at once and consumes data when it can. No more
    /// than a window of data is ever unpaid.
    pub async fn recv_unpaid(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Gives the peer credit for data that was received and not paid for.
    pub fn pay(&mut self, payload: &[u8]) {
        self.consumed += cost(payload);
        if self.consumed >= CREDIT_PORTION {
            self.received.fetch_sub(self.consumed, Ordering::Relaxed);
            let payload = self.consumed.to_le_bytes().to_vec();
            self.outbound.control(Frame { stream: self.stream, kind: Kind::Credit, payload });
            self.consumed = 0;
        }
    }

    /// Takes no more events.
    pub fn close(&mut self) {
        self.events.close();
    }
}

#[derive(Debug)]
struct Entry<Held> {
    events: mpsc::UnboundedSender<Event>,
    received: Arc<AtomicU32>,
    credit: Arc<Semaphore>,
    ended: bool,
    _held: Held,
}

/// Wakes whoever waits for credit that will not come.
impl<Held> Drop for Entry<Held> {
    fn drop(&mut self) {
        self.credit.close();
    }
}

/// The open streams of a connection. Dropping it ends them all.
///
/// `Held` is kept with each stream until it ends.
#[derive(Debug)]
pub struct Streams<Held = ()> {
    entries: HashMap<u32, Entry<Held>>,
}

impl<Held> Default for Streams<Held> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

impl<Held> Streams<Held> {
    /// Opens a stream; its number must not be in use.
    pub fn open(&mut self, stream: u32, outbound: &Outbound, held: Held) -> (Sender, Receiver) {
        let (events, events_out) = mpsc::unbounded_channel();
        let received = Arc::new(AtomicU32::new(0));
        let credit = Arc::new(Semaphore::new(WINDOW as usize));
        let sender = Sender { stream, credit: Arc::clone(&credit), outbound: outbound.clone() };
        let receiver = Receiver {
            stream,
            events: events_out,
            received: Arc::clone(&received),
            consumed: 0,
            outbound: outbound.clone(),
        };
        self.entries.insert(stream, Entry { events, received, credit, ended: false, _held: held });
        (sender, receiver)
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the streams whose receiver is closed.
    pub fn forget_closed(&mut self) {
        self.entries.retain(|_, entry| !entry.events.is_closed());
    }

    /// Hands a frame to its stream; `false` if there is no such stream. A frame for a stream that
    /// nobody listens to any more is dropped, but counts.
    pub fn deliver(&mut self, frame: Frame) -> Result<bool, Violation> {
        let hash_map::Entry::Occupied(mut slot) = self.entries.entry(frame.stream) else {
            return Ok(false);
        };
        let entry = slot.get_mut();
        let event = match frame.kind {
            Kind::Data => entry.receive(Channel::Main, frame.payload)?,
            Kind::SideData => entry.receive(Channel::Side, frame.payload)?,
            Kind::End if entry.ended => return Err(Violation("a stream's data ended twice")),
            Kind::End => {
                entry.ended = true;
                Event::End
            }
            Kind::Credit => {
                entry.add_credit(&frame.payload)?;
                return Ok(true);
            }
            // The last event goes into the queue before the entry's end wakes anyone.
            Kind::Reply => {
                let _ = entry.events.send(Event::Reply(frame.payload));
                slot.remove();
                return Ok(true);
            }
            Kind::Cancel => {
                let _ = entry.events.send(Event::Cancel);
                slot.remove();
                return Ok(true);
            }
            Kind::Link | Kind::Open => return Err(Violation("a frame that belongs to no stream")),
        };
        let _ = entry.events.send(event);
        Ok(true)
    }
}

impl<Held> Entry<Held> {
    fn receive(&self, channel: Channel, payload: Vec<u8>) -> Result<Event, Violation> {
        let cost = cost(&payload);
        let before = self.received.fetch_add(cost, Ordering::Relaxed);
        if self.ended {
            return Err(Violation("data came after a stream's end"));
        }
        if before.saturating_add(cost) > WINDOW {
            return Err(Violation("data exceeds the credit of its stream"));
        }
        Ok(Event::Data(channel, payload))
    }

    fn add_credit(&self, payload: &[u8]) -> Result<(), Violation> {
        let amount = payload.try_into().map_or(0, u32::from_le_bytes) as usize;
        let sum = amount.saturating_add(self.credit.available_permits());
        if amount == 0 || sum > WINDOW as usize {
            return Err(Violation("credit that is no credit"));
        }
        self.credit.add_permits(amount);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    fn data(stream: u32, len: usize) -> Frame {
        Frame { stream, kind: Kind::Data, payload: vec![1; len] }
    }

    async fn next(outbox: &mut Outbox) -> Frame {
        std::future::poll_fn(|cx| outbox.poll_recv(cx)).await.expect("the queues are open")
    }

    /// Runs `future` until it waits for something that has not happened.
    fn waits(future: impl Future) -> bool {
        let mut future = std::pin::pin!(future);
        future.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_sender_waits_for_credit() {
        let (outbound, mut outbox) = queues();
        let mut streams = Streams::<()>::default();
        let (sender, _receiver) = streams.open(1, &outbound, ());
        let frames = WINDOW as usize / (MAX_DATA + FRAME_COST as usize);
        for _ in 0..frames {
            sender.send(Channel::Main, vec![0; MAX_DATA]).await.unwrap();
            next(&mut outbox).await;
        }
        assert!(waits(sender.send(Channel::Main, vec![0; MAX_DATA])));

        let payload = (MAX_DATA as u32 + FRAME_COST).to_le_bytes().to_vec();
        streams.deliver(Frame { stream: 1, kind: Kind::Credit, payload }).unwrap();
        sender.send(Channel::Main, vec![0; MAX_DATA]).await.unwrap();
    }

    #[tokio::test]
    async fn consuming_gives_credit_back() {
        let (outbound, mut outbox) = queues();
        let mut streams = Streams::<()>::default();
        let (_sender, mut receiver) = streams.open(7, &outbound, ());
        for _ in 0..100 {
            for _ in 0..4 {
                streams.deliver(data(7, MAX_DATA)).unwrap();
                receiver.recv().await.unwrap();
            }
            let credit = next(&mut outbox).await;
            assert_eq!((credit.stream, credit.kind), (7, Kind::Credit));
            let amount = 4 * (MAX_DATA as u32 + FRAME_COST);
            assert_eq!(credit.payload, amount.to_le_bytes());
        }
    }

    #[test]
    fn a_peer_that_exceeds_its_credit_is_caught_however_small_its_frames() {
        for len in [0, 1, 100, MAX_DATA] {
            let (outbound, _outbox) = queues();
            let mut streams = Streams::<()>::default();
            let (_sender, _receiver) = streams.open(1, &outbound, ());
            let within = WINDOW as usize / (len + FRAME_COST as usize);
            for _ in 0..within {
                assert_eq!(streams.deliver(data(1, len)), Ok(true));
            }
            streams.deliver(data(1, len)).unwrap_err();
        }
    }

    #[test]
    fn credit_nobody_asked_for_is_a_violation() {
        let (outbound, _outbox) = queues();
        let mut streams = Streams::<()>::default();
        let (_sender, _receiver) = streams.open(1, &outbound, ());
        for payload in [vec![], vec![0; 4], vec![1, 0, 0, 0], vec![0xFF; 4], vec![1; 5]] {
            streams.deliver(Frame { stream: 1, kind: Kind::Credit, payload }).unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_reply_is_the_last_event_and_wakes_the_sender() {
        let (outbound, _outbox) = queues();
        let mut streams = Streams::<()>::default();
        let (sender, mut receiver) = streams.open(1, &outbound, ());
        streams.deliver(data(1, 3)).unwrap();
        streams.deliver(Frame { stream: 1, kind: Kind::Reply, payload: vec![9] }).unwrap();
        assert_eq!(streams.deliver(data(1, 3)), Ok(false));
        assert_eq!(sender.send(Channel::Main, vec![1]).await, Err(Ended));
        assert_eq!(receiver.recv().await, Some(Event::Data(Channel::Main, vec![1; 3])));
        assert_eq!(receiver.recv().await, Some(Event::Reply(vec![9])));
        assert_eq!(receiver.recv().await, None);
    }
}
