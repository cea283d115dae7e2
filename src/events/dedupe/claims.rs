//! Equal records that are in flight at one time: the first to come is worked on, the others wait until it
//! is known what became of it.
//!
//! Claims are taken in the order in which records come, as lanes are, so that nobody ever waits for one
//! that came later: a circle of waits cannot be.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::digest::Digest;
use super::window::Seen;
use crate::events::inflight::EntryId;

/// A record in flight that has a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// The place of the input's partition that it came from first.
    pub(super) home: u32,
    /// Its key.
    pub(super) digest: Digest,
    /// It.
    pub(super) seen: Seen,
    /// Whether it is to have a mark once it is finished.
    pub(super) marked: bool,
    stand: Stand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// It is the one that is worked on.
    Holds,
    /// It waits, and others of its lane are before it.
    Waits,
    /// It waits, and holds up its lane.
    InFront,
}

impl Held {
    pub(super) fn new(home: u32, digest: Digest, seen: Seen) -> Self {
        Self { home, digest, seen, marked: false, stand: Stand::Waits }
    }

    /// Whether it is the one that is worked on.
    pub(super) fn holds(&self) -> bool {
        self.stand == Stand::Holds
    }

    /// Whether it waits and holds up its lane.
    pub(super) fn is_in_front(&self) -> bool {
        self.stand == Stand::InFront
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Claims {
    held: HashMap<EntryId, Held, foldhash::fast::FixedState>,
    /// The record that is worked on, and those that wait for it, by home and key.
    keys: HashMap<(u32, Digest), (EntryId, VecDeque<EntryId>), foldhash::fast::FixedState>,
}

impl Claims {
    /// What is known of a record.
    pub(super) fn get(&self, id: EntryId) -> Option<&Held> {
        self.held.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: EntryId) -> Option<&mut Held> {
        self.held.get_mut(&id)
    }

    /// A record comes. False where it has to wait.
    pub(super) fn claim(&mut self, id: EntryId, held: Held) -> bool {
        let key = (held.home, held.digest);
        let holds = match self.keys.get_mut(&key) {
            Some((_, waiting)) => {
                waiting.push_back(id);
                false
            }
            None => {
                self.keys.insert(key, (id, VecDeque::new()));
                true
            }
        };
        let stand = if holds { Stand::Holds } else { Stand::Waits };
        self.held.insert(id, Held { stand, ..held });
        holds
    }

    /// It is this record's turn in its lane: true where it has to wait on, and now holds the lane up.
    pub(super) fn stops(&mut self, id: EntryId) -> bool {
        if self.held.is_empty() {
            return false;
        }
        match self.held.get_mut(&id) {
            Some(held) if held.stand != Stand::Holds => {
                held.stand = Stand::InFront;
                true
            }
            _ => false,
        }
    }

    /// A record is finished or given up: it is not known any more.
    pub(super) fn remove(&mut self, id: EntryId) -> Option<Held> {
        self.held.remove(&id)
    }

    /// The next that waits for this key, in place of one that was removed. It is still known as waiting.
    pub(super) fn next(&mut self, home: u32, digest: Digest) -> Option<(EntryId, Held)> {
        let (_, waiting) = self.keys.get_mut(&(home, digest))?;
        while let Some(id) = waiting.pop_front() {
            if let Some(held) = self.held.get(&id) {
                return Some((id, *held));
            }
        }
        self.keys.remove(&(home, digest));
        None
    }

    /// That one is worked on from now on. True where its lane is ready for it.
    pub(super) fn promote(&mut self, id: EntryId) -> bool {
        let Some(held) = self.held.get_mut(&id) else { return false };
        let in_front = held.is_in_front();
        held.stand = Stand::Holds;
        if let Some((holder, _)) = self.keys.get_mut(&(held.home, held.digest)) {
            *holder = id;
        }
        in_front
    }

    /// Forgets records that are not there any more, and gives those whose turn it is by that and whose
    /// lanes are ready. Nothing was finished, so none of them is a duplicate that was none before.
    pub(super) fn retain(&mut self, is_there: impl Fn(EntryId) -> bool) -> Vec<EntryId> {
        self.held.retain(|id, _| is_there(*id));
        let orphaned = self.keys.iter().filter(|(_, (holder, _))| !self.held.contains_key(holder));
        let orphaned: Vec<_> = orphaned.map(|(key, _)| *key).collect();
        let mut ready = Vec::new();
        for (home, digest) in orphaned {
            if let Some((id, _)) = self.next(home, digest)
                && self.promote(id)
            {
                ready.push(id);
            }
        }
        ready
    }

    /// The keys of a partition's records that are to have marks once they are finished.
    pub(super) fn marked(&self, home: u32) -> impl Iterator<Item = Digest> {
        self.held.values().filter(move |held| held.home == home && held.marked).map(|held| held.digest)
    }

    /// How many records have to wait.
    pub(super) fn waiting(&self) -> usize {
        self.held.len() - self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::digest::Keys;
    use super::*;

    fn held(number: u8, offset: i64) -> Held {
        let digest = Keys::of("k").digest(&number.to_string());
        Held::new(0, digest, Seen { offset, timestamp: None })
    }

    #[test]
    fn an_equal_waits_for_the_one_before_it_and_the_turn_of_its_lane() {
        let mut claims = Claims::default();
        let [first, second, third] = [1, 2, 3].map(EntryId::from_token);
        assert!(claims.claim(first, held(1, 1)));
        assert!(!claims.claim(second, held(1, 2)));
        assert!(!claims.claim(third, held(1, 3)));
        assert!(!claims.stops(first) && claims.stops(third));
        let Held { home, digest, .. } = claims.remove(first).unwrap();
        assert_eq!(claims.next(home, digest).unwrap().0, second);
        assert!(!claims.promote(second), "others of its lane are before it");
        assert!(!claims.stops(second) && claims.stops(third));
        claims.remove(second);
        assert_eq!(claims.next(home, digest).unwrap().0, third);
        assert!(claims.promote(third));
        claims.remove(third);
        assert!(claims.next(home, digest).is_none() && claims.keys.is_empty());
    }

    proptest! {
        /// Records come and end or are given up in any order: at most one of a key is worked on, and none is
        /// forgotten.
        #[test]
        fn of_each_key_one_is_worked_on(
            events in proptest::collection::vec((0u8..4, any::<prop::sample::Index>(), any::<bool>()), 1..120),
        ) {
            let mut claims = Claims::default();
            let mut there: BTreeMap<EntryId, u8> = BTreeMap::new();
            for (number, (key, pick, comes)) in events.into_iter().enumerate() {
                let id = EntryId::from_token(number as u64);
                if comes {
                    let free = !there.values().any(|known| *known == key);
                    prop_assert_eq!(claims.claim(id, held(key, number as i64)), free);
                    claims.stops(id);
                    there.insert(id, key);
                } else if !there.is_empty() {
                    let gone = *there.keys().nth(pick.index(there.len())).unwrap();
                    let holds = claims.get(gone).unwrap().stand == Stand::Holds;
                    there.remove(&gone);
                    if holds && number % 2 == 0 {
                        let Held { home, digest, .. } = claims.remove(gone).unwrap();
                        if let Some((next, _)) = claims.next(home, digest) {
                            prop_assert!(claims.promote(next));
                        }
                    } else {
                        claims.retain(|id| there.contains_key(&id));
                    }
                }
                for key in 0..4 {
                    let of_key: Vec<_> = there.iter().filter(|(_, known)| **known == key).collect();
                    let holders = of_key.iter()
                        .filter(|(id, _)| claims.get(**id).unwrap().stand == Stand::Holds).count();
                    prop_assert_eq!(holders, usize::from(!of_key.is_empty()));
                }
                prop_assert_eq!(claims.held.len(), there.len());
                prop_assert_eq!(claims.waiting(), there.len() - claims.keys.len());
            }
        }
    }
}
