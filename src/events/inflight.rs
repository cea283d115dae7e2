//! Every record between poll and acknowledgement, in a slab that is reused without allocating.
//!
//! An [`EntryId`] doubles as the token of a delivery: it names a place and how often that place was
//! used, so that an acknowledgement of something abandoned meets nothing.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use super::carried::Carried;
use super::lanes::LaneId;
use super::offsets::Sequence;
use super::parked::{Key, Parking};
use super::partitions::Sentence;
use crate::record::OwnedRecord;
use crate::telemetry::traces::RecordSpan;

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// One use of one place in the slab; fits the 48 bits of a delivery token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntryId(u64);

impl EntryId {
    fn new(index: usize, use_count: u32) -> Self {
        Self(u64::from(use_count) << INDEX_BITS | index as u64)
    }

    /// The token to produce with.
    pub(super) fn token(self) -> u64 {
        self.0
    }

    /// What a token means.
    pub(super) fn from_token(token: u64) -> Self {
        Self(token)
    }

    fn index(self) -> usize {
        (self.0 & INDEX_MASK) as usize
    }
}

/// One record in flight.
#[derive(Debug)]
pub(super) struct Entry {
    /// The partition's place in the runner.
    pub(super) slot: u32,
    /// Its place in the partition's tracker.
    pub(super) sequence: Sequence,
    /// Its offset.
    pub(super) offset: i64,
    /// The bytes it holds.
    pub(super) size: usize,
    /// The lane it belongs to; `None` where nothing is ordered.
    pub(super) lane: Option<LaneId>,
    /// The attempt that runs or comes next; counts from 1.
    pub(super) attempt: u32,
    /// The first commit that knows of the attempts it has spent.
    pub(super) secured_by: u64,
    /// Its timestamp.
    pub(super) timestamp: Option<i64>,
    /// Whether its latency is measured.
    pub(super) sampled: bool,
    /// Whether what it becomes is sent with nothing else beside it.
    pub(super) alone: bool,
    /// Outputs handed over so far, and their bytes.
    pub(super) sent: (u32, u64),
    /// Outputs handed over and not acknowledged.
    pub(super) unacknowledged: u32,
    /// When its first attempt on this engine began; known once it waits or fails.
    pub(super) first_started: Option<Instant>,
    /// When the first of them failed, in milliseconds since the Unix epoch.
    pub(super) first_failed: Option<i64>,
    /// A copy of its bytes, where it had to wait.
    pub(super) record: Option<Arc<OwnedRecord>>,
    /// When its next attempt is due, while it waits for one.
    pub(super) due: Option<Instant>,
    /// Why it is being dead-lettered.
    pub(super) sentence: Option<Box<Sentence>>,
    /// Its span, once its first attempt began, where spans are made.
    pub(super) span: Option<Box<RecordSpan>>,
    /// The task that works on it.
    pub(super) task: Option<AbortHandle>,
    /// Whether that task has given its place away for a while.
    pub(super) resting: bool,
    /// What it is among the parked records, where it is one of them.
    pub(super) parked: Option<Box<Key>>,
    /// Where it is being parked.
    pub(super) parking: Option<Box<Parking>>,
}

impl Entry {
    /// A record that nothing was done for yet.
    pub(super) fn new(slot: u32, sequence: Sequence, offset: i64, size: usize) -> Self {
        Self {
            slot,
            sequence,
            offset,
            size,
            lane: None,
            attempt: 1,
            secured_by: 0,
            timestamp: None,
            sampled: false,
            alone: false,
            sent: (0, 0),
            unacknowledged: 0,
            first_started: None,
            first_failed: None,
            record: None,
            due: None,
            sentence: None,
            span: None,
            task: None,
            resting: false,
            parked: None,
            parking: None,
        }
    }
}

/// What was given up with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Abandoned {
    /// Records that something was done for: they are being worked on, or something of them was sent.
    pub(super) begun: usize,
    /// Of these, runs on the runtime that hold a place.
    pub(super) running: usize,
    /// Of these, runs that rest.
    pub(super) resting: usize,
    /// Sends whose answers nobody waits for any more.
    pub(super) unacknowledged: usize,
}

