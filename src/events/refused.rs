//! What becomes of a record whose output the broker refuses. A record that is too large is judged by
//! the stage's policy as any other failure; all else says nothing of the record and is tried again.

use std::time::Duration;

use super::inflight::EntryId;
use super::partitions::{Cut, Sentence};
use super::runner::Runner;
use crate::base::{Exhausted, Failure};
use crate::broker::SendError;
use crate::record::RawRecord;

/// How long a partition rests after the broker refused a send that says nothing of the record.
const SEND_PAUSE: Duration = Duration::from_secs(1);

impl Runner {
    /// A send was refused. What is the record's own fault ends it; anything else rewinds its
    /// partition, and the record is tried again later. `raw` is there while its bytes still are.
    pub(super) fn send_failed(&mut self, id: EntryId, error: SendError, raw: Option<RawRecord<'_>>) {
        let Some(slot) = self.in_flight.slot(id) else { return };
        match error {
            SendError::Fatal(_) => {
                if !self.must_abort {
                    self.shared.trouble(&error.to_string());
                }
                self.must_abort = true;
            }
            SendError::TooLarge if raw.is_none() && !self.is_alone(id) => self.suspect(id, slot),
            SendError::TooLarge => self.too_large(id, slot, raw),
            _ => {
                self.shared.send_refused(&error);
                self.rewind(slot, Some(self.now + SEND_PAUSE));
            }
        }
    }

    fn too_large(&mut self, id: EntryId, slot: u32, raw: Option<RawRecord<'_>>) {
        let blocked = self.is_blocked(id);
        // There, a refusal spoils all that was sent since the last commit: it is read again anyway.
        let whole = self.delivery.closes_whole();
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let (offset, attempts) = (entry.offset, entry.attempt);
        if entry.parking.is_some() {
            return self.keep_in_place(slot, offset);
        }
        // Answers to its other outputs must not finish it.
        let settled = entry.unacknowledged == 0 && !blocked;
        let sentence = match entry.sentence.take() {
            Some(sentence) => match sentence.cut.more() {
                Some(cut) => Sentence { cut, ..*sentence },
                None => {
                    let what = "the DLQ refuses even a shortened record for its size";
                    return self.halt(format!("{what}; raise its `max_message_bytes`"));
                }
            },
            None => {
                // Another attempt would come out as large, and behind records that went out since.
                let message = "an output is larger than its topic takes";
                let failure = Failure::permanent("record-too-large", message).given_up();
                entry.first_failed.get_or_insert(self.now_millis);
                self.count_too_large(slot, offset, &failure);
                Sentence { failure, attempts, cut: Cut::Nothing }
            }
        };
        match raw {
            Some(raw) if settled => self.give_up(id, raw, sentence),
            None if settled && !whole && self.last_resort(&sentence.failure) == Exhausted::Drop => {
                self.let_go(id, &sentence.failure);
            }
            // What is to be done needs its bytes, or must wait for its other outputs: it is read again.
            _ => {
                if let Some(entry) = self.in_flight.get_mut(id) {
                    entry.sentence = Some(Box::new(sentence));
                }
                // By itself, since it is known which one is too large.
                if let Some(partition) = self.partitions.get_mut(slot) {
                    partition.suspects.insert(offset);
                }
                self.rewind(slot, None);
            }
        }
    }

    /// Whether it was sent by itself, so that a refusal is its own.
    fn is_alone(&mut self, id: EntryId) -> bool {
        self.in_flight.get_mut(id).is_some_and(|entry| entry.alone)
    }

    /// The broker refuses a batch as a whole: all that may have been in it is read again and sent one
    /// by one, which shows whose fault it is.
    fn suspect(&mut self, id: EntryId, slot: u32) {
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        // This one is answered already; counted in again it is seen with the others.
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.unacknowledged += 1;
            self.unacknowledged += 1;
        }
        for entry in self.in_flight.unacknowledged(slot) {
            partition.suspects.insert(entry.offset);
        }
        self.rewind(slot, None);
    }

    fn count_too_large(&self, slot: u32, offset: i64, failure: &Failure) {
        let Some(partition) = self.partitions.get(slot) else { return };
        let (topic, partition) = (&*partition.name.topic, partition.name.partition);
        let place = RawRecord {
            topic,
            partition,
            offset,
            timestamp: None,
            log_append: false,
            key: None,
            value: None,
            headers: &(),
        };
        self.shared.failed(failure, place);
    }

    /// Ends a record that came again for that purpose only.
    pub(super) fn carry_out(&mut self, id: EntryId, raw: RawRecord<'_>, sentence: Sentence) {
        if let Some(entry) = self.in_flight.get_mut(id) {
            entry.first_failed.get_or_insert(self.now_millis);
            let (slot, offset) = (entry.slot, entry.offset);
            if self.delivery.closes_whole()
                && let Some(partition) = self.partitions.get_mut(slot)
            {
                partition.sentenced.insert(offset, Box::new(sentence.clone()));
            }
        }
        self.give_up(id, raw, sentence);
    }
}
