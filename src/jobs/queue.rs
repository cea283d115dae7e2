//! One queue: claims at most what it can start soon, runs it, hands it to the acker.
//!
//! A loop over what has happened: a claim was answered, a job ended, somebody woke it, it is told to stop. It
//! never waits for the database itself; a claim runs in a task of its own, which is never cancelled, since
//! what it claimed must be known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::acker::Acker;
use super::choosing::Marks;
use super::claiming::{Answer, Limited, claim};
use super::execute::Execute;
use super::polling::Polling;
use super::state::Cancelled;
use super::wakes::Wakes;
use crate::base::guard::{self, Guard};
use crate::store::{
    BATCH_LIMIT, BatchId, Beside, Claimed, Database, Heartbeat, JobId, Outcome, QueueId, StoreResult,
    Verdict, Worker,
};

/// How long a job of a kind that is not known here is put off.
pub const UNKNOWN: Duration = Duration::from_secs(30);

/// How many jobs are claimed beyond the free slots while they end fast.
const PREFETCH: usize = 500;

/// How often lost leases are looked for while jobs run.
const LOOK: Duration = Duration::from_millis(500);

/// How one queue is worked.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    /// Its name.
    pub name: String,
    /// Its number.
    pub queue: QueueId,
    /// How many jobs run here at once, as it is said last; 0: no more of it are claimed, and the runner ends once
    /// none runs.
    pub concurrency: watch::Receiver<usize>,
    /// How long a lease is; heartbeats extend it.
    pub lease: Duration,
    /// How long a stop waits for jobs that run.
    pub drain: Duration,
}

/// What queues share: the database, who claims, who acknowledges, who wakes.
pub struct Shared<E> {
    /// Where jobs are.
    pub database: Database,
    /// Who claims them.
    pub worker: Worker,
    /// What runs them.
    pub execute: Arc<E>,
    /// Who writes what became of them.
    pub acker: Acker,
    /// Who extends their leases.
    pub heartbeat: Arc<Heartbeat>,
    /// Who wakes queues.
    pub wakes: Arc<Wakes>,
}

impl<E> Clone for Shared<E> {
    fn clone(&self) -> Self {
        Self {
            database: self.database.clone(),
            worker: self.worker,
            execute: Arc::clone(&self.execute),
            acker: self.acker.clone(),
            heartbeat: Arc::clone(&self.heartbeat),
            wakes: Arc::clone(&self.wakes),
        }
    }
}

/// Works one queue.
pub struct QueueRunner<E> {
    shared: Shared<E>,
    options: QueueOptions,
    marks: Marks,
    polling: Polling,
    /// Claimed and not started.
    waiting: VecDeque<(BatchId, Claimed)>,
    running: JoinSet<(BatchId, JobId)>,
    /// What cancels each job that runs.
    tokens: HashMap<JobId, CancellationToken>,
    /// The batches with jobs that have not ended: how many, and what cancels them.
    batches: HashMap<BatchId, (usize, CancellationToken)>,
    claims: JoinSet<Answer>,
    prefetch: usize,
    /// Where the last claim met limits: nothing is claimed ahead, and a job's place is free once its outcome is
    /// written.
    limited: Option<Limited>,
}

impl<E: Execute> QueueRunner<E> {
    /// A runner that has claimed nothing yet.
    pub fn new(shared: Shared<E>, options: QueueOptions) -> Self {
        Self {
            shared,
            options,
            marks: Marks::default(),
            polling: Polling::default(),
            waiting: VecDeque::new(),
            running: JoinSet::new(),
            tokens: HashMap::new(),
            batches: HashMap::new(),
            claims: JoinSet::new(),
            prefetch: 0,
            limited: None,
        }
    }

