//! How many connections there may be, and what wrong credentials cost.
//!
//! Credentials are random and long: nobody guesses one. The limits keep those who try, and those
//! who connect and say nothing, from using up what others need.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freestyle_inbound::source;
use freestyle_store::AccountId;
use tokio::time::Instant;

/// Connections at once.
const MAX_CONNECTIONS: usize = 2048;
/// Of these, such as were let into VMs of one account.
const MAX_OF_ACCOUNT: usize = 512;
/// Of these, such as have not logged in yet.
const MAX_STRANGERS: usize = 256;
/// Of these, from one source.
const MAX_STRANGERS_OF_SOURCE: usize = 32;
/// What a wrong credential costs its source.
const PENALTY: Duration = Duration::from_secs(5);
/// A source that owes more is not let in.
const MAX_DEBT: Duration = Duration::from_secs(60);
/// Sources that are remembered.
const MAX_SOURCES: usize = 65_536;

/// Why someone is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Turned {
    #[error("there are too many connections; try again later")]
    Full,
    #[error("there are too many SSH connections to VMs of this account; end some of them")]
    TooManyOfAccount,
    #[error("there are too many connections from your address that have not logged in")]
    TooManyStrangers,
    #[error("there were too many wrong credentials from your address; try again in a minute")]
    InDebt,
}

/// Counts who is there. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doorman(Arc<Mutex<Visitors>>);

#[derive(Debug, Default)]
struct Visitors {
    connections: usize,
    strangers: usize,
    sources: HashMap<IpAddr, Source>,
    /// Connections of those who logged in.
    accounts: HashMap<AccountId, usize>,
}

/// What is known of an address.
#[derive(Debug, Default)]
struct Source {
    strangers: usize,
    /// Its wrong credentials are paid for at this time.
    debt_until: Option<Instant>,
}

impl Source {
    fn debt(&self, now: Instant) -> Duration {
        self.debt_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.strangers == 0 && self.debt(now).is_zero()
    }
}

/// Someone who was let in, until dropped.
#[derive(Debug)]
pub(crate) struct Visitor {
    doorman: Doorman,
    source: IpAddr,
    /// Whose VM it was let into; nobody's before its login.
    account: Option<AccountId>,
}

impl Doorman {
    /// Lets someone in who has not logged in yet.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<Visitor, Turned> {
        let source = source(address);
        let mut visitors = self.visitors();
        let now = Instant::now();
        if visitors.connections >= MAX_CONNECTIONS || visitors.strangers >= MAX_STRANGERS {
            return Err(Turned::Full);
        }
        visitors.make_room(now);
        let known = visitors.sources.entry(source).or_default();
        if known.debt(now) > MAX_DEBT {
            return Err(Turned::InDebt);
        }
        if known.strangers >= MAX_STRANGERS_OF_SOURCE {
            return Err(Turned::TooManyStrangers);
        }
        known.strangers += 1;
        visitors.strangers += 1;
        visitors.connections += 1;
        drop(visitors);
        Ok(Visitor { doorman: self.clone(), source, account: None })
    }

    fn visitors(&self) -> MutexGuard<'_, Visitors> {
        // Never left half-changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitors {
    /// Strangers are few, so only debts can fill the memory: the smallest are forgiven.
    fn make_room(&mut self, now: Instant) {
        if self.sources.len() < MAX_SOURCES {
            return;
        }
        self.sources.retain(|_, source| !source.is_forgettable(now));
        if self.sources.len() >= MAX_SOURCES {
            self.sources
                .retain(|_, source| source.strangers > 0 || source.debt(now) > MAX_DEBT / 2);
        }
        if self.sources.len() >= MAX_SOURCES {
            self.sources.retain(|_, source| source.strangers > 0);
        }
    }
}

impl Visitor {
    /// A credential was wrong.
    pub(crate) fn charge(&self) {
        let now = Instant::now();
        let mut visitors = self.doorman.visitors();
        let source = visitors.sources.entry(self.source).or_default();
        source.debt_until = Some(now + source.debt(now) + PENALTY);
    }

