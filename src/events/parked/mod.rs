//! Longer waits, which survive the engine: a record that waits longer than its policy keeps in place is
//! appended to its input's parking topic and is done on the input.
//!
//! Whoever owns a partition of the input owns the same of the parking topic and reads it beside it. All of
//! it that is not finished is kept here in memory; what waits there holds its lane, so that later records
//! of a key are parked behind it. The next attempt of a parked record that fails is written as another
//! copy, which stands for the one before once it is read. So what is in memory never knows more than the
//! topic, and nothing is lost or counted twice by a kill.

mod append;
mod gone;
mod headers;
mod heads;
mod moment;
mod packed;
mod read;
mod scan;
mod store;
mod tidy;

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::lanes::LaneId;

pub(super) use gone::Loss;
pub(super) use scan::Bounds;
pub(super) use store::Key;
use store::{Item, Store};
pub(super) use tidy::NO_RECORD;

/// What a stage knows of its parked records.
#[derive(Debug, Default)]
pub(super) struct Parked {
    store: Store,
    /// Lanes in which records wait to be parked behind others.
    following: BTreeSet<LaneId>,
    /// Partitions whose parked records are not all known yet.
    scanning: Vec<u32>,
    /// Finished records for which the commit's text may have no room: to be written down in their topic.
    done: VecDeque<(Key, Item)>,
    /// Whether as much is parked as may be.
    full: bool,
    /// No record that is parked in a partition has come from a lower offset.
    from: HashMap<u32, i64>,
    /// What is lost, until the stage goes on without it.
    lost: Vec<Loss>,
}

/// A record that is being parked.
#[derive(Debug)]
pub(super) struct Parking {
    /// Its lane, or one of its own.
    lane: LaneId,
    /// The offset that it had first.
    origin: i64,
    /// The place of the partition that its copy goes to.
    into: u32,
    /// Whether its copy is sent.
    pub(super) sent: bool,
}

impl Parked {
    /// Whether nothing is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Whether all that is finished is said, by commits or in the topics.
    pub(super) fn all_is_written(&self) -> bool {
        self.done.is_empty()
    }

    /// What a parked record became is sent: the next of its lane may start.
    pub(super) fn sent(&mut self, key: Key) {
        self.store.sent(key);
    }

    /// These copies are given up: nobody knows whether they come.
    pub(super) fn expect_none_of<'a>(&mut self, parking: impl Iterator<Item = &'a Parking>) {
        parking.for_each(|parking| self.store.expect_no_more(parking.lane, parking.origin));
    }

    /// The attempts of a partition's parked records do not count any more.
    pub(super) fn forgive(&mut self, slot: u32) {
        self.store.forgive(slot);
    }
}
