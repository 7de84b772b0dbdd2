//! Terminal sessions, with real programs on real pseudo-terminals.

use std::collections::BTreeSet;
use std::time::Duration;

use freestyle_guest_protocol::message::Request;
use freestyle_guest_protocol::mux::{Channel, MAX_DATA};
use freestyle_guest_protocol::pty::{
    MAX_SESSIONS, MAX_VIEWERS, PtyFailure, PtySession, PtySize, SessionId,
};
use freestyle_guest_protocol::{
    AgentConnection, CallError, Identity, PtyInput, PtyOpen, PtyOutput, PtyStream, StreamEvent,
};

use crate::guest::{Guest, identity};

/// What takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize::new(cols, rows).unwrap()
}

fn id(text: &str) -> SessionId {
    text.parse().unwrap()
}

/// A session that runs a command.
fn running(command: &str) -> PtyOpen {
    PtyOpen { session: None, user: None, command: Some(command.to_owned()), size: size(80, 24) }
}

/// Somebody who looks on.
struct Viewer {
    stream: PtyStream,
    input: PtyInput,
    seen: Vec<u8>,
}

impl Viewer {
    fn new(mut stream: PtyStream) -> Self {
        Self { input: stream.input(), seen: stream.take_screen(), stream }
    }

    async fn open(agent: &AgentConnection, open: PtyOpen) -> Self {
        Self::new(agent.pty_open(open).await.unwrap())
    }

    async fn attach(agent: &AgentConnection, session: &SessionId, size: PtySize) -> Self {
        Self::new(agent.pty_attach(session, None, size).await.unwrap())
    }

    fn session(&self) -> SessionId {
        self.stream.session().clone()
    }

    async fn types(&self, text: &str) {
        self.input.write(text.as_bytes()).await.unwrap();
    }

