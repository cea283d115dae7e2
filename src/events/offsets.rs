//! Which offset of a partition may be committed: the pure heart of invariant 1.
//!
//! Records start in the order of their offsets and finish in any; the position is the offset behind
//! the last record of the unbroken run of finished ones. Offsets may have gaps (compaction,
//! transactions): only offsets that were started are waited for. No allocation a record.

use std::collections::VecDeque;

use crate::base::guard::{self, Guard};

/// One record's place in its partition's tracker: rises by one a record started.
pub(super) type Sequence = u64;

/// The records of one partition between the committed position and the newest one started.
#[derive(Debug, Clone)]
pub(super) struct OffsetTracker {
    /// The sequence of the first entry.
    first: Sequence,
    /// Offsets from the first unfinished one on; the lowest bit says whether it is finished.
    entries: VecDeque<u64>,
    /// The bytes of each entry, in the same order.
    sizes: VecDeque<u32>,
    /// Their sum.
    bytes: usize,
    /// Where the partition goes on when nothing is unfinished.
    next: i64,
}

impl OffsetTracker {
    /// A tracker whose position is `position` until a record starts.
    pub(super) fn new(position: i64) -> Self {
        Self { first: 0, entries: VecDeque::new(), sizes: VecDeque::new(), bytes: 0, next: position }
    }

    /// A record of `bytes` starts. Returns `None` where `offset` is no higher than one started before: the
    /// record came a second time and must not be worked on again.
    pub(super) fn start(&mut self, offset: i64, bytes: usize) -> Option<Sequence> {
        if offset < self.next {
            return None;
        }
        if waits_for_gaps() {
            self.entries.extend((self.next..offset).map(|missing| missing.cast_unsigned() << 1));
        }
        self.next = offset + 1;
        self.entries.push_back(offset.cast_unsigned() << 1);
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sizes.push_back(size);
        self.bytes += size as usize;
        Some(self.first + self.entries.len() as u64 - 1)
    }

    /// The record at `sequence` is finished. Finishing twice changes nothing.
    pub(super) fn finish(&mut self, sequence: Sequence) {
        let Some(index) = sequence.checked_sub(self.first) else { return };
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        *entry |= 1;
        if index == 0 {
            while self.entries.front().is_some_and(|entry| entry & 1 == 1) {
                self.entries.pop_front();
                self.bytes -= self.sizes.pop_front().unwrap_or_default() as usize;
                self.first += 1;
            }
        }
    }

    /// The offsets before `offset` do not exist any more: none of them is waited for unless it was started.
    pub(super) fn skip_to(&mut self, offset: i64) {
        self.next = self.next.max(offset);
    }

    /// All that the partition has before `offset` was started. Returns whether that is news.
    pub(super) fn pass(&mut self, offset: i64) -> bool {
        let news = offset > self.next && !waits_for_gaps();
        if news {
            self.next = offset;
        }
        news
    }

    /// The offset to commit: all before it are finished.
    pub(super) fn position(&self) -> i64 {
        if guard::removed(Guard::Contiguous) {
            let newest = self.entries.iter().rev().find(|entry| **entry & 1 == 1);
            if let Some(entry) = newest {
                return (entry >> 1).cast_signed() + 1;
            }
        }
        self.entries.front().map_or(self.next, |entry| (entry >> 1).cast_signed())
    }

    /// The offset before which all records are finished or `ready`.
    pub(super) fn run(&self, ready: impl Fn(i64) -> bool) -> i64 {
        let is_done = |entry: &u64| entry & 1 == 1 || ready((entry >> 1).cast_signed());
        let open = self.entries.iter().find(|entry| !is_done(entry));
        open.map_or(self.next, |entry| (entry >> 1).cast_signed())
    }

    /// The offset behind the newest record started.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// How many records lie between the position and the newest one started.
    pub(super) fn span(&self) -> usize {
        self.entries.len()
    }

    /// The bytes of these records.
    pub(super) fn span_bytes(&self) -> usize {
        self.bytes
    }

    /// The finished offsets beyond the position, rising, as inclusive runs.
    pub(super) fn finished_beyond(&self) -> Vec<(i64, i64)> {
        let mut runs: Vec<(i64, i64)> = Vec::new();
        let mut joined = false;
        for entry in &self.entries {
            let offset = (entry >> 1).cast_signed();
            match (entry & 1 == 1, runs.last_mut()) {
                (true, Some(run)) if joined => run.1 = offset,
                (true, _) => runs.push((offset, offset)),
                (false, _) => {}
            }
            joined = entry & 1 == 1;
        }
        runs
    }
}

