//! What a stage does when its partitions come, go, or must be read again.
//!
//! An assignment says which of the partitions that were handed over came back; these go on where they
//! stood, the others are abandoned before anything of the new assignment is read.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::carried::Carried;
use super::delivery::{Begin, Standing};
use super::metadata::Beyond;
use super::offsets::OffsetTracker;
use super::parked::{Bounds, Loss};
use super::partitions::{Partition, Tenure};
use super::runner::Runner;
use super::sources::Role;
use crate::base::guard::{self, Guard};
use crate::base::{Backoff, Jitter};
use crate::broker::{BrokerError, Rebalance, StartAt, TopicPartition};

/// Look-ups hold up polling: they end within the stage's `drain`, and within these bounds.
const SHORTEST_LOOK_UP: Duration = Duration::from_secs(1);
const LONGEST_LOOK_UP: Duration = Duration::from_secs(10);
/// How soon an assignment that could not begin is tried again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a stage rests before the second of several epochs is given up, and before each that follows.
const ABORT_PAUSE: Backoff = Backoff::Exponential {
    initial: Duration::from_millis(50),
    factor: 2.0,
    max: LONGEST_ABORT_PAUSE,
    jitter: Jitter::None,
};
/// How soon it is looked again whether an epoch is given up by now, where nobody says so before.
const ABORT_LOOK: Duration = Duration::from_millis(20);
const LONGEST_ABORT_PAUSE: Duration = Duration::from_secs(30);
/// How long an epoch that was given up counts.
const ABORT_MEMORY: Duration = Duration::from_secs(60);
/// How often a record that is awaited after a rewind is sought again before it is taken for gone.
const MAX_SOUGHT: u8 = 3;

/// Where each partition is read from.
type Starts = Vec<(TopicPartition, StartAt)>;

/// How long to rest where the same has happened so often before.
fn rest(times: u32) -> Duration {
    if times == 0 { Duration::ZERO } else { ABORT_PAUSE.delay(times, 0.0) }
}

impl Runner {
    pub(super) fn rebalance(&mut self, rebalance: Rebalance) {
        self.shared.rebalanced();
        match rebalance {
            Rebalance::Revoked { lost, .. } => self.revoked(lost),
            Rebalance::Assigned(partitions) => self.assigned(&partitions),
        }
    }

    fn assigned(&mut self, assigned: &[TopicPartition]) {
        self.hand_over_by = None;
        self.look_for_lost_at = None;
        match self.finds_parking() {
            Ok(false) => {}
            Ok(true) => return self.abandon_all(),
            Err(error) => return self.ask_again(&error, assigned),
        }
        let mut wanted = assigned.to_vec();
        for slot in self.partitions.slots() {
            let Some(partition) = self.partitions.get(slot) else { continue };
            if assigned.contains(&partition.name) {
                continue;
            }
            match guard::removed(Guard::Abandon) {
                true => wanted.push(partition.name.clone()),
                false => self.abandon(slot),
            }
        }
        match self.begin_all(&wanted) {
            Ok((starts, missing)) => {
                self.retry_assignment = None;
                self.assign_all(&starts);
                self.load_marks();
                self.shared.assigned(assigned.len());
                self.lose(missing);
                self.next_report = self.now;
            }
            Err(error) => self.ask_again(&error, assigned),
        }
    }

    /// Without knowing where to start, nothing is read: the brokers are asked again.
    fn ask_again(&mut self, error: &BrokerError, assigned: &[TopicPartition]) {
        self.shared.trouble(&error.to_string());
        self.consumer.unassign();
        self.retry_assignment = Some((Instant::now() + ASK_AGAIN, assigned.to_vec()));
    }

    /// An assignment whose starts could not be looked up is tried again.
    pub(super) fn assign_again(&mut self) {
        if self.retry_assignment.as_ref().is_some_and(|(due, _)| *due <= self.now)
            && let Some((_, assigned)) = self.retry_assignment.take()
        {
            self.assigned(&assigned);
        }
    }

