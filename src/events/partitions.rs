//! The partitions a stage owns: where each stands, what is known beyond its position, whether it is
//! paused, and what survives a rebalance.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::carried::Carried;
use super::lag::LagClock;
use super::metadata::Beyond;
use super::offsets::OffsetTracker;
use super::sources::Role;
use crate::base::Failure;
use crate::broker::TopicPartition;

/// A record that no further attempt follows, and why; kept until it comes again where the broker
/// refused its output.
#[derive(Debug, Clone)]
pub(super) struct Sentence {
    /// Why.
    pub(super) failure: Failure,
    /// How many attempts it had.
    pub(super) attempts: u32,
    /// What is left out of its dead letter, since the DLQ refused the size of it with less left out.
    pub(super) cut: Cut,
}

/// What is left out of a dead letter; each includes the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// Nothing.
    Nothing,
    /// The end of the value.
    Value,
    /// The headers that the record came with.
    Headers,
    /// Most of the value and of the key.
    Key,
}

impl Cut {
    /// The next more that can be left out.
    pub(super) fn more(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Value),
            Self::Value => Some(Self::Headers),
            Self::Headers => Some(Self::Key),
            Self::Key => None,
        }
    }
}

/// How far a partition is this engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tenure {
    /// It is read.
    Owned,
    /// Taken back and not handed over: nothing new starts, and what is finished is committed.
    Leaving,
    /// Handed over, and not yet known whether it comes back in the same rebalance: not ours to commit.
    Left,
}

/// One owned partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Its name.
    pub(super) name: TopicPartition,
    /// What its topic is to the stage.
    pub(super) role: Role,
    /// What the lanes of its records are named by.
    pub(super) seed: u64,
    /// Which offsets are finished. `None` until the first record says where the partition begins.
    pub(super) tracker: Option<OffsetTracker>,
    /// What the last commit knew beyond its offset.
    pub(super) beyond: Beyond,
    /// What records keep that are read again, by offset.
    pub(super) carried: HashMap<i64, Box<Carried>>,
    /// What was decided about records that are finished and not committed yet, where an epoch closes as a
    /// whole: given up, it would have to be found out again, by giving up another one.
    pub(super) sentenced: HashMap<i64, Box<Sentence>>,
    /// Records that were in a batch which the broker refused for its size: each is sent alone when it
    /// comes again, so that it shows which of them are too large.
    pub(super) suspects: HashSet<i64>,
    /// Records that wait in place, since their parking topic does not take them.
    pub(super) kept: HashSet<i64>,
    /// Up to here its records are read before the inputs go on: what was parked before it was assigned.
    pub(super) scan_to: Option<i64>,
    /// The offset last committed or asked to be committed.
    pub(super) committed: Option<i64>,
    /// The offset that the broker last confirmed.
    pub(super) confirmed: Option<i64>,
    /// Where the last epoch that closed left it: the offset, and what is known beyond it.
    pub(super) closed: Option<(i64, Beyond)>,
    /// What the newest commit said, under its number, until it is answered.
    pub(super) said: Option<(u64, i64, Beyond)>,
    /// The newest commit that the broker has answered for it.
    pub(super) secured: u64,
    /// Whether something worth a commit happened since.
    pub(super) dirty: bool,
    /// How far it is this engine's.
    pub(super) tenure: Tenure,
    /// Paused because its span is full.
    pub(super) span_full: bool,
    /// The offset that was not taken because it is too far beyond the position.
    pub(super) far: Option<i64>,
    /// Not to be read before that moment, after a send failed.
    pub(super) held_until: Option<Instant>,
    /// The unfinished record that must come first after a rewind, and how often it was sought again.
    pub(super) awaited: Option<(i64, u8)>,
    /// Whether the consumer was told to pause it.
    pub(super) paused: bool,
    /// The timestamp of the newest record started.
    pub(super) last_timestamp: Option<i64>,
    /// Since when its first unfinished record waits.
    pub(super) lag: LagClock,
}

impl Partition {
    pub(super) fn new(name: TopicPartition, committed: Option<i64>, beyond: Beyond) -> Self {
        Self {
            seed: seed(&name.topic, name.partition),
            name,
            role: Role::Input,
            closed: committed.map(|offset| (offset, beyond.clone())),
            said: None,
            tracker: committed.map(OffsetTracker::new),
            beyond,
            carried: HashMap::new(),
            sentenced: HashMap::new(),
            suspects: HashSet::new(),
            kept: HashSet::new(),
            scan_to: None,
            committed,
            confirmed: committed,
            secured: 0,
            dirty: false,
            tenure: Tenure::Owned,
            span_full: false,
            far: None,
            held_until: None,
            awaited: None,
            paused: false,
            last_timestamp: None,
            lag: LagClock::default(),
        }
    }

    /// The offset to commit, once a record was started or a commit was found.
    pub(super) fn position(&self) -> Option<i64> {
        self.tracker.as_ref().map(OffsetTracker::position)
    }

    /// The offset to go on reading at.
    pub(super) fn next(&self) -> Option<i64> {
        self.tracker.as_ref().map(OffsetTracker::next)
    }

