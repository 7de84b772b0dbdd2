use std::net::Ipv4Addr;
use std::time::Duration;

use freestyle_guest_protocol::message::Nic;
use freestyle_guest_protocol::{AgentConnection, Identity, PowerOff};

use crate::guest::{Guest, Recorder, identity};

async fn connect(guest: &Guest, identity: Identity) -> (AgentConnection, Vec<String>) {
    let (connection, welcome) = AgentConnection::connect(guest.plug(), identity).await.unwrap();
    // Whatever a repeated greeting does is done.
    connection.ping().await.unwrap();
    (connection, welcome.problems)
}

async fn leave(guest: &Guest, connection: AgentConnection) {
    guest.unplug();
    connection.closed().await;
}

#[tokio::test]
async fn a_new_generation_is_applied_once_and_before_the_welcome() {
    let guest = Guest::start();
    let address = Ipv4Addr::new(192, 168, 10, 10);
    let nic = Some(Nic { address, prefix_length: 24, is_default: true });
    let first = Identity { grow_root: true, nic, ..identity(0xAB) };
    let (connection, welcome) =
        AgentConnection::connect(guest.plug(), first.clone()).await.unwrap();
    assert_eq!(welcome.problems, [""; 0]);
    assert_eq!(
        guest.machine.take(),
        [
            "clock right",
            "entropy random",
            "hostname guest",
            "machine-id abababababab4bababababababababab",
            "nic 192.168.10.10",
            "grow",
            "generation 171",
        ]
    );
    leave(&guest, connection).await;

    let (connection, _) = connect(&guest, first).await;
    assert_eq!(guest.machine.take(), [""; 0], "the same generation needs nothing");
    leave(&guest, connection).await;

    let (_connection, _) = connect(&guest, identity(2)).await;
    assert_eq!(guest.machine.take().len(), 5, "a clone does");
}

#[tokio::test]
async fn a_guest_lets_in_the_key_of_its_last_greeting_and_no_other() {
    let guest = Guest::start();
    let greet = async |generation: u8, key: Option<&str>| {
        let identity = Identity { login_key: key.map(str::to_owned), ..identity(generation) };
        let (connection, _) = connect(&guest, identity).await;
        let key = guest.machine.login_key.lock().unwrap().clone();
        leave(&guest, connection).await;
        key
    };
    assert_eq!(greet(1, Some("parent")).await.as_deref(), Some("parent"));
    assert_eq!(greet(2, Some("clone")).await.as_deref(), Some("clone"));
    assert_eq!(greet(2, Some("renewed")).await.as_deref(), Some("renewed"));
    assert_eq!(greet(3, None).await, None);
}

#[tokio::test]
async fn an_agent_that_restarts_knows_its_generation() {
    let guest = Guest::on(Recorder { generation: Some([7; 16]), ..Recorder::default() });
    let _connection = connect(&guest, identity(7)).await;
    assert_eq!(guest.machine.take(), [""; 0]);
}

#[tokio::test]
async fn a_clock_that_is_off_is_set_again() {
    for (ahead, expected) in [(100_000_000, false), (5_000_000_000, true), (-5_000_000_000, true)] {
        let guest = Guest::on(Recorder {
            generation: Some([7; 16]),
            clock_ahead: ahead,
            ..Recorder::default()
        });
        let _connection = connect(&guest, identity(7)).await;
        let clocks = guest.machine.take();
        assert_eq!(clocks.iter().any(|done| done == "clock right"), expected, "{ahead}");
    }
}

#[tokio::test]
async fn what_cannot_be_applied_is_reported_and_the_rest_is_applied() {
    let guest = Guest::on(Recorder { refuses: Some("hostname"), ..Recorder::default() });
    let (_connection, problems) = connect(&guest, identity(3)).await;
    assert_eq!(problems, ["cannot set the hostname: as the test wants it"]);
    assert_eq!(guest.machine.take().last().unwrap(), "generation 3");
}

#[tokio::test]
async fn growing_the_root_reports_its_failure() {
    let guest = Guest::start();
    let (connection, _) = connect(&guest, identity(1)).await;
    connection.grow_root().await.unwrap();
    assert_eq!(guest.machine.take().last().unwrap(), "grow");

    let guest = Guest::on(Recorder { refuses: Some("grow"), ..Recorder::default() });
    let (connection, _) = connect(&guest, identity(1)).await;
    assert_eq!(connection.grow_root().await.unwrap_err().to_string(), "as the test wants it");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_does_not_end_is_forced() {
    for refuses in [None, Some("shutdown")] {
        let guest =
            Guest::on(Recorder { refuses, generation: Some([1; 16]), ..Recorder::default() });
        let (connection, _) = connect(&guest, identity(1)).await;
        connection.shutdown(PowerOff).await.unwrap();
        while guest.machine.done.lock().unwrap().last().is_none_or(|done| done != "off") {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(guest.machine.take().contains(&"shutdown".to_owned()), refuses.is_none());
    }
}
