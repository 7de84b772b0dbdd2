//! Finding the way of a host for every request, out of memory where nothing has changed.

use std::sync::Arc;

use freestyle_store::{Route, Store, StoreError};

use crate::kept::Kept;

/// Ways that are kept.
const MAX_KEPT: usize = 16_384;

/// The ways that were asked for since anything changed.
pub(crate) struct Routes {
    store: Store,
    kept: Kept<Arc<Route>>,
}

impl Routes {
    pub(crate) fn new(store: Store) -> Self {
        let kept = Kept::new(&store, MAX_KEPT);
        Self { store, kept }
    }

    /// Where a host leads; `None` if nowhere.
    pub(crate) async fn find(&self, host: &str) -> Result<Option<Arc<Route>>, StoreError> {
        let turn = match self.kept.get(host) {
            Ok(route) => return Ok(Some(route)),
            Err(turn) => turn,
        };
        // Nothing is kept of hosts that lead nowhere: there is no end of them.
        let Some(route) = self.store.system().route(host).await? else { return Ok(None) };
        let route = Arc::new(route);
        self.kept.keep(turn, host, route.clone());
        Ok(Some(route))
    }
}