    async fn next(&mut self) -> PtyOutput {
        tokio::time::timeout(LIMIT, self.stream.recv()).await.expect("it hangs").unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Looks on until it has seen `what`; forgets everything up to it.
    async fn sees(&mut self, what: &str) -> String {
        let mut searched = 0;
        loop {
            let found = memchr::memmem::find(&self.seen[searched..], what.as_bytes());
            if let Some(at) = found {
                let before: Vec<u8> = self.seen.drain(..searched + at + what.len()).collect();
                return String::from_utf8_lossy(&before).into_owned();
            }
            searched = self.seen.len().saturating_sub(what.len());
            match self.next().await {
                PtyOutput::Bytes(bytes) => self.seen.extend(bytes),
                end => panic!("{end:?} before {what:?} in {:?}", self.text()),
            }
        }
    }

    /// Looks on until the program has ended: all it has seen, and how.
    async fn ends(mut self) -> (String, i32) {
        loop {
            match self.next().await {
                PtyOutput::Bytes(bytes) => self.seen.extend(bytes),
                PtyOutput::Exited(status) => return (self.text(), status),
                PtyOutput::TooSlow => panic!("it was not slow"),
            }
        }
    }
}

async fn list(agent: &AgentConnection) -> Vec<PtySession> {
    agent.pty_list(None).await.unwrap()
}

/// Lists until the list is as it should be.
async fn listed(agent: &AgentConnection, what: impl Fn(&[PtySession]) -> bool) -> Vec<PtySession> {
    let look = async {
        loop {
            let sessions = list(agent).await;
            if what(&sessions) {
                return sessions;
            }
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("the list never becomes what it should be")
}

#[tokio::test]
async fn a_session_is_the_users_login_shell_at_home() {
    let agent = Guest::start().connect().await;
    let open = PtyOpen { session: None, user: None, command: None, size: size(100, 30) };
    let mut viewer = Viewer::open(&agent, open).await;
    assert_eq!(viewer.session(), id("pty-1"));
    viewer
        .types("echo \"[$0|$PWD|$HOME|$USER|$LOGNAME|${TERM-unset}|$LANG]\"; stty size; tty\n")
        .await;
    let shell = std::fs::read_to_string("/etc/passwd").unwrap();
    let shell =
        shell.lines().find(|line| line.starts_with("root:")).unwrap().rsplit('/').next().unwrap();
    // Bash knows a terminal that says nothing about itself as a dumb one.
    let term = if shell == "bash" { "dumb" } else { "unset" };
    viewer.sees(&format!("[-{shell}|/root|/root|root|root|{term}|C.UTF-8]\r\n")).await;
    viewer.sees("30 100\r\n").await;
    viewer.sees("/dev/pts/").await;
    viewer.types("exit 7\n").await;
    assert_eq!(viewer.ends().await.1, 7);
}

#[tokio::test]
async fn a_command_is_run_by_the_shell_and_ends_with_its_status() {
    let agent = Guest::start().connect().await;
    for (command, text, status) in [
        ("echo a b | tr a-z A-Z", "A B\r\n", 0),
        ("tty > /dev/null && [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && exit 42", "", 42),
        ("kill -TERM $$", "", 143),
        ("env | cut -d= -f1 | sort | tr '\\n' ' '", "HOME LANG LOGNAME PATH PWD SHELL USER ", 0),
        ("no-such-command", "not found", 127),
    ] {
        let (seen, ended) = Viewer::open(&agent, running(command)).await.ends().await;
        assert!(seen.contains(text), "{command}: {seen:?}");
        assert_eq!(ended, status, "{command}: {seen:?}");
    }
}

#[tokio::test]
async fn the_shell_controls_jobs() {
    let agent = Guest::start().connect().await;
    let mut viewer = Viewer::open(&agent, running("PS1='$ ' exec bash --norc -i")).await;
    viewer.sees("$ ").await;
    viewer.types("ps -o sid=,tpgid=,pid= -p $$ | awk '{print ($1 == $3 && $2 != 0) ? \"leader\" : $0}'\n").await;
    viewer.sees("\r\nleader\r\n").await;
    viewer.types("sh -c 'echo up; exec sleep 1000'\n").await;
    viewer.sees("\r\nup\r\n").await;
    viewer.types("\x1a").await;
    viewer.sees("Stopped").await;
    viewer.types("bg; jobs\n").await;
    viewer.sees("Running").await;
    viewer.types("fg\n").await;
    viewer.sees("sleep 1000'\r\n").await;
    // What a signal of the viewer is: a byte.
    viewer.types("\x03").await;
    viewer.types("echo status $?\n").await;
    viewer.sees("status 130\r\n").await;
}

#[tokio::test]
async fn a_program_hears_of_its_windows_size() {
    let agent = Guest::start().connect().await;
    let command =
        "trap 'echo now $(stty size)' WINCH; echo ready $(stty size); while :; do read line; done";
    let mut viewer = Viewer::open(&agent, running(command)).await;
    viewer.sees("ready 24 80\r\n").await;
    viewer.input.resize(size(132, 50)).await.unwrap();
    viewer.sees("now 50 132\r\n").await;
    assert_eq!(list(&agent).await[0].size, size(132, 50));
}

#[tokio::test]
async fn a_terminal_passes_every_byte_both_ways() {
    let agent = Guest::start().connect().await;
    let mut viewer = Viewer::open(&agent, running("stty raw -echo; echo ready; exec cat")).await;
    viewer.sees("ready\n").await;
    // More than any window, buffer or backlog: it must wait, and arrive.
    let sent: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let (input, copy) = (viewer.input.clone(), sent.clone());
    let typing = tokio::spawn(async move { input.write(&copy).await });
    while viewer.seen.len() < sent.len() {
        match viewer.next().await {
            PtyOutput::Bytes(bytes) => viewer.seen.extend(bytes),
            end => panic!("{end:?}"),
        }
    }
    assert!(viewer.seen == sent);
    typing.await.unwrap().unwrap();
    viewer.input.kill().await.unwrap();
    assert_eq!(viewer.ends().await.1, 137);
}

#[tokio::test]
async fn a_character_of_several_bytes_is_erased_whole() {
    let agent = Guest::start().connect().await;
    let mut viewer =
        Viewer::open(&agent, running("stty -echo; echo ready; read line; echo \"[$line]\"")).await;
    viewer.sees("ready\r\n").await;
    viewer.types("a\u{fc}\x7fb\u{4e16}\x7f\n").await;
    viewer.sees("[ab]\r\n").await;
}

#[tokio::test]
async fn a_program_that_does_not_read_can_be_killed() {
    let agent = Guest::start().connect().await;
    let mut viewer =
        Viewer::open(&agent, running("stty raw -echo; echo ready; exec sleep 1000")).await;
    viewer.sees("ready\n").await;
    // As much as goes through without being read.
    let full = async {
        loop {
            viewer.input.write(&[b'x'; MAX_DATA]).await.unwrap();
        }
    };
    // The input waits; what the viewer says besides does not, as long as there is a little room.
    let stuck = tokio::time::timeout(Duration::from_millis(500), full).await;
    assert!(stuck.is_err());
    agent.ping().await.unwrap();
    let session = viewer.session();
    assert_eq!(agent.pty_close(&session, None).await, Ok(137));
    assert_eq!(viewer.ends().await.1, 137);

    let mut viewer =
        Viewer::open(&agent, running("stty raw -echo; echo ready; exec sleep 1000")).await;
    viewer.sees("ready\n").await;
    viewer.input.write(&[b'x'; 100_000]).await.unwrap();
    viewer.input.kill().await.unwrap();
    assert_eq!(viewer.ends().await.1, 137);
}

#[tokio::test]
async fn a_viewer_who_leaves_finds_everything_when_it_is_back() {
    let agent = Guest::start().connect().await;
    let command = "printf '\\033[31mred\\033[0m\\n'; echo ready; read line; echo got $line; \
                   printf '\\033[?1049h\\033[2;5Hfull screen'; read line; exit 5";
    let mut viewer = Viewer::open(&agent, running(command)).await;
    viewer.sees("ready\r\n").await;
    let session = viewer.session();
    drop(viewer);
    let sessions = listed(&agent, |sessions| sessions[0].viewers == 0).await;
    assert_eq!((&sessions[0].id, sessions[0].exit), (&session, None));

    let mut viewer = Viewer::attach(&agent, &session, size(80, 24)).await;
    let screen = viewer.text();
    // It begins with a reset, whatever was on the viewer's terminal.
    assert!(screen.starts_with("\x1bc\x1b[3J"), "{screen:?}");
    assert!(screen.contains("\x1b[0;31mred\x1b[0m\r\nready\r\n"), "{screen:?}");
    viewer.types("again\n").await;
    viewer.sees("full screen").await;
    drop(viewer);

    let mut viewer = Viewer::attach(&agent, &session, size(80, 24)).await;
    let screen = viewer.text();
    assert!(screen.contains("got again\r\n") && screen.contains("\x1b[?1049h"), "{screen:?}");
    viewer.sees("full screen").await;
    viewer.types("\n").await;
    assert_eq!(viewer.ends().await.1, 5);
    // And for a while after its end.
    let (screen, status) = Viewer::attach(&agent, &session, size(80, 24)).await.ends().await;
    assert!(screen.contains("full screen"));
    assert_eq!(status, 5);
    assert_eq!(list(&agent).await[0].exit.unwrap().status, 5);
}

#[tokio::test]
async fn what_was_typed_last_arrives_before_the_viewer_leaves() {
    let agent = Guest::start().connect().await;
    let command = "stty -echo; echo ready; read a; read b; echo \"$a, $b\"; read end";
    for _ in 0..20 {
        let mut viewer = Viewer::open(&agent, running(command)).await;
        viewer.sees("ready").await;
        let session = viewer.session();
        viewer.types("one\n").await;
        viewer.types("two\n").await;
        viewer.stream.detach().await;
        let mut viewer = Viewer::attach(&agent, &session, size(80, 24)).await;
        viewer.sees("one, two").await;
        assert_eq!(agent.pty_close(&session, None).await, Ok(137));
    }
}

/// What is left of a text without control sequences.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = match after.strip_prefix('[') {
            Some(sequence) => sequence.trim_start_matches(|c: char| !c.is_ascii_alphabetic()),
            None => after,
        };
        rest = &rest[1..];
    }
    plain + rest
}

