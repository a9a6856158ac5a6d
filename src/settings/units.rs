//! Times and sizes as people write them.

use std::{str::FromStr, time::Duration};

/// The longest time that means something here.
const MAX_SECONDS: u64 = 10 * 365 * 86_400;

/// Why a text is no time or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnitError {
    /// Not a time.
    #[error(
        "`{0}` is not a time: a number and `ms`, `s`, `m`, `h` or `d` is expected, for instance `30s` or `1h30m`"
    )]
    Time(String),
    /// A time beyond what is meaningful.
    #[error("`{0}` is longer than ten years")]
    Long(String),
    /// Not a size.
    #[error(
        "`{0}` is not a size: a number and `KiB`, `MiB`, `GiB` or `TiB` (or `KB`, `MB`, `GB`, `TB`, or `B`) is expected, for instance `500GiB`"
    )]
    Size(String),
    /// A size beyond 64 bits.
    #[error("`{0}` is more than can be counted")]
    Huge(String),
}

/// A time: `30s`, `4h`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Duration);

impl FromStr for Time {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Time(crate::yaml::shorten(text));
        let long = || UnitError::Long(crate::yaml::shorten(text));
        let mut rest = text.trim();
        let mut millis = 0_u64;
        if rest.is_empty() {
            return Err(bad());
        }
        while !rest.is_empty() {
            let (digits, after) = split(rest, |c| c.is_ascii_digit());
            let (unit, after) = split(after, |c| c.is_ascii_alphabetic());
            let factor = match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(bad()),
            };
            if digits.is_empty() {
                return Err(bad());
            }
            let part = digits
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(factor));
            millis = part
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(long)?;
            rest = after;
        }
        if millis > MAX_SECONDS * 1000 {
            return Err(long());
        }
        Ok(Time(Duration::from_millis(millis)))
    }
}

/// A number of bytes: `500GiB`, `20MB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || UnitError::Size(crate::yaml::shorten(text));
        let (digits, unit) = split(text.trim(), |c| c.is_ascii_digit());
        let factor: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            "KB" | "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        if digits.is_empty() {
            return Err(bad());
        }
        let size = digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(factor));
        size.map(Size)
            .ok_or_else(|| UnitError::Huge(crate::yaml::shorten(text)))
    }
}

/// Splits a text where the characters of one kind end.
fn split(text: &str, of_kind: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of_kind(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units() {
        for (text, millis) in [
            ("30s", 30_000),
            ("4h", 14_400_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("0s", 0),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Time(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for text in [
            "", "30", "s", "4 h", "1.5h", "-1s", "4H", "1h30", "4hours", "½h",
        ] {
            assert_eq!(
                text.parse::<Time>(),
                Err(UnitError::Time(text.to_owned())),
                "{text}"
            );
        }
        for text in ["3651d", "99999999999999999999d", "18446744073709551615h"] {
            assert_eq!(
                text.parse::<Time>(),
                Err(UnitError::Long(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_bytes_unless_they_have_a_unit() {
        for (text, size) in [
            ("500GiB", 500 << 30),
            ("1 TiB", 1 << 40),
            ("20MB", 20_000_000),
            ("4096", 4096),
            ("0B", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(size)), "{text}");
        }
        for text in ["", "GiB", "1.5GiB", "1G", "-1", "1GIB"] {
            assert_eq!(
                text.parse::<Size>(),
                Err(UnitError::Size(text.to_owned())),
                "{text}"
            );
        }
        let huge = "99999999TiB";
        assert_eq!(huge.parse::<Size>(), Err(UnitError::Huge(huge.to_owned())));
    }
}