    fn begin_all(&mut self, assigned: &[TopicPartition]) -> Result<(Starts, Vec<Loss>), BrokerError> {
        if assigned.is_empty() {
            return Ok(Default::default());
        }
        let deadline = Instant::now() + self.look_up_limit();
        let begins = self.delivery.starts(assigned, deadline)?;
        let bounds = self.bounds_of_parked(assigned, deadline)?;
        let missing = self.missing(&begins, &bounds, deadline)?;
        let begin = |begin: Begin| {
            let bounds = bounds.get(&begin.partition).copied();
            self.begin_partition(begin, bounds)
        };
        Ok((begins.into_iter().map(begin).collect(), missing))
    }

    /// One that came back goes on where it stood, unless its commit says that another engine had it
    /// meanwhile; any other begins as the delivery says.
    fn begin_partition(&mut self, mut begin: Begin, bounds: Option<(i64, i64)>) -> (TopicPartition, StartAt) {
        let name = begin.partition.clone();
        let role = self.sources.role(&name.topic);
        if role != Role::Input && begin.committed.is_none() && !begin.inherited {
            // Whatever is in a topic of the engine's own is meant for the stage.
            (begin.at, begin.beyond) = (Self::oldest_parked(bounds), Beyond::default());
        }
        if let Some(slot) = self.partitions.find(&name.topic, name.partition) {
            match self.partitions.get_mut(slot).and_then(|partition| partition.take_up(begin.committed)) {
                Some(next) if !guard::removed(Guard::Keep) => {
                    self.begin_scan(slot, next, bounds);
                    return (name, StartAt::Offset(next));
                }
                _ => self.abandon(slot),
            }
        }
        let mut partition = Partition::new(begin.partition, begin.committed, begin.beyond);
        partition.role = role;
        if let (None, StartAt::Offset(offset)) = (begin.committed, begin.at) {
            partition.tracker = Some(OffsetTracker::new(offset));
            partition.closed = Some((offset, partition.beyond.clone()));
            partition.dirty = true;
            self.commit_soon();
        }
        let slot = self.partitions.insert(partition);
        self.begin_marks(slot);
        self.begin_effects(slot);
        if let StartAt::Offset(offset) = begin.at {
            self.begin_scan(slot, offset, bounds);
        }
        (name, begin.at)
    }

    /// Gives a partition up: its work is aborted, nothing of it is committed any more.
    pub(super) fn abandon(&mut self, slot: u32) {
        self.spoil();
        self.forget_parked(slot);
        let begun = self.clear(slot);
        self.shared.repeated(begun);
        self.forget_marks(slot);
        self.writing.iter_mut().for_each(|writing| writing.forget(slot));
        if let Some(partition) = self.partitions.remove(slot) {
            self.shared.forget(&partition.name);
            self.forget_resets(&partition.name);
            self.forget_lost(&partition.name);
        }
    }

    /// What an open epoch holds of records that are given up or read again must never be closed.
    pub(super) fn spoil(&mut self) {
        if self.delivery.is_open() {
            self.must_abort = true;
            self.abort_at.get_or_insert(self.now);
        }
    }

    /// The most time that a look-up on the stage's own thread may take.
    pub(super) fn look_up_limit(&self) -> Duration {
        self.program.stage.drain.clamp(SHORTEST_LOOK_UP, LONGEST_LOOK_UP)
    }

    /// Takes all that a partition has in flight back; how many of these records had been begun.
    pub(super) fn clear(&mut self, slot: u32) -> usize {
        self.blocked.retain(|blocked| self.in_flight.slot(blocked.id) != Some(slot));
        self.rates.forget(slot);
        self.writing.iter_mut().for_each(|writing| writing.clear(slot));
        self.parked.expect_none_of(self.in_flight.parking(slot));
        let abandoned = self.in_flight.abandon(slot);
        let in_flight = &self.in_flight;
        self.commits.retain(|id| in_flight.slot(id).is_some());
        self.timers.retain(|Reverse((_, id))| in_flight.slot(*id).is_some());
        let next = self.release_lanes();
        self.forget_claims();
        self.running -= abandoned.running;
        self.resting -= abandoned.resting;
        self.unacknowledged -= abandoned.unacknowledged;
        next.into_iter().for_each(|id| self.take_turn(id));
        abandoned.begun
    }

