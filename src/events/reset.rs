//! Going on elsewhere because somebody said so: the one member that reads a partition moves it, between
//! two records, and says so once the group's commit stands there.
//!
//! What is in flight of the partition is given up, and what was known beyond its position is forgotten.
//! A partition that is given up before its commit is answered is not answered for: its next owner goes on
//! at the commit that stands.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::offsets::OffsetTracker;
use super::partitions::Tenure;
use super::runner::Runner;
use crate::broker::TopicPartition;

/// Where partitions of one stage are to go on.
#[derive(Debug, Clone)]
pub struct Reset {
    /// What the answers bear.
    pub id: Arc<str>,
    /// The next offset of each; those that the stage does not read here are left alone.
    pub to: Vec<(TopicPartition, i64)>,
    /// Where the answers go.
    pub answers: Sender<WasReset>,
}

/// A partition goes on elsewhere, and the group's commit says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasReset {
    /// The id of what was asked for.
    pub id: Arc<str>,
    /// The partition.
    pub partition: TopicPartition,
    /// Where it would have gone on; `None`: nothing of it was read yet.
    pub from: Option<i64>,
    /// Where it goes on.
    pub to: i64,
}

/// One that waits for its commit.
pub(super) struct Pending {
    /// The first commit that says it.
    secured_by: u64,
    answer: WasReset,
    answers: Sender<WasReset>,
}

impl Runner {
    /// Moves the partitions that are this engine's.
    pub(super) fn reset(&mut self, reset: Reset) {
        for (name, to) in reset.to {
            let slot = self.partitions.find(&name.topic, name.partition);
            let owned = |slot: &u32| {
                self.partitions.get(*slot).is_some_and(|partition| partition.tenure == Tenure::Owned)
            };
            let Some(slot) = slot.filter(owned) else { continue };
            let from = self.partitions.get(slot).and_then(|partition| partition.position());
            tracing::info!(stage = &*self.program.stage.name, from, to, "{name} goes on elsewhere");
            self.move_to(slot, to);
            let secured_by = self.said_by_next_commit();
            let answer = WasReset { id: Arc::clone(&reset.id), partition: name.clone(), from, to };
            self.resets.push(Pending { secured_by, answer, answers: reset.answers.clone() });
            if let Err(error) = self.consumer.seek(&name, to) {
                // Nothing of it is committed, so whoever asked hears nothing and asks again.
                self.shared.trouble(&format!("{name}: {error}"));
                return self.restart_assignment();
            }
        }
    }

    fn move_to(&mut self, slot: u32, to: i64) {
        self.spoil();
        // Of a parking partition, all that is not read again is tried no more.
        self.forget_parked(slot);
        let begun = self.clear(slot);
        self.shared.repeated(begun);
        self.move_effects(slot);
        self.forget_marks_from(slot, to);
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        partition.scan_to = None;
        partition.beyond.forget();
        partition.carried.clear();
        partition.suspects.clear();
        partition.tracker = Some(OffsetTracker::new(to));
        partition.closed = Some((to, partition.beyond.clone()));
        partition.said = None;
        partition.far = None;
        // What was fetched before does not pass for what is there.
        partition.awaited = Some((to, 0));
        partition.dirty = true;
    }

    /// Answers for what the group's commits say by now.
    pub(super) fn answer_resets(&mut self) {
        let partitions = &self.partitions;
        self.resets.retain(|Pending { secured_by, answer, answers }| {
            let name = &answer.partition;
            let slot = partitions.find(&name.topic, name.partition);
            let Some(partition) = slot.and_then(|slot| partitions.get(slot)) else { return false };
            let stands = partition.secured >= *secured_by;
            if stands {
                // Nobody may listen any more.
                let _ = answers.send(answer.clone());
            }
            !stands
        });
    }

    /// A partition is given up.
    pub(super) fn forget_resets(&mut self, name: &TopicPartition) {
        self.resets.retain(|pending| pending.answer.partition != *name);
    }
}
