//! A terminal on a WebSocket: what the program prints goes out, what is typed comes in.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use freestyle_access::Lease;
use freestyle_client::wire::{PtyClientMessage, PtyServerMessage, PtySignal};
use freestyle_vm::{Keyboard, PtySize, SessionId, Terminal, TerminalEvent};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::server::Connection;

/// How often a client is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How often it may miss to give one.
const MAX_MISSED: u32 = 3;
/// How long a client may take to take a message.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to say that it has heard the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// Longest message that is a text.
const MAX_TEXT_BYTES: usize = 1024;
/// What Ctrl-C sends.
const INTERRUPT: &[u8] = &[0x03];

type Sender = SplitSink<WebSocket, Message>;
type Receiver = SplitStream<WebSocket>;

/// How a socket comes to its end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The program's.
    Exited(i32),
    /// The client has left, or is not there any more.
    Left,
    /// It sent something that makes no sense.
    Nonsense(&'static str),
    /// It did not take what was printed.
    TooSlow,
    /// The VM goes to sleep, or its run is over.
    Evicted,
    /// It may not look on any more.
    Revoked,
    /// The server ends.
    Closing,
}

impl End {
    /// The code and reason that the socket is closed with.
    fn close(&self) -> (u16, &'static str) {
        match self {
            Self::Exited(_) | Self::Left => (close_code::NORMAL, ""),
            Self::Nonsense(reason) => (close_code::POLICY, reason),
            Self::Revoked => (close_code::POLICY, "the right to use the VM has ended"),
            Self::TooSlow => (close_code::ERROR, "what was printed was not taken; attach again"),
            Self::Evicted => (close_code::AWAY, "the VM was suspended or its run has ended"),
            Self::Closing => (close_code::AWAY, "the server ends; attach again"),
        }
    }
}

/// Tells the client which session it has opened. `false` if the client is gone.
pub(super) async fn announce(socket: &mut WebSocket, session: &SessionId) -> bool {
    let info = PtyServerMessage::SessionInfo { session_id: session.to_string() };
    matches!(timeout(SEND_LIMIT, socket.send(text(&info))).await, Ok(Ok(())))
}

/// Joins the client to the terminal until either has had enough.
pub(super) async fn serve(
    socket: WebSocket,
    mut terminal: Terminal,
    lease: Lease,
    connection: Connection,
) {
    let (mut sender, mut receiver) = socket.split();
    let (keyboard, pulse) = (terminal.keyboard(), Pulse::default());
    let end = tokio::select! {
        biased;
        () = lease.revoked() => End::Revoked,
        () = connection.closing() => End::Closing,
        end = show(&mut terminal, &mut sender, &pulse) => end,
        end = listen(&mut receiver, &keyboard, &pulse) => end,
    };
    tracing::debug!(session = %terminal.session(), ?end, "a viewer has left");
    // What was typed is still to arrive, unless nobody may type any more.
    if end == End::Revoked {
        drop(terminal);
    } else {
        terminal.detach().await;
    }
    let _ = timeout(CLOSE_LIMIT, hang_up(&end, &mut sender, &mut receiver)).await;
}

/// Sends what the program prints until it has ended.
async fn show(terminal: &mut Terminal, sender: &mut Sender, pulse: &Pulse) -> End {
    let screen = terminal.take_screen();
    // In one message, as the protocol has it.
    if !screen.is_empty() && !send(sender, Message::Binary(screen.into())).await {
        return End::Left;
    }
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            event = terminal.next() => match event {
                TerminalEvent::Output(bytes) => Message::Binary(bytes.into()),
                TerminalEvent::Exited(status) => return End::Exited(status),
                TerminalEvent::TooSlow => return End::TooSlow,
                TerminalEvent::Evicted => return End::Evicted,
            },
            _ = pings.tick() => {
                if !pulse.beats() {
                    return End::Left;
                }
                Message::Ping(Vec::new().into())
            }
        };
        if !send(sender, message).await {
            return End::Left;
        }
    }
}

/// `false` if the client is gone, or takes nothing.
async fn send(sender: &mut Sender, message: Message) -> bool {
    matches!(timeout(SEND_LIMIT, sender.send(message)).await, Ok(Ok(())))
}

/// Types what the client types and does what it says until it has left. No more is read while the
/// program does not read.
async fn listen(receiver: &mut Receiver, keyboard: &Keyboard, pulse: &Pulse) -> End {
    while let Some(Ok(message)) = receiver.next().await {
        pulse.heard();
        let done = match message {
            Message::Binary(bytes) => pulse.while_busy(keyboard.write(&bytes)).await,
            Message::Text(text) => match decode(&text) {
                Ok(Some(Control::Resize(size))) => keyboard.resize(size).await,
                Ok(Some(Control::Interrupt)) => pulse.while_busy(keyboard.write(INTERRUPT)).await,
                Ok(Some(Control::Kill)) => keyboard.kill().await,
                Ok(None) => Ok(()),
                Err(reason) => return End::Nonsense(reason),
            },
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => return End::Left,
        };
        if done.is_err() {
            // The terminal has ended, and says why.
            std::future::pending::<()>().await;
        }
    }
    End::Left
}

