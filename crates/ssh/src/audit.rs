//! The log of who came and went, under the target `audit`. Never a token.

use std::net::{IpAddr, SocketAddr};

use freestyle_access::{Caller, VmAccess};
use freestyle_store::{AccountId, VmId};
use tokio::time::Instant;

use crate::limits::Turned;
use crate::login::Login;
use crate::relay::Passed;

const TARGET: &str = "audit";

/// Someone was not even asked who it is.
pub(crate) fn turned_away(source: IpAddr, why: Turned) {
    tracing::warn!(target: TARGET, %source, %why, "SSH connection refused");
}

/// Someone presented a credential that is not good for what was asked.
pub(crate) fn refused(login: &Login, source: IpAddr, why: &str) {
    let (vm, user) = (&login.vm, login.user());
    tracing::warn!(target: TARGET, %vm, user, %source, why, "SSH login refused");
}

/// Someone who got in, until it has left.
pub(crate) struct Visit {
    account: AccountId,
    caller: Caller,
    vm: VmId,
    user: String,
    source: SocketAddr,
    began: Instant,
}

impl Visit {
    pub(crate) fn begins(login: &Login, right: &VmAccess, source: SocketAddr) -> Self {
        let visit = Self {
            account: right.account().clone(),
            caller: right.caller().clone(),
            vm: login.vm.clone(),
            user: login.user().to_owned(),
            source,
            began: Instant::now(),
        };
        let Self { account, caller, vm, user, .. } = &visit;
        tracing::info!(target: TARGET, %vm, user, %account, %caller, %source, "SSH login");
        visit
    }

    pub(crate) fn ends(self, how: &str, passed: Passed) {
        let Self { account, caller, vm, user, source, began } = self;
        let (seconds, Passed { to_guest, to_client }) = (began.elapsed().as_secs(), passed);
        tracing::info!(
            target: TARGET,
            %vm, user, %account, %caller, %source, how, seconds, to_guest, to_client,
            "SSH connection ended"
        );
    }
}
