//! The last so many outcomes, as far as they are not too old: whether too many of them failed.
//!
//! Times are given. What passes costs an addition; only a failure is written down, so that memory follows
//! the failures and is bounded by how many outcomes count.

use std::collections::VecDeque;
use std::time::Instant;

use crate::catalog::Threshold;

/// One failure.
#[derive(Debug)]
struct Failed<T> {
    at: Instant,
    /// How many passed before it and after the one before.
    after: usize,
    what: T,
}

/// See the module's documentation. `T` is kept of each failure.
#[derive(Debug)]
pub(super) struct Recent<T> {
    threshold: Threshold,
    /// The oldest first.
    failures: VecDeque<Failed<T>>,
    /// The sum of what passed before them.
    passed: usize,
    /// How many passed since the last of them.
    since: usize,
}

impl<T> Recent<T> {
    pub(super) fn new(threshold: Threshold) -> Self {
        Self { threshold, failures: VecDeque::new(), passed: 0, since: 0 }
    }

    /// So many passed.
    pub(super) fn passed(&mut self, count: usize) {
        self.since = self.since.saturating_add(count);
    }

    /// One failed at `now`; whether these are too many.
    pub(super) fn failed(&mut self, now: Instant, what: T) -> bool {
        let after = std::mem::take(&mut self.since).min(self.threshold.of);
        self.passed += after;
        self.failures.push_back(Failed { at: now, after, what });
        self.forget(now);
        let whole = self.len();
        whole >= self.threshold.of && self.threshold.failures.is_met(self.failures.len(), whole)
    }

    /// How many outcomes count, and how many of them failed.
    pub(super) fn counted(&self) -> (usize, usize) {
        (self.len(), self.failures.len())
    }

    /// What is kept of the failures that count.
    pub(super) fn kept(&self) -> impl Iterator<Item = &T> {
        self.failures.iter().map(|failed| &failed.what)
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.threshold);
    }

    fn len(&self) -> usize {
        self.failures.len() + self.passed
    }

    /// Drops what is too old or lies before the last so many.
    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.failures.front() {
            let excess = self.len().saturating_sub(self.threshold.of);
            let old = now.saturating_duration_since(first.at) > self.threshold.within;
            if old || excess > first.after {
                self.passed -= first.after;
                self.failures.pop_front();
                continue;
            }
            self.passed -= excess;
            if let Some(first) = self.failures.front_mut() {
                first.after -= excess;
            }
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::base::Share;

    fn recent(percent: u8, of: usize) -> Recent<()> {
        let failures = Share::percent(percent);
        Recent::new(Threshold { failures, of, within: Duration::from_secs(30) })
    }

    #[test]
    fn fewer_than_so_many_are_no_reason_and_a_long_past_is_none_against() {
        let now = Instant::now();
        let mut few = recent(50, 20);
        assert!((0..19).all(|_| !few.failed(now, ())));
        assert!(few.failed(now, ()));
        let mut long = recent(50, 20);
        long.passed(1_000_000);
        assert_eq!((0..10).position(|_| long.failed(now, ())), Some(9));
    }

    #[test]
    fn what_is_too_old_does_not_count() {
        let start = Instant::now();
        let mut recent = recent(100, 3);
        assert!(!recent.failed(start, ()));
        assert!(!recent.failed(start, ()));
        assert!(!recent.failed(start + Duration::from_secs(31), ()), "the two before are forgotten");
        recent.clear();
        assert_eq!(recent.counted(), (0, 0));
    }

    proptest! {
        /// The same as a list of all outcomes says, and never more memory than outcomes that count.
        #[test]
        fn it_judges_as_the_last_outcomes_say(
            outcomes in proptest::collection::vec(any::<bool>(), 0..200), of in 1usize..30, percent in 1u8..=100,
        ) {
            let now = Instant::now();
            let mut recent = recent(percent, of);
            for (index, failed) in outcomes.iter().enumerate() {
                if !failed {
                    recent.passed(1);
                    continue;
                }
                let last = &outcomes[(index + 1).saturating_sub(of)..=index];
                let failures = last.iter().filter(|failed| **failed).count();
                let expected = last.len() == of && Share::percent(percent).is_met(failures, of);
                prop_assert_eq!(recent.failed(now, ()), expected);
                prop_assert!(recent.failures.len() <= of);
            }
        }
    }
}
