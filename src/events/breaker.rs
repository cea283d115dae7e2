//! Two breakers as state machines; times are given and nothing is done here.
//!
//! A [`Circuit`] watches one step that asks another system: past a share of transient failures it opens,
//! and a single probe after a wait, which doubles each time, shows when to close. [`Flood`] watches a
//! whole stage: past a share of records that fail for good it has had enough.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::recent::Recent;
use crate::catalog::{Threshold, TransientBreaker};

/// The breaker of one step.
#[derive(Debug)]
pub(super) struct Circuit {
    /// The step's name.
    pub(super) step: Arc<str>,
    settings: TransientBreaker,
    recent: Recent<()>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// When the next probe may be made.
    probe_at: Instant,
    /// How long the wait before it is.
    wait: Duration,
}

impl Circuit {
    pub(super) fn new(step: Arc<str>, settings: TransientBreaker) -> Self {
        Self { step, settings, recent: Recent::new(settings.threshold), open: None }
    }

    /// So many attempts passed that are no probes.
    pub(super) fn passed(&mut self, count: usize) {
        if self.open.is_none() {
            self.recent.passed(count);
        }
    }

    /// An attempt failed that is no probe; whether the circuit opens by it. What began before it opened
    /// and ends after that says nothing new.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        if self.open.is_some() || !self.recent.failed(now, ()) {
            return false;
        }
        let wait = self.settings.probe_after;
        self.open = Some(Open { probe_at: now + wait, wait });
        true
    }

    /// A probe failed: the next waits twice as long, or as long as the other side asked.
    pub(super) fn probe_failed(&mut self, now: Instant, asked: Option<Duration>) {
        let most = self.settings.probe_up_to;
        if let Some(open) = &mut self.open {
            open.wait = open.wait.saturating_mul(2).min(most);
            open.probe_at = now + open.wait.max(asked.unwrap_or_default().min(most));
        }
    }

    /// A probe passed: the circuit closes, and its past does not count; true where it was open.
    pub(super) fn probe_passed(&mut self) -> bool {
        self.recent.clear();
        self.open.take().is_some()
    }

    /// When the next probe may be made, while it is open.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.open.as_ref().map(|open| open.probe_at)
    }
}

/// The breaker of a whole stage.
#[derive(Debug)]
pub(super) struct Flood {
    recent: Recent<String>,
    threshold: Threshold,
}

impl Flood {
    pub(super) fn new(threshold: Threshold) -> Self {
        Self { recent: Recent::new(threshold), threshold }
    }

    /// So many records passed.
    pub(super) fn passed(&mut self, count: usize) {
        self.recent.passed(count);
    }

    /// A record failed for good with that code; where these are too many, why the stage stops.
    pub(super) fn failed(&mut self, now: Instant, code: &str) -> Option<String> {
        if !self.recent.failed(now, code.to_owned()) {
            return None;
        }
        let (whole, failed) = self.recent.counted();
        let mut by_code: HashMap<&str, usize> = HashMap::new();
        self.recent.kept().for_each(|code| *by_code.entry(code).or_default() += 1);
        let most = by_code.into_iter().max_by_key(|(code, count)| (*count, *code));
        let (code, count) = most.unwrap_or((code, failed));
        let share = self.threshold.failures;
        Some(format!(
            "{failed} of the last {whole} records failed for good, most often with `{code}` ({count}); \
             `breaker.permanent` stops the stage at {share}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Share;

    const SECOND: Duration = Duration::from_secs(1);

    fn threshold(of: usize) -> Threshold {
        Threshold { failures: Share::percent(50), of, within: Duration::from_secs(30) }
    }

    fn circuit() -> Circuit {
        let settings =
            TransientBreaker { threshold: threshold(4), probe_after: SECOND, probe_up_to: 5 * SECOND };
        Circuit::new(Arc::from("ask"), settings)
    }

    #[test]
    fn a_circuit_opens_once_and_its_probes_keep_growing_apart_up_to_the_cap() {
        let (mut circuit, now) = (circuit(), Instant::now());
        circuit.passed(2);
        assert_eq!([circuit.failed(now), circuit.failed(now), circuit.failed(now)], [false, true, false]);
        assert_eq!(circuit.probe_at(), Some(now + SECOND));
        let mut waits = Vec::new();
        for _ in 0..4 {
            circuit.probe_failed(now, None);
            waits.push(circuit.probe_at().unwrap() - now);
        }
        assert_eq!(waits, [2, 4, 5, 5].map(Duration::from_secs));
    }

    #[test]
    fn a_wait_that_the_other_side_asks_for_is_kept_up_to_the_cap() {
        let (mut circuit, now) = (circuit(), Instant::now());
        assert_eq!((0..4).position(|_| circuit.failed(now)), Some(3));
        circuit.probe_failed(now, Some(3 * SECOND));
        assert_eq!(circuit.probe_at(), Some(now + 3 * SECOND));
        circuit.probe_failed(now, Some(Duration::from_secs(3_600)));
        assert_eq!(circuit.probe_at(), Some(now + 5 * SECOND));
    }

    #[test]
    fn a_probe_that_passes_closes_and_what_was_before_is_forgotten() {
        let (mut circuit, now) = (circuit(), Instant::now());
        assert_eq!((0..4).position(|_| circuit.failed(now)), Some(3));
        circuit.passed(100);
        assert!(circuit.probe_at().is_some(), "what began before it opened is no probe");
        assert!(circuit.probe_passed());
        assert_eq!(circuit.probe_at(), None);
        assert_eq!((0..4).position(|_| circuit.failed(now)), Some(3));
    }

    #[test]
    fn a_flood_names_the_most_frequent_code() {
        let (mut flood, now) = (Flood::new(threshold(10)), Instant::now());
        let code = |index: usize| if index.is_multiple_of(3) { "schema" } else { "json" };
        flood.passed(4);
        assert!((0..5).all(|index| flood.failed(now, code(index)).is_none()));
        let why = flood.failed(now, code(5)).unwrap();
        assert!(
            why.starts_with("6 of the last 10 records failed for good, most often with `json` (4)"),
            "{why}"
        );
    }
}
