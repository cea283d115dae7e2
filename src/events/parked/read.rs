//! Reading parking topics: what is parked becomes known, and copies come back.

use super::Key;
use super::headers::{self, Found, Standing};
use super::packed::{Head, Packed};
use super::store::Item;
use crate::events::offsets::{OffsetTracker, Sequence};
use crate::events::runner::Runner;
use crate::record::RawRecord;

impl Runner {
    /// A record of a parking topic was read.
    pub(in crate::events) fn read_parked(&mut self, slot: u32, raw: RawRecord<'_>) {
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        let tracker = partition.tracker.get_or_insert_with(|| OffsetTracker::new(raw.offset));
        let Some(sequence) = tracker.start(raw.offset, 0) else { return };
        partition.dirty = true;
        let spent = match partition.beyond.attempts.is_empty() {
            true => 0,
            false => partition.beyond.attempts.remove(&raw.offset).unwrap_or_default(),
        };
        if !partition.beyond.finished.is_empty() && partition.beyond.is_finished(raw.offset) {
            tracker.finish(sequence);
            return;
        }
        match headers::read(&raw) {
            Found::Done(origin, offset) => {
                tracker.finish(sequence);
                let seen = RawRecord {
                    topic: origin.topic,
                    partition: origin.partition,
                    offset: origin.offset,
                    ..raw
                };
                let (lane, _) = self.parked_lane(slot, &seen);
                self.is_done(Key { lane, origin: origin.offset, offset });
            }
            Found::Foreign => {
                let standing = Standing { spent, ..Standing::default() };
                self.insert_parked(slot, sequence, raw.offset, raw, standing);
            }
            Found::Parked(origin, own, standing) => {
                let seen = RawRecord {
                    topic: origin.topic,
                    partition: origin.partition,
                    offset: origin.offset,
                    timestamp: origin.timestamp,
                    log_append: origin.log_append,
                    headers: &own,
                    ..raw
                };
                let standing = Standing { spent: standing.spent.max(spent), ..standing };
                self.insert_parked(slot, sequence, raw.offset, seen, standing);
            }
        }
    }

    fn insert_parked(
        &mut self,
        slot: u32,
        sequence: Sequence,
        offset: i64,
        raw: RawRecord<'_>,
        standing: Standing,
    ) {
        let (lane, ordered) = self.parked_lane(slot, &raw);
        // Where it is read again, the wait that it was told to has not been written down.
        let told = self.partitions.get(slot).and_then(|partition| partition.carried.get(&offset)?.due);
        let due = self.now + standing.left(self.now_millis);
        let head = Head {
            timestamp: raw.timestamp,
            log_append: raw.log_append,
            ordered,
            timed: told.is_some() || !standing.wait.is_zero(),
            spent: standing.spent,
            started: standing.started,
            failed: standing.failed,
        };
        let place = self.parked.store.place(slot, &raw);
        let from = self.parked.from.entry(slot).or_insert(raw.offset);
        *from = raw.offset.min(*from);
        let due = told.map_or(due, |told| told.max(due));
        let item = Item::new(place, sequence, due, Packed::of(&raw, &head));
        let finished = self.parked.store.insert(Key { lane, origin: raw.offset, offset }, item);
        self.finish_copies(&finished);
        self.parked.store.expect_no_more(lane, raw.offset);
        if ordered {
            self.lanes.park_free(lane);
        }
    }

    /// Other copies stand for these by now.
    pub(super) fn finish_copies(&mut self, finished: &[(u32, Sequence)]) {
        for (slot, sequence) in finished {
            let Some(partition) = self.partitions.get_mut(*slot) else { continue };
            partition.dirty = true;
            if let Some(tracker) = &mut partition.tracker {
                tracker.finish(*sequence);
            }
        }
    }

    /// A record was finished by whoever had the partition before.
    fn is_done(&mut self, key: Key) {
        // What is in flight here says itself when it is finished.
        if self.parked.store.is_out(key) {
            return;
        }
        if let Some(item) = self.parked.store.finish(key) {
            self.finish_copies(&[(item.slot(), item.sequence)]);
        }
        self.let_on(key.lane);
    }
}
