//! What rate limits do to a stage: its intake stands still, or a record waits in its lane.
//!
//! A record is counted once, when it is taken; its further attempts are the retry policy's. While it waits
//! it holds its lane and a part of the window, but no place to run, and spends no attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inflight::EntryId;
use super::program::Program;
use super::rate::{KeyRates, Rate};
use super::runner::Runner;
use crate::record::RawRecord;

/// Shorter waits of the whole stage only stop taking from the queue; a longer one pauses the partitions,
/// since a member must go on polling.
const PATIENCE: Duration = Duration::from_secs(1);

/// The rates of a stage.
#[derive(Debug)]
pub(super) struct Rates {
    stage: Option<Rate>,
    /// Whether the intake stands still for it.
    standing: bool,
    keys: Option<KeyRates>,
}

impl Rates {
    pub(super) fn of(program: &Program, now: Instant) -> Self {
        let limits = &program.stage.rate_limit;
        Self {
            stage: limits.stage.map(|pace| Rate::new(pace, now)),
            standing: false,
            keys: limits.per_key.as_ref().map(|limit| KeyRates::new(limit.pace, limit.max_keys, now)),
        }
    }

    /// Whether keys have limits.
    pub(super) fn by_key(&self) -> bool {
        self.keys.is_some()
    }

    /// A record was taken.
    pub(super) fn took(&mut self, now: Instant) {
        if let Some(rate) = &mut self.stage {
            rate.take(now);
        }
    }

    /// When the next record may be taken, where that is not now.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let wait = self.stage.as_ref()?.wait(now);
        (!wait.is_zero()).then(|| now + wait)
    }

    /// Whether partitions are to be paused until then.
    pub(super) fn pauses(&self, now: Instant, paused: bool) -> bool {
        let Some(due) = self.due(now) else { return false };
        paused || due.saturating_duration_since(now) >= PATIENCE
    }

    /// Nothing of a partition waits any more.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(keys) = &mut self.keys {
            keys.forget(slot);
        }
    }
}

impl Runner {
    /// Whether the intake has to stand still now.
    pub(super) fn is_too_fast(&mut self) -> bool {
        let due = self.rates.due(self.now);
        if let Some(due) = due.filter(|_| !self.rates.standing) {
            self.shared.metrics.safeguards().rate_limited("stage", due.saturating_duration_since(self.now));
        }
        self.rates.standing = due.is_some();
        due.is_some()
    }

    /// A record was read whose key has a limit: it begins, or waits until the limit lets it.
    pub(super) fn begin_in_time(&mut self, id: EntryId, slot: u32, raw: RawRecord<'_>) {
        let program = Arc::clone(&self.program);
        let Some(keys) = &mut self.rates.keys else { return self.begin(id, slot, raw) };
        let now = self.now;
        let wait = match program.rate_key(raw, |key| keys.reserve(key, slot, now)) {
            Ok(wait) => wait.unwrap_or_default(),
            Err(mut failure) => {
                failure.message = format!("`rate_limit.per_key`: {}", failure.message);
                let batch = std::mem::take(&mut self.scratch);
                return self.settle(id, raw, Err(failure.given_up()), batch);
            }
        };
        if wait.is_zero() {
            return self.begin(id, slot, raw);
        }
        self.shared.metrics.safeguards().rate_limited("key", wait);
        let lane = self.lane(slot, &raw);
        self.own(id, raw, lane);
        match lane.filter(|lane| self.lanes.is_held(*lane)) {
            Some(lane) => {
                self.line_up(id, lane);
                if let Some(entry) = self.in_flight.get_mut(id) {
                    entry.due = Some(now + wait);
                }
            }
            None => {
                lane.into_iter().for_each(|lane| self.lanes.hold(lane, id));
                self.wait_until(id, now + wait);
            }
        }
    }
}
