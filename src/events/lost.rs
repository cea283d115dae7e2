//! What a stage does when what it reads from is gone: an offset, or the whole consumer.
//!
//! The client says of a lost offset neither whose it is nor anything ever again, and it reads that
//! partition no more. So the look for it is owed until it was answered, and after it every partition
//! is read on from where it stands, whichever it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::offsets::OffsetTracker;
use super::partitions::Partition;
use super::runner::{Phase, Runner};
use super::sources::Role;
use crate::base::guard::{self, Guard};
use crate::broker::{ConsumeError, StartAt, TopicPartition};
use crate::catalog::OnLost;

/// How long after the news of a lost offset it is looked for: it comes once a partition.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// How soon a look that failed is repeated.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long after the loss of a consumer the next one is opened; doubles with each one lost lately.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);
/// How long a lost consumer counts as lately.
const REOPEN_MEMORY: Duration = Duration::from_secs(120);
/// So many consumers may be lost lately; with one more the stage halts.
const MAX_REOPENED: usize = 4;
/// How long closing a lost consumer may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

impl Runner {
    pub(super) fn consume_error(&mut self, error: &ConsumeError) {
        match error {
            ConsumeError::OffsetOutOfRange(_) => {
                self.look_for_lost_at.get_or_insert(self.now + LOOK_AFTER);
            }
            ConsumeError::Fatal(reason) => self.consumer_lost(reason),
            ConsumeError::Unreachable(reason) if guard::removed(Guard::RideOut) => self.halt(reason.clone()),
            ConsumeError::UnknownTopic(what) => {
                self.sources.unknown(what, self.now);
                self.shared.trouble(&error.to_string());
            }
            _ => self.shared.trouble(&error.to_string()),
        }
    }

    /// Looks for positions that are not on the broker any more, once that is owed.
    pub(super) fn look_for_lost(&mut self) {
        if self.look_for_lost_at.is_none_or(|due| due > self.now) {
            return;
        }
        self.look_for_lost_at = None;
        let known = |partition: &Partition| Some((partition.name.clone(), partition.next()?));
        let positions: Vec<_> = self.partitions.iter().filter_map(known).collect();
        match self.consumer.out_of_range(&positions, self.look_up_limit()) {
            Ok(gone) if gone.is_empty() => self.read_on(),
            Ok(gone) => self.are_gone(gone),
            Err(error) => {
                self.shared.trouble(&error.to_string());
                self.look_for_lost_at = Some(Instant::now() + LOOK_AGAIN);
            }
        }
    }

    fn are_gone(&mut self, gone: Vec<(TopicPartition, i64, i64)>) {
        let (mut losses, mut others) = (Vec::new(), Vec::new());
        for (name, low, high) in gone {
            match self.next_of(&name).and_then(|next| self.loss_of(&name, next, (low, high))) {
                Some(loss) => losses.push(loss),
                None => others.push((name, low, high)),
            }
        }
        let halts = self.program.stage.on_lost == OnLost::Halt;
        if halts && !losses.is_empty() {
            return self.lose(losses);
        }
        // A parking topic in which nothing was parked is as good as another one.
        let unread = others.iter().find(|(name, ..)| self.sources.role(&name.topic) != Role::Parked);
        if let Some((name, low, high)) = unread.filter(|_| halts) {
            return self.halt_on_lost(name, (*low, *high));
        }
        self.lose(losses);
        for (name, low, high) in others {
            self.go_on_at(&name, low, high);
        }
        self.read_on();
    }

    fn halt_on_lost(&mut self, name: &TopicPartition, (low, high): (i64, i64)) {
        let next = self.next_of(name).unwrap_or_default();
        self.halt(format!(
            "{name}: offset {next} is gone; the broker has {low} to {high}; \
             set `on_lost = \"earliest\"` to go on at the oldest record"
        ));
    }

