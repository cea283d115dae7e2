//! An instant in half the room.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds since some time before the first of them was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::events) struct Moment(u64);

static BASE: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(3_600)).unwrap_or(now)
});

impl Moment {
    /// Instants that are centuries away are as good as equal.
    pub(in crate::events) fn of(instant: Instant) -> Self {
        let since = instant.saturating_duration_since(*BASE).as_nanos();
        Self(u64::try_from(since).unwrap_or(u64::MAX))
    }

    pub(in crate::events) fn instant(self) -> Instant {
        *BASE + Duration::from_nanos(self.0)
    }
}
