//! Marks whose topic is not what it was: deleted and made anew, or cut short. All of them are in memory, so
//! they are written again, by the stage's own producer, so that none comes behind a newer one of its key.
//!
//! That it is another topic shows by its end, which never goes back.

use std::collections::VecDeque;

use super::digest::Digest;
use super::{Dedupe, entry};
use crate::base::guard::{self, Guard};
use crate::broker::{OutHeaders, Outgoing, SendError, TopicPartition};
use crate::events::parked::NO_RECORD;
use crate::events::runner::Runner;
use crate::events::status::Shared;

/// How many are written in one turn of the loop.
const TURN: usize = 256;

/// What is to be written again.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// The partitions' places, and keys of theirs; `None`: whose partition it is.
    left: VecDeque<(u32, Option<Digest>)>,
    /// What was written since the last commit: where that is given up, so is this.
    unsure: Vec<u32>,
    /// Whether nothing is written before the next look, since the topic takes nothing.
    rests: bool,
}

impl Dedupe {
    /// Whether marks wait for nothing but room.
    pub(in crate::events) fn writes_again(&self) -> bool {
        !self.again.rests && !self.again.left.is_empty()
    }

    /// The marks of a partition were read, up to this end.
    pub(super) fn ends_at(&mut self, slot: u32, end: i64, shared: &Shared) {
        if let Some(place) = self.homes.get_mut(&slot).and_then(|home| home.place.as_mut()) {
            place.end = end;
            shared.forget_end_beside(&place.marks);
        }
    }

    /// Begins to write all marks of a partition again.
    fn write_again(&mut self, slot: u32) {
        let Some(window) = self.homes.get(&slot).and_then(|home| home.window.as_ref()) else { return };
        self.again.left.retain(|(home, _)| *home != slot);
        self.again.left.push_back((slot, None));
        self.again.left.extend(window.keys().map(|digest| (slot, Some(digest))));
        // What is in flight has no mark there yet, and may have sent it to the old topic.
        let marked = self.claims.marked(slot).map(|digest| (slot, Some(digest)));
        self.again.left.extend(marked);
    }
}

impl Runner {
    /// Looks whether topics of marks are what they were; called about once a second.
    pub(super) fn look_after_marks(&mut self) {
        let Some(dedupe) = &mut self.dedupe else { return };
        dedupe.again.rests = false;
        let places = dedupe.homes.values().filter(|home| home.window.is_some());
        let names: Vec<TopicPartition> =
            places.filter_map(|home| Some(home.place.as_ref()?.marks.clone())).collect();
        let ends = self.shared.ends_beside(&names);
        let mut remade = Vec::new();
        for (slot, home) in &mut dedupe.homes {
            let Some(place) = home.place.as_mut().filter(|_| home.window.is_some()) else { continue };
            let Some(end) = ends.get(&place.marks).copied() else { continue };
            if std::mem::replace(&mut place.end, end) > end {
                remade.push((*slot, place.marks.clone()));
            }
        }
        for (slot, marks) in remade.into_iter().filter(|_| !guard::removed(Guard::MarksAgain)) {
            self.shared.trouble(&format!(
                "{marks} is not what it was: the topic of marks was deleted, or records of it were; the marks \
                 are written again"
            ));
            dedupe.write_again(slot);
        }
    }

    /// Writes marks again, as far as there is room.
    pub(in crate::events) fn write_marks_again(&mut self) {
        if !self.may_start() {
            return;
        }
        let Some(dedupe) = &mut self.dedupe else { return };
        if dedupe.again.rests {
            return;
        }
        for _ in 0..TURN {
            let Some((slot, digest)) = dedupe.again.left.front().copied() else { return };
            if let Some((place, key, value)) = dedupe.entry_of(slot, digest) {
                let outgoing = Outgoing {
                    topic: &place.topic,
                    partition: Some(place.partition),
                    key: Some(key.as_bytes()),
                    value: Some(&value),
                    timestamp: None,
                    headers: OutHeaders::new(0),
                };
                match self.delivery.produce(outgoing, NO_RECORD) {
                    Ok(()) => {}
                    Err((SendError::Full, _)) => return,
                    Err((error, _)) => {
                        dedupe.again.rests = true;
                        return self.shared.trouble(&format!("marks cannot be written again: {error}"));
                    }
                }
                if !dedupe.again.unsure.contains(&slot) {
                    dedupe.again.unsure.push(slot);
                }
                if let Some(partition) = self.partitions.get_mut(slot) {
                    partition.dirty = true;
                }
            }
            dedupe.again.left.pop_front();
        }
    }

    /// A commit was answered, or what was written since the last one `is_given_up`.
    pub(in crate::events) fn marks_are_written(&mut self, is_given_up: bool) {
        let Some(dedupe) = &mut self.dedupe else { return };
        for slot in std::mem::take(&mut dedupe.again.unsure) {
            if is_given_up {
                dedupe.write_again(slot);
            }
        }
    }
}

impl Dedupe {
    /// What the topic is to say of a key, or of whose partition it is.
    fn entry_of(&self, slot: u32, digest: Option<Digest>) -> Option<(&TopicPartition, String, Vec<u8>)> {
        let home = self.homes.get(&slot)?;
        let place = home.place.as_ref()?;
        let Some(digest) = digest else {
            return Some((&place.marks, place.owner.claim(), place.owner.to_string().into_bytes()));
        };
        let mut value = Vec::new();
        entry::write(&mut value, place.owner, &place.home, Some(home.window.as_ref()?.of(digest)?));
        Some((&place.marks, digest.hex(), value))
    }
}