    /// Works until `stop`, or until its concurrency is 0 and nothing runs; then hands back what has not started and
    /// waits for what runs, which is cancelled after the drain or at `hurry`.
    pub async fn run(mut self, stop: CancellationToken, hurry: CancellationToken) {
        let wake = self.shared.wakes.of(&self.options.name);
        // Of its own, so that jobs that end faster than it comes do not put it off for ever.
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            if self.concurrency() == 0 {
                self.hand_back().await;
                if self.running.is_empty() && self.claims.is_empty() {
                    break;
                }
            }
            self.start_waiting();
            self.claim_more();
            let poll = self.polling.wait(Instant::now()).filter(|_| self.claims.is_empty());
            let look = !self.batches.is_empty();
            tokio::select! {
                Some(ended) = self.running.join_next() => self.ended(ended),
                Some(answer) = self.claims.join_next() => match answer {
                    Ok(answer) => self.answered(answer).await,
                    Err(error) => error!(%error, queue = self.options.name, "a claim panicked"),
                },
                () = wake.notified() => self.polling.woken(),
                Ok(()) = self.options.concurrency.changed() => {}
                () = tokio::time::sleep(poll.unwrap_or_default()), if poll.is_some() => self.polling.due(),
                _ = looks.tick(), if look => {
                    self.cancel_lost().await;
                    self.cancel_asked().await;
                }
                () = stop.cancelled() => {}
            }
        }
        self.stop(hurry).await;
    }

    fn concurrency(&self) -> usize {
        *self.options.concurrency.borrow()
    }

    fn start_waiting(&mut self) {
        while self.running.len() < self.concurrency() {
            let Some((batch, job)) = self.waiting.pop_front() else { return };
            let cancel = self
                .batches
                .get(&batch)
                .map_or_else(CancellationToken::new, |(_, cancel)| cancel.child_token());
            let (execute, acker) = (Arc::clone(&self.shared.execute), self.shared.acker.clone());
            let (heartbeat, id) = (Arc::clone(&self.shared.heartbeat), job.id);
            let limited = self.limited.is_some();
            self.tokens.insert(id, cancel.clone());
            self.running.spawn(async move {
                let mut outcome = attempt(&*execute, job, cancel).await;
                if outcome.verdict.comes_back() && heartbeat.is_asked(id) {
                    outcome.verdict = asked();
                }
                if limited {
                    acker.written(batch, outcome).await;
                } else {
                    acker.ended(batch, outcome).await;
                }
                (batch, id)
            });
        }
    }

    /// Claims in a task of its own, one at a time, while there is room for more.
    fn claim_more(&mut self) {
        let concurrency = self.concurrency();
        if concurrency == 0
            || !self.claims.is_empty()
            || self.polling.waits()
            || self.waiting.len() * 2 > self.prefetch
        {
            return;
        }
        let free = concurrency.saturating_sub(self.running.len());
        let room = (free + self.prefetch).saturating_sub(self.waiting.len()).min(BATCH_LIMIT / 2);
        if room > 0 {
            let marks = std::mem::take(&mut self.marks);
            let (database, worker) = (self.shared.database.clone(), self.shared.worker);
            let arm = self.polling.wants_arming(Instant::now(), self.shared.wakes.listening());
            let room = (room, self.polling.idle());
            let wanted = (self.options.queue, self.options.lease);
            self.claims.spawn(claim(database, worker, wanted, marks, room, arm));
        }
    }

    async fn answered(&mut self, answer: Answer) {
        self.marks = answer.marks;
        self.limited = answer.limited;
        match (answer.claimed, answer.limited) {
            (Ok(claimed), Some(Limited { held: true, rate })) if claimed.is_empty() => {
                self.polling.held(Instant::now(), rate);
            }
            (Ok(claimed), _) if claimed.is_empty() => self.found_nothing(answer.armed),
            (Ok(claimed), _) => {
                self.polling.found();
                self.grow(claimed.len());
                self.shared.heartbeat.hold(answer.batch, answer.sent);
                self.shared.acker.opened(answer.batch, claimed.len()).await;
                self.batches.insert(answer.batch, (claimed.len(), CancellationToken::new()));
                self.waiting.extend(claimed.into_iter().map(|job| (answer.batch, job)));
            }
            (Err(error), _) => {
                warn!(%error, queue = self.options.name, "jobs cannot be claimed for now");
                self.polling.failed(Instant::now());
                if guard::removed(Guard::ClaimAgain) {
                    self.claims.spawn(std::future::pending());
                }
            }
        }
    }

    /// Claims further ahead as long as all that was claimed has started before more came.
    fn grow(&mut self, claimed: usize) {
        if self.limited.is_some() {
            self.prefetch = 0;
        } else if self.waiting.is_empty() && claimed >= self.prefetch {
            self.prefetch = (self.prefetch * 2).max(self.concurrency()).min(PREFETCH);
        }
    }

    /// Looks once more where it has just asked to be notified, and else waits longer each time.
    fn found_nothing(&mut self, armed: Option<StoreResult<()>>) {
        self.prefetch /= 2;
        let now = Instant::now();
        match armed {
            None => self.polling.nothing(now, self.shared.wakes.listening()),
            Some(Ok(())) => self.polling.armed(now),
            Some(Err(error)) => {
                warn!(%error, queue = self.options.name, "a queue cannot ask to be notified");
                self.polling.failed(now);
            }
        }
    }

    fn ended(&mut self, ended: Result<(BatchId, JobId), tokio::task::JoinError>) {
        match ended {
            Ok((batch, job)) => {
                self.tokens.remove(&job);
                self.forget(batch, 1);
                if self.limited.is_some_and(|limited| limited.held) {
                    self.polling.woken();
                }
            }
            // What runs is guarded against panics, so this is a task that was cut off.
            Err(error) => error!(%error, queue = self.options.name, "a job's task ended without an outcome"),
        }
    }

    fn forget(&mut self, batch: BatchId, jobs: usize) {
        if let Some((left, _)) = self.batches.get_mut(&batch) {
            *left = left.saturating_sub(jobs);
            if *left == 0 {
                self.batches.remove(&batch);
            }
        }
    }

    /// Cancels what runs under leases that are lost or may end before the next look, and gives up what waits.
    async fn cancel_lost(&mut self) {
        if guard::removed(Guard::AbortLost) {
            return;
        }
        let soon = (2 * LOOK).min(self.options.lease / 4);
        let ending = |batch: &BatchId| self.shared.heartbeat.remaining(*batch) < soon;
        let lost: Vec<BatchId> = self.batches.keys().filter(|batch| ending(batch)).copied().collect();
        for batch in lost {
            if let Some((_, cancel)) = self.batches.get(&batch)
                && !cancel.is_cancelled()
            {
                warn!(%batch, queue = self.options.name, "a lease is lost: its jobs are cancelled here");
                cancel.cancel();
            }
            let (lost, kept): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut self.waiting).into_iter().partition(|(of, _)| *of == batch);
            self.waiting = kept;
            self.forget(batch, lost.len());
            for (_, job) in lost {
                self.shared.acker.ended(batch, outcome(&job, Duration::ZERO, Verdict::Back)).await;
            }
        }
    }

    /// Cancels what runs and an operator wants ended, and ends what of that waits.
    async fn cancel_asked(&mut self) {
        let wanted = self.shared.heartbeat.asked();
        if wanted.is_empty() {
            return;
        }
        wanted.iter().filter_map(|job| self.tokens.get(job)).for_each(CancellationToken::cancel);
        let (ended, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, job)| wanted.contains(&job.id));
        self.waiting = kept;
        for (batch, job) in ended {
            self.forget(batch, 1);
            self.shared.acker.ended(batch, outcome(&job, Duration::ZERO, asked())).await;
        }
    }

    /// Hands back what has not started.
    async fn hand_back(&mut self) {
        for (batch, job) in std::mem::take(&mut self.waiting) {
            self.forget(batch, 1);
            self.shared.acker.ended(batch, outcome(&job, Duration::ZERO, Verdict::Back)).await;
        }
    }

    async fn stop(mut self, hurry: CancellationToken) {
        while let Some(answer) = self.claims.join_next().await {
            if let Ok(Answer { claimed: Ok(claimed), batch, sent, .. }) = answer {
                self.shared.heartbeat.hold(batch, sent);
                self.shared.acker.opened(batch, claimed.len()).await;
                self.waiting.extend(claimed.into_iter().map(|job| (batch, job)));
            }
        }
        self.hand_back().await;
        let drained = async { while self.running.join_next().await.is_some() {} };
        let in_time = tokio::time::timeout(self.options.drain, hurry.run_until_cancelled(drained)).await;
        if !matches!(in_time, Ok(Some(()))) {
            self.batches.values().for_each(|(_, cancel)| cancel.cancel());
            // What heeds the token ends now; what does not is cut off, and its lease brings it back.
            let rest = async { while self.running.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(LOOK, rest).await;
        }
    }
}

