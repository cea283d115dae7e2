//! Dedupe: of equal records of a partition, the first that is finished counts and the others are dropped.
//!
//! `digest`, `window` and `claims` are pure. A finished record leaves a mark, which says where it came
//! from, so that a record which is read again never meets its own: an engine that is killed between a
//! record's mark and its output does the record again. Mark and outputs are sent together, and the record
//! is finished once all are acknowledged; one that fails for good takes its mark back in the same way. The
//! marks of an input lie in `<namespace>.<stage>.marks.<input>`, beside its partitions (`entry`), and are
//! read whole before a partition is (`load`), and written again where they are lost there (`again`). `hooks` is
//! where the stage's loop asks.

mod again;
mod claims;
mod digest;
mod entry;
mod hooks;
mod load;
mod window;

use std::collections::HashMap;
use std::sync::Arc;

use self::again::Again;
use self::claims::{Claims, Held};
use self::digest::{Digest, Keys};
use self::entry::Owner;
pub(super) use self::load::Loaded;
use self::load::Loading;
use self::window::{Seen, Window};
use super::inflight::EntryId;
use super::sources::Role;
use crate::base::now_millis;
use crate::broker::TopicPartition;
use crate::catalog;

/// The topic in which the marks of one input of a stage lie.
pub fn marks_topic(namespace: &str, stage: &str, input: &str) -> String {
    format!("{namespace}.{stage}.marks.{input}")
}

/// What a stage knows of its records' keys.
pub(super) struct Dedupe {
    keys: Keys,
    /// How long, in milliseconds.
    length: i64,
    /// How many marks there may be.
    most: usize,
    loading: Option<Loading>,
    /// The stage's own partitions of inputs, by their places.
    homes: HashMap<u32, Home>,
    claims: Claims,
    /// How many marks there are.
    marks: usize,
    duplicates: u64,
    /// Marks that were forgotten before their time.
    forgotten: u64,
    again: Again,
}

/// One owned partition of an input.
struct Home {
    /// Where its marks lie; `None`: nowhere.
    place: Option<Place>,
    /// `None` until its marks are read.
    window: Option<Window>,
}

/// Where the marks of a partition lie, and under whose number.
#[derive(Clone)]
struct Place {
    marks: TopicPartition,
    home: TopicPartition,
    owner: Owner,
    /// Where its marks end, as it was seen last.
    end: i64,
    /// Who reads or writes for it stops when this is gone.
    alive: Arc<()>,
}

/// What becomes of a record that comes.
#[derive(Debug, PartialEq, Eq)]
enum Meeting {
    /// It is worked on.
    Passes,
    /// An equal one is finished.
    Duplicate,
    /// An equal one is in flight.
    Waits,
}

/// What the end of a record means for those that waited for it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// They are finished by it; true: it holds up its lane.
    duplicates: Vec<(EntryId, bool)>,
    /// Its turn has come, and its lane is ready for it.
    ready: Option<EntryId>,
}

impl Dedupe {
    /// As `plan` says; without `loading` marks are kept in memory alone.
    fn new(plan: &catalog::Dedupe, loading: Option<Loading>) -> Self {
        Self {
            keys: Keys::of(plan.key.source()),
            length: i64::try_from(plan.window.as_millis()).unwrap_or(i64::MAX),
            most: plan.max_keys,
            loading,
            homes: HashMap::new(),
            claims: Claims::default(),
            marks: 0,
            duplicates: 0,
            forgotten: 0,
            again: Again::default(),
        }
    }

    /// Whether a partition must not be read yet. What was sent again waits for the marks of every input.
    pub(super) fn holds(&self, slot: u32, role: Role) -> bool {
        match role {
            Role::Input => self.homes.get(&slot).is_some_and(|home| home.window.is_none()),
            Role::Replay => self.is_loading(),
            // What was parked before the stage told equal records is judged by none.
            Role::Parked => false,
        }
    }

    /// Whether marks are still being read.
    pub(super) fn is_loading(&self) -> bool {
        self.homes.values().any(|home| home.window.is_none())
    }

    /// Whether nothing can be read yet.
    pub(super) fn begins(&self) -> bool {
        !self.homes.is_empty() && self.homes.values().all(|home| home.window.is_none())
    }

    /// A record of `home` comes.
    fn meet(&mut self, id: EntryId, home: u32, digest: Digest, seen: Seen) -> Meeting {
        let Some(window) = self.homes.get(&home).and_then(|home| home.window.as_ref()) else {
            return Meeting::Passes;
        };
        if window.is_duplicate(digest, seen) {
            self.duplicates += 1;
            return Meeting::Duplicate;
        }
        match self.claims.claim(id, Held::new(home, digest, seen)) {
            true => Meeting::Passes,
            false => Meeting::Waits,
        }
    }

    /// A record is finished: it is the one of its key from now on if it is to have a mark.
    fn ended(&mut self, id: EntryId) -> Outcome {
        let Some(held) = self.claims.remove(id) else { return Outcome::default() };
        if !held.holds() {
            // Nobody waits for one that waited itself.
            return Outcome::default();
        }
        let Held { home, digest, seen, marked, .. } = held;
        self.change(home, |window| match marked {
            true => window.put(digest, seen, now_millis()),
            false => window.take_back(digest, seen.offset),
        });
        self.bound();
        let mut outcome = Outcome::default();
        while let Some((next, held)) = self.claims.next(home, digest) {
            let window = self.homes.get(&home).and_then(|home| home.window.as_ref());
            if !window.is_some_and(|window| window.is_duplicate(digest, held.seen)) {
                outcome.ready = self.claims.promote(next).then_some(next);
                break;
            }
            self.claims.remove(next);
            self.duplicates += 1;
            outcome.duplicates.push((next, held.is_in_front()));
        }
        outcome
    }

    /// Changes a window, and keeps count.
    fn change(&mut self, home: u32, change: impl FnOnce(&mut Window)) {
        let Some(window) = self.homes.get_mut(&home).and_then(|home| home.window.as_mut()) else { return };
        self.marks -= window.len();
        change(window);
        self.marks += window.len();
    }

    /// Where there are more marks than there may be, the fullest partition forgets its first ones.
    fn bound(&mut self) {
        while self.marks > self.most {
            let windows = self.homes.values_mut().filter_map(|home| home.window.as_mut());
            let Some(fullest) = windows.max_by_key(|window| window.len()) else { return };
            if !fullest.forget_first() {
                return;
            }
            self.marks -= 1;
            self.forgotten += 1;
        }
    }

    /// The marks of a partition are known.
    fn install(&mut self, slot: u32, owner: Owner, window: Window) -> bool {
        let Some(home) = self.homes.get_mut(&slot) else { return false };
        let awaited = home.window.is_none() && home.place.as_ref().is_some_and(|place| place.owner == owner);
        if !awaited {
            return false;
        }
        self.marks += window.len();
        home.window = Some(window);
        self.bound();
        true
    }

    /// A partition is given up, with all that is known of it.
    fn remove(&mut self, slot: u32) {
        if let Some(home) = self.homes.remove(&slot) {
            self.marks -= home.window.map_or(0, |window| window.len());
        }
    }

    /// Marks that no record can meet any more are forgotten.
    fn forget_old(&mut self) {
        let now = now_millis();
        let slots: Vec<u32> = self.homes.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.change(slot, |window| window.forget_old(now)));
    }
}

#[cfg(test)]
mod tests;
