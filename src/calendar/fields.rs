//! The text of a cron expression, field by field, as sets of numbers.

use std::ops::{Range, RangeInclusive};

/// Why an expression is none, and which of its bytes are to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CronError {
    /// Why.
    pub message: String,
    /// Where.
    pub range: Range<usize>,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// One field: its name, its numbers, and the words for them from the first on.
pub(super) struct Field {
    name: &'static str,
    numbers: RangeInclusive<u8>,
    words: &'static [&'static str],
}

/// From seconds to weekdays. Sunday is 0 and 7.
pub(super) const FIELDS: [Field; 6] = [
    Field { name: "second", numbers: 0..=59, words: &[] },
    Field { name: "minute", numbers: 0..=59, words: &[] },
    Field { name: "hour", numbers: 0..=23, words: &[] },
    Field { name: "day of the month", numbers: 1..=31, words: &[] },
    Field { name: "month", numbers: 1..=12, words: &MONTHS },
    Field { name: "day of the week", numbers: 0..=7, words: &DAYS },
];

/// A field as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set {
    /// A bit for each number.
    pub(super) bits: u64,
    /// Whether its text begins with `*`.
    pub(super) star: bool,
}

impl Set {
    pub(super) fn has(&self, number: u32) -> bool {
        self.bits >> number & 1 == 1
    }

    /// Its smallest number from `from` on.
    pub(super) fn first(&self, from: u32) -> Option<u32> {
        let rest = if from < 64 { self.bits >> from << from } else { 0 };
        (rest != 0).then(|| rest.trailing_zeros())
    }
}

impl Field {
    /// Reads `text`, which stands at byte `at` of the expression.
    pub(super) fn parse(&self, text: &str, at: usize) -> Result<Set, CronError> {
        let mut bits = 0;
        let mut place = at;
        for part in text.split(',') {
            bits |= self.part(part, place)?;
            place += part.len() + 1;
        }
        Ok(Set { bits, star: text.starts_with('*') })
    }

    /// `*`, `5`, `5-9`, each with `/2`.
    fn part(&self, part: &str, at: usize) -> Result<u64, CronError> {
        let (span, step) = match part.split_once('/') {
            None => (part, None),
            Some((span, step)) => (span, Some(self.step(step, at + span.len() + 1)?)),
        };
        let (low, high) = match span.split_once('-') {
            _ if span == "*" => (*self.numbers.start(), *self.numbers.end()),
            Some((low, high)) => {
                let high_at = at + low.len() + 1;
                let (first, last) = (self.number(low, at)?, self.number(high, high_at)?);
                if first > last {
                    let message = format!("the {} ends before it begins", self.name);
                    return Err(CronError { message, range: at..at + span.len() });
                }
                (first, last)
            }
            None => {
                let number = self.number(span, at)?;
                (number, if step.is_some() { *self.numbers.end() } else { number })
            }
        };
        // A star does not count Sunday twice.
        let high = if span == "*" && high == 7 { 6 } else { high };
        Ok((low..=high).step_by(step.unwrap_or(1)).fold(0, |bits, number| bits | 1 << number))
    }

    fn step(&self, text: &str, at: usize) -> Result<usize, CronError> {
        match text.parse::<usize>() {
            Ok(step) if step > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(step),
            _ => Err(CronError {
                message: format!("`{text}` is no step of the {}: write a number from 1", self.name),
                range: at..at + text.len().max(1),
            }),
        }
    }

    fn number(&self, text: &str, at: usize) -> Result<u8, CronError> {
        let word = text.to_ascii_lowercase();
        if let Some(index) = self.words.iter().position(|known| *known == word) {
            return Ok(*self.numbers.start().min(&1) + u8::try_from(index).unwrap_or_default());
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && self.numbers.contains(number));
        number.ok_or_else(|| {
            let (low, high) = (self.numbers.start(), self.numbers.end());
            let words = match self.words {
                [first, .., last] => format!(", or `{first}` to `{last}`"),
                _ => String::new(),
            };
            let message = format!("`{text}` is no {}: write a number from {low} to {high}{words}", self.name);
            CronError { message, range: at..at + text.len().max(1) }
        })
    }
}
