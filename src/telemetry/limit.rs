//! One log line a key and interval, with the count of what was held back.
//!
//! Owns the times of the last lines, for a bounded number of keys; what comes past the bound
//! shares one slot. Decides only, logs nothing.

use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::base::guard::{self, Guard};

const MAX_KEYS: usize = 256;

/// Decides which of many equal log lines are written.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<String, Slot>,
    pruned_at: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    written_at: Instant,
    held_back: u64,
}

impl RateLimit {
    /// At most one line a key and `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, slots: Mutex::new(Slots::default()) }
    }

    /// `Some(n)` where the line is to be written now, `n` being how many equal ones were held back
    /// since the last; `None` where it is held back.
    pub fn admit(&self, key: &str) -> Option<u64> {
        self.admit_at(key, Instant::now())
    }

    fn admit_at(&self, key: &str, now: Instant) -> Option<u64> {
        let slots = &mut *self.slots.lock();
        let key = if slots.has_room_for(key, now, self.interval) { key } else { "" };
        let slots = &mut slots.by_key;
        match slots.get_mut(key) {
            _ if guard::removed(Guard::LogLimit) => Some(0),
            Some(slot) if now.duration_since(slot.written_at) < self.interval => {
                slot.held_back += 1;
                None
            }
            Some(slot) => {
                slot.written_at = now;
                Some(std::mem::take(&mut slot.held_back))
            }
            None => {
                slots.insert(key.to_owned(), Slot { written_at: now, held_back: 0 });
                Some(0)
            }
        }
    }
}

impl Slots {
    /// Whether `key` has a slot or may take one; makes room at most once an interval.
    fn has_room_for(&mut self, key: &str, now: Instant, interval: Duration) -> bool {
        let due = self.pruned_at.is_none_or(|at| now.duration_since(at) >= interval);
        if due && self.by_key.len() >= MAX_KEYS && !self.by_key.contains_key(key) {
            self.pruned_at = Some(now);
            self.by_key
                .retain(|_, slot| slot.held_back > 0 || now.duration_since(slot.written_at) < interval);
        }
        self.by_key.len() < MAX_KEYS || self.by_key.contains_key(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_an_interval_says_how_many_were_held_back() {
        let limit = RateLimit::new(Duration::from_secs(10));
        let start = Instant::now();
        assert_eq!(limit.admit_at("a", start), Some(0));
        assert_eq!(limit.admit_at("a", start + Duration::from_secs(1)), None);
        assert_eq!(limit.admit_at("a", start + Duration::from_secs(9)), None);
        assert_eq!(limit.admit_at("b", start + Duration::from_secs(9)), Some(0), "keys are apart");
        assert_eq!(limit.admit_at("a", start + Duration::from_secs(10)), Some(2));
        assert_eq!(limit.admit_at("a", start + Duration::from_secs(20)), Some(0));
    }

    #[test]
    fn many_keys_take_bounded_room_and_few_lines() {
        let limit = RateLimit::new(Duration::from_secs(10));
        let now = Instant::now();
        let lines = (0..100_000).filter(|key| limit.admit_at(&key.to_string(), now).is_some()).count();
        assert_eq!(lines, MAX_KEYS + 1);
        assert!(limit.slots.lock().by_key.len() <= MAX_KEYS + 1);
    }
}
