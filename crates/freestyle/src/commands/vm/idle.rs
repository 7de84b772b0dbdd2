//! The idle timeout as people write it.

use std::str::FromStr;

/// Seconds without network traffic until a VM is suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleTimeout {
    Seconds(u64),
    Never,
}

impl FromStr for IdleTimeout {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(Self::Never),
            seconds => match seconds.parse() {
                Ok(0) | Err(_) => Err("give a number of seconds above 0, or never"),
                Ok(seconds) => Ok(Self::Seconds(seconds)),
            },
        }
    }
}

/// Absent, or `null` for never.
pub(super) fn on_the_wire(timeout: Option<IdleTimeout>) -> Option<Option<u64>> {
    timeout.map(|timeout| match timeout {
        IdleTimeout::Seconds(seconds) => Some(seconds),
        IdleTimeout::Never => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_timeout_is_seconds_or_never() {
        assert_eq!("600".parse(), Ok(IdleTimeout::Seconds(600)));
        assert_eq!("never".parse(), Ok(IdleTimeout::Never));
        for bad in ["", "0", "-1", "5m", "Never", "18446744073709551616"] {
            assert!(bad.parse::<IdleTimeout>().is_err(), "{bad}");
        }
        assert_eq!(on_the_wire(None), None);
        assert_eq!(on_the_wire(Some(IdleTimeout::Never)), Some(None));
    }
}
