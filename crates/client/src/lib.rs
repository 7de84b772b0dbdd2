//! The typed Rust client of the Freestyle HTTP API, and the wire types it shares with the server.
//!
//! Owns: one definition per JSON shape ([`wire`]), and how a call is made and how its failure is
//! reported ([`Client`], [`ClientError`]). Does not own: what a request means, which values are
//! acceptable, or any default: that is the server's business.
//!
//! ```no_run
//! # async fn example() -> Result<(), freestyle_client::ClientError> {
//! use freestyle_client::{Client, wire::{CreateVmRequest, ExecRequest}};
//!
//! let client = Client::new("http://127.0.0.1:8080", "the API key")?;
//! let vm = client.create_vm(&CreateVmRequest::default()).await?;
//! let uname = client.exec(&vm.id, None, &ExecRequest::new("uname -a")).await?;
//! assert_eq!(uname.status_code, Some(0));
//! client.delete_vm(&vm.id).await?;
//! # Ok(())
//! # }
//! ```

pub mod wire;

#[cfg(feature = "http")]
mod client;
#[cfg(feature = "http")]
mod dns;
#[cfg(feature = "http")]
mod domains;
#[cfg(feature = "http")]
mod error;
#[cfg(feature = "http")]
mod git;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod identities;
#[cfg(feature = "http")]
mod pty;
#[cfg(feature = "http")]
mod vpcs;

#[cfg(feature = "http")]
pub use client::Client;
#[cfg(feature = "http")]
pub use error::{ApiFailure, ClientError};
#[cfg(feature = "http")]
pub use pty::{Pty, PtyEvent, PtyReader, PtyWriter};
