//! Commits: when they are due, what they say, and what waits for their answers.
//!
//! There is never more than one under way. Offsets go out on the stage's interval. Attempts that were
//! spent ask for a commit sooner, since a record's next attempt starts only once the ones before it are
//! committed: a kill then forgets at most the attempt it cuts short. All records that wait share one
//! commit, and such commits keep a distance, so that short waits make no storm of them. Where the
//! coordinator does not answer, a record waits and the others go on.

use std::time::{Duration, Instant};

use super::inflight::EntryId;
use super::partitions::Tenure;
use super::runner::Runner;
use crate::base::guard::{self, Guard};
use crate::broker::{BrokerError, Commit, TopicPartition};

/// A commit without an answer for so long is taken for lost and sent again.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);
/// The least time between two commits that only spent attempts ask for.
const DISTANCE: Duration = Duration::from_millis(20);
/// How soon a failed commit that a record waits for is sent again.
const AGAIN: Duration = Duration::from_millis(250);

/// What a runner knows of its commits. Each has a number, which rises.
pub(super) struct Commits {
    /// The newest that was asked for.
    asked: u64,
    /// The one whose answer is awaited, and since when.
    under_way: Option<(u64, Instant)>,
    /// When the newest was asked for.
    last: Instant,
    /// When the next is due, if there is something to commit.
    due: Instant,
    /// When one is wanted at the latest, because attempts were spent.
    wanted: Option<Instant>,
    /// Records whose time has come and whose attempts are not committed.
    unsecured: Vec<EntryId>,
}

impl Commits {
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            asked: 0,
            under_way: None,
            last: now,
            due: now + interval,
            wanted: None,
            unsecured: Vec::new(),
        }
    }

    /// Nobody awaits the answer of the commit under way any more; true where there was one.
    pub(super) fn forget(&mut self) -> bool {
        self.under_way.take().is_some()
    }

    /// How many records wait for a commit.
    pub(super) fn waiting(&self) -> usize {
        self.unsecured.len()
    }

    /// Drops the waiting records that `keep` does not know any more.
    pub(super) fn retain(&mut self, keep: impl Fn(EntryId) -> bool) {
        self.unsecured.retain(|id| keep(*id));
    }
}

impl Runner {
    /// Sends a commit if one is due, and reads the answers to those before.
    pub(super) fn keep_committing(&mut self) {
        self.read_commit_answers();
        if self.commits.under_way.is_some() {
            return;
        }
        let wanted = self.commits.wanted.is_some_and(|wanted| wanted <= self.now);
        let due = wanted || self.now >= self.commits.due && self.wants_commit();
        self.closing = due && !self.may_close();
        if due && !self.closing {
            self.commit_later();
        }
    }

    /// Whether the epoch may close now: where it closes as a whole, nothing of it is on its way.
    fn may_close(&self) -> bool {
        !self.delivery.closes_whole()
            || self.unacknowledged == 0
                && self.blocked.is_empty()
                && self.parked.all_is_written()
                && !self.must_abort
    }

    /// When the loop must look at its commits again.
    pub(super) fn commit_due(&self) -> Option<Instant> {
        if self.commits.under_way.is_some() {
            return None;
        }
        let regular = self.wants_commit().then_some(self.commits.due);
        [regular, self.commits.wanted].into_iter().flatten().min()
    }

    /// Whether there is something to commit.
    fn wants_commit(&self) -> bool {
        self.partitions.iter().any(|partition| partition.dirty && partition.tenure != Tenure::Left)
    }

    /// An attempt of a record of that partition was spent, and the next is due after `wait`. Returns the
    /// number of the first commit that knows of it.
    pub(super) fn attempt_spent(&mut self, slot: u32, wait: Duration) -> u64 {
        if let Some(partition) = self.partitions.get_mut(slot) {
            partition.dirty = true;
        }
        // Half of the wait, so that others can join and the answer is there when the record is due.
        let by = (self.now + wait / 2).max(self.commits.last + DISTANCE);
        self.commits.wanted = Some(self.commits.wanted.map_or(by, |wanted| wanted.min(by)));
        self.commits.asked + 1
    }

    /// There is something to commit that should not wait for the interval.
    pub(super) fn commit_soon(&mut self) {
        self.commits.wanted = Some(self.now);
    }

    /// The same, and the number under which the next commit says it.
    pub(super) fn said_by_next_commit(&mut self) -> u64 {
        self.commit_soon();
        self.commits.asked + 1
    }

    /// A waiting record's time has come: it may start once its attempts are committed.
    pub(super) fn start_or_await_commit(&mut self, id: EntryId) {
        let Some(entry) = self.in_flight.get_mut(id) else { return };
        let partition = self.partitions.get(entry.slot);
        let secured = partition.is_some_and(|partition| partition.secured >= entry.secured_by);
        if secured || guard::removed(Guard::AttemptGate) {
            self.ready.push_back(id);
        } else {
            self.commits.unsecured.push(id);
        }
    }

