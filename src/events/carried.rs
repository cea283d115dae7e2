//! What a record keeps when its partition is read again: how long it still waits, since when it fails,
//! and what was decided about it. Attempts are kept by the partition, since they are committed as well.

use std::cmp::Reverse;
use std::time::Instant;

use super::inflight::{Entry, EntryId};
use super::partitions::Sentence;
use super::runner::Runner;
use crate::record::RawRecord;

/// What is kept of one unfinished record.
#[derive(Debug)]
pub(super) struct Carried {
    /// When its next attempt is due, if it waits for one.
    pub(super) due: Option<Instant>,
    /// When its first attempt began. Kept only while it waits: what was under way is begun anew through
    /// no fault of its own.
    pub(super) first_started: Option<Instant>,
    /// When the first of them failed.
    pub(super) first_failed: Option<i64>,
    /// The first commit that knows of the attempts it has spent.
    pub(super) secured_by: u64,
    /// Why no further attempt follows, where that is so.
    pub(super) sentence: Option<Box<Sentence>>,
}

impl Carried {
    /// Only that no further attempt follows.
    pub(super) fn for_good(sentence: Box<Sentence>) -> Self {
        let sentence = Some(sentence);
        Self { due: None, first_started: None, first_failed: None, secured_by: 0, sentence }
    }

    /// What is to be kept of `entry`; `None`: nothing.
    pub(super) fn of(entry: &Entry) -> Option<Box<Self>> {
        if entry.first_failed.is_none() && entry.sentence.is_none() {
            return None;
        }
        Some(Box::new(Self {
            due: entry.due,
            first_started: entry.first_started.filter(|_| entry.due.is_some()),
            first_failed: entry.first_failed,
            secured_by: entry.secured_by,
            sentence: entry.sentence.clone(),
        }))
    }
}

impl Runner {
    /// A record came again: it goes on where it stood.
    pub(super) fn resume(&mut self, id: EntryId, slot: u32, raw: RawRecord<'_>, carried: Carried) {
        if let Some(sentence) = carried.sentence {
            return self.carry_out(id, raw, *sentence);
        }
        let lane = self.lane(slot, &raw);
        let Some(due) = carried.due else { return self.begin(id, slot, raw) };
        self.own(id, raw, lane);
        if let Some(lane) = lane.filter(|lane| self.lanes.is_held(*lane)) {
            // What it waits for counts once it is the first there.
            if let Some(entry) = self.in_flight.get_mut(id) {
                entry.due = Some(due);
            }
            return self.lanes.queue(lane, id);
        }
        if let Some(lane) = lane {
            self.lanes.hold(lane, id);
        }
        self.wait_until(id, due);
    }

    /// The next attempt of a record is due then.
    pub(super) fn wait_until(&mut self, id: EntryId, due: Instant) {
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.due = Some(due);
            self.timers.push(Reverse((due, id)));
        }
    }
}
