//! The first records of parked lanes: started when they are due, and what follows once they are through.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Key;
use super::packed::Head;
use crate::events::inflight::{Entry, EntryId};
use crate::events::lanes::LaneId;
use crate::events::partitions::{Partition, Tenure};
use crate::events::runner::Runner;
use crate::record::OwnedRecord;

/// How many start in one turn of the loop where steps never wait.
const TURN: usize = 256;

impl Runner {
    /// Starts parked records that are due, as far as there are places; how many that were.
    pub(in crate::events) fn wake_parked(&mut self) -> usize {
        if self.parked.store.next_due().is_none_or(|due| due > self.now) {
            return 0;
        }
        let (mut room, mut started) = (self.head_room(), 0);
        while room > 0
            && self.blocked.is_empty()
            && let Some(lane) = self.parked.store.due_lane(self.now)
        {
            if self.lanes.is_occupied(lane) {
                self.parked.store.occupy(lane, true);
                continue;
            }
            let Some(key) = self.parked.store.start_due(self.now) else { break };
            self.start_parked(key);
            room -= 1;
            started += 1;
        }
        started
    }

    /// How many parked records may start now. They are older than what else waits, so they come first, but
    /// leave it half of the places.
    pub(in crate::events) fn head_room(&self) -> usize {
        let owned = |partition: &Partition| partition.tenure == Tenure::Owned;
        if !self.may_start() || self.hand_over_by.is_some() || !self.partitions.iter().all(owned) {
            return 0;
        }
        let running = self.parked.store.running();
        if self.breakers.is_open() {
            // One to ask with, where there is no other.
            return usize::from(running == 0 && self.ready.is_empty());
        }
        let concurrency = self.program.stage.concurrency;
        match self.program.waits() {
            true if self.ready.is_empty() => concurrency.saturating_sub(running),
            true => (concurrency / 2).max(1).saturating_sub(running),
            false if self.in_flight.len() >= 2 * self.window.records => 0,
            false => TURN,
        }
    }

    /// When the next parked record is to start, where it may.
    pub(in crate::events) fn parked_due(&self) -> Option<Instant> {
        self.parked.store.next_due().filter(|_| self.head_room() > 0)
    }

    fn start_parked(&mut self, key: Key) {
        let Some(item) = self.parked.store.get(key) else { return };
        let Head { ordered, timed, .. } = item.head();
        let late = self.now.saturating_duration_since(item.due());
        let Some((id, record)) = self.entry_of(key) else { return };
        if timed {
            self.shared.metrics.parked_late_seconds(late.as_secs_f64());
        }
        if ordered {
            self.lanes.unpark(key.lane, id);
        }
        let sentence = self
            .partitions
            .get_mut(self.in_flight.slot(id).unwrap_or_default())
            .and_then(|partition| partition.carried.remove(&key.offset))
            .and_then(|carried| carried.sentence);
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.lane = ordered.then_some(key.lane);
        }
        match sentence {
            Some(sentence) => self.carry_out(id, record.as_raw(), *sentence),
            None if !self.program.waits() => drop(self.start(id)),
            // With so few places it would keep all others out.
            None if self.program.stage.concurrency < 4 => self.ready.push_back(id),
            None => self.ready.push_front(id),
        }
    }

    /// Puts a parked record in flight.
    pub(super) fn entry_of(&mut self, key: Key) -> Option<(EntryId, Arc<OwnedRecord>)> {
        let item = self.parked.store.get(key)?;
        let record = Arc::new(item.record(key));
        let (slot, sequence, size) = (item.slot(), item.sequence, item.bytes.len());
        let Head { spent, timestamp, started, failed, .. } = item.head();
        let ago = |started: i64| Duration::from_millis((self.now_millis - started).max(0).unsigned_abs());
        let started = started.and_then(|started| self.now.checked_sub(ago(started)));
        let partition = self.partitions.get_mut(slot)?;
        let alone = !partition.suspects.is_empty() && partition.suspects.remove(&key.offset);
        let id = self.in_flight.insert(Entry {
            timestamp,
            sampled: true,
            attempt: spent + 1,
            alone,
            first_started: started,
            first_failed: failed,
            record: Some(Arc::clone(&record)),
            parked: Some(Box::new(key)),
            ..Entry::new(slot, sequence, key.offset, size)
        });
        Some((id, record))
    }

    /// Nothing in flight holds a lane any more: what is parked in it does, or the next record in flight,
    /// which starts.
    pub(in crate::events) fn pass_on(&mut self, lane: LaneId) {
        if !self.parked.store.is_empty() {
            self.parked.store.occupy(lane, false);
            if self.parked.store.holds(lane) {
                self.lanes.park(lane);
                self.parked.following.insert(lane);
                return;
            }
        }
        while let Some(next) = self.lanes.advance(lane) {
            if self.in_flight.get(next).is_some() {
                return self.take_turn(next);
            }
        }
    }

    /// A lane of parked records may have none any more.
    pub(super) fn let_on(&mut self, lane: LaneId) {
        if self.lanes.is_parked(lane) && !self.parked.store.holds(lane) {
            self.pass_on(lane);
        }
    }

    /// Gives up what a parking partition has in flight. It is all parked still, so nothing is read again.
    /// `hold` says until when it rests.
    pub(in crate::events) fn put_back(&mut self, slot: u32, hold: Option<Instant>) {
        let until = hold.unwrap_or(self.now);
        let spent: HashMap<i64, u32> = self.in_flight.attempts(slot).collect();
        let carried: Vec<_> = self.in_flight.carried(slot).collect();
        let due: HashMap<i64, Instant> =
            carried.iter().filter_map(|(offset, carried)| Some((*offset, carried.due?))).collect();
        let finished = self.parked.store.put_back(slot, |offset, item| {
            let due = due.get(&offset).copied().unwrap_or(item.due());
            (spent.get(&offset).copied().unwrap_or(item.head().spent), due.max(until))
        });
        if let Some(partition) = self.partitions.get_mut(slot) {
            partition.carried.extend(carried);
        }
        self.finish_copies(&finished);
        let begun = self.clear(slot);
        self.shared.repeated(begun);
    }

    /// Nothing of a partition is in flight any more: lanes go to what is parked in them, or to the next.
    pub(in crate::events) fn release_lanes(&mut self) -> Vec<EntryId> {
        let (in_flight, store) = (&self.in_flight, &self.parked.store);
        let (next, parked) = self.lanes.release(|id| in_flight.slot(id).is_some(), |lane| store.holds(lane));
        self.parked.following.extend(parked);
        for lane in self.parked.store.occupied() {
            if !self.lanes.is_occupied(lane) {
                self.parked.store.occupy(lane, false);
            }
        }
        next
    }
}
