//! Rates as state machines: when the next record may start. Times are given.
//!
//! The generic cell rate algorithm, which is a token bucket that keeps one number: the time by which all
//! that was let through would have been due. Reserving moves it on, so that records wait in their order.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use crate::catalog::Pace;

/// The longest wait that is given: what is due later starts then.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A pace in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Cells {
    interval: u64,
    /// How far ahead of the clock records may be.
    ahead: u64,
}

impl Cells {
    fn new(pace: Pace) -> Self {
        let interval = ((1e9 / pace.rate.per_second) as u64).max(1);
        Self { interval, ahead: interval.saturating_mul(u64::from(pace.burst.saturating_sub(1))) }
    }

    /// How long the next record waits, given by when all before it are due.
    fn wait(self, due: u64, now: u64) -> Duration {
        Duration::from_nanos(due.saturating_sub(self.ahead).saturating_sub(now)).min(LONGEST)
    }

    /// One more record is let through, now or later.
    fn take(self, due: &mut u64, now: u64) {
        *due = (*due).max(now).saturating_add(self.interval);
    }
}

/// The rate of a stage.
#[derive(Debug)]
pub(super) struct Rate {
    cells: Cells,
    epoch: Instant,
    due: u64,
}

impl Rate {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { cells: Cells::new(pace), epoch: now, due: 0 }
    }

    /// How long the next record has to wait.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.cells.wait(self.due, nanos(self.epoch, now))
    }

    /// A record was taken.
    pub(super) fn take(&mut self, now: Instant) {
        self.cells.take(&mut self.due, nanos(self.epoch, now));
    }
}

/// What is remembered of one key.
#[derive(Debug)]
struct Key {
    due: u64,
    /// The number of its last use.
    used: u64,
    slot: u32,
}

/// The rates of keys, by a hash: two keys that share one share their rate.
#[derive(Debug)]
pub(super) struct KeyRates {
    cells: Cells,
    epoch: Instant,
    max_keys: usize,
    /// How many records were let through: what numbers the uses of keys.
    uses: u64,
    keys: HashMap<u64, Key, foldhash::fast::FixedState>,
}

impl KeyRates {
    pub(super) fn new(pace: Pace, max_keys: usize, now: Instant) -> Self {
        Self {
            cells: Cells::new(pace),
            epoch: now,
            max_keys: max_keys.max(1),
            uses: 0,
            keys: HashMap::default(),
        }
    }

    /// Lets a record of `key` through, and says how long it has to wait. `slot` is its partition's place.
    pub(super) fn reserve(&mut self, key: &str, slot: u32, now: Instant) -> Duration {
        let now = nanos(self.epoch, now);
        let hash = foldhash::fast::FixedState::default().hash_one(key);
        if self.keys.len() >= self.max_keys && !self.keys.contains_key(&hash) {
            self.make_room(now);
        }
        let key = self.keys.entry(hash).or_insert(Key { due: 0, used: 0, slot });
        let wait = self.cells.wait(key.due, now);
        self.cells.take(&mut key.due, now);
        self.uses += 1;
        (key.used, key.slot) = (self.uses, slot);
        wait
    }

    /// Gives back what records of a partition had reserved that are not here any more.
    pub(super) fn forget(&mut self, slot: u32) {
        self.keys.retain(|_, key| key.slot != slot);
    }

    /// Forgets the keys that are as good as new, else the less recently used half.
    fn make_room(&mut self, now: u64) {
        self.keys.retain(|_, key| key.due > now);
        if self.keys.len() < self.max_keys {
            return;
        }
        let mut used: Vec<_> = self.keys.values().map(|key| key.used).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let median = *median;
        self.keys.retain(|_, key| key.used > median);
    }
}

fn nanos(epoch: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(per_second: f64, burst: u32) -> Pace {
        Pace { rate: crate::base::Rate { per_second }, burst }
    }

    #[test]
    fn a_burst_goes_at_once_and_then_one_an_interval() {
        let start = Instant::now();
        let mut rate = Rate::new(pace(10.0, 3), start);
        for _ in 0..3 {
            assert_eq!(rate.wait(start), Duration::ZERO);
            rate.take(start);
        }
        assert_eq!(rate.wait(start), Duration::from_millis(100));
        assert_eq!(rate.wait(start + Duration::from_millis(40)), Duration::from_millis(60));
        assert_eq!(rate.wait(start + Duration::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn each_key_waits_for_itself_in_its_order() {
        let start = Instant::now();
        let mut rates = KeyRates::new(pace(10.0, 1), 100, start);
        let waits: Vec<_> = (0..4).map(|_| rates.reserve("a", 0, start).as_millis()).collect();
        assert_eq!(waits, [0, 100, 200, 300]);
        assert_eq!(rates.reserve("b", 0, start), Duration::ZERO);
        rates.forget(0);
        assert_eq!(rates.reserve("a", 0, start), Duration::ZERO);
    }

    #[test]
    fn many_keys_take_bounded_room_and_those_in_use_stay() {
        let start = Instant::now();
        let mut rates = KeyRates::new(pace(0.001, 1), 1_000, start);
        for number in 0..100_000u64 {
            let now = start + Duration::from_millis(number);
            rates.reserve("busy", 0, now);
            rates.reserve(&number.to_string(), 0, now);
            assert!(rates.keys.len() <= 1_000);
        }
        assert!(rates.reserve("busy", 0, start + Duration::from_secs(100)) > Duration::from_secs(3_600));
        assert_eq!(rates.reserve("new", 0, start + Duration::from_secs(100)), Duration::ZERO);
    }

    proptest! {
        /// However records come, no stretch of time sees more of them than the rate and the burst allow.
        #[test]
        fn no_stretch_has_more_than_its_rate(
            gaps in proptest::collection::vec(0u64..300, 1..100), burst in 1u32..6,
        ) {
            let start = Instant::now();
            let mut rates = KeyRates::new(pace(10.0, burst), 10, start);
            let (mut now, mut starts) = (start, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                starts.push(now + rates.reserve("k", 0, now));
            }
            prop_assert!(starts.is_sorted());
            for (first, from) in starts.iter().enumerate() {
                for (last, until) in starts.iter().enumerate().skip(first) {
                    let allowed = (*until - *from).as_secs_f64() * 10.0 + f64::from(burst) + 1e-3;
                    prop_assert!((last - first + 1) as f64 <= allowed);
                }
            }
        }
    }
}
