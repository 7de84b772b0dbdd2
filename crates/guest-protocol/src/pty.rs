//! Terminal sessions (protocol section 9): a program on a pseudo-terminal of the guest, and the
//! screen that it has drawn so far.
//!
//! A session lives in the agent, whether or not anyone looks on, until it is closed or a minute
//! after its program ended. Whoever looks on is a *viewer*: one stream, opened by `PtyOpen` or
//! `PtyAttach`.
//!
//! * The agent first sends [`PtyEvent::Attached`] on the side channel. Of the bytes that follow on
//!   the main channel, the first `screen_bytes` draw the screen as it was at that moment, scrollback
//!   included, on any terminal in any state; all others are what the program printed since.
//! * The host sends what is typed on the main channel and [`PtyControl`]s on the side channel.
//! * The agent's last word is `Reply::Exited`, behind all that the program printed, or
//!   `Reply::ViewerTooSlow`.
//! * A host that ends its data detaches: once all that was typed has reached the program, the answer
//!   is `Reply::Done`. A viewer that is cancelled is gone at once, and may take with it what it typed.
//!   Either way the session stays.
//!
//! The window that the program sees is as large as the smallest of its viewers' windows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most sessions of a guest, those included whose program has ended.
pub const MAX_SESSIONS: usize = 128;
/// Most viewers of all sessions of a guest together.
pub const MAX_VIEWERS: usize = 256;
/// Longest command of a session: the list of all sessions must stay of a size that can be sent.
pub const MAX_COMMAND: usize = 16 * 1024;
/// Most bytes that draw a screen. [`PtySize`] and what the agent keeps of a session bound it.
pub const MAX_SCREEN: usize = 32 * 1024 * 1024;
/// Most encoded bytes in a list of sessions.
pub(crate) const MAX_LIST: usize = 4 * 1024 * 1024;

/// The name of a session: 1 to 64 characters of `a-z A-Z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

/// What was given is no name of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session id has 1 to 64 letters, digits, dots, dashes and underscores")]
pub struct InvalidSessionId;

impl SessionId {
    /// The name that the agent gives the `number`th session without one.
    pub fn numbered(number: u64) -> Self {
        Self(format!("pty-{number}"))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidSessionId;

    fn try_from(text: String) -> Result<Self, InvalidSessionId> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidSessionId)
        }
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The size of a window, within bounds that keep a screen small enough to be kept and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct PtySize {
    cols: u16,
    rows: u16,
}

/// What was given is no size that a window may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a terminal has 1 to {} columns, 1 to {} rows and at most {} cells",
    PtySize::MAX_COLS,
    PtySize::MAX_ROWS,
    PtySize::MAX_CELLS
)]
pub struct InvalidPtySize;

impl PtySize {
    /// Most columns.
    pub const MAX_COLS: u16 = 1000;
    /// Most rows.
    pub const MAX_ROWS: u16 = 500;
    /// Most columns times rows.
    pub const MAX_CELLS: u32 = 100_000;

    /// A size within bounds.
    pub fn new(cols: u16, rows: u16) -> Result<Self, InvalidPtySize> {
        let in_bounds = (1..=Self::MAX_COLS).contains(&cols)
            && (1..=Self::MAX_ROWS).contains(&rows)
            && u32::from(cols) * u32::from(rows) <= Self::MAX_CELLS;
        if in_bounds { Ok(Self { cols, rows }) } else { Err(InvalidPtySize) }
    }

    /// Columns.
    pub fn cols(self) -> u16 {
        self.cols
    }

    /// Rows.
    pub fn rows(self) -> u16 {
        self.rows
    }

    /// The largest size that fits both.
    pub fn min(self, other: Self) -> Self {
        Self { cols: self.cols.min(other.cols), rows: self.rows.min(other.rows) }
    }
}

impl TryFrom<(u16, u16)> for PtySize {
    type Error = InvalidPtySize;

    fn try_from((cols, rows): (u16, u16)) -> Result<Self, InvalidPtySize> {
        Self::new(cols, rows)
    }
}

impl From<PtySize> for (u16, u16) {
    fn from(size: PtySize) -> Self {
        (size.cols, size.rows)
    }
}

/// What the agent says to a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PtyEvent {
    /// The first message: the stream is a viewer now.
    Attached {
        /// Of this session.
        session: SessionId,
        /// So many of the bytes that follow draw the screen; at most [`MAX_SCREEN`].
        screen_bytes: u32,
    },
}