/// One attempt, whatever happens in it.
async fn attempt<E: Execute>(execute: &E, job: Claimed, cancel: CancellationToken) -> Outcome {
    if job.expired {
        return outcome(&job, Duration::ZERO, Verdict::Cancelled { code: "expired".to_owned() });
    }
    if !execute.knows(job.kind) {
        execute.unknown(&job);
        return outcome(&job, Duration::ZERO, Verdict::Snooze { delay: UNKNOWN });
    }
    let started = Instant::now();
    let running = std::panic::AssertUnwindSafe(execute.execute(&job, cancel)).catch_unwind();
    let (verdict, beside) = running.await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let verdict = execute.panicked(&job, &text.unwrap_or_else(|| "it panicked".to_owned()));
        (verdict, Beside::default())
    });
    Outcome { beside, ..outcome(&job, started.elapsed(), verdict) }
}

/// What becomes of a job that an operator wants ended.
fn asked() -> Verdict {
    Verdict::Cancelled { code: Cancelled::Asked.as_str().to_owned() }
}

fn outcome(job: &Claimed, took: Duration, verdict: Verdict) -> Outcome {
    let Claimed { id, kind, keyed, remembered, .. } = *job;
    Outcome { id, kind, keyed, remembered, took, verdict, beside: Beside::default() }
}
