//! How fast a stage goes: the window and the span, pauses, reports, and its end.

use std::time::Duration;

use super::hold::Hold;
use super::partitions::Tenure;
use super::runner::{Phase, Runner};
use super::sources::Role;
use crate::base::guard::{self, Guard};
use crate::broker::TopicPartition;
use crate::catalog::Bound;

/// For so long a full window only stops taking from the queue; past it the partitions are paused,
/// which throws away what was fetched ahead.
const PATIENCE: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Runner {
    /// Whether the consumer may be polled now: a full window stops that for a moment, and for longer
    /// only once the partitions are paused, since a member must go on polling.
    pub(super) fn may_poll(&mut self) -> bool {
        if self.reopen_at.is_some() {
            return false;
        }
        if self.paused_all || self.hold.is_some() || !matches!(self.phase, Phase::Running) {
            return self.paused_all;
        }
        if self.is_too_fast() {
            return false;
        }
        let window = self.window;
        let over =
            self.in_flight.len() >= window.records || self.in_flight.bytes() >= window.bytes.as_usize();
        let full = over && !guard::removed(Guard::Window)
            || !self.blocked.is_empty()
            || self.must_abort
            || self.closing
            || self.breaker_holds();
        match (full, self.full_since) {
            (true, None) => self.full_since = Some(self.now),
            (false, Some(_)) if self.has_room() => self.full_since = None,
            _ => {}
        }
        self.full_since.is_none()
    }

    /// Says what is in flight and learns how much may be: the stage's window, or less where the stages
    /// of the engine together hold much.
    pub(super) fn renew_window(&mut self) {
        let allowed = self.share.renew(self.in_flight.len(), self.in_flight.bytes());
        let window = self.program.stage.window;
        self.window =
            Bound { records: window.records.min(allowed.records), bytes: window.bytes.min(allowed.bytes) };
    }

    /// Half of the window is free again.
    fn has_room(&self) -> bool {
        let window = self.window;
        self.in_flight.len() <= window.records / 2
            && self.in_flight.bytes() <= window.bytes.as_usize() / 2
            && self.blocked.is_empty()
            && !self.must_abort
            && !self.closing
            && !self.breaker_holds()
    }

    /// Everything that follows the clock.
    pub(super) fn keep_pace(&mut self) {
        self.renew_window();
        self.abort_epoch();
        self.hand_over();
        self.reopen_consumer();
        self.subscribe_again();
        self.assign_again();
        self.look_for_lost();
        self.pause_and_resume();
        self.keep_writing();
        self.keep_committing();
        self.write_marks_again();
        self.answer_resets();
        if self.now >= self.next_report {
            self.next_report = self.now + REPORT_INTERVAL;
            self.pass_gaps();
            self.tidy_parked();
            self.report();
            self.watch();
        }
        self.end_drain();
    }

    fn pause_and_resume(&mut self) {
        self.end_scans();
        self.measure_parked();
        self.write_done();
        let standing = self.hold.is_some() || !matches!(self.phase, Phase::Running);
        let impatient = self.full_since.is_some_and(|since| self.now.duration_since(since) >= PATIENCE);
        let slow = self.rates.pauses(self.now, self.paused_all);
        let all = standing || slow || impatient && !self.has_room() || self.paused_all && !self.has_room();
        if !all && self.paused_all {
            self.full_since = None;
        }
        self.paused_all = all;
        let span = self.program.stage.span;
        let (mut pause, mut resume): (Vec<TopicPartition>, Vec<TopicPartition>) = (Vec::new(), Vec::new());
        for slot in self.partitions.slots() {
            let Some(partition) = self.partitions.get(slot) else { continue };
            // What the window or a lane waits for may come from there.
            if partition.role == Role::Parked {
                continue;
            }
            let parked = self.waits_for_parked(partition);
            let Some(partition) = self.partitions.get_mut(slot) else { continue };
            partition.span_full = partition.tracker.as_ref().is_some_and(|tracker| {
                let (records, bytes) = (tracker.span(), tracker.span_bytes());
                match partition.span_full {
                    true => records > span.records / 2 || bytes > span.bytes.as_usize() / 2,
                    false => records >= span.records || bytes >= span.bytes.as_usize(),
                }
            });
            if partition.held_until.is_some_and(|until| until <= self.now) {
                partition.held_until = None;
            }
            let far = partition.is_far(self.reach);
            let early = self.dedupe.as_ref().is_some_and(|dedupe| dedupe.holds(slot, partition.role));
            let wanted =
                all || far || early || parked || partition.span_full || partition.held_until.is_some();
            if wanted != partition.paused && partition.tenure == Tenure::Owned {
                partition.paused = wanted;
                if wanted { &mut pause } else { &mut resume }.push(partition.name.clone());
            }
        }
        if !pause.is_empty() {
            self.consumer.pause(&pause);
        }
        if !resume.is_empty() {
            self.consumer.resume(&resume);
        }
    }

    /// Looks at acknowledgements between two turns of the loop, so that a commit says all it can.
    pub(super) fn read_acknowledgements(&mut self) {
        let mut acknowledgements = std::mem::take(&mut self.acknowledgements);
        self.inbox.take_acknowledgements(&mut acknowledgements);
        for (id, result) in acknowledgements.drain(..) {
            self.acknowledged(id, result);
        }
        self.acknowledgements = acknowledgements;
    }

    fn end_drain(&mut self) {
        let Phase::Draining(deadline) = self.phase else { return };
        let over = self.now >= deadline && !guard::removed(Guard::DrainLimit);
        if self.is_idle() || over || guard::removed(Guard::Drain) {
            self.phase = Phase::Stopped;
        }
    }

    fn report(&mut self) {
        let waiting = self.timers.len() + self.commits.waiting() + self.resting;
        let waits = self.retry_assignment.is_some() || self.reopen_at.is_some();
        let unassigned = waits
            || self.dedupe.as_ref().is_some_and(|dedupe| dedupe.begins())
            || self.hold == Some(Hold::Unknown)
            || self.partitions.is_empty() && !self.shared.was_assigned();
        self.shared.forget_old_trouble(self.now);
        if let Some((why, _)) = self.refused.as_ref().filter(|_| matches!(self.phase, Phase::Running)) {
            self.shared.remind(why);
        }
        if let Some(Hold::Paused(reason)) = &self.hold {
            self.shared.paused(reason);
        }
        self.report_breakers();
        self.report_marks();
        self.report_parked();
        let state = match &self.phase {
            Phase::Running if unassigned => "starting",
            Phase::Running if self.paused_all || self.breakers.is_open() => "paused",
            Phase::Running => "running",
            Phase::Halted(_) => "halted",
            Phase::Draining(_) => "draining",
            Phase::Stopped => "stopped",
        };
        let in_flight = &self.in_flight;
        self.shared.report(
            state,
            (in_flight.len(), in_flight.bytes()),
            (self.lanes.len(), waiting),
            // What is parked is no lag.
            self.partitions
                .iter_mut()
                .filter(|(_, partition)| partition.role != Role::Parked)
                .map(|(slot, partition)| (partition, in_flight.oldest(slot))),
            self.now_millis,
        );
    }

    /// Commits what is finished, gives the rest up and leaves the group.
    pub(super) fn leave(mut self) {
        self.read_acknowledgements();
        self.pass_gaps();
        self.commit_now(self.leave_limit);
        if self.delivery.is_open() {
            self.delivery.give_up(self.leave_limit);
        }
        for slot in self.partitions.slots() {
            self.in_flight.abandon(slot);
        }
        self.counts.flush(&self.shared.metrics);
        self.report();
        let Self { delivery, consumer, shared, leave_limit, .. } = self;
        drop(delivery);
        if let Some(consumer) = std::sync::Arc::into_inner(consumer)
            && !consumer.close(leave_limit)
        {
            shared.trouble("leaving the group took too long; the broker will notice by its session timeout");
        }
        shared.stopped();
    }
}