    /// Reads a partition again from its position on; what is finished beyond it is not redone, and what
    /// waits or was decided goes on where it stood. `hold` says until when it rests first.
    pub(super) fn rewind(&mut self, slot: u32, hold: Option<Instant>) {
        let Some(partition) = self.partitions.get(slot) else { return };
        if partition.role == Role::Parked {
            self.spoil();
            // Where the epoch is given up it is read again.
            if !self.must_abort {
                self.put_back(slot, hold);
            }
            return;
        }
        let beyond = partition.beyond(self.in_flight.attempts(slot));
        let Some(position) = partition.position() else { return };
        self.spoil();
        self.go_back(slot, position, beyond, hold);
    }

    /// Reads a partition again from where the last epoch that closed left it. False where that is not
    /// known here: nothing was committed since it was assigned.
    fn rewind_to_closed(&mut self, slot: u32, bounds: &Bounds) -> bool {
        let Some(partition) = self.partitions.get_mut(slot) else { return true };
        partition.said = None;
        partition.dirty = true;
        if partition.tracker.is_none() {
            return true;
        }
        let Some((position, mut beyond)) = partition.closed.clone() else { return false };
        // Attempts were spent, whatever becomes of the epoch, and what was decided is.
        beyond.attempts.extend(partition.beyond(self.in_flight.attempts(slot)).attempts);
        let sentenced = std::mem::take(&mut partition.sentenced);
        match partition.role {
            Role::Parked => {
                let bounds = bounds.get(&partition.name).copied();
                self.scan_again(slot, (position, beyond), bounds);
            }
            Role::Input | Role::Replay => self.go_back(slot, position, beyond, None),
        }
        if let Some(partition) = self.partitions.get_mut(slot) {
            for (offset, sentence) in sentenced {
                partition.carried.entry(offset).or_insert_with(|| Box::new(Carried::for_good(sentence)));
            }
        }
        true
    }

    pub(super) fn go_back(&mut self, slot: u32, position: i64, beyond: Beyond, hold: Option<Instant>) {
        let Some(partition) = self.partitions.get(slot) else { return };
        let next = partition.next().unwrap_or(position);
        let carried: Vec<_> = self.in_flight.carried(slot).collect();
        let begun = self.clear(slot);
        self.shared.repeated(begun);
        let Some(partition) = self.partitions.get_mut(slot) else { return };
        partition.beyond = beyond;
        // What the rewind before this one kept of records that did not come again yet, or are parked and
        // did not start again, still counts.
        let read = if partition.role == Role::Parked { position } else { next };
        partition.carried.retain(|offset, _| *offset >= read);
        partition.carried.extend(carried);
        partition.tracker = Some(OffsetTracker::new(position));
        partition.far = None;
        let still = partition.awaited.filter(|(awaited, _)| *awaited == position);
        partition.awaited = (next > position).then_some((position, 0)).or(still);
        partition.held_until = hold.or(partition.held_until);
        if partition.tenure != Tenure::Owned {
            return;
        }
        let name = partition.name.clone();
        if let Err(error) = self.consumer.seek(&name, position) {
            // A seek that fails leaves the partition unread; reading it from the start of a new
            // assignment is always right.
            self.shared.trouble(&format!("{name}: {error}"));
            self.restart_assignment();
        }
    }

    /// Whether a record read after a rewind is where the rewind went. A later one that was fetched
    /// before it must not pass for it, or what lies between would never be read: the record that is
    /// awaited is sought again, and only taken for gone when it still does not come.
    pub(super) fn is_expected(&mut self, slot: u32, offset: i64) -> bool {
        let Some(partition) = self.partitions.get_mut(slot) else { return false };
        let Some((awaited, sought)) = partition.awaited else { return true };
        if offset < awaited {
            return false;
        }
        if offset == awaited || sought == MAX_SOUGHT {
            partition.awaited = None;
            return true;
        }
        partition.awaited = Some((awaited, sought + 1));
        let name = partition.name.clone();
        if self.consumer.seek(&name, awaited).is_err() {
            self.restart_assignment();
        }
        false
    }