/// What a viewer says besides what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PtyControl {
    /// The viewer's window has another size.
    Resize(PtySize),
    /// Kills the session's program.
    Kill,
}

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtySession {
    /// Its name.
    pub id: SessionId,
    /// The Linux user it was opened for; absent where none was named.
    pub user: Option<String>,
    /// What it runs; the login shell where absent.
    pub command: Option<String>,
    /// The window its program sees.
    pub size: PtySize,
    /// Milliseconds since 1970.
    pub created_at: u64,
    /// How many look on.
    pub viewers: u32,
    /// How its program ended, if it has.
    pub exit: Option<PtyExit>,
}

impl PtySession {
    /// Whether `user` may have it.
    pub fn belongs_to(&self, user: Option<&str>) -> bool {
        belongs_to(self.user.as_deref(), user)
    }
}

/// Whether a session that was opened for `owner` is `user`'s. Whoever names no user may have all; a
/// session that was opened without one is root's.
pub fn belongs_to(owner: Option<&str>, user: Option<&str>) -> bool {
    user.is_none_or(|user| user == owner.unwrap_or("root"))
}

/// How a session's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyExit {
    /// The exit code, or 128 + the signal's number.
    pub status: i32,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// Why a session cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PtyFailure {
    /// There is none of this name.
    #[error("there is no such session")]
    NotFound,
    /// Its program ended more than a minute ago.
    #[error("the session's program ended and it is no longer kept")]
    Expired,
    /// The name is taken.
    #[error("there is a session of this name already")]
    AlreadyExists,
    /// It belongs to another Linux user.
    #[error("the session belongs to another Linux user")]
    OtherUser,
    /// There are [`MAX_SESSIONS`].
    #[error("there are {MAX_SESSIONS} sessions already")]
    TooManySessions,
    /// There are [`MAX_VIEWERS`].
    #[error("{MAX_VIEWERS} viewers are attached to sessions already")]
    TooManyViewers,
}

/// Reads a list of sessions. `None` if it is malformed or too long.
pub fn decode_sessions(mut bytes: &[u8]) -> Option<Vec<PtySession>> {
    let mut sessions = Vec::new();
    while !bytes.is_empty() {
        if sessions.len() == MAX_SESSIONS {
            return None;
        }
        let (session, rest) = postcard::take_from_bytes(bytes).ok()?;
        sessions.push(session);
        bytes = rest;
    }
    Some(sessions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::{decode, encode};

    #[test]
    fn a_session_id_is_what_the_contract_says() {
        for good in ["a", "pty-1", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(good.parse::<SessionId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "ü", "a\n", "a\0", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SessionId>(), Err(InvalidSessionId), "{bad:?}");
            assert!(decode::<SessionId>(&encode(&bad.to_owned())).is_err(), "{bad:?}");
        }
        assert_eq!(
            SessionId::numbered(u64::MAX).as_str().parse(),
            Ok(SessionId::numbered(u64::MAX))
        );
    }

    #[test]
    fn sizes_are_bounded() {
        for good in [(1, 1), (80, 24), (1000, 100), (200, 500)] {
            let size = PtySize::try_from(good).unwrap();
            assert_eq!(<(u16, u16)>::from(size), good);
            assert_eq!(decode::<PtySize>(&encode(&size)), Ok(size));
        }
        for bad in [(0, 24), (80, 0), (1001, 1), (1, 501), (1000, 101), (u16::MAX, u16::MAX)] {
            assert_eq!(PtySize::try_from(bad), Err(InvalidPtySize), "{bad:?}");
            assert!(decode::<PtySize>(&encode(&bad)).is_err(), "{bad:?}");
        }
    }

    fn session() -> PtySession {
        PtySession {
            id: SessionId::numbered(1),
            user: Some("alice".to_owned()),
            command: None,
            size: PtySize::new(80, 24).unwrap(),
            created_at: 1,
            viewers: 2,
            exit: Some(PtyExit { status: 130, at: 3 }),
        }
    }

    #[test]
    fn a_list_with_too_many_sessions_is_refused() {
        let one = encode(&session());
        let decoded = decode_sessions(&one.repeat(MAX_SESSIONS)).unwrap();
        assert_eq!(decoded, vec![session(); MAX_SESSIONS]);
        assert_eq!(decode_sessions(&one.repeat(MAX_SESSIONS + 1)), None);
        let longest = PtySession {
            id: "x".repeat(64).parse().unwrap(),
            user: Some("u".repeat(64)),
            command: Some("c".repeat(MAX_COMMAND)),
            ..session()
        };
        assert!(encode(&longest).len() * MAX_SESSIONS < MAX_LIST);
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_a_message(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_sessions(&payload);
            let _ = decode::<PtyEvent>(&payload);
            if let Ok(PtyControl::Resize(size)) = decode(&payload) {
                prop_assert!(PtySize::new(size.cols(), size.rows()).is_ok());
            }
        }
    }
}
