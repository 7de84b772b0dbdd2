//! Finding the way of a host for every request, out of memory where nothing has changed.

use std::sync::Arc;

use freestyle_store::{Route, Store, StoreError, VmId};

use crate::kept::Kept;
use crate::name::DomainName;

/// Ways that are kept.
const MAX_KEPT: usize = 16_384;
/// Where a VM's own host leads.
const PORT_OF_VM: u16 = 3000;

/// The ways that were asked for since anything changed.
pub(crate) struct Routes {
    store: Store,
    /// Below it every VM has a host.
    vm_domain: Option<DomainName>,
    kept: Kept<Arc<Route>>,
}

impl Routes {
    pub(crate) fn new(store: Store, vm_domain: Option<DomainName>) -> Self {
        let kept = Kept::new(&store, MAX_KEPT);
        Self { store, vm_domain, kept }
    }

    /// The domain below which every VM has a host.
    pub(crate) fn vm_domain(&self) -> Option<&DomainName> {
        self.vm_domain.as_ref()
    }

    /// Where a host leads; `None` if nowhere.
    pub(crate) async fn find(&self, host: &str) -> Result<Option<Arc<Route>>, StoreError> {
        let turn = match self.kept.get(host) {
            Ok(route) => return Ok(Some(route)),
            Err(turn) => turn,
        };
        let of_vm = self.vm_domain.as_ref().and_then(|domain| label_below(host, domain.as_str()));
        let system = self.store.system();
        let found = match of_vm {
            None => system.route(host).await?,
            Some(label) => match label.parse::<VmId>() {
                Ok(vm) => system.route_to_vm(&vm, PORT_OF_VM).await?,
                Err(_) => None,
            },
        };
        // Nothing is kept of hosts that lead nowhere: there is no end of them.
        let Some(route) = found else { return Ok(None) };
        let route = Arc::new(route);
        self.kept.keep(turn, host, route.clone());
        Ok(Some(route))
    }
}

fn label_below<'a>(host: &'a str, domain: &str) -> Option<&'a str> {
    host.strip_suffix(domain)?.strip_suffix('.')
}
