//! Finding the way of a host for every request, out of memory where nothing has changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use freestyle_store::{Route, Store, StoreError};
use tokio::sync::watch;

/// Ways that are kept.
const MAX_KEPT: usize = 16_384;

/// The ways that were asked for since anything changed.
pub(crate) struct Routes {
    store: Store,
    kept: Mutex<Kept>,
}

struct Kept {
    /// Sees a change after everything that may change a way.
    changes: watch::Receiver<()>,
    /// Counts how often all was forgotten.
    turn: u64,
    routes: HashMap<String, Arc<Route>>,
}

impl Kept {
    /// Forgets everything if anything has changed. Answers the turn that this is.
    fn refresh(&mut self) -> u64 {
        // An error means that the store is gone; then nothing can change any more.
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.routes.clear();
            self.turn += 1;
        }
        self.turn
    }
}

impl Routes {
    pub(crate) fn new(store: Store) -> Self {
        let kept = Kept { changes: store.rights(), turn: 0, routes: HashMap::new() };
        Self { store, kept: Mutex::new(kept) }
    }

    /// Where a host leads; `None` if nowhere.
    pub(crate) async fn find(&self, host: &str) -> Result<Option<Arc<Route>>, StoreError> {
        let turn = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = kept.refresh();
            if let Some(route) = kept.routes.get(host) {
                return Ok(Some(route.clone()));
            }
            turn
        };
        // Nothing is kept of hosts that lead nowhere: there is no end of them.
        let Some(route) = self.store.system().route(host).await? else { return Ok(None) };
        let route = Arc::new(route);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // If something changed while it was looked up, this may be how it was before.
        if kept.refresh() == turn {
            if kept.routes.len() >= MAX_KEPT {
                kept.routes.clear();
            }
            kept.routes.insert(host.to_owned(), route.clone());
        }
        Ok(Some(route))
    }
}
