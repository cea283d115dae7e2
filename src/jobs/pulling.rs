//! Claims for workers that pull their jobs: each asks for some of a queue and waits for them, first come, first served.
//!
//! One desk a queue, as long as somebody asked there: however many workers wait, one of them is looked for. Who has
//! gone by the time there are jobs gets none, and they go back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::choosing::Marks;
use super::claiming::{Limited, claim};
use super::polling::Polling;
use super::wakes::Wakes;
use crate::store::{
    BatchId, Beside, Claimed, Database, Outcome, QueueId, StoreError, StoreResult, Verdict, Worker,
};

/// How many may ask at one desk before others are turned away.
const MOST_WAITING: usize = 1_024;

/// How many bytes of args one answer holds, unless its first job has more.
const MOST_BYTES: usize = 8 << 20;

/// A worker asks for jobs.
#[derive(Debug)]
pub struct Ask {
    /// Who.
    pub worker: Worker,
    /// Of which queue.
    pub queue: QueueId,
    /// Its name.
    pub name: String,
    /// How many at most; at least one.
    pub limit: usize,
    /// How long the lease is.
    pub lease: Duration,
    /// Until when the worker waits for the first one.
    pub until: Instant,
    /// Who waits.
    pub answer: oneshot::Sender<StoreResult<Pulled>>,
}

/// What a worker gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The batch that the lease holds.
    pub batch: BatchId,
    /// Its jobs; none: there were none in time, and no lease.
    pub jobs: Vec<Claimed>,
}

/// Who knows the kinds.
pub trait Admit: Send + Sync + 'static {
    /// What becomes at once of a job that is not to be given away; `None`: a worker may have it.
    fn admit(&self, job: &Claimed) -> Option<Verdict>;
}

/// Serves those who ask, until cancelled; then whoever still waits gets nothing.
pub async fn pull<A: Admit>(
    database: Database,
    wakes: Arc<Wakes>,
    admit: Arc<A>,
    mut asks: mpsc::Receiver<Ask>,
    stop: CancellationToken,
) {
    let (mut desks, mut tasks) = (HashMap::new(), JoinSet::new());
    while let Some(Some(ask)) = stop.run_until_cancelled(asks.recv()).await {
        let desk = desks.entry(ask.queue).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(MOST_WAITING);
            let desk = Desk::new(database.clone(), Arc::clone(&wakes), Arc::clone(&admit), &ask);
            tasks.spawn(desk.run(receiver, stop.clone()));
            sender
        });
        let refused = match desk.try_send(ask) {
            Ok(()) => continue,
            Err(mpsc::error::TrySendError::Full(ask)) => ask,
            // It panicked: the next one to ask finds another.
            Err(mpsc::error::TrySendError::Closed(ask)) => {
                desks.remove(&ask.queue);
                ask
            }
        };
        let busy = StoreError::Busy(format!("too many workers wait for jobs of queue `{}`", refused.name));
        let _ = refused.answer.send(Err(busy));
    }
    drop(desks);
    while tasks.join_next().await.is_some() {}
}

/// Where workers wait for jobs of one queue.
struct Desk<A> {
    database: Database,
    wakes: Arc<Wakes>,
    admit: Arc<A>,
    queue: QueueId,
    name: String,
    marks: Marks,
    polling: Polling,
    waiting: VecDeque<Ask>,
}

impl<A: Admit> Desk<A> {
    fn new(database: Database, wakes: Arc<Wakes>, admit: Arc<A>, first: &Ask) -> Self {
        let (queue, name) = (first.queue, first.name.clone());
        let (marks, polling, waiting) = (Marks::default(), Polling::default(), VecDeque::new());
        Self { database, wakes, admit, queue, name, marks, polling, waiting }
    }

    async fn run(mut self, mut asks: mpsc::Receiver<Ask>, stop: CancellationToken) {
        let wake = self.wakes.of(&self.name);
        while !stop.is_cancelled() {
            if !self.polling.waits()
                && let Some(ask) = self.waiting.pop_front()
            {
                self.serve(ask).await;
                continue;
            }
            let pause = self.pause();
            tokio::select! {
                ask = asks.recv(), if self.waiting.len() < MOST_WAITING => match ask {
                    Some(ask) => {
                        self.waiting.push_back(ask);
                        self.polling.woken();
                    }
                    None => break,
                },
                // An engine that works on the queue since may wait for it, too.
                () = wake.notified(), if !self.waiting.is_empty() => self.polling.woken(),
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => self.rested(),
                () = stop.cancelled() => {}
            }
        }
        self.waiting.drain(..).for_each(nothing);
    }

