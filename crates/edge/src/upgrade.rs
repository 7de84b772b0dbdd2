//! Connections that go on with another protocol, a WebSocket for instance: bytes both ways.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tracing::debug;

use crate::pool::Lease;

/// How long either side may take to begin, after the guest has agreed to it.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);

/// Copies between the two until one of them closes, what is at the guest's end has ended, or the
/// edge does.
pub(crate) fn tunnel(
    client: OnUpgrade,
    guest: OnUpgrade,
    lease: Lease,
    request: OwnedSemaphorePermit,
    mut closing: watch::Receiver<()>,
) {
    tokio::spawn(async move {
        let copied = async {
            let both = async { tokio::try_join!(client, guest) };
            let Ok(begun) = timeout(BEGIN_LIMIT, both).await else { return Ok(()) };
            let (client, guest) = begun.map_err(std::io::Error::other)?;
            let (mut client, mut guest) = (TokioIo::new(client), TokioIo::new(guest));
            copy_bidirectional(&mut client, &mut guest).await.map(drop)
        };
        tokio::select! {
            copied = copied => {
                if let Err(error) = copied {
                    debug!(%error, "upgraded connection");
                }
            }
            () = lease.ended() => {}
            _ = closing.changed() => {}
        }
        // Both have their place until here.
        drop((lease, request));
    });
}
