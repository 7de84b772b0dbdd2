//! The git host with real `git`, and with requests that no git sends.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod access;
mod requests;
mod support;
mod transfers;
