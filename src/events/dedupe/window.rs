//! The marks of one partition, and who is a duplicate by them.
//!
//! A mark says which record of a key was finished: its offset and its timestamp. A record is a duplicate
//! where its key has a mark of another record whose timestamp is at most the window away. The records'
//! own time decides, and the mark carries it, so that records that are read again are judged as the first
//! time, whatever the clocks of engines say. A duplicate leaves no mark: a window begins with the record
//! that was worked on, and does not go on for ever where equals keep coming.
//!
//! Marks that no record can meet any more are forgotten: those that are a window older than the newest.
//! Here the engine's clock counts in one place: a record from the future must not make all others old.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::digest::Digest;
use crate::base::guard::{self, Guard};

/// One record, as far as marks know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Its offset in the partition.
    pub(super) offset: i64,
    /// Milliseconds since the Unix epoch, if it has a time. One without is near to every other.
    pub(super) timestamp: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    seen: Seen,
    /// Its place in `order`; an entry with another serial is one that was replaced.
    serial: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    digest: Digest,
    serial: u64,
    /// When it began to be old.
    since: i64,
}

/// Whether a mark says anything of its own record; without the guard it does.
fn origin_counts() -> bool {
    !guard::removed(Guard::MarkOrigin)
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Window {
    /// In milliseconds.
    length: i64,
    marks: HashMap<Digest, Mark, foldhash::fast::FixedState>,
    /// The marks as they were put, some of which are gone.
    order: VecDeque<Place>,
    serial: u64,
    /// The newest timestamp of a mark.
    newest: i64,
}

impl Window {
    /// An empty one of `length` milliseconds.
    pub(super) fn new(length: i64) -> Self {
        let (marks, order) = (HashMap::default(), VecDeque::new());
        Self { length, marks, order, serial: 0, newest: i64::MIN }
    }

    /// How many marks it holds.
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether `record` is a duplicate. A mark that is its own says nothing: then it was finished, or nearly
    /// so, and is read again, and only its own work can tell what is left to do.
    pub(super) fn is_duplicate(&self, digest: Digest, record: Seen) -> bool {
        let Some(Mark { seen, .. }) = self.marks.get(&digest) else { return false };
        if seen.offset == record.offset && origin_counts() {
            return false;
        }
        match (seen.timestamp, record.timestamp) {
            (Some(mark), Some(record)) => mark.abs_diff(record) <= self.length.unsigned_abs(),
            _ => true,
        }
    }

    /// All keys that have a mark, as they were put.
    pub(super) fn keys(&self) -> impl Iterator<Item = Digest> {
        self.order.iter().map(|place| place.digest)
    }

    /// The record whose mark the key has.
    pub(super) fn of(&self, digest: Digest) -> Option<Seen> {
        self.marks.get(&digest).map(|mark| mark.seen)
    }

    /// `record` is finished: it is the one of its key from now on. `now` is the clock's.
    pub(super) fn put(&mut self, digest: Digest, record: Seen, now: i64) {
        self.serial += 1;
        let since = record.timestamp.unwrap_or(now).min(now);
        self.newest = self.newest.max(record.timestamp.unwrap_or(i64::MIN));
        self.marks.insert(digest, Mark { seen: record, serial: self.serial });
        self.order.push_back(Place { digest, serial: self.serial, since });
        self.forget_old(now);
        if self.order.len() > self.marks.len() * 2 + 64 {
            let marks = &self.marks;
            self.order
                .retain(|place| marks.get(&place.digest).is_some_and(|mark| mark.serial == place.serial));
        }
    }

    /// The record at `offset` was not finished after all: its mark goes, and no other.
    pub(super) fn take_back(&mut self, digest: Digest, offset: i64) {
        if self.marks.get(&digest).is_some_and(|mark| mark.seen.offset == offset) {
            self.marks.remove(&digest);
        }
    }

    /// Keeps the marks of records that are finished. Others come again, or never: their marks are not true
    /// yet.
    pub(super) fn retain(&mut self, is_finished: impl Fn(Seen) -> bool) {
        if origin_counts() {
            self.marks.retain(|_, mark| is_finished(mark.seen));
        }
    }

    /// Forgets the marks that are a window older than the newest, or than the clock, whichever is earlier.
    pub(super) fn forget_old(&mut self, now: i64) {
        let horizon = self.newest.min(now).saturating_sub(self.length);
        while let Some(place) = self.order.front() {
            let gone = self.marks.get(&place.digest).is_none_or(|mark| mark.serial != place.serial);
            if !gone && place.since >= horizon {
                return;
            }
            if !gone {
                self.marks.remove(&place.digest);
            }
            self.order.pop_front();
        }
    }

    /// Forgets the mark that was put first; false where there is none.
    pub(super) fn forget_first(&mut self) -> bool {
        while let Some(place) = self.order.pop_front() {
            if self.marks.get(&place.digest).is_some_and(|mark| mark.serial == place.serial) {
                return self.marks.remove(&place.digest).is_some();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::digest::Keys;
    use super::*;

    const LENGTH: i64 = 100;
    /// Later than all that is written here.
    const NOW: i64 = 1_000_000;

    fn key(number: u8) -> Digest {
        Keys::of("k").digest(&number.to_string())
    }

    fn seen(offset: i64, timestamp: i64) -> Seen {
        Seen { offset, timestamp: Some(timestamp) }
    }

    #[test]
    fn a_record_meets_the_mark_of_another_and_never_its_own() {
        let mut window = Window::new(LENGTH);
        window.put(key(1), seen(5, 1_000), NOW);
        assert!(!window.is_duplicate(key(1), seen(5, 1_000)), "it is read again");
        assert!(window.is_duplicate(key(1), seen(6, 1_000)));
        assert!(!window.is_duplicate(key(2), seen(6, 1_000)));
        window.take_back(key(1), 6);
        assert!(window.is_duplicate(key(1), seen(6, 1_000)), "the mark is another's");
        window.take_back(key(1), 5);
        assert!(!window.is_duplicate(key(1), seen(6, 1_000)));
    }

    #[test]
    fn the_window_is_between_the_times_of_records_in_both_directions() {
        let mut window = Window::new(LENGTH);
        window.put(key(1), seen(5, 1_000), NOW);
        for (timestamp, expected) in [(900, true), (899, false), (1_100, true), (1_101, false)] {
            assert_eq!(window.is_duplicate(key(1), seen(6, timestamp)), expected, "{timestamp}");
        }
        assert!(window.is_duplicate(key(1), Seen { offset: 6, timestamp: None }));
        let extreme = Seen { offset: 6, timestamp: Some(i64::MIN) };
        assert!(!window.is_duplicate(key(1), extreme));
    }

    #[test]
    fn a_record_from_the_future_makes_no_other_old() {
        let mut window = Window::new(LENGTH);
        window.put(key(1), seen(1, 1_000), 1_010);
        window.put(key(2), seen(2, i64::MAX), 1_020);
        window.put(key(3), seen(3, 1_020), 1_020);
        assert!(window.is_duplicate(key(1), seen(4, 1_020)));
        // Nor does it stay for ever, or keep those behind it.
        window.put(key(4), seen(5, 1_200), 1_200);
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn at_the_bound_the_first_is_forgotten() {
        let mut window = Window::new(LENGTH);
        for number in 0..3 {
            window.put(key(number), seen(i64::from(number), 1_000), NOW);
        }
        window.put(key(0), seen(9, 1_001), NOW);
        assert!(window.forget_first());
        assert!(
            window.of(key(1)).is_none() && window.of(key(0)).is_some(),
            "the one put anew is not the first"
        );
        assert!(window.forget_first() && window.forget_first() && !window.forget_first());
    }

    proptest! {
        /// Beside a list that forgets nothing, where times rise.
        #[test]
        fn what_is_forgotten_is_never_missed(
            records in proptest::collection::vec((0u8..6, 0i64..60, any::<bool>()), 1..200),
        ) {
            let mut window = Window::new(LENGTH);
            let mut all: HashMap<u8, Seen> = HashMap::new();
            let mut time = 0;
            for (offset, (number, wait, finishes)) in records.into_iter().enumerate() {
                time += wait;
                let record = seen(offset as i64, time);
                let expected = all.get(&number)
                    .is_some_and(|mark| time - mark.timestamp.unwrap() <= LENGTH);
                prop_assert_eq!(window.is_duplicate(key(number), record), expected);
                if expected {
                    continue;
                }
                if finishes {
                    window.put(key(number), record, NOW);
                    all.insert(number, record);
                } else {
                    window.take_back(key(number), record.offset);
                }
                prop_assert!(!window.is_duplicate(key(number), record), "its own mark is none");
                let live = all.values().filter(|mark| time - mark.timestamp.unwrap() <= LENGTH).count();
                prop_assert!(window.len() >= live && window.order.len() <= window.len() * 2 + 64);
            }
        }

        /// A record that is read again, with all behind it, is judged as the first time.
        #[test]
        fn records_that_are_read_again_are_judged_alike(
            records in proptest::collection::vec((0u8..4, -80i64..80), 1..60),
            from in any::<prop::sample::Index>(),
        ) {
            let records: Vec<_> = records.into_iter().enumerate()
                .map(|(offset, (number, time))| (number, seen(offset as i64, 10_000 + time)))
                .collect();
            let work = |window: &mut Window, (number, record): (u8, Seen)| {
                let duplicate = window.is_duplicate(key(number), record);
                if !duplicate {
                    window.put(key(number), record, NOW);
                }
                duplicate
            };
            let mut window = Window::new(LENGTH * 2);
            let first: Vec<_> = records.iter().map(|record| work(&mut window, *record)).collect();
            let from = from.index(records.len());
            // What was finished behind that place is not known to be, and read again.
            window.retain(|mark| mark.offset < from as i64);
            let again: Vec<_> = records[from..].iter().map(|record| work(&mut window, *record)).collect();
            prop_assert_eq!(&first[from..], &again[..]);
        }
    }
}