    /// Abandons all partitions; nothing is known of an assignment any more.
    pub(super) fn abandon_all(&mut self) {
        for slot in self.partitions.slots() {
            self.abandon(slot);
        }
        self.commits.forget();
        self.retry_assignment = None;
        self.look_for_lost_at = None;
        self.hand_over_by = None;
    }

    /// Nothing of what is known here counts. While partitions are taken back, they are left to the group.
    fn begin_anew(&mut self) {
        match self.hand_over_by {
            Some(_) => self.lose_all(),
            None => self.restart_assignment(),
        }
    }

    /// Abandons all partitions and asks for them anew, from their commits.
    pub(super) fn restart_assignment(&mut self) {
        let names: Vec<_> = self.partitions.iter().map(|partition| partition.name.clone()).collect();
        self.abandon_all();
        self.consumer.unassign();
        self.retry_assignment = Some((self.now + ASK_AGAIN, names));
    }

    /// Where the brokers refuse what an epoch holds, the stage says why until it goes on.
    fn look_for_refusal(&mut self) {
        if let Some(why) = self.delivery.refusal() {
            let why = format!("what was written is given up and done again: {why}");
            self.shared.trouble(&why);
            let times = self.refused.take().map_or(0, |(_, times)| times);
            self.abort_at = Some(self.now + rest(times));
            self.refused = Some((why, times.saturating_add(1)));
        }
    }

    /// The stage goes on.
    pub(super) fn is_taken(&mut self) {
        if self.refused.take().is_some() {
            self.shared.recovered("what is written is taken again");
        }
    }

    /// How long to rest before an epoch is given up: not at all the first time; longer each time another
    /// one follows soon, as where the brokers refuse every producer.
    fn abort_pause(&mut self) -> Duration {
        let lately = self.aborted.filter(|(at, _)| self.now.saturating_duration_since(*at) < ABORT_MEMORY);
        let before = lately.map_or(0, |(_, count)| count);
        self.aborted = Some((self.now, before.saturating_add(1)));
        rest(before)
    }

    /// The epoch is given up: all partitions are read again from their positions.
    pub(super) fn abort_epoch(&mut self) {
        if !self.must_abort {
            return;
        }
        self.look_for_refusal();
        let due = match self.abort_at {
            Some(due) => due,
            None => self.now + self.abort_pause(),
        };
        self.abort_at = Some(due);
        if self.now < due {
            return;
        }
        let standing = match self.delivery.abort() {
            Ok(Standing::Pending) => {
                self.abort_at = Some(self.now + ABORT_LOOK);
                return;
            }
            Ok(standing) => standing,
            Err(BrokerError::Fenced(reason)) => {
                self.abort_at = Some(self.now + LONGEST_ABORT_PAUSE);
                return self.halt(reason);
            }
            Err(error) => {
                self.shared.trouble(&error.to_string());
                self.abort_at = Some(self.now + ASK_AGAIN);
                return;
            }
        };
        if standing == Standing::Nothing {
            // What was closed before that stands.
            self.read_commit_answers();
        }
        self.must_abort = false;
        self.abort_at = None;
        self.shared.metrics.epochs_given_up(1);
        self.marks_are_written(true);
        if guard::removed(Guard::Rewind) {
            return;
        }
        if standing != Standing::Acknowledged {
            self.commits.forget();
        }
        let bounds = match standing {
            Standing::Nothing => self.bounds_of_all_parked(),
            _ => Ok(Bounds::new()),
        };
        let Ok(bounds) = bounds else { return self.begin_anew() };
        for slot in self.partitions.slots() {
            match standing {
                Standing::Acknowledged => self.rewind(slot, None),
                Standing::Nothing if self.rewind_to_closed(slot, &bounds) => {}
                _ => return self.begin_anew(),
            }
        }
    }

    fn bounds_of_all_parked(&self) -> Result<Bounds, BrokerError> {
        let names: Vec<_> = self.partitions.iter().map(|partition| partition.name.clone()).collect();
        self.bounds_of_parked(&names, Instant::now() + self.look_up_limit())
    }
}
