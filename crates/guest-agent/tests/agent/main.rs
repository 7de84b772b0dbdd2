//! The real agent and the real client, joined by what stands between them on a host: a serial port
//! that hosts connect to one after the other. Needs root, as the agent does.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod exec;
mod files;
mod guest;
mod hostile;
mod identity;
mod link;
mod port;
mod pty;