    /// Until it looks again, or the first who waits gives up; `None`: nobody waits.
    fn pause(&self) -> Option<Duration> {
        let now = Instant::now();
        let first = self.waiting.iter().map(|ask| ask.until.saturating_duration_since(now)).min()?;
        Some(self.polling.wait(now).map_or(first, |wait| wait.min(first)))
    }

    fn rested(&mut self) {
        let now = Instant::now();
        if self.polling.wait(now).is_some_and(|wait| wait.is_zero()) {
            self.polling.due();
        }
        self.dismiss(now);
    }

    /// Whoever has waited long enough gets nothing. All of them have been looked for by then.
    fn dismiss(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.waiting);
        let (over, waiting): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(|ask| ask.until <= now || ask.answer.is_closed());
        self.waiting = waiting;
        over.into_iter().for_each(nothing);
    }

    /// Claims for one. Never cancelled: what was claimed must be known.
    async fn serve(&mut self, ask: Ask) {
        if ask.answer.is_closed() {
            return;
        }
        let listening = self.wakes.listening();
        let arm = self.polling.wants_arming(Instant::now(), listening);
        let wanted = (self.queue, ask.lease);
        let room = (ask.limit, self.polling.idle());
        let marks = std::mem::take(&mut self.marks);
        let answer = claim(self.database.clone(), ask.worker, wanted, marks, room, arm).await;
        self.marks = answer.marks;
        let claimed = match answer.claimed {
            Ok(claimed) => claimed,
            Err(error) => return self.failed(ask, &error),
        };
        let now = Instant::now();
        if !claimed.is_empty() {
            self.polling.found();
            return self.give(ask, answer.batch, claimed).await;
        }
        match (answer.limited, answer.armed) {
            (Some(Limited { held: true, rate }), _) => self.polling.held(now, rate),
            (_, None) => self.polling.nothing(now, listening),
            (_, Some(Ok(()))) => self.polling.armed(now),
            (_, Some(Err(error))) => return self.failed(ask, &error),
        }
        self.waiting.push_front(ask);
        if self.polling.waits() {
            self.dismiss(now);
        }
    }

    /// The database is away, which is the same to all who wait.
    fn failed(&mut self, ask: Ask, error: &StoreError) {
        warn!(%error, queue = self.name, "jobs cannot be claimed for workers for now");
        self.polling.failed(Instant::now());
        for ask in std::iter::once(ask).chain(self.waiting.drain(..)) {
            let _ = ask.answer.send(Err(error.clone()));
        }
    }

    /// Gives a worker what it may have of what was claimed for it.
    async fn give(&mut self, ask: Ask, batch: BatchId, claimed: Vec<Claimed>) {
        let (mut jobs, mut ended, mut bytes) = (Vec::with_capacity(claimed.len()), Vec::new(), 0);
        for job in claimed {
            match self.admit.admit(&job) {
                Some(verdict) => ended.push(ending(&job, verdict)),
                None if jobs.is_empty() || bytes + job.args.len() <= MOST_BYTES => {
                    bytes += job.args.len();
                    jobs.push(job);
                }
                None => ended.push(ending(&job, Verdict::Back)),
            }
        }
        let worker = ask.worker;
        if jobs.is_empty() {
            // The next look is for the same one.
            self.waiting.push_front(ask);
        } else if let Err(Ok(unwanted)) = ask.answer.send(Ok(Pulled { batch, jobs })) {
            ended.extend(unwanted.jobs.iter().map(|job| ending(job, Verdict::Back)));
        }
        self.settle(&worker, batch, &ended).await;
    }

    async fn settle(&self, worker: &Worker, batch: BatchId, ended: &[Outcome]) {
        // What is not written now comes back once the time of an attempt is over, if not before.
        if let Err(error) = self.database.settle(worker, &[batch], ended).await {
            warn!(%error, queue = self.name, jobs = ended.len(), "jobs that no worker has stay claimed for a while");
        }
    }
}

fn nothing(ask: Ask) {
    let _ = ask.answer.send(Ok(Pulled { batch: BatchId::new(), jobs: Vec::new() }));
}

fn ending(job: &Claimed, verdict: Verdict) -> Outcome {
    let Claimed { id, kind, keyed, remembered, .. } = *job;
    Outcome { id, kind, keyed, remembered, took: Duration::ZERO, verdict, beside: Beside::default() }
}
