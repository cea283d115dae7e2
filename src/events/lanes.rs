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
    holder: EntryId,
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
    pub(super) fn hold(&mut self, lane: LaneId, holder: EntryId) {
        self.held.insert(lane, Lane { holder, waiting: VecDeque::new() });
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
        let held = self.held.get_mut(&lane)?;
        let next = held.waiting.pop_front();
        match next {
            Some(next) => held.holder = next,
            None => drop(self.held.remove(&lane)),
        }
        next
    }

    /// Records are gone: lanes that they held go to the next that is there, which is given back, or
    /// are dropped.
    pub(super) fn release(&mut self, is_there: impl Fn(EntryId) -> bool) -> Vec<EntryId> {
        let mut next = Vec::new();
        self.held.retain(|_, lane| {
            lane.waiting.retain(|id| is_there(*id));
            if !is_there(lane.holder) {
                let Some(holder) = lane.waiting.pop_front() else { return false };
                lane.holder = holder;
                next.push(holder);
            }
            true
        });
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_a_lane_come_one_after_the_other_and_an_empty_lane_is_gone() {
        let mut lanes = Lanes::default();
        let (first, second) = (EntryId::from_token(1), EntryId::from_token(2));
        lanes.hold(7, EntryId::from_token(0));
        lanes.queue(7, first);
        lanes.queue(7, second);
        assert_eq!((lanes.advance(7), lanes.advance(7), lanes.advance(7)), (Some(first), Some(second), None));
        assert!(!lanes.is_held(7));
    }

    #[test]
    fn lanes_of_records_that_are_gone_go_to_who_waits_in_them() {
        let mut lanes = Lanes::default();
        let id = EntryId::from_token;
        for (lane, holder) in [(1, 10), (2, 20), (3, 30)] {
            lanes.hold(lane, id(holder));
        }
        lanes.queue(2, id(11));
        lanes.queue(2, id(21));
        lanes.queue(3, id(12));
        let next = lanes.release(|id| ![10, 11, 12, 20].contains(&id.token()));
        assert_eq!(next, [id(21)]);
        assert_eq!((lanes.is_held(1), lanes.is_held(2), lanes.len()), (false, true, 2));
        assert_eq!((lanes.advance(2), lanes.advance(3)), (None, None));
    }
}
