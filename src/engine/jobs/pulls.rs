//! What pull workers may do over HTTP with the jobs of queues that are theirs: the same functions and rules as an
//! attempt that runs here, with the lease in the worker's hand.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::execute::{Executor, word};
use super::verdict::{storable, verdict};
use crate::base::Failure;
use crate::jobs::state::Cancelled;
use crate::jobs::{self, Ask, Outcome, Pulled};
use crate::store::{BatchId, Beside, Claimed, HeldJob, JobId, Settlement, StoreError, Verdict, Worker};
use crate::telemetry::OutcomeCounts;

/// How long a lease may be, in seconds.
pub const LEASES: std::ops::RangeInclusive<u32> = 5..=600;

/// How many may ask for jobs at one time before others wait to ask.
const ASKING: usize = 256;

/// Attempts that take too long are looked for this often.
const OVERDUE: Duration = Duration::from_secs(3);

/// A worker's right to a batch, as it is handed to the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    batch: BatchId,
    epoch: i64,
    seconds: u32,
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct PullClaim {
    /// What the worker calls itself.
    pub worker: String,
    /// The version of its program.
    pub version: String,
    /// The queue.
    pub queue: String,
    /// How many jobs at most; at least one.
    pub limit: usize,
    /// For how long it waits for the first.
    pub wait: Duration,
    /// How long the lease is from the claim and from each heartbeat on; within [`LEASES`].
    pub lease_seconds: u32,
}

/// What it gets.
#[derive(Debug)]
pub struct PulledJobs {
    /// `None`: there were no jobs in time.
    pub lease: Option<Lease>,
    /// The jobs.
    pub jobs: Vec<PulledJob>,
}

/// A job for a worker.
#[derive(Debug)]
pub struct PulledJob {
    /// As it was claimed.
    pub claimed: Claimed,
    /// The name of its kind.
    pub kind: Arc<str>,
    /// How long the attempt may take, from the claim on.
    pub timeout: Duration,
    /// What an earlier attempt told last, as JSON text.
    pub progress: Option<String>,
}

/// What a lease still holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// All of it.
    pub jobs: Vec<JobId>,
    /// Those of it that an operator wants ended.
    pub cancel: Vec<JobId>,
}

/// What a worker says of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It is done.
    Done(Option<Json>),
    /// The attempt failed; the kind's retry policy says what comes next.
    Failed(Failure),
    /// It is to be tried again in a while, with no attempt spent.
    Snooze(Duration),
    /// It was not begun.
    Back,
}

/// Why a worker does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The config has no such queue for pull workers.
    #[error("the config has no queue `{0}` with `workers = \"pull\"`")]
    Queue(String),
    /// The jobs are not the worker's any more.
    #[error("the lease holds none of these jobs any more: it ran out, or they were settled or taken back")]
    Stale,
    /// The engine has lost a kind that the worker settles.
    #[error("this engine's config has not the kind of job {0}: ask another engine")]
    Kind(JobId),
    /// The engine stops.
    #[error("the engine stops: ask another")]
    Stopping,
    /// Those of the database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What pull workers reach.
pub struct Pulls {
    executor: Arc<Executor>,
    asks: mpsc::Sender<Ask>,
    counts: OutcomeCounts,
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.batch.0.simple(), self.epoch, self.seconds)
    }
}

impl FromStr for Lease {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(());
        let batch = BatchId(Uuid::try_parse(part()?).map_err(drop)?);
        let epoch = part()?.parse().map_err(drop)?;
        let seconds = part()?.parse().ok().filter(|seconds| LEASES.contains(seconds)).ok_or(())?;
        Ok(Self { batch, epoch, seconds })
    }
}

impl Lease {
    /// How long it is from each heartbeat on.
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    fn worker(&self) -> Worker {
        Worker { id: Uuid::nil(), epoch: self.epoch }
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

impl Pulls {
    /// For the kinds that `executor` knows, and where those who ask for jobs are heard.
    pub(super) fn new(executor: Arc<Executor>, counts: OutcomeCounts) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, heard) = mpsc::channel(ASKING);
        (Self { executor, asks, counts }, heard)
    }

