//! The gateway between OpenSSH's own client and OpenSSH's own sshd. The guests are processes here:
//! what is special about VMs is tested end to end.
//!
//! Needs root (sshd changes to the user who logs in), `openssh-client`, `openssh-server` and
//! `rsync`.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod files;
mod forwarding;
mod login;
mod sessions;
mod support;