    pub(super) fn read_commit_answers(&mut self) {
        for (number, answer) in self.delivery.take_closed() {
            let awaited = self.commits.under_way.filter(|(awaited, _)| *awaited == number);
            if let Some((_, sent)) = awaited {
                self.commits.under_way = None;
                self.shared.committed(self.now.duration_since(sent));
            }
            match answer {
                Ok(partitions) => {
                    self.marks_are_written(false);
                    self.secured(number, &partitions);
                }
                Err(error) if awaited.is_some() || self.delivery.closes_whole() => self.commit_failed(&error),
                // It was taken for lost and has been said again since.
                Err(_) => {}
            }
        }
        if self.commits.under_way.is_some_and(|(_, sent)| self.now.duration_since(sent) > COMMIT_LIMIT) {
            self.commits.under_way = None;
            self.commit_failed(&BrokerError::Unreachable("a commit was not answered".to_owned()));
        }
    }

    /// All that commit `number` said of these partitions is kept by the broker.
    fn secured(&mut self, number: u64, partitions: &[TopicPartition]) {
        let mut goes_on = false;
        for name in partitions {
            let slot = self.partitions.find(&name.topic, name.partition);
            if let Some(partition) = slot.and_then(|slot| self.partitions.get_mut(slot)) {
                partition.secured = partition.secured.max(number);
                if let Some((_, offset, beyond)) = partition.said.take_if(|(said, ..)| *said <= number) {
                    let went_on = partition
                        .closed
                        .as_ref()
                        .map(|(closed, before)| (*closed, &before.finished) != (offset, &beyond.finished));
                    goes_on |= went_on == Some(true);
                    if went_on != Some(false) {
                        // Whatever had epochs given up does not keep the stage from going on.
                        self.aborted = None;
                    }
                    let open = |at: &i64| *at >= offset && !beyond.is_finished(*at);
                    partition.sentenced.retain(|at, _| open(at));
                    partition.closed = Some((offset, beyond));
                }
                if number == self.commits.asked {
                    partition.confirmed = partition.committed;
                }
            }
        }
        if goes_on {
            self.is_taken();
        }
        for id in std::mem::take(&mut self.commits.unsecured) {
            self.start_or_await_commit(id);
        }
    }

    /// A failed commit loses nothing: what it said is said again with the next one.
    fn commit_failed(&mut self, error: &BrokerError) {
        self.shared.trouble(&error.to_string());
        self.commits.due = self.now + self.program.stage.commit_interval;
        if guard::removed(Guard::CommitAgain) {
            return;
        }
        self.mark_dirty();
        if self.delivery.closes_whole() {
            self.must_abort = true;
        }
        if !self.timers.is_empty() || !self.commits.unsecured.is_empty() {
            self.commits.wanted = Some(self.now + AGAIN);
        }
    }

    fn mark_dirty(&mut self) {
        for slot in self.partitions.slots() {
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.dirty = true;
            }
        }
    }

    /// Sends a commit; the answer comes later.
    fn commit_later(&mut self) {
        self.commits.wanted = None;
        self.commits.due = self.now + self.program.stage.commit_interval;
        let commits = self.say_all();
        if commits.is_empty() {
            return;
        }
        match self.delivery.close_later(&commits, self.commits.asked) {
            Ok(()) => self.commits.under_way = Some((self.commits.asked, self.now)),
            Err(error) => self.commit_failed(&error),
        }
    }

    /// Commits what is finished and waits for the answer. What a commit under way says is said again,
    /// since its answer may never be seen.
    pub(super) fn commit_now(&mut self, limit: Duration) {
        if self.commits.forget() {
            self.mark_dirty();
        }
        self.write_done();
        if !self.may_close() {
            return;
        }
        let commits = self.say_all();
        if commits.is_empty() {
            return;
        }
        match self.delivery.close_now(&commits, limit) {
            Ok(()) => {
                let names: Vec<_> = commits.into_iter().map(|commit| commit.partition).collect();
                self.secured(self.commits.asked, &names);
            }
            Err(error) => self.commit_failed(&error),
        }
    }

    /// What the next commit says, under the next number.
    fn say_all(&mut self) -> Vec<Commit> {
        self.commits.asked += 1;
        self.commits.last = self.now;
        self.say_parked();
        let mut commits = Vec::new();
        for slot in self.partitions.slots() {
            let Some(partition) = self.partitions.get(slot) else { continue };
            if !partition.dirty || partition.tenure == Tenure::Left || self.hides_loss(partition) {
                continue;
            }
            let attempts = self.in_flight.attempts(slot);
            let (offset, mut beyond) = match &self.writing {
                None => match partition.position() {
                    Some(offset) => (offset, partition.beyond(attempts)),
                    None => continue,
                },
                // The group mirrors what the database says.
                Some(writing) => match writing.stands(slot) {
                    Some(offset) => (offset, partition.beyond_from(offset, attempts)),
                    None => continue,
                },
            };
            if guard::removed(Guard::Attempts) {
                beyond.attempts.clear();
            }
            let metadata = beyond.encode(offset);
            commits.push(Commit { partition: partition.name.clone(), offset, metadata });
            if let Some(partition) = self.partitions.get_mut(slot) {
                partition.dirty = false;
                partition.committed = Some(offset);
                partition.said = Some((self.commits.asked, offset, beyond));
            }
        }
        commits
    }
}