struct Place {
    use_count: u32,
    entry: Option<Entry>,
}

/// The slab.
#[derive(Default)]
pub(super) struct InFlight {
    places: Vec<Place>,
    free: Vec<u32>,
    bytes: usize,
}

impl InFlight {
    /// How many records are in flight.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The bytes they hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record.
    pub(super) fn insert(&mut self, entry: Entry) -> EntryId {
        self.bytes += entry.size;
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.entry = Some(entry);
            return EntryId::new(index as usize, place.use_count);
        }
        self.places.push(Place { use_count: 0, entry: Some(entry) });
        EntryId::new(self.places.len() - 1, 0)
    }

    /// The record, unless it is finished or abandoned.
    pub(super) fn get_mut(&mut self, id: EntryId) -> Option<&mut Entry> {
        let place = self.places.get_mut(id.index())?;
        if EntryId::new(id.index(), place.use_count) != id {
            return None;
        }
        place.entry.as_mut()
    }

    /// As [`InFlight::get_mut`], to look at.
    pub(super) fn get(&self, id: EntryId) -> Option<&Entry> {
        let place = self.places.get(id.index())?;
        let current = EntryId::new(id.index(), place.use_count) == id;
        place.entry.as_ref().filter(|_| current)
    }

    /// No record is charged the time from `since` to `now`.
    pub(super) fn excuse(&mut self, since: Instant, now: Instant) {
        for entry in self.places.iter_mut().filter_map(|place| place.entry.as_mut()) {
            if let Some(started) = &mut entry.first_started {
                *started += now.saturating_duration_since(since.max(*started));
            }
        }
    }

    /// A record holds more bytes than it did, or fewer.
    pub(super) fn resize(&mut self, id: EntryId, change: impl FnOnce(usize) -> usize) {
        let Some(entry) = self.get_mut(id) else { return };
        let before = entry.size;
        entry.size = change(before);
        let now = entry.size;
        self.bytes = self.bytes - before + now;
    }

    /// The partition of a record, unless it is finished or abandoned.
    pub(super) fn slot(&self, id: EntryId) -> Option<u32> {
        let place = self.places.get(id.index())?;
        let current = EntryId::new(id.index(), place.use_count) == id;
        place.entry.as_ref().filter(|_| current).map(|entry| entry.slot)
    }

    /// Takes a record out.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Entry> {
        self.get_mut(id)?;
        self.take(id.index())
    }

    /// The records of a partition of which something was sent and not acknowledged.
    pub(super) fn unacknowledged(&mut self, slot: u32) -> impl Iterator<Item = &mut Entry> {
        self.places
            .iter_mut()
            .filter_map(|place| place.entry.as_mut())
            .filter(move |entry| entry.slot == slot && entry.unacknowledged > 0)
    }

    /// Where records of a partition are being parked whose copies are sent and not acknowledged.
    pub(super) fn parking(&self, slot: u32) -> impl Iterator<Item = &Parking> {
        self.places
            .iter()
            .filter_map(|place| place.entry.as_ref())
            .filter(move |entry| entry.slot == slot)
            .filter_map(|entry| entry.parking.as_deref().filter(|parking| parking.sent))
    }

    /// Takes all records of a partition out; their tasks are aborted.
    pub(super) fn abandon(&mut self, slot: u32) -> Abandoned {
        let mine = |place: &Place| place.entry.as_ref().is_some_and(|entry| entry.slot == slot);
        let indexes: Vec<_> = (0..self.places.len()).filter(|index| mine(&self.places[*index])).collect();
        let mut abandoned = Abandoned::default();
        for entry in indexes.into_iter().filter_map(|index| self.take(index)) {
            abandoned.begun += usize::from(entry.unacknowledged > 0 || entry.task.is_some());
            abandoned.unacknowledged += entry.unacknowledged as usize;
            if let Some(task) = entry.task {
                abandoned.running += usize::from(!entry.resting);
                abandoned.resting += usize::from(entry.resting);
                task.abort();
            }
        }
        abandoned
    }

    /// The attempts spent by unfinished records of a partition, by offset.
    pub(super) fn attempts(&self, slot: u32) -> impl Iterator<Item = (i64, u32)> {
        self.places
            .iter()
            .filter_map(|place| place.entry.as_ref())
            .filter(move |entry| entry.slot == slot && entry.attempt > 1)
            .map(|entry| (entry.offset, entry.attempt - 1))
    }

    /// The timestamp of the first unfinished record of a partition, if it has one. Looks at every place,
    /// so ask once a report and not once a record.
    pub(super) fn oldest(&self, slot: u32) -> Option<i64> {
        self.places
            .iter()
            .filter_map(|place| place.entry.as_ref())
            .filter(|entry| entry.slot == slot)
            .min_by_key(|entry| entry.sequence)
            .and_then(|entry| entry.timestamp)
    }

    /// What the unfinished records of a partition keep when it is read again, by offset.
    pub(super) fn carried(&self, slot: u32) -> impl Iterator<Item = (i64, Box<Carried>)> {
        self.places
            .iter()
            .filter_map(|place| place.entry.as_ref())
            .filter(move |entry| entry.slot == slot)
            .filter_map(|entry| Some((entry.offset, Carried::of(entry)?)))
    }

    fn take(&mut self, index: usize) -> Option<Entry> {
        let place = &mut self.places[index];
        let entry = place.entry.take()?;
        place.use_count = (place.use_count + 1) & INDEX_MASK as u32;
        self.free.push(index as u32);
        self.bytes -= entry.size;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slot: u32, size: usize) -> Entry {
        Entry { unacknowledged: 1, ..Entry::new(slot, 0, 0, size) }
    }

    #[test]
    fn a_stale_id_meets_nothing_though_its_place_is_used_again() {
        let mut in_flight = InFlight::default();
        let old = in_flight.insert(entry(0, 10));
        assert!(in_flight.remove(old).is_some());
        let new = in_flight.insert(entry(0, 7));
        assert!(in_flight.get_mut(old).is_none());
        assert!(in_flight.get_mut(new).is_some());
        assert_eq!((in_flight.len(), in_flight.bytes()), (1, 7));
    }

    #[test]
    fn abandoning_a_partition_frees_its_records_and_no_others() {
        let mut in_flight = InFlight::default();
        for slot in [0, 1, 0] {
            in_flight.insert(entry(slot, 5));
        }
        in_flight.insert(Entry { unacknowledged: 0, ..entry(0, 3) });
        let abandoned = in_flight.abandon(0);
        assert_eq!(abandoned, Abandoned { begun: 2, running: 0, resting: 0, unacknowledged: 2 });
        assert_eq!((in_flight.len(), in_flight.bytes()), (1, 5));
    }

    #[test]
    fn the_oldest_is_the_first_unfinished_of_its_partition_whatever_its_place() {
        let mut in_flight = InFlight::default();
        let mut add = |slot, sequence, timestamp| {
            in_flight.insert(Entry { sequence, timestamp: Some(timestamp), ..entry(slot, 1) })
        };
        let first = add(0, 1, 500);
        add(1, 0, 100);
        add(0, 2, 300);
        in_flight.remove(first);
        assert_eq!(
            (in_flight.oldest(0), in_flight.oldest(1), in_flight.oldest(2)),
            (Some(300), Some(100), None)
        );
        // The place of the first is used again by a later record.
        in_flight.insert(Entry { sequence: 3, timestamp: Some(200), ..entry(0, 1) });
        assert_eq!(in_flight.oldest(0), Some(300), "the order of offsets counts, not that of timestamps");
    }

    #[test]
    fn a_token_fits_its_48_bits_however_often_a_place_was_used() {
        let mut in_flight = InFlight::default();
        in_flight.insert(entry(0, 0));
        in_flight.places[0].use_count = INDEX_MASK as u32;
        let last = EntryId::new(0, INDEX_MASK as u32);
        assert!(last.token() < 1 << 48);
        assert!(in_flight.remove(last).is_some());
        assert_eq!(in_flight.places[0].use_count, 0);
    }
}
