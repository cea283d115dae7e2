//! What is parked: which records, in which order, and when the first of each lane is due.
//!
//! Pure. The records of a lane come one after the other by the offsets that they had first; the first one's
//! due time is the lane's. A copy of a record on its way to the parking topic is *expected*: until it is
//! read from there nothing behind it starts. Records are known by where they came from, so that one which
//! was written twice, as by an engine that was killed in between, is tried once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::moment::Moment;
use super::packed::{Head, Packed};
use crate::events::lanes::LaneId;
use crate::events::offsets::Sequence;
use crate::record::{OwnedRecord, RawRecord};

/// One parked record: its lane, the offset that it had first, and its offset in the parking topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::events) struct Key {
    pub(in crate::events) lane: LaneId,
    pub(in crate::events) origin: i64,
    pub(in crate::events) offset: i64,
}

impl Item {
    pub(in crate::events) fn new(place: Arc<Place>, sequence: Sequence, due: Instant, bytes: Packed) -> Self {
        Self { place, sequence, due: Moment::of(due), bytes }
    }

    /// The place of the parking topic's partition in the runner.
    pub(in crate::events) fn slot(&self) -> u32 {
        self.place.slot
    }

    /// When its next attempt is due.
    pub(in crate::events) fn due(&self) -> Instant {
        self.due.instant()
    }

    /// How it stands beside that.
    pub(in crate::events) fn head(&self) -> Head {
        self.bytes.head()
    }

    fn stands(&mut self, change: impl FnOnce(&mut Head)) {
        let mut head = self.head();
        change(&mut head);
        self.bytes.set_head(&head);
    }

    /// The record itself.
    pub(in crate::events) fn record(&self, key: Key) -> OwnedRecord {
        let Head { timestamp, log_append, .. } = self.head();
        self.bytes.unpack(RawRecord {
            topic: &self.place.topic,
            partition: self.place.partition,
            offset: key.origin,
            timestamp,
            log_append,
            key: None,
            value: None,
            headers: &(),
        })
    }
}

impl Key {
    fn first(lane: LaneId) -> Self {
        Self { lane, origin: i64::MIN, offset: i64::MIN }
    }
}

/// Where parked records came from first, and which partition of a parking topic they lie in; shared by
/// all that have it in common.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::events) struct Place {
    topic: Box<str>,
    partition: i32,
    slot: u32,
}

/// What is known of a parked record. There may be very many: what is looked at seldom is packed.
#[derive(Debug, Clone)]
pub(in crate::events) struct Item {
    place: Arc<Place>,
    /// Its place in the tracker of its partition.
    pub(in crate::events) sequence: Sequence,
    due: Moment,
    /// Its bytes.
    pub(in crate::events) bytes: Packed,
}

/// Where a parked record is while it does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Out {
    /// Its attempt runs.
    Running,
    /// What it became is sent and not acknowledged.
    Sent,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(in crate::events) struct Store {
    items: BTreeMap<Key, Item>,
    /// Where the newest record of each partition came from.
    places: HashMap<u32, Arc<Place>>,
    /// Those that do not wait.
    out: BTreeMap<Key, Out>,
    /// Copies on their way, by lane: the partition's place and the offset that the record had first.
    expected: HashMap<LaneId, Vec<(u32, i64)>>,
    /// When the first record of each lane that may start is due.
    due: BTreeSet<(Moment, LaneId)>,
    /// Partitions of which nothing starts.
    held: HashSet<u32>,
    /// Lanes in which something else runs.
    occupied: HashSet<LaneId>,
    counts: HashMap<u32, usize>,
    running: usize,
    expecting: usize,
    bytes: usize,
}

impl Store {
    /// How many records are parked, those on their way included.
    pub(in crate::events) fn len(&self) -> usize {
        self.items.len() + self.expecting
    }