#[tokio::test]
async fn whoever_comes_in_the_middle_misses_nothing_and_sees_nothing_twice() {
    let agent = Guest::start().connect().await;
    // A part for each viewer, who comes when its first line is seen; all of it is kept.
    let (parts, part) = (20, 450);
    let lines = parts * part;
    let command = format!(
        "i=0; while [ $i -lt {lines} ]; do [ $((i % {part})) -ne 0 ] || read go; \
         i=$((i+1)); echo \"<$i>\"; [ $((i % 20)) -ne 0 ] || /bin/true; done; read end"
    );
    let mut first = Viewer::open(&agent, PtyOpen { size: size(20, 5), ..running(&command) }).await;
    let session = first.session();
    let mut seen = String::new();
    let mut viewers = Vec::new();
    for number in 0..parts {
        first.types("\n").await;
        seen += &first.sees(&format!("<{}>", number * part + 1)).await;
        viewers.push(Viewer::attach(&agent, &session, size(20, 5)).await);
    }
    first.seen.splice(0..0, seen.into_bytes());
    viewers.push(first);
    for (number, viewer) in viewers.iter_mut().enumerate() {
        let last = format!("<{lines}>\r\n");
        let seen = viewer.sees(&last).await;
        let numbers: Vec<u32> = plain(&seen)
            .split(['<', '>'])
            .filter_map(|number| number.trim().parse().ok())
            .collect();
        assert_eq!(numbers, (1..=lines).collect::<Vec<u32>>(), "viewer {number}");
    }
}

