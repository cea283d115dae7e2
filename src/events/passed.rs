//! Offsets behind which no record comes: transaction markers, aborted records.
//!
//! Where nothing follows them, no record says that they are passed; the consumer's position does. They are
//! committed like records, so that a stage that has done all has no lag.

use super::partitions::{Partition, Tenure};
use super::runner::Runner;
use super::sources::Role;

impl Partition {
    /// Whether all that was polled of it has started: then nothing lies between the newest record and
    /// where polling stands.
    fn is_current(&self) -> bool {
        self.tenure == Tenure::Owned && self.awaited.is_none() && self.far.is_none()
    }
}

impl Runner {
    /// Moves on to where polling stands.
    pub(super) fn pass_gaps(&mut self) {
        for (name, polled) in self.consumer.positions() {
            let slot = self.partitions.find(&name.topic, name.partition);
            let mut partition = slot.and_then(|slot| self.partitions.get_mut(slot));
            if let Some(partition) = &mut partition
                && partition.role == Role::Parked
            {
                // A rewind awaits what lies there, and polling, which it has set back, has met nothing.
                partition.awaited.take_if(|(awaited, _)| *awaited < polled);
            }
            if let Some(partition) = partition.filter(|partition| partition.is_current())
                && partition.tracker.as_mut().is_some_and(|tracker| tracker.pass(polled))
            {
                partition.dirty = true;
            }
        }
    }
}