    /// Claims jobs for a worker, or waits for some.
    ///
    /// # Errors
    /// [`PullError::Queue`], [`PullError::Stopping`], and those of the database.
    pub async fn claim(&self, claim: PullClaim) -> Result<PulledJobs, PullError> {
        let until = Instant::now() + claim.wait;
        let database = &self.executor.database;
        let queue = self.executor.pulled_queue(&claim.queue);
        let queue = queue.ok_or_else(|| PullError::Queue(claim.queue.clone()))?;
        let worker = database.pull_worker(&claim.worker, &claim.version).await?;
        let seconds = claim.lease_seconds;
        let lease = Duration::from_secs(seconds.into());
        let (answer, told) = oneshot::channel();
        let ask = Ask { worker, queue, name: claim.queue, limit: claim.limit, lease, until, answer };
        self.asks.send(ask).await.map_err(|_| PullError::Stopping)?;
        let Pulled { batch, jobs: claimed } = told.await.map_err(|_| PullError::Stopping)??;
        let remembered: Vec<_> = claimed.iter().filter(|job| job.remembered).map(|job| job.id).collect();
        let mut told: HashMap<_, _> = match remembered.is_empty() {
            true => HashMap::new(),
            false => database.told(&remembered).await?.into_iter().collect(),
        };
        let job = |claimed: Claimed| {
            // One that an edit has taken away since is given back with the lease.
            let kind = self.executor.kind(claimed.kind)?;
            let job = kind.program.job();
            let (kind, timeout) = (Arc::clone(&job.name), job.timeout);
            Some(PulledJob { kind, timeout, progress: told.remove(&claimed.id), claimed })
        };
        let jobs: Vec<_> = claimed.into_iter().filter_map(job).collect();
        let lease = (!jobs.is_empty()).then_some(Lease { batch, epoch: worker.epoch, seconds });
        Ok(PulledJobs { lease, jobs })
    }

    /// Extends a lease.
    ///
    /// # Errors
    /// [`PullError::Stale`], and those of the database.
    pub async fn beat(&self, lease: &Lease) -> Result<Holding, PullError> {
        let held = self.executor.database.extend(&lease.worker(), lease.batch, lease.length()).await?;
        if held.is_empty() {
            return Err(PullError::Stale);
        }
        let mut holding = Holding::default();
        for (job, asked) in held {
            holding.jobs.push(job);
            if asked {
                holding.cancel.push(job);
            }
        }
        Ok(holding)
    }

    /// Notes how far a job says it is, and extends its lease.
    ///
    /// # Errors
    /// [`PullError::Stale`], and those of the database.
    pub async fn tell(&self, lease: &Lease, job: JobId, progress: Json) -> Result<Holding, PullError> {
        let holding = self.beat(lease).await?;
        let told = storable(progress).to_string();
        match self.executor.database.tell(&lease.worker(), lease.batch, job, &told).await? {
            true => Ok(holding),
            false => Err(PullError::Stale),
        }
    }

    /// Writes what became of jobs, each under the lease or not at all.
    ///
    /// # Errors
    /// [`PullError::Stale`] where none of them was the worker's any more, [`PullError::Kind`], and those of the
    /// database; then nothing is written.
    pub async fn settle(&self, lease: &Lease, said: Vec<(JobId, Said)>) -> Result<Settlement, PullError> {
        let ids: Vec<_> = said.iter().map(|(id, _)| *id).collect();
        let held = self.executor.database.held(&lease.worker(), lease.batch, &ids).await?;
        let held: HashMap<_, _> = held.into_iter().map(|job| (job.id, job)).collect();
        let (mut ended, mut stale) = (Vec::with_capacity(said.len()), Vec::new());
        for (id, said) in said {
            match held.get(&id) {
                Some(job) => ended.push((job, said)),
                None => stale.push(id),
            }
        }
        let mut settlement = match ended.is_empty() {
            true => Settlement::default(),
            false => self.end(&lease.worker(), lease.batch, ended).await?,
        };
        self.counts.stale.inc_by(stale.len() as u64);
        settlement.stale.extend(stale);
        if settlement.written.is_empty() { Err(PullError::Stale) } else { Ok(settlement) }
    }

