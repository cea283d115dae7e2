//! Values that carry their unit in TOML: `"16MiB"`, `"1m30s"`, `"500/s"`.
//!
//! Parsing is strict: a number without a unit is an error that says which units there are.

use std::fmt;
use std::time::Duration;

/// Why a text is no size, duration or rate; the message says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub String);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 9] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

impl ByteSize {
    /// Reads `"16MiB"`, `"64KB"`, `"512B"`.
    ///
    /// # Errors
    /// When there is no number, no unit, an unknown unit or a value past `u64`.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let help = "write a size such as \"512B\", \"64KiB\", \"16MiB\" or \"1GiB\"";
        let (number, unit) = split_number(text).ok_or_else(|| UnitError(help.to_owned()))?;
        let scale = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scale = scale.ok_or_else(|| UnitError(format!("`{unit}` is no unit of size; {help}")))?;
        scaled(number, scale).map(Self).ok_or_else(|| UnitError(format!("too large; {help}")))
    }

    /// The size in bytes as an index type.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match binary.iter().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale)) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

const UNITS_OF_TIME: [(&str, u64); 7] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
    ("w", 604_800_000_000_000),
];

/// Reads `"250ms"`, `"5s"`, `"1h30m"`, `"7d"`.
///
/// # Errors
/// When the text is empty, a number has no unit, a unit is unknown or the sum is past 500 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let help = "write a duration such as \"250ms\", \"5s\", \"1h30m\" or \"7d\"";
    let mut rest = text.trim();
    let mut nanos: u64 = 0;
    if rest.is_empty() {
        return Err(UnitError(help.to_owned()));
    }
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(|| UnitError(help.to_owned()))?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(end);
        let scale = UNITS_OF_TIME.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let scale = scale.ok_or_else(|| {
            let what = if unit.is_empty() {
                "a unit is missing".to_owned()
            } else {
                format!("`{unit}` is no unit of time")
            };
            UnitError(format!("{what}; {help}"))
        })?;
        let part = scaled(number, scale).ok_or_else(|| UnitError(format!("too long; {help}")))?;
        nanos = nanos.checked_add(part).ok_or_else(|| UnitError(format!("too long; {help}")))?;
        rest = after.trim_start();
    }
    Ok(Duration::from_nanos(nanos))
}

/// Writes a duration the way [`parse_duration`] reads it, with as few units as are exact.
pub fn format_duration(duration: Duration) -> String {
    let mut nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if nanos < 1_000 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in UNITS_OF_TIME.iter().rev().filter(|(unit, _)| *unit != "w") {
        let count = nanos / scale;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
            nanos %= scale;
        }
    }
    text
}

/// Something a second, a minute or an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How many a second.
    pub per_second: f64,
}

impl Rate {
    /// Reads `"500/s"`, `"30/m"`, `"1000/h"`.
    ///
    /// # Errors
    /// When there is no number, no `/`, another unit, or the rate is zero.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let help = || UnitError("write a rate such as \"500/s\", \"30/m\" or \"1000/h\"".to_owned());
        let (number, unit) = split_number(text.trim()).ok_or_else(help)?;
        let seconds = match unit {
            "/s" => 1.0,
            "/m" => 60.0,
            "/h" => 3_600.0,
            _ => return Err(help()),
        };
        let count: f64 = number.parse().map_err(|_| help())?;
        if count <= 0.0 {
            return Err(help());
        }
        Ok(Self { per_second: count / seconds })
    }
}

/// A leading decimal number (underscores allowed) and what follows it.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    number.starts_with(|c: char| c.is_ascii_digit()).then_some((number, rest.trim_start()))
}

fn scaled(number: &str, scale: u64) -> Option<u64> {
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let value = number.parse::<f64>().ok()? * scale as f64;
    (value.is_finite() && value < u64::MAX as f64).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_need_a_unit_and_print_as_they_are_read() {
        assert_eq!(ByteSize::parse("16MiB"), Ok(ByteSize(16 << 20)));
        assert_eq!(ByteSize::parse("1.5 KiB"), Ok(ByteSize(1_536)));
        assert_eq!(ByteSize(1 << 30).to_string(), "1GiB");
        assert!(ByteSize::parse("16").is_err());
        assert!(ByteSize::parse("16mib").unwrap_err().0.contains("`mib` is no unit"));
        assert!(ByteSize::parse("99999999999GiB").is_err());
    }

    #[test]
    fn durations_need_units_and_may_be_joined() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert!(parse_duration("30").unwrap_err().0.starts_with("a unit is missing"));
        assert!(parse_duration("30 parsecs").unwrap_err().0.starts_with("`parsecs` is no unit"));
        assert!(parse_duration("").is_err());
        assert!(parse_duration("-5s").is_err());
    }

    #[test]
    fn rates_are_kept_a_second() {
        assert!((Rate::parse("30/m").unwrap().per_second - 0.5).abs() < 1e-9);
        assert!(Rate::parse("0/s").is_err());
        assert!(Rate::parse("5/d").is_err());
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(micros in 1u64..10_000_000_000_000) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (parse_duration(&text), ByteSize::parse(&text), Rate::parse(&text));
        }
    }
}