    /// Whether there is nothing at all.
    pub(in crate::events) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.expected.is_empty()
    }

    /// The bytes that they hold.
    pub(in crate::events) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many attempts of parked records run.
    pub(in crate::events) fn running(&self) -> usize {
        self.running
    }

    /// How many records of a partition there are.
    pub(in crate::events) fn of(&self, slot: u32) -> usize {
        self.counts.get(&slot).copied().unwrap_or_default()
    }

    /// Where a record came from that lies in the partition at `slot`.
    pub(in crate::events) fn place(&mut self, slot: u32, raw: &RawRecord<'_>) -> Arc<Place> {
        let is_its = |place: &&Arc<Place>| *place.topic == *raw.topic && place.partition == raw.partition;
        if let Some(place) = self.places.get(&slot).filter(is_its) {
            return Arc::clone(place);
        }
        let place = Arc::new(Place { topic: raw.topic.into(), partition: raw.partition, slot });
        self.places.insert(slot, Arc::clone(&place));
        place
    }

    pub(in crate::events) fn get(&self, key: Key) -> Option<&Item> {
        self.items.get(&key)
    }

    /// Whether a record of that lane must wait for what is parked.
    pub(in crate::events) fn holds(&self, lane: LaneId) -> bool {
        let unsent = |(key, _): (&Key, &Item)| self.out.get(key) != Some(&Out::Sent);
        self.expected.contains_key(&lane) || self.lane(lane).any(unsent)
    }

    /// Whether the record that had that offset first is parked in this lane.
    pub(in crate::events) fn has(&self, lane: LaneId, origin: i64, bytes: impl FnOnce() -> Packed) -> bool {
        let mut same = self.same(lane, origin).peekable();
        same.peek().is_some() && {
            let bytes = bytes();
            same.any(|(_, item)| item.bytes.is_same(&bytes))
        }
    }

    /// How many copies are on their way.
    pub(in crate::events) fn expecting(&self) -> usize {
        self.expecting
    }

    /// Whether a record does not wait.
    pub(in crate::events) fn is_out(&self, key: Key) -> bool {
        self.out.contains_key(&key)
    }

    fn lane(&self, lane: LaneId) -> impl Iterator<Item = (&Key, &Item)> {
        self.items.range(Key::first(lane)..).take_while(move |(key, _)| key.lane == lane)
    }

    fn same(&self, lane: LaneId, origin: i64) -> impl Iterator<Item = (&Key, &Item)> {
        let first = Key { lane, origin, offset: i64::MIN };
        self.items.range(first..=Key { offset: i64::MAX, ..first })
    }

    /// The record of a lane that starts next, where one may.
    fn startable(&self, lane: LaneId) -> Option<(Key, Moment)> {
        if self.occupied.contains(&lane) {
            return None;
        }
        let head = self.lane(lane).find(|(key, _)| !self.out.contains_key(key));
        let (key, item) = head.filter(|_| !self.runs(lane))?;
        let before = |expected: &(u32, i64)| expected.1 <= key.origin;
        if self.held.contains(&item.slot())
            || self.expected.get(&lane).is_some_and(|all| all.iter().any(before))
        {
            return None;
        }
        Some((*key, item.due))
    }

    fn runs(&self, lane: LaneId) -> bool {
        let mut out = self.out.range(Key::first(lane)..).take_while(|(key, _)| key.lane == lane);
        out.any(|(_, out)| *out == Out::Running)
    }

    /// Changes a lane, and what is due with it.
    fn change<T>(&mut self, lane: LaneId, change: impl FnOnce(&mut Self) -> T) -> T {
        if let Some((_, due)) = self.startable(lane) {
            self.due.remove(&(due, lane));
        }
        let result = change(self);
        if let Some((_, due)) = self.startable(lane) {
            self.due.insert((due, lane));
        }
        result
    }

    /// A copy of a record is on its way to the partition at `slot`.
    pub(in crate::events) fn expect(&mut self, lane: LaneId, slot: u32, origin: i64) {
        self.change(lane, |store| {
            store.expected.entry(lane).or_default().push((slot, origin));
            store.expecting += 1;
        });
    }

    /// It is not on its way any more: it came, or nobody knows whether it will.
    pub(in crate::events) fn expect_no_more(&mut self, lane: LaneId, origin: i64) {
        self.change(lane, |store| {
            let Some(all) = store.expected.get_mut(&lane) else { return };
            if let Some(index) = all.iter().position(|(_, expected)| *expected == origin) {
                all.swap_remove(index);
                store.expecting -= 1;
            }
            if all.is_empty() {
                store.expected.remove(&lane);
            }
        });
    }

    /// A record was read from a parking topic. Gives back those that need no attempt, since another copy
    /// of the same record stands for them: the partition's place and the place in its tracker.
    pub(in crate::events) fn insert(&mut self, key: Key, item: Item) -> Vec<(u32, Sequence)> {
        self.change(key.lane, |store| {
            let mut finished = Vec::new();
            let copies: Vec<_> = store
                .same(key.lane, key.origin)
                .filter(|(other, known)| !store.out.contains_key(other) && known.bytes.is_same(&item.bytes))
                .map(|(other, known)| (*other, known.head().spent))
                .collect();
            for (other, spent) in copies {
                if spent > item.head().spent {
                    // An older copy that came late.
                    return vec![(item.slot(), item.sequence)];
                }
                if let Some(known) = store.remove(other) {
                    finished.push((known.slot(), known.sequence));
                }
            }
            store.bytes += item.bytes.len();
            *store.counts.entry(item.slot()).or_default() += 1;
            store.items.insert(key, item);
            finished
        })
    }

    fn remove(&mut self, key: Key) -> Option<Item> {
        let item = self.items.remove(&key)?;
        if self.out.remove(&key) == Some(Out::Running) {
            self.running -= 1;
        }
        self.bytes -= item.bytes.len();
        if let Some(count) = self.counts.get_mut(&item.slot()) {
            *count -= 1;
        }
        Some(item)
    }

    /// When the next record is due.
    pub(in crate::events) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| due.instant())
    }

    /// The lane whose first record is due first, if it is by now.
    pub(in crate::events) fn due_lane(&self, now: Instant) -> Option<LaneId> {
        self.due.first().filter(|(due, _)| *due <= Moment::of(now)).map(|(_, lane)| *lane)
    }

    /// The lanes in which something else runs.
    pub(in crate::events) fn occupied(&self) -> Vec<LaneId> {
        self.occupied.iter().copied().collect()
    }

    /// Starts the record that is due first, if it is by now.
    pub(in crate::events) fn start_due(&mut self, now: Instant) -> Option<Key> {
        let lane = self.due_lane(now)?;
        let (key, _) = self.startable(lane)?;
        self.start(key);
        Some(key)
    }

    /// An attempt of the record begins, or it is moved.
    pub(in crate::events) fn start(&mut self, key: Key) {
        self.change(key.lane, |store| {
            if store.out.insert(key, Out::Running) != Some(Out::Running) {
                store.running += 1;
            }
        });
    }

    /// What the record became is sent: the next of its lane may start.
    pub(in crate::events) fn sent(&mut self, key: Key) {
        self.change(key.lane, |store| {
            if let Some(out) = store.out.get_mut(&key)
                && std::mem::replace(out, Out::Sent) == Out::Running
            {
                store.running -= 1;
            }
        });
    }

    /// The record is finished, or another copy of it stands for it by now.
    pub(in crate::events) fn finish(&mut self, key: Key) -> Option<Item> {
        self.change(key.lane, |store| store.remove(key))
    }

    /// Up to `count` records of a partition that wait and have the lowest offsets there. Looks at all
    /// there are.
    pub(in crate::events) fn oldest(&self, slot: u32, count: usize) -> Vec<Key> {
        let waits = |key: &Key| !self.out.contains_key(key);
        let mine = self.items.iter().filter(|(key, item)| item.slot() == slot && waits(key));
        let mut keys: Vec<_> = mine.map(|(key, _)| *key).collect();
        keys.sort_unstable_by_key(|key| key.offset);
        keys.truncate(count);
        keys
    }

    /// Something else runs in a lane: nothing parked starts until that is over.
    pub(in crate::events) fn occupy(&mut self, lane: LaneId, occupied: bool) {
        if self.occupied.contains(&lane) == occupied {
            return;
        }
        self.change(lane, |store| {
            match occupied {
                true => store.occupied.insert(lane),
                false => store.occupied.remove(&lane),
            };
        });
    }

    /// What of a partition was out waits again: for another attempt after as many as `standing` says, or
    /// once more for the same. Gives back what needs none, as [`Store::insert`] does.
    pub(in crate::events) fn put_back(
        &mut self,
        slot: u32,
        standing: impl Fn(i64, &Item) -> (u32, Instant),
    ) -> Vec<(u32, Sequence)> {
        let mine = |key: &&Key| self.items.get(key).is_some_and(|item| item.slot() == slot);
        let out: Vec<_> = self.out.keys().filter(mine).copied().collect();
        let mut finished = Vec::new();
        for key in out {
            let again = self.change(key.lane, |store| store.remove(key));
            let Some(mut item) = again else { continue };
            let (spent, due) = standing(key.offset, &item);
            item.due = Moment::of(due);
            item.stands(|head| head.spent = spent);
            finished.extend(self.insert(key, item));
        }
        finished
    }

    /// No attempt of any record of a partition counts any more.
    pub(in crate::events) fn forgive(&mut self, slot: u32) {
        for item in self.items.values_mut().filter(|item| item.slot() == slot) {
            item.stands(|head| (head.spent, head.started, head.failed) = (0, None, None));
        }
    }

    /// Nothing of a partition starts until all that it holds is known; or it may by now.
    pub(in crate::events) fn hold(&mut self, slot: u32, held: bool) {
        if self.held.contains(&slot) == held {
            return;
        }
        let lanes = self.lanes_of(slot);
        for lane in &lanes {
            if let Some((_, due)) = self.startable(*lane) {
                self.due.remove(&(due, *lane));
            }
        }
        match held {
            true => self.held.insert(slot),
            false => self.held.remove(&slot),
        };
        for lane in lanes {
            if let Some((_, due)) = self.startable(lane) {
                self.due.insert((due, lane));
            }
        }
    }

    fn lanes_of(&self, slot: u32) -> BTreeSet<LaneId> {
        self.items.iter().filter(|(_, item)| item.slot() == slot).map(|(key, _)| key.lane).collect()
    }

    /// A partition is another's by now, or its records are gone: nothing of it is parked here any more,
    /// or on its way.
    pub(in crate::events) fn forget(&mut self, slot: u32) {
        self.hold(slot, false);
        let mine = self.items.iter().filter(|(_, item)| item.slot() == slot);
        let keys: Vec<_> = mine.map(|(key, _)| *key).collect();
        for key in keys {
            self.change(key.lane, |store| store.remove(key));
        }
        self.counts.remove(&slot);
        self.places.remove(&slot);
        self.expect_nothing_at(slot);
    }

    /// Nothing is on its way to a partition any more.
    pub(in crate::events) fn expect_nothing_at(&mut self, slot: u32) {
        let mine = |all: &Vec<(u32, i64)>| all.iter().any(|(at, _)| *at == slot);
        let lanes: Vec<_> =
            self.expected.iter().filter(|(_, all)| mine(all)).map(|(lane, _)| *lane).collect();
        for lane in lanes {
            self.change(lane, |store| {
                let Some(all) = store.expected.get_mut(&lane) else { return };
                let before = all.len();
                all.retain(|(at, _)| *at != slot);
                store.expecting -= before - all.len();
                if all.is_empty() {
                    store.expected.remove(&lane);
                }
            });
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