    /// What is in flight of records that are gone is finished: it was read in time. Where the broker has
    /// fewer than were read, the topic is another one, and nothing known of the old one counts.
    pub(super) fn go_on_at(&mut self, name: &TopicPartition, low: i64, high: i64) {
        let Some(slot) = self.partitions.find(&name.topic, name.partition) else { return };
        let next = self.next_of(name).unwrap_or_default();
        self.shared.trouble(&format!(
            "{name}: offset {next} is gone; the broker has {low} to {high}; going on at {low}"
        ));
        if self.sources.role(&name.topic) == Role::Parked {
            self.lose_parked(slot, next > high);
        }
        if next > high {
            self.clear(slot);
        }
        self.move_effects(slot);
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        partition.awaited = None;
        partition.dirty = true;
        match &mut partition.tracker {
            Some(tracker) if next < low => tracker.skip_to(low),
            tracker => {
                *tracker = Some(OffsetTracker::new(low));
                partition.closed = Some((low, Default::default()));
                partition.beyond.forget();
                partition.carried.clear();
                partition.suspects.clear();
            }
        }
    }

    fn next_of(&self, name: &TopicPartition) -> Option<i64> {
        let slot = self.partitions.find(&name.topic, name.partition)?;
        self.partitions.get(slot)?.next()
    }

    /// Reads every partition on from where it stands; one of which nothing is known yet, from its oldest
    /// record. That also starts those again that the client has given up.
    pub(super) fn read_on(&mut self) {
        let start = |partition: &Partition| partition.next().map_or(StartAt::Earliest, StartAt::Offset);
        let starts: Vec<_> =
            self.partitions.iter().map(|partition| (partition.name.clone(), start(partition))).collect();
        self.assign_all(&starts);
    }

    /// Tells the client what to read; nothing is paused after that.
    pub(super) fn assign_all(&mut self, starts: &[(TopicPartition, StartAt)]) {
        self.paused_all = false;
        for slot in self.partitions.slots() {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.paused = false;
            }
        }
        if let Err(error) = self.consumer.assign(starts) {
            self.halt(format!("the assignment was refused: {error}"));
        }
    }

    /// The consumer is beyond repair: its partitions are given up and another one is opened. One that
    /// is lost again and again shares its static id with another engine, which only people can mend.
    fn consumer_lost(&mut self, reason: &str) {
        self.abandon_all();
        let now = self.now;
        self.reopened.retain(|at| now.duration_since(*at) < REOPEN_MEMORY);
        if self.reopened.len() >= MAX_REOPENED {
            return self.halt(format!(
                "the consumer cannot go on: {reason}; is another engine running under the same BIPLANE_ENGINE_ID?"
            ));
        }
        self.shared.trouble(&format!("the consumer cannot go on and is replaced: {reason}"));
        self.reopen_at = Some(now + REOPEN_PAUSE * 2u32.pow(self.reopened.len() as u32));
        self.reopened.push(now);
    }

    /// Replaces a consumer that was lost or is stuck, once its pause is over.
    pub(super) fn reopen_consumer(&mut self) {
        if self.reopen_at.is_none_or(|at| at > self.now) {
            return;
        }
        match (self.reopen)(self.sources.subscription()) {
            Ok(consumer) => {
                self.reopen_at = None;
                self.paused_all = false;
                let consumer = Arc::new(consumer);
                self.delivery.rejoin(Arc::clone(&consumer));
                let old = std::mem::replace(&mut self.consumer, consumer);
                // Closing may take a while, and the new one must be polled meanwhile.
                let close = move || Arc::into_inner(old).is_some_and(|old| old.close(CLOSE_LIMIT));
                let closer = std::thread::Builder::new().name("stage-rejoin".to_owned()).spawn(close);
                if let Err(error) = closer {
                    self.shared.trouble(&error.to_string());
                }
            }
            Err(error) => {
                self.shared.trouble(&error.to_string());
                self.reopen_at = Some(self.now + REOPEN_PAUSE);
            }
        }
    }

    /// Stands still and says why. Membership and what is in flight are kept; what is finished is
    /// still committed.
    pub(super) fn halt(&mut self, reason: String) {
        if matches!(self.phase, Phase::Running) {
            self.shared.halted(&reason);
            self.phase = Phase::Halted(reason);
        }
    }
}
