//! Telling webhooks that a branch has moved.
//!
//! Owns: when each delivery is attempted and given up (`dispatch`, `schedule`), what is sent
//! (`message`), and the keys it is signed with (`keys`, `jwt`). Does not own: what a trigger is and
//! when a delivery comes to be (`repos`), the queue and the log (`store`), or which addresses may be
//! reached (`outbound`).
//!
//! # Delivery
//!
//! *At least once*: the queue is in the store, a delivery leaves it only when the endpoint has
//! answered 2xx or it was given up, and a server that is killed in between asks again. *In order* per
//! trigger: nothing overtakes a delivery that is retried. Attempts are spread over hours; what was
//! given up stays in the log, from where it can be delivered once more.
//!
//! # Signature
//!
//! Each attempt carries a JWT of its own, signed with Ed25519, whose claim `body_sha256` binds it to
//! the body and which ends after five minutes. The public keys are [`Webhooks::jwks`].

mod dispatch;
mod jwt;
mod keys;
mod message;
mod schedule;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freestyle_outbound::Outbound;
use freestyle_repos::Repos;
use freestyle_store::Store;

pub use keys::{KeyError, rotate};

use crate::keys::KeyRing;
use crate::schedule::Schedule;

/// Who sends, and how patiently.
#[derive(Debug, Clone)]
pub struct Config {
    /// The URL under which receivers find the keys: that of the git host.
    pub issuer: String,
    /// Where the private keys are; made, readable by nobody else, when it is missing.
    pub keys: PathBuf,
    /// How long after its first attempt a delivery is given up.
    pub retry_time: Duration,
}

/// Delivers what is queued. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Webhooks {
    shared: Arc<Shared>,
}

struct Shared {
    issuer: String,
    keys: KeyRing,
    schedule: Schedule,
    store: Store,
    repos: Repos,
    outbound: Outbound,
}

impl Webhooks {
    /// Reads or makes the keys. Nothing is delivered before [`Webhooks::run`].
    pub async fn open(
        config: Config,
        store: Store,
        repos: Repos,
        outbound: Outbound,
    ) -> Result<Self, KeyError> {
        let Config { issuer, keys, retry_time } = config;
        let keys = KeyRing::open(keys).await?;
        let schedule = Schedule::over(retry_time);
        let shared = Shared { issuer, keys, schedule, store, repos, outbound };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The public keys, as a JSON Web Key Set.
    pub async fn jwks(&self) -> Result<String, KeyError> {
        self.shared.keys.jwks().await
    }

    /// Delivers for as long as it is polled. Dropping it breaks off attempts that are under way;
    /// they are made again by the next one.
    pub async fn run(&self) {
        dispatch::run(Arc::clone(&self.shared)).await;
    }
}
