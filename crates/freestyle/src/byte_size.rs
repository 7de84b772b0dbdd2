//! Sizes in bytes as people write and read them. A GB is 1024 MB here as everywhere in the product.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

const UNITS: [(&str, u64); 5] =
    [("B", 1), ("KB", 1 << 10), ("MB", 1 << 20), ("GB", 1 << 30), ("TB", 1 << 40)];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

impl FromStr for ByteSize {
    type Err = &'static str;

    /// Takes `200GB`, `1.5 TB` and the like; a unit is always named.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "give a size with its unit, as 200GB";
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].to_ascii_uppercase();
        let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or(EXPECTED)?.1;
        let number = digits.trim_end();
        if !number.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(EXPECTED);
        }
        let bytes = number.parse::<f64>().map_err(|_| EXPECTED)? * unit as f64;
        if !(1.0..=(1_u64 << 53) as f64).contains(&bytes) {
            return Err("the size is too small or too large");
        }
        Ok(Self(bytes as u64))
    }
}

/// In the largest unit of which there is at least one, with three digits at most.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, unit): &&(&str, u64)| self.0 >= *unit;
        let (name, unit) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
        let value = self.0 as f64 / *unit as f64;
        let decimals = if *unit == 1 || value >= 99.95 { 0 } else { 1 };
        f.pad(&format!("{value:.decimals$} {name}"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit() {
        let parse = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(parse("200GB"), Ok(200 << 30));
        assert_eq!(parse("1.5 tb"), Ok(3 << 39));
        assert_eq!(parse("512MB"), Ok(512 << 20));
        for bad in
            ["", "GB", "200", "200 G", "-1GB", "0GB", "1e3GB", "infTB", "9999999TB", "1..5GB"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_is_short_to_read() {
        let shown = |bytes| ByteSize(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1536), "1.5 KB");
        assert_eq!(shown(250 << 20), "250 MB");
        assert_eq!(shown((1 << 40) - 1), "1024 GB");
        assert_eq!(shown(3 << 40), "3.0 TB");
    }
}
