//! Effects of records in the database that the stage writes: collected as their steps end, carried out in the order
//! of offsets, a stretch of a partition at a time, in the transaction that moves the partition.
//!
//! The database decides: a stretch stands only where the partition stood where it begins. Whoever is late, as an
//! engine that was frozen while another one took its partitions, changes nothing, and reads anew where they stand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::inbox::Letter;
use super::inflight::EntryId;
use super::offsets::OffsetTracker;
use super::partitions::{Partition, Tenure};
use super::program::{Batch, Program};
use super::runner::Runner;
use crate::base::{Backoff, Failure, Jitter};
use crate::record::{RawRecord, weight};
use crate::steps::ports::{Effects, Place, Stretch, Written};

/// The most records that change something in one transaction.
const MOST: usize = 1_000;
/// How soon a stretch is written again where the database did not say what became of it.
const AGAIN: Backoff = Backoff::Exponential {
    initial: Duration::from_millis(100),
    factor: 2.0,
    max: Duration::from_secs(10),
    jitter: Jitter::None,
};

/// What became of a stretch that was being written.
pub(super) struct Ended {
    pub(super) slot: u32,
    pub(super) number: u64,
    pub(super) result: Result<Written, Failure>,
}

/// The partitions of a stage that is exactly-once in a database.
#[derive(Default)]
pub(super) struct Writing {
    parts: HashMap<u32, Part>,
    /// Rises with each stretch.
    number: u64,
}

struct Part {
    /// Where the database says that it stands.
    stands: i64,
    /// What is to be changed, by the offset of the record.
    ready: BTreeMap<i64, Ready>,
    under_way: Option<(u64, AbortHandle)>,
    /// Whether it is to stand elsewhere than where its records led.
    moved: bool,
    /// When its offset is written though nothing is changed.
    due: Option<Instant>,
    /// Not to be written before that moment, and how often in a row the database gave no answer.
    rest: Option<(Instant, u32)>,
}

/// A record whose steps have ended.
struct Ready {
    id: EntryId,
    program: Arc<Program>,
    effects: Effects,
    /// The bytes that these hold.
    bytes: usize,
}

