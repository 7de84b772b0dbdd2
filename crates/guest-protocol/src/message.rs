//! What is said on the link: the greeting, requests and replies. Encoded with postcard.
//!
//! A memory snapshot holds the agent of the day it was taken, so hosts meet older agents. Every
//! link message begins with the [`PROTOCOL_VERSION`]; a peer of another version is refused by that
//! number and nothing of it is interpreted. Any change to a type here changes the version.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::pty::{PtyFailure, PtySize, SessionId};

/// Version of everything in this crate that both sides must agree on.
pub const PROTOCOL_VERSION: u16 = 3;
/// Most entries in a listing of a directory.
pub const MAX_DIR_ENTRIES: usize = 65_536;
/// Most encoded bytes in a listing of a directory.
pub const MAX_DIR_BYTES: usize = 16 * 1024 * 1024;

/// A message about the link itself, on stream 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkMessage {
    /// Host to guest: a connection begins, every earlier one has ended.
    Hello(Hello),
    /// Guest to host: the guest is what the `Hello` says, requests may come.
    Welcome(Welcome),
    /// Guest to host: the agent has no connection (it started, or gave one up).
    HelloWanted,
}

/// A random number that names one connection.
pub type Epoch = [u8; 16];

/// The host's greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Names this connection.
    pub epoch: Epoch,
    /// Who the guest is.
    pub identity: Identity,
    /// The time now, in nanoseconds since 1970.
    pub unix_nanos: u64,
    /// For the guest's random number generator.
    pub entropy: Entropy,
}

/// Who a guest is: what a clone must learn before anyone else may talk to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// A random number, new for every boot and every restore of a snapshot.
    pub generation: [u8; 16],
    /// The guest's hostname.
    pub hostname: String,
    /// Grow the root filesystem to its device before the guest is handed over.
    pub grow_root: bool,
    /// The public key, as a line of `authorized_keys`, that logs in as any Linux user; where absent,
    /// no key does. The host's SSH gateway has the other half.
    pub login_key: Option<String>,
    /// Its place in a VPC; what it had before is gone.
    pub nic: Option<Nic>,
}

/// The place of a guest in a VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its address there.
    pub address: Ipv4Addr,
    /// Of the VPC's range.
    pub prefix_length: u8,
    /// Whether the guest uses the address on its way to the internet as well.
    pub is_default: bool,
}

/// 64 bytes of randomness that must not show up in a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entropy([[u8; 32]; 2]);

impl Entropy {
    /// From 64 random bytes.
    pub fn new(bytes: [[u8; 32]; 2]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_flattened()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(..)")
    }
}

/// The agent's answer to `Hello`. Words of the guest: only the epoch can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The epoch of the `Hello`.
    pub epoch: Epoch,
    /// The agent's version.
    pub agent_version: String,
    /// The guest kernel's boot id; clones share their parent's.
    pub boot_id: String,
    /// What of the identity could not be applied, in words. The guest is usable nevertheless.
    pub problems: Vec<String>,
}

/// What the host asks of the agent; opens a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Runs a command. Its output is the stream's data, standard error on the error channel.
    Exec(ExecRequest),
    /// Reads a file or lists a directory: the content, or [`DirEntryMessage`]s, as data.
    ReadPath {
        /// The Linux user whose permissions hold; root where absent.
        user: Option<String>,
        /// Relative paths are relative to `/`.
        path: String,
        /// A larger file is an error.
        max_bytes: u64,
    },
    /// Writes a file, the content being the data the host sends up to its `End`.
    WriteFile {
        /// The Linux user whose permissions hold and who owns what is made; root where absent.
        user: Option<String>,
        /// Relative paths are relative to `/`. Missing directories are made.
        path: String,
    },
    /// Starts a terminal session; the stream becomes its first viewer (see [`crate::pty`]).
    PtyOpen(PtyOpen),
    /// The stream becomes a viewer of a terminal session.
    PtyAttach {
        /// Which one.
        session: SessionId,
        /// The Linux user who must own it; any where absent.
        user: Option<String>,
        /// How large the viewer's window is.
        size: PtySize,
    },
    /// Lists terminal sessions: [`crate::pty::PtySession`]s, as data.
    PtyList {
        /// The Linux user whose sessions are meant; everybody's where absent.
        user: Option<String>,
    },
    /// Kills a terminal session's program and forgets the session.
    PtyClose {
        /// Which one.
        session: SessionId,
        /// The Linux user who must own it; any where absent.
        user: Option<String>,
    },
    /// Ends the guest.
    Shutdown(PowerOff),
    /// Grows the root filesystem to its device.
    GrowRoot,
    /// Does nothing.
    Ping,
}

/// A command to run with `sh -c` (design section 4): as its own process group, in `/`, with nothing
/// but `PATH` in its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Given to `sh -c`.
    pub command: String,
    /// The Linux user to run as; root where absent.
    pub user: Option<String>,
    /// The process group is killed after this.
    pub timeout: Option<Duration>,
    /// Bytes of each of standard output and error after which the process group is killed.
    pub max_output: u64,
}

/// A terminal session to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyOpen {
    /// Its name; the agent chooses one where absent.
    pub session: Option<SessionId>,
    /// The Linux user who owns it and runs its program; root where absent.
    pub user: Option<String>,
    /// Given to `sh -c`; the user's login shell where absent.
    pub command: Option<String>,
    /// How large the first viewer's window is.
    pub size: PtySize,
}

