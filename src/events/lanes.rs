//! The ordered queues of a stage: one a key or partition, made when something must wait, dropped
//! when empty.
//!
//! A lane is *held* by the record that is being worked on or waits for its next attempt; whatever
//! comes meanwhile lines up behind it. Lanes are named by a hash: two keys that share one only wait
//! for each other more than they must.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::inflight::EntryId;
use crate::base::guard::{self, Guard};

/// The name of a lane.
pub(super) type LaneId = u64;

#[derive(Debug)]
struct Lane {
    slot: u32,
    waiting: VecDeque<EntryId>,
}

/// All lanes that are held.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    held: HashMap<LaneId, Lane, foldhash::fast::FixedState>,
}

impl Lanes {
    /// How many lanes are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether a record of that lane must wait.
    pub(super) fn is_held(&self, lane: LaneId) -> bool {
        !self.held.is_empty() && self.held.contains_key(&lane) && !guard::removed(Guard::Lanes)
    }

    /// Takes a lane that nobody holds.
    pub(super) fn hold(&mut self, lane: LaneId, slot: u32) {
        self.held.insert(lane, Lane { slot, waiting: VecDeque::new() });
    }

    /// Lines a record up behind the one that holds the lane.
    pub(super) fn queue(&mut self, lane: LaneId, entry: EntryId) {
        if let Some(lane) = self.held.get_mut(&lane) {
            lane.waiting.push_back(entry);
        }
    }

    /// The holder is through: the next record, which now holds the lane, or `None` and the lane is
    /// gone.
    pub(super) fn advance(&mut self, lane: LaneId) -> Option<EntryId> {
        let next = self.held.get_mut(&lane)?.waiting.pop_front();
        if next.is_none() {
            self.held.remove(&lane);
        }
        next
    }

    /// Drops all lanes of a partition that was lost or rewound.
    pub(super) fn clear(&mut self, slot: u32) {
        self.held.retain(|_, lane| lane.slot != slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_lane_come_one_after_the_other_and_an_empty_lane_is_gone() {
        let mut lanes = Lanes::default();
        lanes.hold(7, 0);
        let (first, second) = (EntryId::from_token(1), EntryId::from_token(2));
        lanes.queue(7, first);
        lanes.queue(7, second);
        assert_eq!((lanes.advance(7), lanes.advance(7), lanes.advance(7)), (Some(first), Some(second), None));
        assert!(!lanes.is_held(7));
    }

    #[test]
    fn clearing_a_partition_leaves_the_lanes_of_others() {
        let mut lanes = Lanes::default();
        lanes.hold(1, 0);
        lanes.hold(2, 1);
        lanes.clear(0);
        assert_eq!((lanes.is_held(1), lanes.is_held(2), lanes.len()), (false, true, 1));
    }
}