impl Part {
    fn stop(&mut self) {
        if let Some((_, task)) = self.under_way.take() {
            task.abort();
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Writing {
    fn begin(&mut self, slot: u32, stands: i64) {
        let part =
            Part { stands, ready: BTreeMap::new(), under_way: None, moved: false, due: None, rest: None };
        self.parts.insert(slot, part);
    }

    /// A partition is not this engine's any more.
    pub(super) fn forget(&mut self, slot: u32) {
        self.parts.remove(&slot);
    }

    /// Its records are given up. Whether a stretch under way stands is not known then, and shows with the next.
    pub(super) fn clear(&mut self, slot: u32) {
        if let Some(part) = self.parts.get_mut(&slot) {
            part.stop();
            part.ready.clear();
            part.rest = None;
        }
    }

    fn move_soon(&mut self, slot: u32, now: Instant) {
        if let Some(part) = self.parts.get_mut(&slot) {
            (part.moved, part.due) = (true, Some(now));
        }
    }

    /// Where a partition stands, as the group's commits may say; `None`: they may not yet.
    pub(super) fn stands(&self, slot: u32) -> Option<i64> {
        self.parts.get(&slot).filter(|part| !part.moved).map(|part| part.stands)
    }

    /// Gives up what is being written, before partitions go to others.
    pub(super) fn stop(&mut self) {
        for part in self.parts.values_mut() {
            part.stop();
            (part.due, part.rest) = (None, None);
        }
    }

    /// When something is to be written.
    fn due(&self) -> Option<Instant> {
        let due = |part: &Part| match (part.due, part.rest) {
            (_, Some((until, _))) if !part.ready.is_empty() || part.due.is_some() => Some(until),
            (due, _) => due,
        };
        self.parts.values().filter(|part| part.under_way.is_none()).filter_map(due).min()
    }
}

impl Runner {
    /// A partition begins where the database says that it stands.
    pub(super) fn begin_effects(&mut self, slot: u32) {
        let Some(writing) = &mut self.writing else { return };
        if let Some(partition) = self.partitions.get_mut(slot)
            && let Some(stands) = partition.committed
        {
            writing.begin(slot, stands);
            // The group mirrors it.
            partition.dirty = true;
            self.commit_soon();
        }
    }

    /// A partition is to stand elsewhere than where its records led.
    pub(super) fn move_effects(&mut self, slot: u32) {
        let now = self.now;
        self.writing.iter_mut().for_each(|writing| writing.move_soon(slot, now));
    }

    /// The steps of a record have ended, and it changes something once all before it are done. It holds up nobody
    /// meanwhile: what is changed is changed in the order of offsets.
    pub(super) fn await_effects(&mut self, id: EntryId, raw: RawRecord<'_>, mut batch: Batch) {
        let effects = std::mem::take(&mut batch.effects);
        let program = batch.program.take().unwrap_or_else(|| Arc::clone(&self.program));
        self.scratch = batch;
        let lane = self.in_flight.get_mut(id).and_then(|entry| entry.lane);
        self.own(id, raw, lane);
        let place = self.in_flight.get(id).map(|entry| (entry.slot, entry.offset));
        let part =
            place.and_then(|(slot, offset)| Some((self.writing.as_mut()?.parts.get_mut(&slot)?, offset)));
        let Some((part, offset)) = part else { return };
        let bytes = effects.iter().flat_map(|(_, values)| values).map(weight).sum();
        part.ready.insert(offset, Ready { id, program, effects, bytes });
        self.in_flight.resize(id, |size| size + bytes);
        self.through(id);
    }

    /// Writes what is ready, at most one stretch of a partition at a time.
    pub(super) fn keep_writing(&mut self) {
        let Some(writing) = &mut self.writing else { return };
        for (slot, part) in &mut writing.parts {
            let resting = part.rest.is_some_and(|(until, _)| until > self.now);
            let Some(partition) = self.partitions.get(*slot) else { continue };
            if part.under_way.is_some() || resting || partition.tenure == Tenure::Left {
                continue;
            }
            let Some((stretch, program)) = part.next(partition, &self.program, self.now) else { continue };
            let Some(offsets) = program.offsets.clone() else { continue };
            writing.number += 1;
            let (number, slot, inbox) = (writing.number, *slot, Arc::clone(&self.inbox));
            let write = async move {
                let result = offsets.write(&stretch).await;
                inbox.tell(Letter::Written(Ended { slot, number, result }));
            };
            part.under_way = Some((number, self.runtime.spawn(write).abort_handle()));
        }
    }

    /// A stretch was written, or not.
    pub(super) fn written(&mut self, Ended { slot, number, result }: Ended) {
        let Some(part) = self.writing.as_mut().and_then(|writing| writing.parts.get_mut(&slot)) else {
            return;
        };
        if part.under_way.as_ref().is_none_or(|(awaited, _)| *awaited != number) {
            return;
        }
        part.under_way = None;
        match result {
            Ok(Written::To(offset)) => {
                (part.stands, part.moved, part.due, part.rest) = (offset, false, None, None);
                let left = part.ready.split_off(&offset);
                let done = std::mem::replace(&mut part.ready, left);
                if let Some(partition) = self.partitions.get_mut(slot) {
                    (partition.dirty, partition.committed) = (true, Some(offset));
                }
                for ready in done.into_values() {
                    self.breakers.settled(true);
                    self.finish(ready.id);
                }
                if !self.resets.is_empty() {
                    self.commit_soon();
                }
            }
            Ok(Written::Refused(failure)) => {
                part.rest = None;
                let Some((_, ready)) = part.ready.pop_first() else { return };
                self.in_flight.resize(ready.id, |size| size.saturating_sub(ready.bytes));
                self.effect_refused(ready.id, failure);
            }
            Ok(Written::Elsewhere) => {
                self.shared.offset_conflict();
                self.restart_assignment();
            }
            Err(failure) => {
                let times = part.rest.map_or(1, |(_, times)| times + 1);
                part.rest = Some((self.now + AGAIN.delay(times, 0.0), times));
                self.shared.trouble(&failure.to_string());
            }
        }
    }

    fn effect_refused(&mut self, id: EntryId, failure: Failure) {
        let record = self.in_flight.get(id).and_then(|entry| entry.record.clone());
        let Some(record) = record else { return };
        // Nothing is charged for the time in which the database was away.
        if let Some(entry) = self.in_flight.get_mut(id).filter(|entry| entry.attempt == 1) {
            entry.first_started = Some(self.now);
        }
        let batch = std::mem::take(&mut self.scratch);
        self.fail(id, record.as_raw(), failure, batch);
    }

    /// Whether nothing is being written, and nothing that could be: what stands behind a record that waits cannot.
    pub(super) fn effects_are_idle(&self) -> bool {
        let is_idle = |(slot, part): (&u32, &Part)| {
            let tracker = self.partitions.get(*slot).and_then(|partition| partition.tracker.as_ref());
            let first = part.ready.keys().next().zip(tracker);
            let has_stretch = first.is_some_and(|(first, tracker)| part.end(tracker) > *first);
            part.under_way.is_none() && !has_stretch
        };
        self.writing.as_ref().is_none_or(|writing| writing.parts.iter().all(is_idle))
    }

    /// When the loop must look at effects again.
    pub(super) fn effects_due(&self) -> Option<Instant> {
        self.writing.as_ref()?.due()
    }
}

impl Part {
    /// The offset before which all is done or ready.
    fn end(&self, tracker: &OffsetTracker) -> i64 {
        tracker.run(|offset| self.ready.contains_key(&offset))
    }

    /// The next stretch: what is done from where the partition stands on, as far as one program prepared it. Where
    /// nothing is changed, the offset is written only once it is due.
    fn next(
        &mut self,
        partition: &Partition,
        now_in_force: &Arc<Program>,
        now: Instant,
    ) -> Option<(Stretch, Arc<Program>)> {
        let tracker = partition.tracker.as_ref()?;
        let mut to = self.end(tracker);
        let program = self.ready.first_key_value().map_or(now_in_force, |(_, ready)| &ready.program);
        let mut records = Vec::new();
        for (offset, ready) in self.ready.range(..to) {
            if records.len() == MOST || !Arc::ptr_eq(program, &ready.program) {
                to = *offset;
                break;
            }
            records.push((*offset, ready.effects.clone()));
        }
        if records.is_empty() {
            if to == self.stands && !self.moved {
                self.due = None;
                return None;
            }
            let due = *self.due.get_or_insert(now + now_in_force.stage.commit_interval);
            if due > now {
                return None;
            }
        }
        let place = Place {
            group: Arc::clone(&program.group),
            topic: Arc::clone(&partition.name.topic),
            partition: partition.name.partition,
        };
        Some((Stretch { place, from: self.stands, to, records }, Arc::clone(program)))
    }
}
