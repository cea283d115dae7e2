//! How far beyond a partition's position an exactly-once stage takes records.
//!
//! What is finished there is committed beside the offset, and what does not fit is done again after a
//! restart: its outputs would stand twice. So no record is taken whose place in that text might not
//! fit, until those before it are finished.

use super::metadata::MAX_SPAN;
use super::partitions::Partition;
use super::runner::Runner;

/// In offsets.
pub(super) const REACH: i64 = MAX_SPAN;

impl Partition {
    /// Whether `offset` must wait until the position is nearer. One with nothing before it never does.
    pub(super) fn is_beyond(&self, reach: i64, offset: i64) -> bool {
        let tracker = self.tracker.as_ref().filter(|tracker| tracker.span() > 0);
        tracker.is_some_and(|tracker| offset - tracker.position() >= reach)
    }

    /// Whether it is not to be read, since its next record is too far; forgets that where it is not.
    pub(super) fn is_far(&mut self, reach: i64) -> bool {
        let Some(offset) = self.far else { return false };
        if !self.is_beyond(reach / 2, offset) {
            self.far = None;
        }
        self.far.is_some()
    }
}

impl Runner {
    /// The record is read again once it is near enough; until then its partition is paused.
    pub(super) fn leave_for_later(&mut self, slot: u32, offset: i64) {
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        partition.far = Some(offset);
        partition.paused = true;
        let (name, next) = (partition.name.clone(), partition.next().unwrap_or(offset));
        // First of all, so that it does not come again meanwhile.
        self.consumer.pause(std::slice::from_ref(&name));
        if self.consumer.seek(&name, next).is_err() {
            self.restart_assignment();
        }
    }
}
