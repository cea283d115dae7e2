//! How far a queue's ready rows are claimed, so that a claim does not pass over what is gone already.
//!
//! A session that was left open elsewhere keeps deleted rows in the way of every scan; a scan that begins
//! where the last one ended does not meet them. Numbers become visible out of order, so the mark is a hint:
//! every now and then a claim looks from the beginning, as often as that is cheap. Pure.

use std::time::{Duration, Instant};

/// The shortest time between two looks from the beginning while work flows.
const RESCAN: Duration = Duration::from_secs(2);

/// How much of the time looks from the beginning may take: one part in this many.
const BUDGET: u32 = 20;

/// The mark of one queue, lane and priority.
#[derive(Debug, Clone, Default)]
pub struct LowWater {
    mark: i64,
    next_scan: Option<Instant>,
    looking: bool,
}

/// Where one claim begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan {
    /// Only rows above this number.
    pub after: i64,
    started: Instant,
}

impl LowWater {
    /// Where the next claim would begin: see [`LowWater::begin`].
    pub fn peek(&self, now: Instant, idle: bool) -> i64 {
        if self.looks_back(now, idle) { 0 } else { self.mark }
    }

    /// Where the next claim begins. `idle` says that nothing was found last time, so that a look from the
    /// beginning costs nobody anything, unless such looks have proved dear.
    pub fn begin(&mut self, now: Instant, idle: bool) -> Scan {
        self.looking = self.looks_back(now, idle);
        Scan { after: if self.looking { 0 } else { self.mark }, started: now }
    }

    fn looks_back(&self, now: Instant, idle: bool) -> bool {
        let due = self.next_scan.is_none_or(|at| now >= at);
        let dear = self.next_scan.is_some_and(|at| at > now + RESCAN);
        due || (idle && !dear)
    }

    /// What the claim brought: the highest number among `found` jobs of at most `limit`.
    pub fn end(&mut self, from: Scan, now: Instant, highest: Option<i64>, found: usize, limit: usize) {
        if !self.looking {
            self.mark = self.mark.max(highest.unwrap_or(0));
            return;
        }
        self.looking = false;
        let behind = highest.is_some_and(|highest| highest < self.mark);
        if behind && found >= limit {
            // There may be more that was overlooked, so the next claim looks again at once.
            self.next_scan = None;
            return;
        }
        self.mark = self.mark.max(highest.unwrap_or(0));
        let took = now.saturating_duration_since(from.started);
        self.next_scan = Some(now + RESCAN.max(took * BUDGET));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn claim(low: &mut LowWater, at: Instant, took: Duration, highest: Option<i64>, found: usize) -> i64 {
        let from = low.begin(at, false);
        low.end(from, at + took, highest, found, 10);
        from.after
    }

    #[test]
    fn claims_go_on_where_the_last_ended_and_look_back_every_two_seconds() {
        let (mut low, start) = (LowWater::default(), Instant::now());
        assert_eq!(claim(&mut low, start, MILLI, Some(10), 10), 0);
        assert_eq!(claim(&mut low, start + MILLI, MILLI, Some(20), 10), 10);
        assert_eq!(claim(&mut low, start + Duration::from_secs(3), MILLI, Some(30), 10), 0);
        assert_eq!(claim(&mut low, start + Duration::from_secs(4), MILLI, Some(40), 10), 30);
    }

    #[test]
    fn what_was_overlooked_is_claimed_to_its_end_without_losing_the_mark() {
        let (mut low, start) = (LowWater::default(), Instant::now());
        claim(&mut low, start, MILLI, Some(100), 10);
        let later = start + Duration::from_secs(3);
        assert_eq!(claim(&mut low, later, MILLI, Some(20), 10), 0);
        assert_eq!(claim(&mut low, later + MILLI, MILLI, Some(30), 3), 0, "there may be more of it");
        assert_eq!(claim(&mut low, later + 2 * MILLI, MILLI, Some(110), 10), 100, "and then the mark holds");
    }

    #[test]
    fn looks_from_the_beginning_that_are_dear_become_rare_even_when_idle() {
        let (mut low, start) = (LowWater::default(), Instant::now());
        claim(&mut low, start, Duration::from_secs(1), Some(10), 1);
        let later = start + Duration::from_secs(4);
        assert_eq!(low.begin(later, true).after, 10);
        assert_eq!(low.begin(start + Duration::from_secs(22), true).after, 0);
        let mut cheap = LowWater::default();
        claim(&mut cheap, start, MILLI, Some(10), 1);
        assert_eq!(cheap.begin(start + 2 * MILLI, true).after, 0);
        assert_eq!(cheap.begin(start + 2 * MILLI, false).after, 10);
    }
}
