//! The connection against a monitor that the test plays, word by word.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// The other end of the socket.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    async fn send(&mut self, message: Value) {
        self.0.write_all(format!("{message}\r\n").as_bytes()).await.unwrap();
    }

    async fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.0.read_line(&mut line).await.unwrap();
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// Receives a command of this name and answers with its id.
    async fn expect(&mut self, command: &str) -> Value {
        let message = self.receive().await.unwrap();
        assert_eq!(message["execute"], command);
        message["id"].clone()
    }

    async fn answer(&mut self, id: &Value, value: Value) {
        self.send(json!({ "return": value, "id": id })).await;
    }

    async fn disk_is_full(&mut self) {
        self.send(json!({ "event": "BLOCK_IO_ERROR", "data": { "action": "stop" } })).await;
    }

    async fn shut_down(&mut self, reason: &str) {
        self.send(json!({ "event": "SHUTDOWN", "data": { "reason": reason } })).await;
    }
}

async fn connected() -> (Qmp, Events, Monitor) {
    let dir = tempfile::tempdir().unwrap();
    let socket = qmp_socket(dir.path());
    let listener = UnixListener::bind(&socket).unwrap();
    let monitor = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut monitor = Monitor(BufReader::new(stream));
        monitor.send(json!({ "QMP": {} })).await;
        let id = monitor.expect("qmp_capabilities").await;
        monitor.answer(&id, json!({})).await;
        monitor
    };
    let (connection, monitor) = tokio::join!(Qmp::connect(&socket), monitor);
    let (qmp, events) = connection.unwrap();
    (qmp, events, monitor)
}

#[tokio::test]
async fn events_and_replies_come_in_any_order() {
    let (qmp, mut events, mut monitor) = connected().await;
    let play = async {
        let id = monitor.expect("query-status").await;
        monitor.shut_down("guest-reset").await;
        monitor.answer(&id, json!({ "status": "running" })).await;
    };
    let (state, ()) = tokio::join!(qmp.run_state(), play);
    assert_eq!(state.unwrap(), RunState::Running);
    assert_eq!(events.next().await, Some(Event::Shutdown { reset: true }));
}

#[tokio::test]
async fn a_guest_cannot_push_out_an_event() {
    let (_qmp, mut events, mut monitor) = connected().await;
    for _ in 0..1000 {
        monitor.disk_is_full().await;
    }
    monitor.shut_down("guest-shutdown").await;
    drop(monitor);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(event);
    }
    // While it is being taken, an event may come again.
    assert_eq!(seen.first(), Some(&Event::DiskFull));
    assert!(seen.contains(&Event::Shutdown { reset: false }), "{seen:?}");
}

#[tokio::test]
async fn an_event_that_was_taken_can_come_again() {
    let (_qmp, mut events, mut monitor) = connected().await;
    for _ in 0..3 {
        monitor.disk_is_full().await;
        assert_eq!(events.next().await, Some(Event::DiskFull));
    }
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_leave_its_reply_to_the_next() {
    let (qmp, _events, mut monitor) = connected().await;
    let id = {
        let given_up = qmp.execute("first", json!({}));
        tokio::select! {
            biased;
            _ = given_up => unreachable!("nobody answered"),
            id = monitor.expect("first") => id,
        }
    };
    let play = async {
        // The second is sent only after the first was answered.
        monitor.answer(&id, json!("first")).await;
        let id = monitor.expect("second").await;
        monitor.answer(&id, json!("second")).await;
    };
    let (reply, ()) = tokio::join!(qmp.execute("second", json!({})), play);
    assert_eq!(reply.unwrap(), "second");
}

#[tokio::test]
async fn a_refusal_names_the_command_and_the_reason() {
    let (qmp, _events, mut monitor) = connected().await;
    let play = async {
        let id = monitor.expect("block_resize").await;
        monitor.send(json!({ "error": { "class": "G", "desc": "no" }, "id": id })).await;
    };
    let (reply, ()) = tokio::join!(qmp.resize_disk("disk", 1), play);
    assert_eq!(reply.unwrap_err().to_string(), "QEMU refused block_resize: no");
}

#[tokio::test]
async fn an_answer_that_was_not_asked_for_ends_the_connection() {
    let (qmp, mut events, mut monitor) = connected().await;
    monitor.answer(&json!(99), json!({})).await;
    assert_eq!(events.next().await, None);
    assert!(matches!(qmp.run_state().await, Err(QemuError::Monitor(_))));
}

#[tokio::test]
async fn a_line_without_end_ends_the_connection() {
    let (_qmp, mut events, mut monitor) = connected().await;
    let endless = vec![b'x'; 2 << 20];
    // The connection may end in the middle of it.
    let _ = monitor.0.write_all(&endless).await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn the_connection_lives_as_long_as_anyone_uses_it() {
    let (qmp, mut events, mut monitor) = connected().await;
    let clone = qmp.clone();
    drop(qmp);
    drop(clone);
    monitor.disk_is_full().await;
    assert_eq!(events.next().await, Some(Event::DiskFull));
    drop(events);
    assert_eq!(monitor.receive().await, None, "closed by the last user");

    let (qmp, events, mut monitor) = connected().await;
    drop(events);
    let play = async {
        let id = monitor.expect("query-status").await;
        monitor.answer(&id, json!({ "status": "paused" })).await;
    };
    let (state, ()) = tokio::join!(qmp.run_state(), play);
    assert_eq!(state.unwrap(), RunState::Paused);
}
