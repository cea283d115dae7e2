//! What stands in a topic of marks, and how it is read.
//!
//! A partition of it belongs to one partition of the input. Its owner first writes a *claim* with a number
//! of its own, and each mark bears the number of who wrote it. The log decides: behind a claim, marks of
//! other owners are none. So what an engine wrote that has lost the partition meanwhile, and that came
//! late, counts for nobody, whoever reads it and however often. Where compaction has kept such a late one
//! in place of a mark that counts, a duplicate may pass; nothing is ever lost by it. The same holds where a claim
//! itself comes late, since the marks behind it are those of another.
//!
//! Keys and values are texts. A claim: `owner/NUMBER` → `NUMBER`. A mark: the digest of the record's key
//! → `NUMBER topic/partition/offset/time`. One that is taken back: → `NUMBER -`, since a null would bear
//! no number.

use super::digest::Digest;
use super::window::{Seen, Window};
use crate::broker::TopicPartition;
use crate::events::letters::Origin;

const CLAIM: &str = "owner/";
const TAKEN_BACK: &[u8] = b"-";

/// The number of one owner of a partition, from when it was assigned until it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    /// One that nobody else has.
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    /// The key of its claim.
    pub(super) fn claim(self) -> String {
        format!("{CLAIM}{self}")
    }

    fn read(hex: &str) -> Option<Self> {
        (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok()).flatten().map(Self)
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Appends the value of a mark: of `seen`, a record of `home`, or of none.
pub(super) fn write(out: &mut Vec<u8>, owner: Owner, home: &TopicPartition, seen: Option<Seen>) {
    out.extend_from_slice(owner.to_string().as_bytes());
    out.push(b' ');
    match seen {
        None => out.extend_from_slice(TAKEN_BACK),
        Some(Seen { offset, timestamp }) => {
            let (topic, partition) = (&*home.topic, home.partition);
            Origin { topic, partition, offset, timestamp, log_append: false }.write(out);
        }
    }
}

enum Entry {
    Claim(Owner),
    Mark(Owner, Digest, Option<Seen>),
}

/// `None` where somebody else wrote it.
fn read(home: &TopicPartition, key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Entry> {
    let key = std::str::from_utf8(key?).ok()?;
    if let Some(owner) = key.strip_prefix(CLAIM) {
        return Owner::read(owner).map(Entry::Claim);
    }
    let digest = Digest::read(key)?;
    let (owner, seen) = value?.split_at_checked(16)?;
    let owner = Owner::read(std::str::from_utf8(owner).ok()?)?;
    let seen = match seen.strip_prefix(b" ")? {
        TAKEN_BACK => None,
        origin => {
            let origin = Origin::read(origin)?;
            let at_home = *origin.topic == *home.topic && origin.partition == home.partition;
            at_home.then_some(())?;
            Some(Seen { offset: origin.offset, timestamp: origin.timestamp })
        }
    };
    Some(Entry::Mark(owner, digest, seen))
}

/// A partition of marks that is being read from its start on, up to the reader's own claim.
#[derive(Debug)]
pub(super) struct Reading {
    home: TopicPartition,
    owner: Owner,
    /// Who owned the partition where reading stands; `None`: that is not there any more.
    current: Option<Owner>,
    window: Window,
}

impl Reading {
    /// Marks of `home` within `length` milliseconds.
    pub(super) fn new(home: TopicPartition, owner: Owner, length: i64) -> Self {
        Self { home, owner, current: None, window: Window::new(length) }
    }

    /// How many marks were read so far.
    pub(super) fn len(&self) -> usize {
        self.window.len()
    }

    /// Forgets the mark that was read first; false where there is none.
    pub(super) fn forget_first(&mut self) -> bool {
        self.window.forget_first()
    }

    /// The next entry, written at `time`. True where it is the reader's own claim: all is known.
    pub(super) fn take(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, time: i64) -> bool {
        match read(&self.home, key, value) {
            Some(Entry::Claim(owner)) => {
                self.current = Some(owner);
                owner == self.owner
            }
            Some(Entry::Mark(owner, digest, seen)) if self.current.is_none_or(|current| current == owner) => {
                match seen {
                    Some(seen) => self.window.put(digest, seen, time),
                    None => {
                        let marked = self.window.of(digest);
                        marked.into_iter().for_each(|seen| self.window.take_back(digest, seen.offset));
                    }
                }
                false
            }
            _ => false,
        }
    }

    /// The marks that were read.
    pub(super) fn into_window(self) -> Window {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::digest::Keys;
    use super::*;

    const LENGTH: i64 = 1_000;

    fn home() -> TopicPartition {
        TopicPartition::new("in", 3)
    }

    fn key(number: u8) -> Digest {
        Keys::of("k").digest(&number.to_string())
    }

    /// One line of the log: a claim of an owner, or what it says of a key.
    #[derive(Debug, Clone, Copy)]
    enum Line {
        Claim(Owner),
        Mark(Owner, u8, Option<i64>),
    }

    fn read_all(owner: Owner, lines: &[Line]) -> (Window, bool) {
        let mut reading = Reading::new(home(), owner, LENGTH);
        let mut whole = false;
        for line in lines {
            let (key, value) = match line {
                Line::Claim(owner) => (owner.claim(), owner.to_string().into_bytes()),
                Line::Mark(owner, number, offset) => {
                    let seen = offset.map(|offset| Seen { offset, timestamp: Some(5) });
                    let mut value = Vec::new();
                    write(&mut value, *owner, &home(), seen);
                    (key(*number).hex(), value)
                }
            };
            whole |= reading.take(Some(key.as_bytes()), Some(&value), 5);
        }
        (reading.into_window(), whole)
    }

    fn offset(window: &Window, number: u8) -> Option<i64> {
        window.of(key(number)).map(|seen| seen.offset)
    }

    #[test]
    fn behind_a_claim_the_marks_of_others_are_none() {
        let (old, new) = (Owner(1), Owner(2));
        let lines = [
            Line::Mark(old, 1, Some(10)),
            Line::Claim(old),
            Line::Mark(old, 2, Some(11)),
            Line::Mark(old, 3, Some(12)),
            Line::Claim(new),
            Line::Mark(new, 3, None),
            // They come late: the new owner has dead-lettered 3, and nobody has finished 4.
            Line::Mark(old, 3, Some(12)),
            Line::Mark(old, 4, Some(13)),
            Line::Mark(old, 2, None),
            Line::Claim(Owner(3)),
        ];
        let (window, whole) = read_all(Owner(3), &lines);
        assert!(whole);
        let found: Vec<_> = (1..=4).map(|number| offset(&window, number)).collect();
        assert_eq!(found, [Some(10), Some(11), None, None]);
    }

    #[test]
    fn what_somebody_else_wrote_is_no_entry() {
        let mut reading = Reading::new(home(), Owner(1), LENGTH);
        let digest = key(1).hex();
        let elsewhere = b"0000000000000001 other/3/7/5";
        for (key, value) in [
            (None, Some(&b"x"[..])),
            (Some("owner/soon"), Some(&b"x"[..])),
            (Some(&*digest), None),
            (Some(&*digest), Some(&b"1 in/3/7/5"[..])),
            (Some(&*digest), Some(&b"0000000000000001 in/3/7"[..])),
            (Some(&*digest), Some(&elsewhere[..])),
        ] {
            assert!(!reading.take(key.map(str::as_bytes), value, 5));
        }
        assert_eq!(reading.into_window().len(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        ) {
            Reading::new(home(), Owner(1), LENGTH).take(key.as_deref(), value.as_deref(), 5);
        }

        /// Owners come one after the other; what each writes after the next has claimed counts for nobody.
        #[test]
        fn late_entries_change_nothing(
            said in proptest::collection::vec((0u64..4, 0u8..5, proptest::option::of(0i64..100)), 0..60),
        ) {
            let (mut lines, mut in_time) = (Vec::new(), Vec::new());
            let mut current = 0;
            for (owner, number, offset) in said {
                let line = Line::Mark(Owner(owner), number, offset);
                if owner > current {
                    current = owner;
                    lines.push(Line::Claim(Owner(owner)));
                }
                lines.push(line);
                if owner == current {
                    in_time.push(line);
                }
            }
            lines.insert(0, Line::Claim(Owner(0)));
            let late = read_all(Owner(9), &lines).0;
            // Without claims all that is there counts.
            let plain = read_all(Owner(9), &in_time.iter().map(|line| match line {
                Line::Mark(_, number, offset) => Line::Mark(Owner(0), *number, *offset),
                Line::Claim(owner) => Line::Claim(*owner),
            }).collect::<Vec<_>>()).0;
            for number in 0..5 {
                prop_assert_eq!(offset(&late, number), offset(&plain, number));
            }
        }
    }
}