/// Something a client says besides what it types.
#[derive(Debug, PartialEq, Eq)]
enum Control {
    Resize(PtySize),
    Interrupt,
    Kill,
}

/// `None` is a size that no window has: a page that is hidden may say so, and nothing follows from it.
fn decode(text: &str) -> Result<Option<Control>, &'static str> {
    if text.len() > MAX_TEXT_BYTES {
        return Err("a text message is longer than 1024 bytes");
    }
    match serde_json::from_str(text) {
        Ok(PtyClientMessage::Resize { cols, rows }) => {
            let size = u16::try_from(cols).ok().zip(u16::try_from(rows).ok());
            let size = size.and_then(|(cols, rows)| PtySize::new(cols, rows).ok());
            Ok(size.map(Control::Resize))
        }
        Ok(PtyClientMessage::Signal { signal: PtySignal::Interrupt }) => {
            Ok(Some(Control::Interrupt))
        }
        Ok(PtyClientMessage::Signal { signal: PtySignal::Kill }) => Ok(Some(Control::Kill)),
        Err(_) => Err("a text message is neither a resize nor a signal"),
    }
}

/// Says how it ended, and waits until the client has heard it: a connection that is closed with
/// something unread loses what was sent last.
async fn hang_up(end: &End, sender: &mut Sender, receiver: &mut Receiver) {
    if let End::Exited(exit_code) = *end {
        let _ = sender.send(text(&PtyServerMessage::Exited { exit_code })).await;
    }
    let (code, reason) = end.close();
    let _ = sender.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
    while let Some(Ok(_)) = receiver.next().await {}
}

fn text(message: &PtyServerMessage) -> Message {
    let text = serde_json::to_string(message);
    Message::Text(text.expect("wire types have string keys and finite numbers").into())
}

/// Whether the client is still there.
#[derive(Debug, Default)]
struct Pulse {
    heard: AtomicBool,
    /// Nothing is read from the client, so nothing can be heard.
    busy: AtomicBool,
    missed: AtomicU32,
}

impl Pulse {
    fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    async fn while_busy<T>(&self, work: impl Future<Output = T>) -> T {
        self.busy.store(true, Ordering::Relaxed);
        let done = work.await;
        self.busy.store(false, Ordering::Relaxed);
        self.heard();
        done
    }

    /// To be asked once for every ping.
    fn beats(&self) -> bool {
        let is_well =
            self.heard.swap(false, Ordering::Relaxed) || self.busy.load(Ordering::Relaxed);
        if is_well {
            self.missed.store(0, Ordering::Relaxed);
            return true;
        }
        self.missed.fetch_add(1, Ordering::Relaxed) < MAX_MISSED
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_sdk_sends_is_understood() {
        let resize = |cols, rows| Ok(Some(Control::Resize(PtySize::new(cols, rows).unwrap())));
        assert_eq!(decode(r#"{"type":"resize","cols":100,"rows":30}"#), resize(100, 30));
        assert_eq!(decode(r#"{"type":"signal","signal":"SIGINT"}"#), Ok(Some(Control::Interrupt)));
        assert_eq!(decode(r#"{"type":"signal","signal":"SIGKILL"}"#), Ok(Some(Control::Kill)));
    }

    #[test]
    fn a_size_that_no_window_has_is_passed_over() {
        for size in ["0,\"rows\":24", "80,\"rows\":0", "1001,\"rows\":1", "99999999,\"rows\":24"] {
            let text = format!(r#"{{"type":"resize","cols":{size}}}"#);
            assert_eq!(decode(&text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_said_to_be_none() {
        for text in [
            "",
            "resize",
            "{}",
            "[]",
            "null",
            r#"{"type":"resize"}"#,
            r#"{"type":"resize","cols":-1,"rows":24}"#,
            r#"{"type":"resize","cols":80.5,"rows":24}"#,
            r#"{"type":"resize","cols":null,"rows":24}"#,
            r#"{"type":"resize","cols":80,"rows":24,"more":1}"#,
            r#"{"type":"signal","signal":"SIGTERM"}"#,
            r#"{"type":"exited","exitCode":0}"#,
            &format!(r#"{{"type":"resize","cols":80,"rows":24{}}}"#, " ".repeat(1024)),
        ] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_are_those_of_the_contract() {
        let json = |message| serde_json::to_value::<PtyServerMessage>(message).unwrap();
        assert_eq!(
            json(PtyServerMessage::SessionInfo { session_id: "pty-1".into() }),
            serde_json::json!({"type": "sessionInfo", "sessionId": "pty-1"}),
        );
        assert_eq!(
            json(PtyServerMessage::Exited { exit_code: 130 }),
            serde_json::json!({"type": "exited", "exitCode": 130}),
        );
    }

    #[test]
    fn a_client_may_miss_a_few_pings_and_is_not_missed_while_it_cannot_be_heard() {
        let pulse = Pulse::default();
        for _ in 0..MAX_MISSED {
            assert!(pulse.beats());
        }
        assert!(!pulse.beats());
        pulse.heard();
        assert!(pulse.beats());
        pulse.busy.store(true, Ordering::Relaxed);
        for _ in 0..10 {
            assert!(pulse.beats());
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,100}|[\\[{}\":,a-zA-Z0-9 .\\\\-]{0,100}") {
            let _ = decode(&text);
        }
    }
}
