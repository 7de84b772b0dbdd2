//! Settings of a VM, which any place may name.

use std::time::Duration;

use freestyle_client::wire::VmPersistence;
use freestyle_store::Persistence;
use freestyle_vm::setup::Ready;

use super::super::decode_persistence;
use super::place::Place;
use crate::error::{ApiError, Code};

/// Ten years.
const MAX_IDLE_SECONDS: u64 = 10 * 365 * 24 * 3600;
const MAX_READY_SECONDS: u64 = 3600;
/// The largest integer that JavaScript holds exactly.
const MAX_ACTIVITY_BYTES: u64 = (1 << 53) - 1;

/// Settings as asked for, each from the first place that names it.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) idle_timeout_seconds: Option<Option<u64>>,
    activity_threshold_bytes: Option<u64>,
    wait_for_ready_signal: Option<bool>,
    ready_signal_timeout_seconds: Option<u64>,
    persistence: Option<VmPersistence>,
    pub(super) recreate: bool,
}

impl Settings {
    /// From places in the order in which they win.
    pub(super) fn collect(places: &[Place]) -> Self {
        let mut settings = Self::default();
        for place in places {
            let setup = &place.setup;
            settings.idle_timeout_seconds =
                settings.idle_timeout_seconds.or(place.idle_timeout_seconds);
            settings.activity_threshold_bytes =
                settings.activity_threshold_bytes.or(place.activity_threshold_bytes);
            settings.wait_for_ready_signal =
                settings.wait_for_ready_signal.or(setup.wait_for_ready_signal);
            settings.ready_signal_timeout_seconds =
                settings.ready_signal_timeout_seconds.or(setup.ready_signal_timeout_seconds);
            settings.persistence =
                settings.persistence.take().or_else(|| place.persistence.clone());
            settings.recreate |= place.recreate;
        }
        settings
    }

    pub(super) fn ready(&self, bad: Code) -> Result<Ready, ApiError> {
        ready(self.wait_for_ready_signal, self.ready_signal_timeout_seconds, bad)
    }

    pub(super) fn activity_threshold(&self, bad: Code) -> Result<Option<u64>, ApiError> {
        activity_threshold(self.activity_threshold_bytes)
            .map_err(|message| ApiError::new(bad, message))
    }

    pub(super) fn persistence(&self, bad: Code) -> Result<Persistence, ApiError> {
        match &self.persistence {
            None => Ok(Persistence::Persistent),
            Some(asked) => decode_persistence(asked, bad),
        }
    }
}

/// How services are waited for.
pub(super) fn ready(
    wait: Option<bool>,
    seconds: Option<u64>,
    bad: Code,
) -> Result<Ready, ApiError> {
    let timeout = ready_timeout(seconds).map_err(|message| ApiError::new(bad, message))?;
    Ok(Ready { wait: wait.unwrap_or(true), timeout })
}

/// `readySignalTimeoutSeconds` as a time.
pub(in super::super) fn ready_timeout(seconds: Option<u64>) -> Result<Option<Duration>, String> {
    match seconds {
        Some(seconds) if !(1..=MAX_READY_SECONDS).contains(&seconds) => {
            Err(format!("readySignalTimeoutSeconds must be between 1 and {MAX_READY_SECONDS}"))
        }
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// `idleTimeoutSeconds` as a time. `None` was `null`, which is never.
pub(in super::super) fn idle_timeout(seconds: Option<u64>) -> Result<Option<Duration>, String> {
    match seconds {
        Some(seconds) if !(1..=MAX_IDLE_SECONDS).contains(&seconds) => Err(format!(
            "idleTimeoutSeconds must be between 1 and {MAX_IDLE_SECONDS}, or null for never"
        )),
        seconds => Ok(seconds.map(Duration::from_secs)),
    }
}

/// `activityThresholdBytes`, bounded.
pub(in super::super) fn activity_threshold(bytes: Option<u64>) -> Result<Option<u64>, String> {
    match bytes {
        Some(bytes) if bytes > MAX_ACTIVITY_BYTES => {
            Err(format!("activityThresholdBytes must be at most {MAX_ACTIVITY_BYTES}"))
        }
        bytes => Ok(bytes),
    }
}
