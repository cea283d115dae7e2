//! Cron expressions as crontab means them: five fields, or six with seconds in front, names, `@daily` and
//! its like. 0 and 7 are Sunday. Where both day fields are restricted, either matches; where one of them begins
//! with `*`, both have to.
//!
//! Through a change of the clock it is Debian's cron: an expression for fixed times, whose minute and hour do
//! not begin with `*`, fires once a local time, at the first moment behind a gap where that time does not exist,
//! and the first time where it comes twice. Any other follows real time, so that every 15 minutes stays every
//! 15 minutes.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, SubsecRound, TimeDelta, Timelike, Utc,
};
use chrono_tz::Tz;

pub use super::fields::CronError;
use super::fields::{FIELDS, Set};
use super::zone::{first_moment, local, stretches};

/// How far a date is looked for. The 29th of February on one weekday may be forty years away.
const YEARS: i32 = 50;

const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A cron expression.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    source: String,
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.source)
    }
}

impl fmt::Display for Cron {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl FromStr for Cron {
    type Err = CronError;

    /// Reads an expression.
    ///
    /// # Errors
    /// A field that holds something else, another number of fields, and days that never come.
    fn from_str(source: &str) -> Result<Self, CronError> {
        let whole = || 0..source.len();
        let text = match NAMED.iter().find(|(name, _)| source.trim().eq_ignore_ascii_case(name)) {
            Some((_, meaning)) => meaning,
            None if source.trim().starts_with('@') => {
                let known = NAMED.map(|(name, _)| name).join(", ");
                let message = format!("there is no `{}`: known are {known}", source.trim());
                return Err(CronError { message, range: whole() });
            }
            None => source,
        };
        let start = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
        let parts: Vec<_> = text.split_ascii_whitespace().map(|part| (part, start(part))).collect();
        let with_seconds = match parts.len() {
            5 => [&[("0", 0)], parts.as_slice()].concat(),
            6 => parts,
            count => {
                let message = format!(
                    "has {count} fields: write five (minute, hour, day, month, weekday), or six with seconds in front"
                );
                return Err(CronError { message, range: whole() });
            }
        };
        let mut sets = [Set { bits: 0, star: false }; 6];
        for ((set, field), (part, at)) in sets.iter_mut().zip(&FIELDS).zip(with_seconds) {
            *set = field.parse(part, at)?;
        }
        let [seconds, minutes, hours, days, months, mut weekdays] = sets;
        // 7 is Sunday, as 0 is.
        weekdays.bits = (weekdays.bits | weekdays.bits >> 7) & 0x7f;
        let cron = Self { source: source.to_owned(), seconds, minutes, hours, days, months, weekdays };
        if !cron.ever_comes() {
            let message = "its day never comes in any of its months".to_owned();
            return Err(CronError { message, range: whole() });
        }
        Ok(cron)
    }
}

impl Cron {
    /// The first time it is due after a moment, in a time zone; `None`: not within fifty years.
    pub fn next_after(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let after = after.trunc_subsecs(0);
        let now = local(zone, after);
        let last_year = now.year().checked_add(YEARS)?;
        // The clock may have gone back across midnight.
        let mut day = if self.is_fixed() { now.date() } else { now.date().checked_sub_days(Days::new(1))? };
        while day.year() <= last_year {
            if !self.months.has(day.month()) {
                day = first_of_next_month(day)?;
                continue;
            }
            if self.has_day(day) {
                let found = match self.is_fixed() {
                    true => self.fixed_in(day, now, after, zone),
                    false => self.real_in(day, after, zone),
                };
                if found.is_some() {
                    return found;
                }
            }
            day = day.succ_opt()?;
        }
        None
    }

    /// Whether it says times of the day, and not how often.
    fn is_fixed(&self) -> bool {
        !self.minutes.star && !self.hours.star
    }

    /// By local times, each once.
    fn fixed_in(
        &self,
        day: NaiveDate,
        now: NaiveDateTime,
        after: DateTime<Utc>,
        zone: Tz,
    ) -> Option<DateTime<Utc>> {
        let mut from = if day == now.date() { now.time() + TimeDelta::seconds(1) } else { NaiveTime::MIN };
        if day == now.date() && from < now.time() {
            return None;
        }
        loop {
            let time = self.time_from(from)?;
            let moment = first_moment(zone, day.and_time(time));
            if moment > after {
                return Some(moment);
            }
            // Times of a gap that is over, or that came before the clock went back.
            let (next, wrapped) = time.overflowing_add_signed(TimeDelta::seconds(1));
            if wrapped != 0 {
                return None;
            }
            from = next;
        }
    }

    /// By real time: whenever the local clock shows it.
    fn real_in(&self, day: NaiveDate, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        for stretch in stretches(zone, day) {
            // The local time of `after` in this stretch, whether or not it lies there.
            let passed = after - stretch.moment(stretch.from);
            let begin = match passed.num_seconds() {
                past if past < 0 => stretch.from,
                past => stretch.from + TimeDelta::seconds(past + 1),
            };
            if begin >= stretch.to {
                continue;
            }
            if let Some(time) = self.time_from(begin.time())
                && day.and_time(time) < stretch.to
            {
                return Some(stretch.moment(day.and_time(time)));
            }
        }
        None
    }

    /// The first of its times of a day from `from` on.
    fn time_from(&self, from: NaiveTime) -> Option<NaiveTime> {
        let (mut hour, mut minute, mut second) = (from.hour(), from.minute(), from.second());
        loop {
            let found = self.hours.first(hour)?;
            if found > hour {
                (hour, minute, second) = (found, 0, 0);
            }
            match self.minutes.first(minute) {
                None => (hour, minute, second) = (hour + 1, 0, 0),
                Some(found) => {
                    if found > minute {
                        (minute, second) = (found, 0);
                    }
                    match self.seconds.first(second) {
                        Some(second) => return NaiveTime::from_hms_opt(hour, minute, second),
                        None => (minute, second) = (minute + 1, 0),
                    }
                }
            }
        }
    }

    fn has_day(&self, day: NaiveDate) -> bool {
        let by_date = self.days.has(day.day());
        let by_weekday = self.weekdays.has(day.weekday().num_days_from_sunday());
        match self.days.star || self.weekdays.star {
            true => by_date && by_weekday,
            false => by_date || by_weekday,
        }
    }

    /// Whether any of its months has any of its days.
    fn ever_comes(&self) -> bool {
        let either = !self.days.star && !self.weekdays.star;
        let longest = |month| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let first = self.days.first(0).unwrap_or(1);
        either || (1..=12).any(|month| self.months.has(month) && first <= longest(month))
    }
}

fn first_of_next_month(day: NaiveDate) -> Option<NaiveDate> {
    match day.month() {
        12 => NaiveDate::from_ymd_opt(day.year() + 1, 1, 1),
        month => NaiveDate::from_ymd_opt(day.year(), month + 1, 1),
    }
}