    /// Writes how attempts ended that one lease holds.
    async fn end(
        &self,
        worker: &Worker,
        batch: BatchId,
        ended: Vec<(&HeldJob, Said)>,
    ) -> Result<Settlement, PullError> {
        let (mut outcomes, mut told) = (Vec::with_capacity(ended.len()), HashMap::new());
        for (job, said) in ended {
            let kind = self.executor.kind(job.kind).ok_or(PullError::Kind(job.id))?;
            let mut verdict = match said {
                Said::Done(result) => {
                    Verdict::Succeeded { detail: result.map(|value| storable(value).to_string()) }
                }
                Said::Failed(failure) => {
                    verdict(Outcome::Failed(failure), job, &kind.program.job().retry, rand::random())
                }
                Said::Snooze(delay) => Verdict::Snooze { delay },
                Said::Back => Verdict::Back,
            };
            if job.asked && verdict.comes_back() {
                verdict = Verdict::Cancelled { code: Cancelled::Asked.as_str().to_owned() };
            }
            // A job that was begun does not expire any more.
            let begun = !job.started && matches!(verdict, Verdict::Snooze { .. });
            let kept = begun.then(|| jobs::kept::write(&[]));
            told.insert(job.id, (kind, word(&verdict), job.ran));
            outcomes.push(job.outcome(verdict, Beside { kept, ..Beside::default() }));
        }
        let settlement = self.executor.database.settle(worker, &[batch], &outcomes).await?;
        for (kind, word, ran) in settlement.written.iter().filter_map(|id| told.get(id)) {
            kind.metrics.ended(word, *ran);
        }
        self.counts.written.inc_by(settlement.written.len() as u64);
        self.counts.stale.inc_by(settlement.stale.len() as u64);
        Ok(settlement)
    }

    /// Ends attempts of pull workers that take longer than their kinds say, until cancelled.
    pub(super) async fn end_overdue(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(OVERDUE)).await.is_some() {
            match self.end_overdue_now().await {
                Ok(0) => {}
                Ok(jobs) => info!(jobs, "attempts of pull workers took longer than they may and were ended"),
                Err(error) => {
                    warn!(%error, "attempts of pull workers that take too long are looked for again")
                }
            }
        }
    }

    async fn end_overdue_now(&self) -> Result<usize, PullError> {
        let timeouts = self.executor.pulled_timeouts();
        if timeouts.is_empty() {
            return Ok(0);
        }
        let mut ended = 0;
        let overdue = self.executor.database.overdue(&timeouts).await?;
        for of_lease in overdue.chunk_by(|one, next| one.batch == next.batch) {
            let Some(HeldJob { batch, epoch, .. }) = of_lease.first() else { continue };
            let worker = Worker { id: Uuid::nil(), epoch: *epoch };
            let timed_out = of_lease.iter().filter_map(|job| {
                let timeout = self.executor.kind(job.kind)?.program.job().timeout;
                Some((job, Said::Failed(jobs::took_longer(timeout))))
            });
            ended += self.end(&worker, *batch, timed_out.collect()).await?.written.len();
        }
        Ok(ended)
    }
}

impl jobs::Admit for Executor {
    fn admit(&self, job: &Claimed) -> Option<Verdict> {
        let Some(kind) = self.kind(job.kind) else {
            jobs::Execute::unknown(self, job);
            return Some(Verdict::Snooze { delay: jobs::UNKNOWN });
        };
        if job.expired || kind.has_expired(job) {
            return Some(Verdict::Cancelled { code: Cancelled::Expired.as_str().to_owned() });
        }
        let args = kind.args(job).and_then(|args| kind.program.job().check_args(&args));
        if let Err(failure) = args {
            let failed = Outcome::Failed(failure.given_up());
            return Some(verdict(failed, job, &kind.program.job().retry, rand::random()));
        }
        if !job.started {
            kind.metrics.claimed_after(job.due_for);
        }
        None
    }
}
