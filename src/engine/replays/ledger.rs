//! What a replay has sent and what of it is acknowledged: the pure heart of its cursor.
//!
//! Each partition's records enter in their order and end in any; the cursor stands behind the unbroken
//! run of those that have ended, and counts only these.

use std::collections::VecDeque;

use super::counts::{Counts, Fate};

/// One record from the first that has not ended on.
#[derive(Debug, Clone, Copy)]
struct Open {
    offset: i64,
    fate: Fate,
    ended: bool,
}

/// One partition that is read.
#[derive(Debug)]
struct Lane {
    partition: i32,
    /// The number of the first open record; wraps.
    first: u32,
    open: VecDeque<Open>,
    cursor: i64,
    counts: Counts,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lanes: Vec<Lane>,
    open: usize,
}

/// A place in the ledger, small enough for a delivery's token.
pub(super) type Token = u64;

/// Where one partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) partition: i32,
    /// The next offset to read.
    pub(super) cursor: i64,
    /// What became of the records below it.
    pub(super) counts: Counts,
}

impl Ledger {
    /// Adds a partition that goes on where it stood.
    pub(super) fn begin(&mut self, standing: Standing) {
        let Standing { partition, cursor, counts } = standing;
        self.lanes.push(Lane { partition, first: 0, open: VecDeque::new(), cursor, counts });
    }

    /// How many records have entered that the cursors do not cover.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// A record of that partition has ended as it was read.
    pub(super) fn passed(&mut self, partition: i32, offset: i64, fate: Fate) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.partition == partition) else { return };
        if lane.open.is_empty() {
            lane.cursor = offset + 1;
            lane.counts.add(fate);
        } else {
            lane.open.push_back(Open { offset, fate, ended: true });
            self.open += 1;
        }
    }

    /// A record is about to be sent. `None`: the partition is none of those that are read.
    pub(super) fn sending(&mut self, partition: i32, offset: i64) -> Option<Token> {
        let index = self.lanes.iter().position(|lane| lane.partition == partition)?;
        let lane = &mut self.lanes[index];
        let number = lane.first.wrapping_add(u32::try_from(lane.open.len()).ok()?);
        lane.open.push_back(Open { offset, fate: Fate::Sent, ended: false });
        self.open += 1;
        Some((index as u64) << 32 | u64::from(number))
    }

    /// A send has ended. Calls `sent` with the partition and offset of each sent record that the cursor
    /// comes to cover.
    pub(super) fn ended(&mut self, token: Token, fate: Fate, mut sent: impl FnMut(i32, i64)) {
        let Some(lane) = self.lanes.get_mut((token >> 32) as usize) else { return };
        let place = (token as u32).wrapping_sub(lane.first) as usize;
        let Some(open) = lane.open.get_mut(place) else { return };
        (open.fate, open.ended) = (fate, true);
        while let Some(open) = lane.open.front().filter(|open| open.ended).copied() {
            lane.open.pop_front();
            lane.first = lane.first.wrapping_add(1);
            lane.cursor = open.offset + 1;
            lane.counts.add(open.fate);
            self.open -= 1;
            if open.fate == Fate::Sent {
                sent(lane.partition, open.offset);
            }
        }
    }

    /// Where each partition stands.
    pub(super) fn standings(&self) -> impl Iterator<Item = Standing> {
        self.lanes.iter().map(|lane| Standing {
            partition: lane.partition,
            cursor: lane.cursor,
            counts: lane.counts,
        })
    }

    /// All counts together.
    pub(super) fn counts(&self) -> Counts {
        self.lanes.iter().fold(Counts::default(), |sum, lane| sum.plus(lane.counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for partition in [4, 9] {
            ledger.begin(Standing { partition, cursor: 10, counts: Counts::default() });
        }
        ledger
    }

    fn cursors(ledger: &Ledger) -> Vec<i64> {
        ledger.standings().map(|standing| standing.cursor).collect()
    }

    #[test]
    fn the_cursor_waits_for_the_first_that_has_not_ended_and_counts_no_further() {
        let mut ledger = ledger();
        ledger.passed(4, 10, Fate::Unselected);
        assert_eq!(cursors(&ledger), [11, 10]);
        let first = ledger.sending(4, 13).expect("a partition that is read");
        let second = ledger.sending(4, 14).expect("a partition that is read");
        ledger.passed(4, 15, Fate::Limit);
        let mut covered = Vec::new();
        ledger.ended(second, Fate::Sent, |_, offset| covered.push(offset));
        assert_eq!((cursors(&ledger), covered.len(), ledger.open()), (vec![11, 10], 0, 3));
        assert_eq!(ledger.counts(), Counts { read: 1, unselected: 1, ..Counts::default() });
        ledger.ended(first, Fate::TooLarge, |_, offset| covered.push(offset));
        assert_eq!((cursors(&ledger), covered, ledger.open()), (vec![16, 10], vec![14], 0));
        let expected =
            Counts { read: 4, sent: 1, unselected: 1, limit: 1, too_large: 1, ..Counts::default() };
        assert_eq!(ledger.counts(), expected);
    }

    #[test]
    fn numbers_wrap_and_stale_tokens_meet_nothing() {
        let mut ledger = ledger();
        ledger.lanes[1].first = u32::MAX;
        let tokens: Vec<_> = (20..23).filter_map(|offset| ledger.sending(9, offset)).collect();
        for token in tokens.iter().rev() {
            ledger.ended(*token, Fate::Sent, |_, _| {});
        }
        assert_eq!((cursors(&ledger), ledger.open()), (vec![10, 23], 0));
        ledger.ended(tokens[0], Fate::Sent, |_, _| panic!("it has ended"));
        assert_eq!(ledger.sending(5, 0), None);
    }
}