    /// It has logged in to a VM of this account, which it does once.
    pub(crate) fn is_known(&mut self, account: &AccountId) -> Result<(), Turned> {
        let mut visitors = self.doorman.visitors();
        let known = visitors.accounts.get(account).copied().unwrap_or_default();
        if known >= MAX_OF_ACCOUNT {
            return Err(Turned::TooManyOfAccount);
        }
        visitors.accounts.insert(account.clone(), known + 1);
        visitors.one_stranger_less(self.source);
        drop(visitors);
        self.account = Some(account.clone());
        Ok(())
    }
}

impl Visitors {
    fn one_stranger_less(&mut self, address: IpAddr) {
        self.strangers -= 1;
        let Some(source) = self.sources.get_mut(&address) else { return };
        source.strangers -= 1;
        if source.is_forgettable(Instant::now()) {
            self.sources.remove(&address);
        }
    }

    fn one_of_account_less(&mut self, account: &AccountId) {
        let Some(count) = self.accounts.get_mut(account) else { return };
        *count -= 1;
        if *count == 0 {
            self.accounts.remove(account);
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut visitors = self.doorman.visitors();
        visitors.connections -= 1;
        match &self.account {
            Some(account) => visitors.one_of_account_less(account),
            None => visitors.one_stranger_less(self.source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test(start_paused = true)]
    async fn wrong_credentials_lock_their_source_out_for_a_while_and_nobody_else() {
        let doorman = Doorman::default();
        for _ in 0..=(MAX_DEBT.as_secs() / PENALTY.as_secs()) {
            doorman.admit(HOME).unwrap().charge();
        }
        assert_eq!(doorman.admit(HOME).unwrap_err(), Turned::InDebt);
        assert!(doorman.admit(AWAY).is_ok());
        tokio::time::advance(PENALTY).await;
        assert!(doorman.admit(HOME).is_ok());
    }

    #[tokio::test]
    async fn one_source_cannot_take_every_place() {
        let doorman = Doorman::default();
        let mut silent: Vec<_> =
            (0..MAX_STRANGERS_OF_SOURCE).map(|_| doorman.admit(HOME).unwrap()).collect();
        assert_eq!(doorman.admit(HOME).unwrap_err(), Turned::TooManyStrangers);
        assert!(doorman.admit(AWAY).is_ok());
        silent[0].is_known(&AccountId::random()).unwrap();
        assert!(doorman.admit(HOME).is_ok());
    }

    #[tokio::test]
    async fn who_logged_in_takes_no_place_of_those_who_have_not() {
        let doorman = Doorman::default();
        let addresses = (0..MAX_CONNECTIONS as u32).map(|n| IpAddr::V4(n.into()));
        let visitors: Vec<_> = addresses
            .map(|address| {
                let mut visitor = doorman.admit(address).unwrap();
                visitor.is_known(&AccountId::random()).unwrap();
                visitor
            })
            .collect();
        assert_eq!(doorman.admit(HOME).unwrap_err(), Turned::Full);
        drop(visitors);
        assert!(doorman.admit(HOME).is_ok());
    }

    #[tokio::test]
    async fn one_account_cannot_take_every_place() {
        let (doorman, account) = (Doorman::default(), AccountId::random());
        let enter = |account: &AccountId| {
            let mut visitor = doorman.admit(HOME).unwrap();
            visitor.is_known(account).map(|()| visitor)
        };
        let mut visitors: Vec<_> = (0..MAX_OF_ACCOUNT).map(|_| enter(&account).unwrap()).collect();
        assert_eq!(enter(&account).unwrap_err(), Turned::TooManyOfAccount);
        assert!(enter(&AccountId::random()).is_ok());
        visitors.pop();
        assert!(enter(&account).is_ok());
        drop(visitors);
        assert!(doorman.visitors().accounts.is_empty() && doorman.visitors().strangers == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_forgotten() {
        let doorman = Doorman::default();
        let visitor = doorman.admit(HOME).unwrap();
        visitor.charge();
        tokio::time::advance(PENALTY).await;
        drop(visitor);
        assert!(doorman.visitors().sources.is_empty());
        assert_eq!(doorman.visitors().connections, 0);
    }

    #[test]
    fn one_network_is_one_source() {
        let source = |text: &str| source(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), HOME);
    }
}
