//! Terminal sessions (protocol section 9): programs on pseudo-terminals, with the screens that they
//! have drawn.
//!
//! They live in the agent's memory. So they survive viewers and servers that go away, and whoever
//! goes on from a snapshot of this guest has them as they were.
//!
//! * `sessions`: all of them, by name.
//! * `session`: one of them: its task takes what the program prints, draws it on the screen and
//!   passes it to the viewers.
//! * `program`: the process and its pseudo-terminal.
//! * `screen`: what the program has drawn, and how to draw it again.
//! * `viewer` and `backlog`: a stream that looks on, and what it has yet to be sent.

mod backlog;
mod program;
mod screen;
mod session;
mod sessions;
mod viewer;

pub(crate) use self::sessions::Sessions;
