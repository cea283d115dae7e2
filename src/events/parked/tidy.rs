//! Keeping short what a restart has to read of a parking topic, and saying there what a commit cannot.
//!
//! A partition's position is before its oldest parked record, whatever lies behind it. So where much that
//! is finished does, the oldest are appended again. And what is finished too far behind the position for
//! the text of a commit is written down in the topic itself.

use super::Key;
use super::headers::{self, STANDING_HEADER, Standing};
use super::packed::Head;
use crate::base::guard::{self, Guard};
use crate::broker::{OutHeaders, Outgoing, SendError};
use crate::events::letters::ORIGIN_HEADER;
use crate::events::metadata::MAX_SPAN;
use crate::events::partitions::Tenure;
use crate::events::runner::Runner;
use crate::record::HeaderChange;

/// The oldest records of a partition are moved once so many offsets lie behind them, and twice as many as
/// records are parked.
const LEAST_SPAN: usize = 8_192;
/// So many are moved at once.
const MOVED: usize = 4_096;
/// Belongs to no record in flight, so that its answer meets nothing.
pub(in crate::events) const NO_RECORD: u64 = (1 << 48) - 1;

impl Runner {
    /// A parked record is finished.
    pub(in crate::events) fn parked_finished(&mut self, key: Key) {
        let Some(item) = self.parked.store.finish(key) else { return };
        let partition = self.partitions.get(item.slot());
        let position = partition.and_then(|partition| partition.position()).unwrap_or(key.offset);
        if key.offset - position >= MAX_SPAN && !guard::removed(Guard::WriteDone) {
            self.parked.done.push_back((key, item));
        }
    }

    /// Moves what keeps positions behind.
    pub(in crate::events) fn tidy_parked(&mut self) {
        if self.parked.store.is_empty() || !self.may_start() {
            return;
        }
        for slot in self.partitions.slots() {
            let Some(partition) = self.partitions.get(slot) else { continue };
            let span = partition.tracker.as_ref().map_or(0, |tracker| tracker.span());
            let live = self.parked.store.of(slot);
            let owned = partition.tenure == Tenure::Owned && partition.scan_to.is_none();
            if live == 0 || !owned || span <= LEAST_SPAN.max(2 * live) || self.parked.store.expecting() > 0 {
                continue;
            }
            for key in self.parked.store.oldest(slot, MOVED) {
                if !self.blocked.is_empty() {
                    return;
                }
                self.move_parked(key);
            }
        }
    }

    /// Appends another copy of a parked record that stands as it did.
    fn move_parked(&mut self, key: Key) {
        let (now, now_millis) = (self.now, self.now_millis);
        let Some(item) = self.parked.store.get(key) else { return };
        let (Head { ordered, spent, started, failed, .. }, due) = (item.head(), item.due());
        let wait = due.saturating_duration_since(now);
        let standing = Standing {
            spent,
            due: now_millis.saturating_add(wait.as_millis() as i64),
            wait,
            started,
            failed,
        };
        let Some((id, record)) = self.entry_of(key) else { return };
        if self.parking_of(&record.as_raw()).is_none() {
            self.in_flight.remove(id);
            return;
        }
        self.parked.store.start(key);
        if let Some(entry) = self.in_flight.get_mut(id) {
            (entry.due, entry.lane) = (Some(due), ordered.then_some(key.lane));
        }
        self.append(id, record.as_raw(), key.lane, &standing);
    }

    /// Writes down what is finished and not said by commits.
    pub(in crate::events) fn write_done(&mut self) {
        if self.must_abort {
            return;
        }
        while let Some((key, item)) = self.parked.done.front() {
            let Some(partition) = self.partitions.get(item.slot()) else {
                self.parked.done.pop_front();
                continue;
            };
            let record = item.record(*key);
            let raw = record.as_raw();
            let mut headers = OutHeaders::new(2);
            for change in headers::of(&raw, &Standing::default()) {
                match change {
                    HeaderChange::Set(name, value) if *name == *ORIGIN_HEADER => {
                        headers.push(&name, value.as_deref());
                    }
                    _ => headers.push(STANDING_HEADER, Some(&headers::done(key.offset))),
                }
            }
            let outgoing = Outgoing {
                topic: &partition.name.topic,
                partition: Some(partition.name.partition),
                key: raw.key,
                value: None,
                timestamp: None,
                headers,
            };
            let sent = self.delivery.produce(outgoing, NO_RECORD);
            if let Err((SendError::Full, _)) = sent {
                return;
            }
            self.parked.done.pop_front();
            if sent.is_err() {
                // The record is done again: after a restart, or at once where epochs close as a whole.
                self.spoil();
            }
        }
    }
}