#[tokio::test]
async fn many_viewers_see_the_same_and_the_smallest_window_counts() {
    let agent = Guest::start().connect().await;
    let mut viewers = vec![Viewer::open(&agent, running("PS1='$ ' exec bash --norc -i")).await];
    let session = viewers[0].session();
    viewers[0].sees("$ ").await;
    for (cols, rows) in [(100, 40), (60, 50), (120, 10)] {
        viewers.push(Viewer::attach(&agent, &session, size(cols, rows)).await);
    }
    assert_eq!(list(&agent).await[0].size, size(60, 10));
    assert_eq!(list(&agent).await[0].viewers, 4);
    viewers[2].types("echo one; stty size\n").await;
    for viewer in &mut viewers {
        viewer.sees("one\r\n10 60\r\n").await;
    }
    viewers[1].types("echo two\n").await;
    for viewer in &mut viewers {
        viewer.sees("two\r\n").await;
    }
    // It grows when the small ones leave, and stays when all do.
    viewers.truncate(2);
    listed(&agent, |sessions| sessions[0].size == size(80, 24)).await;
    viewers[0].input.resize(size(200, 60)).await.unwrap();
    listed(&agent, |sessions| sessions[0].size == size(100, 40)).await;
    viewers.clear();
    let sessions = listed(&agent, |sessions| sessions[0].viewers == 0).await;
    assert!([size(100, 40), size(200, 60)].contains(&sessions[0].size), "{sessions:?}");
}

#[tokio::test]
async fn a_viewer_who_does_not_look_holds_up_nobody_for_long() {
    let agent = Guest::start().connect().await;
    let command = "read go; head -c 4000000 /dev/zero | tr '\\0' x; echo; echo done; read end";
    let mut looking = Viewer::open(&agent, running(command)).await;
    let session = looking.session();
    let blind = Viewer::attach(&agent, &session, size(80, 24)).await;
    looking.types("\n").await;
    let seen = looking.sees("\r\ndone\r\n").await;
    assert!(seen.len() > 4_000_000, "{}", seen.len());
    // What it has not looked at is gone, and it is told so.
    let mut blind = blind;
    let end = loop {
        match blind.next().await {
            PtyOutput::Bytes(_) => {}
            end => break end,
        }
    };
    assert_eq!(end, PtyOutput::TooSlow);
    // It can come again.
    let mut again = Viewer::attach(&agent, &session, size(80, 24)).await;
    again.sees("done").await;
}

#[tokio::test]
async fn a_program_goes_on_when_nobody_looks_or_wants_to() {
    let agent = Guest::start().connect().await;
    let folder = tempfile::tempdir().unwrap();
    let command = |name: &str| {
        let done = folder.path().join(name).display().to_string();
        running(&format!("read go; head -c 4000000 /dev/zero | tr '\\0' x; touch {done}; read end"))
    };
    let is_there = async |name: &str| {
        while !folder.path().join(name).exists() {
            agent.ping().await.unwrap();
        }
    };
    // Nobody is there.
    let viewer = Viewer::open(&agent, command("one")).await;
    viewer.types("\n").await;
    viewer.stream.detach().await;
    tokio::time::timeout(LIMIT, is_there("one")).await.unwrap();
    // The only one there takes nothing. It is waited for a while.
    let viewer = Viewer::open(&agent, command("two")).await;
    viewer.types("\n").await;
    tokio::time::timeout(LIMIT, is_there("two")).await.unwrap();
    drop(viewer);
}

