//! Days of a time zone as stretches of real time.

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// No zone is further from UTC than this.
const WIDEST: Duration = Duration::hours(26);

/// A stretch of real time in which the local clock runs without a jump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Where it begins on the local clock, within the day.
    pub(super) from: NaiveDateTime,
    /// Where it ends on the local clock; not part of it.
    pub(super) to: NaiveDateTime,
    /// What the local clock is ahead of UTC.
    ahead: Duration,
}

impl Stretch {
    /// The moment at which the local clock shows `local` in it.
    pub(super) fn moment(&self, local: NaiveDateTime) -> DateTime<Utc> {
        (local - self.ahead).and_utc()
    }
}

fn ahead(zone: Tz, at: NaiveDateTime) -> Duration {
    Duration::seconds(zone.offset_from_utc_datetime(&at).fix().local_minus_utc().into())
}

/// What the local clock shows at a moment.
pub(super) fn local(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.naive_utc() + ahead(zone, at.naive_utc())
}

/// The stretches of a local day in the order in which they come: one, two around a jump, none where the day
/// was left out.
pub(super) fn stretches(zone: Tz, day: NaiveDate) -> Vec<Stretch> {
    let (Some(begins), Some(next)) = (day.and_hms_opt(0, 0, 0), day.succ_opt()) else { return Vec::new() };
    let Some(ends) = next.and_hms_opt(0, 0, 0) else { return Vec::new() };
    let (mut at, last) = (begins - WIDEST, ends + WIDEST);
    let mut stretches = Vec::with_capacity(1);
    while at < last {
        let offset = ahead(zone, at);
        let mut until = at;
        // Two jumps are never within an hour.
        while until < last && ahead(zone, until) == offset {
            until += Duration::hours(1);
        }
        let jump = if until < last { jump(zone, offset, until - Duration::hours(1), until) } else { last };
        let (from, to) = ((at + offset).max(begins), (jump + offset).min(ends));
        if from < to {
            stretches.push(Stretch { from, to, ahead: offset });
        }
        at = jump;
    }
    stretches
}

/// The first second at which the clock is not ahead by `offset`, behind `before` and not behind `after`.
fn jump(zone: Tz, offset: Duration, before: NaiveDateTime, after: NaiveDateTime) -> NaiveDateTime {
    let (mut low, mut high) = (before, after);
    while high - low > Duration::seconds(1) {
        let middle = low + Duration::seconds((high - low).num_seconds() / 2);
        if ahead(zone, middle) == offset { low = middle } else { high = middle }
    }
    high
}

/// The moment at which the local clock shows `at` for the first time; where it never does, the first moment
/// behind the gap.
pub(super) fn first_moment(zone: Tz, at: NaiveDateTime) -> DateTime<Utc> {
    if let Some(found) = zone.from_local_datetime(&at).earliest() {
        return found.to_utc();
    }
    let (mut low, mut high) = (at - WIDEST, at + WIDEST);
    while high - low > Duration::seconds(1) {
        let middle = low + Duration::seconds((high - low).num_seconds() / 2);
        if middle + ahead(zone, middle) < at { low = middle } else { high = middle }
    }
    high.and_utc()
}