/// How a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerOff;

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirEntryMessage {
    /// Name without the directory; what is not UTF-8 in it is replaced.
    pub name: String,
    /// Whether it is, or links to, a directory.
    pub is_dir: bool,
}

/// The agent's last word on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// The command, or a terminal session's program, ended: its exit code, or 128 + the signal's
    /// number.
    Exited {
        /// 0 to 255.
        status: i32,
    },
    /// The command ran over its time; its process group was killed.
    TimedOut,
    /// The command printed too much; its process group was killed.
    OutputTooLarge,
    /// The data was a file's content.
    File,
    /// The data was a directory's entries.
    Directory,
    /// The viewer did not take what the terminal showed; it may attach again.
    ViewerTooSlow,
    /// It failed.
    Failed(Failure),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// There is no such Linux user.
    UnknownUser,
    /// There is no such file.
    NotFound,
    /// The file is larger than was asked for.
    TooLarge {
        /// Bytes in the file, or seen so far where the file does not say.
        size: u64,
    },
    /// Refused for a reason in plain words, such as "permission denied".
    Refused(String),
    /// The agent does not understand the request.
    Unsupported,
    /// A terminal session cannot be had.
    Pty(PtyFailure),
}

/// A message that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The peer speaks another version.
    #[error(
        "the peer speaks version {0} of the guest protocol, this side version {PROTOCOL_VERSION}"
    )]
    OtherVersion(u16),
    /// Not an encoding of the expected type.
    #[error("a message could not be decoded")]
    Malformed,
}

/// The payload of a frame.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_stdvec(message).expect("messages hold only types that postcard encodes")
}

/// Reads a whole payload. Allocates no more than a small multiple of its length.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(DecodeError::Malformed),
    }
}

/// The payload of a link frame.
pub fn encode_link(message: &LinkMessage) -> Vec<u8> {
    [PROTOCOL_VERSION.to_le_bytes().as_slice(), &encode(message)].concat()
}

/// Reads the payload of a link frame.
pub fn decode_link(payload: &[u8]) -> Result<LinkMessage, DecodeError> {
    let (version, message) = payload.split_first_chunk().ok_or(DecodeError::Malformed)?;
    match u16::from_le_bytes(*version) {
        PROTOCOL_VERSION => decode(message),
        other => Err(DecodeError::OtherVersion(other)),
    }
}

/// Reads a listing of a directory. `None` if it is malformed or too long.
pub fn decode_entries(mut bytes: &[u8]) -> Option<Vec<DirEntryMessage>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        if entries.len() == MAX_DIR_ENTRIES {
            return None;
        }
        let (entry, rest) = postcard::take_from_bytes(bytes).ok()?;
        entries.push(entry);
        bytes = rest;
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> LinkMessage {
        LinkMessage::Hello(Hello {
            epoch: [1; 16],
            identity: Identity {
                generation: [2; 16],
                hostname: "vm".to_owned(),
                grow_root: true,
                login_key: Some("ssh-ed25519 AAAA".to_owned()),
                nic: Some(Nic {
                    address: Ipv4Addr::new(192, 168, 10, 10),
                    prefix_length: 24,
                    is_default: true,
                }),
            },
            unix_nanos: 1_800_000_000_000_000_000,
            entropy: Entropy::new([[3; 32], [4; 32]]),
        })
    }

    #[test]
    fn messages_are_read_back() {
        assert_eq!(decode_link(&encode_link(&hello())), Ok(hello()));
        let request = Request::ReadPath { user: None, path: "/a".to_owned(), max_bytes: u64::MAX };
        assert_eq!(decode(&encode(&request)), Ok(request));
    }

    #[test]
    fn another_version_is_refused_by_its_number() {
        let mut payload = encode_link(&LinkMessage::HelloWanted);
        payload[0] = 1;
        assert_eq!(decode_link(&payload), Err(DecodeError::OtherVersion(1)));
    }

    #[test]
    fn what_follows_a_message_is_an_error() {
        let mut payload = encode(&Reply::Done);
        payload.push(0);
        assert_eq!(decode::<Reply>(&payload), Err(DecodeError::Malformed));
    }

    #[test]
    fn entropy_is_not_logged() {
        let text = format!("{:?}", hello());
        assert!(text.contains("Entropy(..)") && !text.contains("3, 3"), "{text}");
    }

    #[test]
    fn a_listing_with_too_many_entries_is_refused() {
        let entry = encode(&DirEntryMessage { name: String::new(), is_dir: false });
        assert_eq!(
            decode_entries(&entry.repeat(MAX_DIR_ENTRIES)).map(|all| all.len()),
            Some(65_536)
        );
        assert_eq!(decode_entries(&entry.repeat(MAX_DIR_ENTRIES + 1)), None);
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_a_message(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(request) = decode::<Request>(&payload) {
                prop_assert_eq!(decode::<Request>(&encode(&request)), Ok(request));
            }
            let _ = decode::<Reply>(&payload);
            let _ = decode_link(&payload);
            let _ = decode_link(&[PROTOCOL_VERSION.to_le_bytes().as_slice(), &payload].concat());
            let _ = decode_entries(&payload);
        }
    }
}
