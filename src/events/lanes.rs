//! The ordered queues of a stage: one a key or partition, made when something must wait, dropped
//! when empty.
//!
//! A lane is *held* by the record that is being worked on or waits for its next attempt; whatever
//! comes meanwhile lines up behind it. Where its first records are parked, no record in flight holds it;
//! there may be very many such lanes, so that one in which nothing waits is a name and nothing more.
//! Lanes are named by a hash: two keys that share one only wait for each other more than they must.

use std::collections::VecDeque;

use hashbrown::{HashMap, HashSet};

use super::inflight::EntryId;
use crate::base::guard::{self, Guard};

/// The name of a lane.
pub(super) type LaneId = u64;

#[derive(Debug)]
struct Lane {
    holder: Holder,
    waiting: VecDeque<EntryId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Record(EntryId),
    /// Records that are parked.
    Parked,
}

/// All lanes that are held.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    held: HashMap<LaneId, Lane, foldhash::fast::FixedState>,
    /// Held by parked records, and nothing waits in them.
    parked: HashSet<LaneId, foldhash::fast::FixedState>,
}

impl Lanes {
    /// How many lanes are held.
    pub(super) fn len(&self) -> usize {
        self.held.len() + self.parked.len()
    }

    /// Whether a record of that lane must wait.
    pub(super) fn is_held(&self, lane: LaneId) -> bool {
        self.len() > 0
            && (self.is_occupied(lane) || self.is_parked(lane) && !guard::removed(Guard::Follow))
            && !guard::removed(Guard::Lanes)
    }

    /// Takes a lane that nobody holds.
    pub(super) fn hold(&mut self, lane: LaneId, holder: EntryId) {
        self.parked.remove(&lane);
        self.held.insert(lane, Lane { holder: Holder::Record(holder), waiting: VecDeque::new() });
    }

    /// Lines a record up behind whatever holds the lane.
    pub(super) fn queue(&mut self, lane: LaneId, entry: EntryId) {
        if self.parked.remove(&lane) {
            self.held.insert(lane, Lane { holder: Holder::Parked, waiting: VecDeque::from([entry]) });
        } else if let Some(lane) = self.held.get_mut(&lane) {
            lane.waiting.push_back(entry);
        }
    }

    /// Parked records hold the lane from now on; what waits in it stays.
    pub(super) fn park(&mut self, lane: LaneId) {
        match self.held.get_mut(&lane) {
            Some(held) if !held.waiting.is_empty() => held.holder = Holder::Parked,
            _ => {
                self.held.remove(&lane);
                self.parked.insert(lane);
            }
        }
    }

    /// As [`Lanes::park`], unless somebody holds it.
    pub(super) fn park_free(&mut self, lane: LaneId) {
        if !self.held.contains_key(&lane) {
            self.parked.insert(lane);
        }
    }

    /// Whether parked records hold the lane.
    pub(super) fn is_parked(&self, lane: LaneId) -> bool {
        self.parked.contains(&lane) || self.held.get(&lane).is_some_and(|lane| lane.holder == Holder::Parked)
    }

    /// Whether a record in flight holds the lane.
    pub(super) fn is_occupied(&self, lane: LaneId) -> bool {
        self.held.get(&lane).is_some_and(|lane| lane.holder != Holder::Parked)
    }

    /// A record that was parked holds the lane again.
    pub(super) fn unpark(&mut self, lane: LaneId, holder: EntryId) {
        match self.held.get_mut(&lane) {
            Some(held) => held.holder = Holder::Record(holder),
            None => self.hold(lane, holder),
        }
    }

    /// The first record that waits behind parked ones.
    pub(super) fn first_follower(&self, lane: LaneId) -> Option<EntryId> {
        let lane = self.held.get(&lane).filter(|lane| lane.holder == Holder::Parked)?;
        lane.waiting.front().copied()
    }

    /// That one does not wait any more.
    pub(super) fn take_follower(&mut self, lane: LaneId) {
        let Some(held) = self.held.get_mut(&lane) else { return };
        held.waiting.pop_front();
        if held.waiting.is_empty() && held.holder == Holder::Parked {
            self.park(lane);
        }
    }

    /// The holder is through: the next record, which now holds the lane, or `None` and the lane is
    /// gone.
    pub(super) fn advance(&mut self, lane: LaneId) -> Option<EntryId> {
        self.parked.remove(&lane);
        let held = self.held.get_mut(&lane)?;
        let next = held.waiting.pop_front();
        match next {
            Some(next) => held.holder = Holder::Record(next),
            None => drop(self.held.remove(&lane)),
        }
        next
    }

    /// Records are gone: lanes that they held go to what is parked in them, or to the next that is there,
    /// or are dropped. Gives back those next ones, and the lanes in which records wait behind parked ones.
    pub(super) fn release(
        &mut self,
        is_there: impl Fn(EntryId) -> bool,
        is_parked: impl Fn(LaneId) -> bool,
    ) -> (Vec<EntryId>, Vec<LaneId>) {
        let (mut next, mut parked) = (Vec::new(), Vec::new());
        self.parked.retain(|lane| is_parked(*lane));
        let free = &mut self.parked;
        self.held.retain(|name, lane| {
            lane.waiting.retain(|id| is_there(*id));
            if matches!(lane.holder, Holder::Record(holder) if is_there(holder)) {
                return true;
            }
            lane.holder = match is_parked(*name) {
                true if lane.waiting.is_empty() => {
                    free.insert(*name);
                    return false;
                }
                true => {
                    parked.push(*name);
                    Holder::Parked
                }
                false => {
                    let Some(holder) = lane.waiting.pop_front() else { return false };
                    next.push(holder);
                    Holder::Record(holder)
                }
            };
            true
        });
        (next, parked)
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
        let (next, _) = lanes.release(|id| ![10, 11, 12, 20].contains(&id.token()), |_| false);
        assert_eq!(next, [id(21)]);
        assert_eq!((lanes.is_held(1), lanes.is_held(2), lanes.len()), (false, true, 2));
        assert_eq!((lanes.advance(2), lanes.advance(3)), (None, None));
    }

    #[test]
    fn a_lane_of_parked_records_is_held_by_none_in_flight_until_one_of_them_starts() {
        let mut lanes = Lanes::default();
        let id = EntryId::from_token;
        lanes.hold(1, id(10));
        lanes.queue(1, id(11));
        lanes.park(1);
        lanes.park_free(2);
        assert!(lanes.is_held(1) && lanes.is_parked(1) && lanes.is_parked(2));
        assert_eq!(lanes.first_follower(1), Some(id(11)));
        lanes.unpark(1, id(20));
        lanes.park_free(1);
        assert_eq!((lanes.is_occupied(1), lanes.first_follower(1)), (true, None));
        let released = lanes.release(|id| id.token() != 20, |lane| lane == 1);
        assert_eq!(released, (vec![], vec![1]));
        assert_eq!((lanes.is_parked(1), lanes.is_held(2)), (true, false));
        lanes.take_follower(1);
        assert_eq!(lanes.advance(1), None);
        assert!(!lanes.is_held(1));
    }
}
