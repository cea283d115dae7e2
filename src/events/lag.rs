//! How far a partition is behind, in time: the age of its oldest unfinished record.
//!
//! Pure. It is looked at once a report, so a record costs nothing here. While records are in flight the
//! first of them says it; while none is (paused, halted, not fetched yet), the best that is known of the
//! record at the position.

/// What is known of the record at a partition's position.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    /// The position that was looked at last, and since when its record waits at the latest.
    since: Option<(i64, i64)>,
    /// When nothing was behind, as last seen.
    caught_up_at: Option<i64>,
}

/// What a report sees of a partition; times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    /// The offset of the first unfinished record.
    pub(super) position: i64,
    /// Records from there to the end.
    pub(super) behind: i64,
    /// The timestamp of the first record in flight.
    pub(super) oldest: Option<i64>,
    /// The timestamp of the newest record taken.
    pub(super) newest: Option<i64>,
    /// The time.
    pub(super) now: i64,
}

impl LagClock {
    /// The age in seconds; 0 where nothing is behind, `None` where nothing is known.
    pub(super) fn look(&mut self, sight: Sight) -> Option<f64> {
        if sight.behind <= 0 {
            *self = Self { since: None, caught_up_at: Some(sight.now) };
            return Some(0.0);
        }
        let before = self.since.filter(|(position, _)| *position == sight.position).map(|(_, since)| since);
        // What comes next is no older than what came before it, nor than the moment at which nothing
        // was behind.
        let bound = sight.newest.max(self.caught_up_at);
        let since = sight.oldest.or(before).or(bound);
        self.since = since.map(|since| (sight.position, since));
        since.map(|since| (sight.now - since).max(0) as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(position: i64, behind: i64, now: i64) -> Sight {
        Sight { position, behind, oldest: None, newest: None, now }
    }

    #[test]
    fn the_oldest_in_flight_counts_and_not_the_newest() {
        let mut clock = LagClock::default();
        let busy = Sight { oldest: Some(4_000), newest: Some(9_000), ..sight(5, 3, 10_000) };
        assert_eq!(clock.look(busy), Some(6.0));
        assert_eq!(clock.look(sight(8, 0, 11_000)), Some(0.0));
        assert_eq!(
            clock.look(Sight { oldest: Some(99_000), ..sight(8, 1, 12_000) }),
            Some(0.0),
            "a clock ahead"
        );
    }

    #[test]
    fn a_record_that_comes_after_a_long_silence_is_not_as_old_as_the_silence() {
        let mut clock = LagClock::default();
        let idle = Sight { newest: Some(1_000), ..sight(5, 0, 100_000) };
        assert_eq!(clock.look(idle), Some(0.0));
        assert_eq!(clock.look(Sight { behind: 1, now: 100_500, ..idle }), Some(0.5));
    }

    #[test]
    fn a_partition_that_stands_still_grows_older_by_the_clock() {
        let mut clock = LagClock::default();
        let halted = Sight { oldest: Some(4_000), newest: Some(9_000), ..sight(5, 3, 10_000) };
        clock.look(halted);
        // Given up with its record: what was known of that position still is.
        assert_eq!(clock.look(Sight { oldest: None, now: 20_000, ..halted }), Some(16.0));
        assert_eq!(clock.look(Sight { oldest: None, position: 6, now: 20_000, ..halted }), Some(11.0));
    }

    #[test]
    fn nothing_known_is_no_zero() {
        assert_eq!(LagClock::default().look(sight(5, 3, 10_000)), None);
    }
}