#[tokio::test]
async fn sessions_outlive_the_host_and_a_child_has_those_that_run() {
    let guest = Guest::start();
    let agent = guest.connect().await;
    let mut viewer = Viewer::open(&agent, running("PS1='$ ' exec bash --norc -i")).await;
    viewer.types("kept=here\n").await;
    viewer.sees("kept=here\r\n").await;
    let session = viewer.session();
    let (_, status) = Viewer::open(&agent, running("exit 3")).await.ends().await;
    assert_eq!(status, 3);

    // Another server.
    let (agent, why) = guest.replace_host(agent).await;
    let end = loop {
        match viewer.stream.recv().await {
            Ok(PtyOutput::Bytes(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end, Err(why));
    assert_eq!(list(&agent).await.len(), 2);
    let mut viewer = Viewer::attach(&agent, &session, size(80, 24)).await;
    viewer.types("echo still $kept\n").await;
    viewer.sees("still here\r\n").await;

    // The guest wakes up: another generation, the same name.
    guest.unplug();
    agent.closed().await;
    let (agent, _) = AgentConnection::connect(guest.plug(), identity(2)).await.unwrap();
    assert_eq!(list(&agent).await.len(), 2);

    // A child: another name.
    guest.unplug();
    agent.closed().await;
    let child = Identity { hostname: "child".to_owned(), ..identity(3) };
    let (agent, _) = AgentConnection::connect(guest.plug(), child).await.unwrap();
    let sessions = list(&agent).await;
    assert_eq!(sessions.len(), 1);
    assert_eq!((&sessions[0].id, sessions[0].viewers), (&session, 0));
    let mut viewer = Viewer::attach(&agent, &session, size(80, 24)).await;
    viewer.sees("still here").await;
    viewer.types("echo and $kept\n").await;
    viewer.sees("and here\r\n").await;
}

#[tokio::test]
async fn a_session_belongs_to_its_user() {
    let agent = Guest::start().connect().await;
    let open = PtyOpen {
        user: Some("nobody".to_owned()),
        // Its terminal is its own: it can open it by its name.
        ..running(
            "id -un; id -Gn; cd /; grep -E '^CapEff' /proc/self/status; echo by name > $(tty); read end",
        )
    };
    let mut viewer = Viewer::open(&agent, open).await;
    viewer.sees("nobody\r\nnogroup\r\n").await;
    viewer.sees("CapEff:\t0000000000000000\r\n").await;
    viewer.sees("by name\r\n").await;
    let (theirs, own) =
        (viewer.session(), Viewer::open(&agent, running("read end")).await.session());

    let ids = |sessions: Vec<PtySession>| {
        sessions.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(list(&agent).await), [theirs.clone(), own.clone()]);
    assert_eq!(ids(agent.pty_list(Some("nobody")).await.unwrap()), std::slice::from_ref(&theirs));
    assert_eq!(ids(agent.pty_list(Some("root")).await.unwrap()), std::slice::from_ref(&own));
    assert_eq!(ids(agent.pty_list(Some("daemon")).await.unwrap()), []);
    let foreign = Err(CallError::Pty(PtyFailure::OtherUser));
    assert_eq!(agent.pty_attach(&own, Some("nobody"), size(80, 24)).await.map(drop), foreign);
    assert_eq!(agent.pty_close(&own, Some("nobody")).await.map(drop), foreign);
    assert_eq!(agent.pty_close(&theirs, Some("nobody")).await, Ok(137));
    let unknown = PtyOpen { user: Some("mallory".to_owned()), ..running("true") };
    assert_eq!(agent.pty_open(unknown).await.map(drop), Err(CallError::UnknownUser));
    // What could not be started takes no place.
    assert_eq!(list(&agent).await.len(), 1);
}

#[tokio::test]
async fn names_are_chosen_or_given_and_never_twice() {
    let agent = Guest::start().connect().await;
    let named = |name: &str| PtyOpen { session: Some(id(name)), ..running("read end") };
    let mut open = Vec::new();
    for (asked, given) in
        [(Some("pty-2"), "pty-2"), (None, "pty-1"), (None, "pty-3"), (Some("a.b_c-D"), "a.b_c-D")]
    {
        let request = asked.map_or_else(|| running("read end"), named);
        let viewer = Viewer::open(&agent, request).await;
        assert_eq!(viewer.session(), id(given));
        open.push(viewer);
    }
    let again = agent.pty_open(named("pty-3")).await.map(drop);
    assert_eq!(again, Err(CallError::Pty(PtyFailure::AlreadyExists)));
    let none = Err(CallError::Pty(PtyFailure::NotFound));
    assert_eq!(agent.pty_attach(&id("pty-9"), None, size(80, 24)).await.map(drop), none);
    // Closed, it is gone, and its name is free.
    assert_eq!(agent.pty_close(&id("pty-3"), None).await, Ok(137));
    assert_eq!(agent.pty_close(&id("pty-3"), None).await.map(drop), none);
    Viewer::open(&agent, named("pty-3")).await;
}

#[tokio::test]
async fn there_are_128_sessions_at_most() {
    let agent = Guest::start().connect().await;
    let opening =
        (0..MAX_SESSIONS).map(|_| agent.pty_open(running("read line; echo $line; read end")));
    let opened = futures_of(opening).await;
    let mut viewers: Vec<Viewer> =
        opened.into_iter().map(|stream| Viewer::new(stream.unwrap())).collect();
    let names: BTreeSet<SessionId> = viewers.iter().map(Viewer::session).collect();
    assert_eq!(names.len(), MAX_SESSIONS);
    let full = Err(CallError::Pty(PtyFailure::TooManySessions));
    assert_eq!(agent.pty_open(running("true")).await.map(drop), full);
    // All of them work, and so do other requests.
    for (number, viewer) in viewers.iter_mut().enumerate() {
        viewer.types(&format!("number {number}\n")).await;
    }
    for (number, viewer) in viewers.iter_mut().enumerate() {
        viewer.sees(&format!("number {number}\r\nnumber {number}\r\n")).await;
    }
    agent.ping().await.unwrap();
    // One that has ended counts until it is closed.
    let ended = viewers.pop().unwrap();
    let session = ended.session();
    ended.types("\n").await;
    assert_eq!(ended.ends().await.1, 0);
    assert_eq!(agent.pty_open(running("true")).await.map(drop), full);
    assert_eq!(agent.pty_close(&session, None).await, Ok(0));
    assert_eq!(Viewer::open(&agent, running("exit 1")).await.ends().await.1, 1);
}

#[tokio::test]
async fn there_are_256_viewers_at_most_and_they_take_no_requests_place() {
    let agent = Guest::start().connect().await;
    let first = Viewer::open(&agent, running("read end")).await;
    let session = first.session();
    let attaching = (1..MAX_VIEWERS).map(|_| agent.pty_attach(&session, None, size(80, 24)));
    let attached = futures_of(attaching).await;
    assert!(attached.iter().all(Result::is_ok));
    let full = Err(CallError::Pty(PtyFailure::TooManyViewers));
    assert_eq!(agent.pty_attach(&session, None, size(80, 24)).await.map(drop), full);
    let pings = futures_of((0..300).map(|_| agent.ping())).await;
    assert!(pings.iter().all(Result::is_ok));
    drop(attached);
    listed(&agent, |sessions| sessions[0].viewers == 1).await;
    Viewer::attach(&agent, &session, size(80, 24)).await;
}

#[tokio::test]
async fn a_thousand_sessions_leave_nothing_behind() {
    let agent = Guest::start().connect().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let round = async || {
        let opening = (0..50).map(|_| agent.pty_open(running("seq 1 200; read end")));
        for stream in futures_of(opening).await {
            let mut viewer = Viewer::new(stream.unwrap());
            viewer.sees("\r\n200\r\n").await;
            let session = viewer.session();
            assert_eq!(agent.pty_close(&session, None).await, Ok(137));
            assert_eq!(viewer.ends().await.1, 137);
        }
    };
    // The first rounds warm everything up.
    round().await;
    round().await;
    let before = (descriptors(), resident());
    for _ in 0..20 {
        round().await;
    }
    listed(&agent, <[PtySession]>::is_empty).await;
    assert!(descriptors() <= before.0 + 5, "{} descriptors, before {}", descriptors(), before.0);
    assert!(resident() < before.1 + 64 * 1024, "{} KiB, before {}", resident(), before.1);
}

#[tokio::test]
async fn what_is_no_message_of_a_viewer_is_ignored() {
    let agent = Guest::start().connect().await;
    let request = Request::PtyOpen(running("read line; echo got $line; read end"));
    let mut raw = agent.open(&request).await.unwrap();
    let StreamEvent::Data(Channel::Side, _) = raw.recv().await.unwrap() else {
        panic!("it says first which one it is")
    };
    for message in [&b""[..], b"\xff\xff\xff", &[0, 0, 0], &[7; 1000]] {
        raw.send_side(message.to_vec()).await.unwrap();
    }
    let mut viewer = Viewer::attach(&agent, &id("pty-1"), size(80, 24)).await;
    viewer.types("this\n").await;
    viewer.sees("got this\r\n").await;
    assert_eq!(list(&agent).await[0].viewers, 2);
    drop(raw);
}

/// Runs them at once; their results in order.
async fn futures_of<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_ready = true;
        for (future, result) in &mut pending {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().map(|(_, result)| result.unwrap()).collect()
}
