//! A part of a whole, written in percent: `"50%"`.

use std::fmt;

use super::UnitError;

/// More than nothing, at most all; in tenths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// So many percent, from 1 to 100.
    pub const fn percent(percent: u8) -> Self {
        let percent = if percent > 100 { 100 } else { percent };
        Self(if percent == 0 { 10 } else { percent as u16 * 10 })
    }

    /// Reads `"50%"`, `"2.5%"`.
    ///
    /// # Errors
    /// When it is no percentage, nothing, or more than all.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let help = "write a share such as \"50%\", more than 0% and at most 100%";
        let number = text.trim().strip_suffix('%').map(str::trim_end);
        let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
        let percent: Option<f64> = number.and_then(|number| number.parse().ok());
        match percent.map(|percent| (percent * 10.0).round()) {
            Some(tenths) if (1.0..=1_000.0).contains(&tenths) => Ok(Self(tenths as u16)),
            _ => Err(UnitError(help.to_owned())),
        }
    }

    /// Whether `part` is this share of `whole`, or more.
    pub fn is_met(self, part: usize, whole: usize) -> bool {
        (part as u128) * 1_000 >= (whole as u128) * u128::from(self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 10 {
            0 => write!(f, "{}%", self.0 / 10),
            tenths => write!(f, "{}.{tenths}%", self.0 / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_print_and_nonsense_is_refused() {
        for (text, shown) in [("50%", "50%"), (" 2.5 %", "2.5%"), ("100%", "100%"), ("0.1%", "0.1%")] {
            assert_eq!(Share::parse(text).unwrap().to_string(), shown);
        }
        for text in ["0%", "101%", "50", "", "%", "-1%", "half", "1e1%", "0.01%", "NaN%"] {
            assert!(Share::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_is_met_at_its_edge() {
        let half = Share::percent(50);
        assert_eq!([9, 10, 11].map(|part| half.is_met(part, 20)), [false, true, true]);
        assert!(Share::percent(100).is_met(7, 7) && !Share::percent(100).is_met(6, 7));
    }
}
