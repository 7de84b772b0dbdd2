//! Terminal sessions (protocol section 9).

use serde::{Deserialize, Serialize};

/// What a terminal that a viewer comes to is sent first: it resets the viewer's terminal and clears
/// it, with its scrollback. The rest of the first binary message draws the session's screen.
pub const PTY_RESET: &[u8] = b"\x1bc\x1b[3J";

/// The query of `GET /v1/vms/{vm_id}/pty`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct OpenPtyQuery {
    /// Columns of the window; 80 where absent.
    #[cfg_attr(feature = "utoipa", param(minimum = 1, maximum = 1000))]
    pub cols: Option<u16>,
    /// Rows of the window; 24 where absent.
    #[cfg_attr(feature = "utoipa", param(minimum = 1, maximum = 500))]
    pub rows: Option<u16>,
    /// Given to `sh -c`; the user's login shell where absent or empty.
    pub exec: Option<String>,
    /// The session's name; the server chooses one where absent.
    #[cfg_attr(feature = "utoipa", param(pattern = "^[a-zA-Z0-9._-]{1,64}$"))]
    pub session_id: Option<String>,
}

/// The query of `GET /v1/vms/{vm_id}/pty/sessions/{session_id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "utoipa", into_params(parameter_in = Query))]
pub struct AttachPtyQuery {
    /// Columns of the window; 80 where absent.
    #[cfg_attr(feature = "utoipa", param(minimum = 1, maximum = 1000))]
    pub cols: Option<u16>,
    /// Rows of the window; 24 where absent.
    #[cfg_attr(feature = "utoipa", param(minimum = 1, maximum = 500))]
    pub rows: Option<u16>,
}

/// A text message from the server on a terminal's WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum PtyServerMessage {
    /// The first message of a session that was opened.
    SessionInfo {
        /// Its name.
        session_id: String,
    },
    /// The program has ended; nothing comes after it.
    Exited {
        /// Its exit code, or 128 + the signal's number.
        exit_code: i32,
    },
}

/// A text message from the client on a terminal's WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
pub enum PtyClientMessage {
    /// The window has another size.
    Resize {
        /// Columns.
        cols: u64,
        /// Rows.
        rows: u64,
    },
    /// A signal for the program.
    Signal {
        /// Which one.
        signal: PtySignal,
    },
}

/// The signals that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PtySignal {
    /// What Ctrl-C does.
    #[serde(rename = "SIGINT")]
    Interrupt,
    /// Kills the program.
    #[serde(rename = "SIGKILL")]
    Kill,
}

/// The body of the answer to `GET /v1/vms/{vm_id}/pty/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListPtySessionsResponse {
    /// Oldest first.
    pub sessions: Vec<PtySessionInfo>,
}

/// A terminal session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PtySessionInfo {
    /// Its name.
    pub session_id: String,
    /// Whether the program runs now.
    pub running: bool,
    /// Its exit code, or 128 + the signal's number, once it has ended.
    pub exit_code: Option<i32>,
    /// When it ended, in Unix milliseconds.
    pub exited_at_ms: Option<u64>,
    /// Columns of the window.
    pub cols: u16,
    /// Rows of the window.
    pub rows: u16,
    /// The command; absent for a login shell.
    pub exec: Option<String>,
    /// When it was opened, in Unix milliseconds.
    pub created_at_ms: u64,
    /// How many look on.
    pub attached_count: u32,
    /// The Linux user it belongs to; absent where it was opened without one.
    pub user: Option<String>,
    /// The VM is suspended, and the program with it.
    pub suspended: bool,
}

/// The body of the answer to `DELETE /v1/vms/{vm_id}/pty/sessions/{session_id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ClosePtySessionResponse {
    /// Its name.
    pub session_id: String,
    /// How the program ended.
    pub exit_code: Option<i32>,
}