fn waits_for_gaps() -> bool {
    guard::removed(Guard::Gaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hole_holds_the_position_until_it_is_filled() {
        let mut tracker = OffsetTracker::new(10);
        let sequences: Vec<_> = (10..14).map(|offset| tracker.start(offset, 10).unwrap()).collect();
        tracker.finish(sequences[3]);
        tracker.finish(sequences[1]);
        assert_eq!((tracker.position(), tracker.finished_beyond()), (10, vec![(11, 11), (13, 13)]));
        assert_eq!((tracker.span(), tracker.span_bytes()), (4, 40), "what is finished counts as well");
        tracker.finish(sequences[0]);
        assert_eq!((tracker.position(), tracker.span_bytes()), (12, 20));
        tracker.finish(sequences[2]);
        assert_eq!((tracker.position(), tracker.span(), tracker.span_bytes()), (14, 0, 0));
    }

    #[test]
    fn a_run_goes_over_what_is_ready_and_ends_at_the_first_that_is_not() {
        let mut tracker = OffsetTracker::new(10);
        let sequences: Vec<_> = [10, 11, 14, 15].map(|offset| tracker.start(offset, 1).unwrap()).into();
        assert_eq!(tracker.run(|_| false), 10);
        tracker.finish(sequences[1]);
        assert_eq!(tracker.run(|offset| offset == 10), 14);
        assert_eq!((tracker.run(|offset| offset != 14), tracker.run(|_| true)), (14, 16));
        assert_eq!(tracker.position(), 10, "only what is finished is committed");
    }

    #[test]
    fn offsets_that_do_not_exist_are_not_waited_for() {
        let mut tracker = OffsetTracker::new(0);
        let first = tracker.start(5, 1).unwrap();
        let second = tracker.start(9, 1).unwrap();
        tracker.finish(second);
        assert_eq!((tracker.position(), tracker.finished_beyond()), (5, vec![(9, 9)]));
        tracker.finish(first);
        assert_eq!(tracker.position(), 10);
    }

    #[test]
    fn what_was_started_is_finished_though_its_offset_is_gone_since() {
        let mut tracker = OffsetTracker::new(5);
        let started = tracker.start(5, 1).unwrap();
        tracker.skip_to(40);
        assert_eq!((tracker.position(), tracker.next()), (5, 40));
        tracker.finish(started);
        assert_eq!(tracker.position(), 40);
        tracker.skip_to(30);
        assert_eq!(tracker.next(), 40);
    }

    #[test]
    fn what_is_passed_behind_the_newest_record_counts_once_that_is_finished() {
        let mut tracker = OffsetTracker::new(5);
        let started = tracker.start(5, 1).unwrap();
        assert!(tracker.pass(8) && !tracker.pass(8) && !tracker.pass(6));
        assert_eq!((tracker.position(), tracker.next()), (5, 8));
        tracker.finish(started);
        assert_eq!((tracker.position(), tracker.finished_beyond()), (8, vec![]));
        assert!(tracker.start(7, 1).is_none() && tracker.start(8, 1).is_some());
    }

    #[test]
    fn an_offset_that_comes_again_is_refused() {
        let mut tracker = OffsetTracker::new(3);
        assert!(tracker.start(2, 1).is_none());
        assert!(tracker.start(3, 1).is_some());
        assert!(tracker.start(3, 1).is_none());
    }

    proptest! {
        #[test]
        fn the_position_is_the_first_unfinished_offset_whatever_the_order(
            gaps in proptest::collection::vec(1i64..5, 1..80),
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let mut tracker = OffsetTracker::new(0);
            let mut offset = 0;
            let mut open = Vec::new();
            for gap in gaps {
                offset += gap;
                open.push((tracker.start(offset, gap as usize).unwrap(), offset));
            }
            let mut finished = Vec::new();
            for pick in picks {
                if open.is_empty() { break }
                let (sequence, offset) = open.remove(pick.index(open.len()));
                tracker.finish(sequence);
                tracker.finish(sequence);
                finished.push(offset);
                let expected = open.first().map_or(tracker.next(), |(_, offset)| *offset);
                prop_assert_eq!(tracker.position(), expected);
                let mut beyond: Vec<_> = finished.iter().copied().filter(|offset| *offset >= expected).collect();
                beyond.sort_unstable();
                let runs = tracker.finished_beyond();
                prop_assert!(beyond.iter().all(|offset| runs.iter().any(|(a, b)| a <= offset && offset <= b)));
                prop_assert!(open.iter().all(|(_, offset)| runs.iter().all(|(a, b)| offset < a || b < offset)));
            }
        }
    }
}