    /// The same beside an offset before the position.
    pub(super) fn beyond_from(&self, offset: i64, attempts: impl Iterator<Item = (i64, u32)>) -> Beyond {
        let mut beyond = self.beyond(attempts);
        if let Some(position) = self.position().filter(|position| *position > offset) {
            beyond.finished.insert(0, (offset, position - 1));
        }
        beyond
    }

    /// Takes the partition up again where it stood, after a rebalance it came back in. `None` where that
    /// is not known, or where the group's commit is none of those made here: then another member had the
    /// partition meanwhile, or someone has set its offset.
    pub(super) fn take_up(&mut self, committed: Option<i64>) -> Option<i64> {
        let ours = self.confirmed <= committed && committed <= self.committed;
        let next = self.next().filter(|_| ours && self.tenure != Tenure::Owned)?;
        self.tenure = Tenure::Owned;
        self.dirty = true;
        Some(next)
    }

    /// What to commit beside the position.
    pub(super) fn beyond(&self, attempts: impl Iterator<Item = (i64, u32)>) -> Beyond {
        let finished = self.tracker.as_ref().map(OffsetTracker::finished_beyond).unwrap_or_default();
        let Beyond { founded, parked, .. } = self.beyond;
        let mut beyond = Beyond { finished, attempts: attempts.collect(), founded, parked };
        let Some(next) = self.next() else { return beyond };
        // What the last commit knew of records that were not read again yet is still true.
        for (first, last) in self.beyond.finished.iter().filter(|(_, last)| *last >= next) {
            let first = (*first).max(next);
            match beyond.finished.last_mut() {
                Some(run) if run.1 + 1 == first => run.1 = *last,
                _ => beyond.finished.push((first, *last)),
            }
        }
        beyond.attempts.extend(self.beyond.attempts.range(next..));
        beyond
    }
}

/// What the lanes of records that came from a partition are named by, whichever topic they are read from
/// by now.
pub(super) fn seed(topic: &str, partition: i32) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::default().hash_one((topic, partition))
}

/// The owned partitions, found by topic and number without hashing.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    slots: Vec<Option<Partition>>,
    index: Vec<(Arc<str>, Vec<Option<u32>>)>,
}

impl Partitions {
    /// The place of a partition, if it is owned.
    pub(super) fn find(&self, topic: &str, partition: i32) -> Option<u32> {
        let (_, numbers) = self.index.iter().find(|(name, _)| **name == *topic)?;
        *numbers.get(usize::try_from(partition).ok()?)?
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Partition> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Partition> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The places in use.
    pub(super) fn slots(&self) -> Vec<u32> {
        (0..self.slots.len() as u32).filter(|slot| self.slots[*slot as usize].is_some()).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.slots.iter().flatten()
    }

    /// All with their places.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Partition)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(slot, partition)| Some((slot as u32, partition.as_mut()?)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Adds a partition and gives its place.
    pub(super) fn insert(&mut self, partition: Partition) -> u32 {
        let name = partition.name.clone();
        let slot = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[slot] = Some(partition);
        self.set_index(&name, Some(slot as u32));
        slot as u32
    }

    /// Takes a partition out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Partition> {
        let partition = self.slots.get_mut(slot as usize)?.take()?;
        self.set_index(&partition.name, None);
        Some(partition)
    }

    fn set_index(&mut self, name: &TopicPartition, slot: Option<u32>) {
        let Ok(number) = usize::try_from(name.partition) else { return };
        let topic = match self.index.iter().position(|(topic, _)| *topic == name.topic) {
            Some(topic) => topic,
            None => {
                self.index.push((Arc::clone(&name.topic), Vec::new()));
                self.index.len() - 1
            }
        };
        let numbers = &mut self.index[topic].1;
        if numbers.len() <= number {
            numbers.resize(number + 1, None);
        }
        numbers[number] = slot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn name(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from(topic), partition }
    }

    #[test]
    fn partitions_are_found_by_name_until_they_are_removed() {
        let mut partitions = Partitions::default();
        let a = partitions.insert(Partition::new(name("a", 3), None, Beyond::default()));
        let b = partitions.insert(Partition::new(name("b", 0), None, Beyond::default()));
        assert_eq!((partitions.find("a", 3), partitions.find("b", 0)), (Some(a), Some(b)));
        assert_eq!(
            (partitions.find("a", 0), partitions.find("c", 0), partitions.find("a", -1)),
            (None, None, None)
        );
        partitions.remove(a);
        assert_eq!(partitions.find("a", 3), None);
        assert_eq!(partitions.slots(), [b]);
    }

    #[test]
    fn what_a_commit_knew_of_records_not_read_again_yet_is_kept() {
        let beyond = Beyond {
            finished: vec![(12, 14), (20, 22)],
            attempts: BTreeMap::from([(15, 2)]),
            founded: Some(3),
            parked: None,
        };
        let mut partition = Partition::new(name("a", 0), Some(10), beyond);
        let tracker = partition.tracker.as_mut().unwrap();
        tracker.start(10, 1);
        let second = tracker.start(11, 1).unwrap();
        tracker.finish(second);
        let kept = partition.beyond([(10, 1)].into_iter());
        assert_eq!(kept.finished, [(11, 14), (20, 22)]);
        assert_eq!(kept.attempts, BTreeMap::from([(10, 1), (15, 2)]));
        assert_eq!(kept.founded, Some(3));
    }
}
