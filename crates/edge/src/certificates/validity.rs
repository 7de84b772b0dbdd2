//! From when until when a certificate is good. It is the only thing that is read out of one, so this
//! walks to it instead of parsing all.

use time::{Date, Month, OffsetDateTime, Time};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: OffsetDateTime,
    pub(super) until: OffsetDateTime,
}

impl Validity {
    /// Reads it out of a certificate in DER (RFC 5280 section 4.1).
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (mut certificate, _) = value(certificate, SEQUENCE)?;
        let (mut fields, _) = value(take(&mut certificate)?, SEQUENCE)?;
        if fields.first() == Some(&VERSION) {
            take(&mut fields)?;
        }
        let [_serial, _algorithm, _issuer] =
            [take(&mut fields)?, take(&mut fields)?, take(&mut fields)?];
        let (mut validity, _) = value(fields, SEQUENCE)?;
        let from = time(take(&mut validity)?)?;
        let until = time(take(&mut validity)?)?;
        Some(Self { from, until })
    }

    /// When to see to another one: a third of its time before it ends.
    pub(super) fn renewal(&self) -> OffsetDateTime {
        self.until - (self.until - self.from) / 3
    }
}

/// Splits off the element at the beginning, header included.
fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (_, rest) = value(from, *from.first()?)?;
    let (element, rest) = from.split_at(from.len() - rest.len());
    *from = rest;
    Some(element)
}

/// The contents of the element at the beginning, which must have this tag, and what comes after it.
fn value(from: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = from.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let length = match length {
        short @ 0..=0x7f => usize::from(short),
        // How many bytes the length has. Four are more than any certificate needs.
        0x81..=0x84 => {
            let (digits, after) = rest.split_at_checked(usize::from(length - 0x80))?;
            rest = after;
            digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit))
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}

fn time(element: &[u8]) -> Option<OffsetDateTime> {
    let tag = *element.first()?;
    let (text, _) = value(element, tag)?;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        // Two digits, from 1950 to 2049.
        UTC_TIME => {
            let (year, rest) = (number(text, 0..2)?, text.get(2..)?);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => (number(text, 0..4)?, text.get(4..)?),
        _ => return None,
    };
    let part = |at: usize| u8::try_from(number(rest, at..at + 2)?).ok();
    let date = Date::from_calendar_date(year.into(), Month::try_from(part(0)?).ok()?, part(2)?);
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?);
    (rest.len() == 10).then(|| Some(OffsetDateTime::new_utc(date.ok()?, time.ok()?))).flatten()
}

fn number(text: &str, range: std::ops::Range<usize>) -> Option<u16> {
    let digits = text.get(range)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: OffsetDateTime, until: OffsetDateTime) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (from, until);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn times_of_this_and_other_centuries_are_read() {
        for (from, until) in [
            (date_time_ymd(2026, 1, 31), date_time_ymd(2026, 5, 1)),
            (date_time_ymd(1999, 12, 31), date_time_ymd(2049, 12, 31)),
            (date_time_ymd(2049, 12, 31), date_time_ymd(2050, 1, 1)),
            (date_time_ymd(2000, 2, 29), date_time_ymd(4096, 1, 1)),
        ] {
            let read = Validity::of(&certificate(from, until));
            assert_eq!(read, Some(Validity { from, until }));
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
        let (from, until) = (date_time_ymd(2026, 1, 1), date_time_ymd(2026, 3, 32 - 1));
        let validity = Validity { from, until };
        assert_eq!(until - validity.renewal(), (until - from) / 3);
    }

    #[test]
    fn a_torn_certificate_has_no_time() {
        let whole = certificate(date_time_ymd(2026, 1, 31), date_time_ymd(2026, 5, 1));
        for end in 0..80 {
            assert_eq!(Validity::of(&whole[..end]), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, at in 0usize..200, byte: u8) {
            Validity::of(&bytes);
            let mut changed = certificate(date_time_ymd(2026, 1, 31), date_time_ymd(2026, 5, 1));
            changed[at] = byte;
            Validity::of(&changed);
        }
    }
}
