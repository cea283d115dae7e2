//! Durable jobs under an engine: made known to the database, claimed and run until the engine stops.
//!
//! One task of the supervisor owns every loop. It ends with an error where one of them does, and the
//! supervisor starts it anew under another worker; what the old one held comes back with its leases.

mod callbacks;
mod execute;
mod kinds;
mod loops;
mod pulls;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::callbacks::Addresses;
use self::execute::{Executor, Kind, Strangers};
use self::loops::Loops;
pub use self::pulls::{Holding, LEASES, Lease, PullClaim, PullError, PulledJob, PulledJobs, Pulls, Said};
use super::running::Engine;
use super::status::JobsStatus;
use super::supervisor::TaskError;
use crate::catalog::Catalog;
use crate::events::StageRuntime;
use crate::jobs::{Program, Retention};
use crate::steps::OpenError;
use crate::store::{self, Database, DatabaseSettings, StoreError, StoreResult, Worker};
use crate::telemetry::{OutcomeCounts, UnknownKinds};

/// How long a stop waits for jobs that run, unless something else is said.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a stop waits for what was handed back to be written.
const HAND_BACK: Duration = Duration::from_secs(3);

/// Why durable jobs do not start.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The database is not what they need.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A step of one cannot be opened.
    #[error("job `{job}`: {error}")]
    Open {
        /// Which.
        job: Arc<str>,
        /// Why.
        error: OpenError,
    },
}

/// The durable jobs of one catalog.
pub(super) struct Jobs {
    catalog: Arc<Catalog>,
    database: Database,
    retention: Retention,
    /// What the worker is called.
    name: String,
    kinds: Vec<Arc<Kind>>,
    unknown: UnknownKinds,
    outcomes: OutcomeCounts,
    addresses: Addresses,
    /// Nothing is claimed any more.
    stop: CancellationToken,
    /// Nothing that runs is waited for any more.
    hurry: CancellationToken,
    state: watch::Sender<State>,
    /// What pull workers reach; `None`: no worker is registered here.
    pulls: RwLock<Option<Arc<Pulls>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No worker is registered, and why.
    Away(String),
    /// Jobs are claimed, or those that were are finished.
    Working,
}

impl Jobs {
    /// Opens every kind's steps, and makes kinds known to the database, so that a stage's first record can enqueue.
    /// A database that cannot be reached now is waited for later. `None`: there is nothing to run, or no database. Blocks for a round trip.
    pub(super) fn open(
        (database, retention): (Option<DatabaseSettings>, Retention),
        public_url: Option<&str>,
        catalog: &Arc<Catalog>,
        name: &str,
        shared: &StageRuntime,
    ) -> Result<Option<Self>, JobsError> {
        if catalog.jobs().is_empty() {
            return Ok(None);
        }
        let Some(settings) = database else {
            warn!(jobs = catalog.jobs().len(), "durable jobs do not run: DATABASE_URL names no database");
            return Ok(None);
        };
        let database = Database::new(settings, loops::connections(catalog));
        match shared.runtime.block_on(publish(&database, catalog)) {
            Err(error) if error.is_transient() => warn!(%error, "durable jobs wait for the database"),
            published => drop(published?),
        }
        let kinds = catalog.jobs().values().map(|job| {
            let program = Program::open(Arc::clone(job), &shared.ports)
                .map_err(|error| JobsError::Open { job: Arc::clone(&job.name), error })?;
            let metrics = shared.telemetry.job(&job.queue.name, &job.name);
            Ok(Arc::new(Kind { program, metrics }))
        });
        let kinds = kinds.collect::<Result<_, JobsError>>()?;
        if catalog.jobs().values().any(|job| job.waits_for_callbacks()) {
            info!(public_url, "jobs are called back at this address (BIPLANE_PUBLIC_URL)");
        }
        Ok(Some(Self {
            catalog: Arc::clone(catalog),
            database,
            retention,
            name: name.to_owned(),
            kinds,
            unknown: shared.telemetry.unknown_kinds().clone(),
            outcomes: shared.telemetry.job_outcomes().clone(),
            addresses: Addresses::new(public_url.unwrap_or_default()),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            state: watch::Sender::new(State::Away("no worker is registered yet".to_owned())),
            pulls: RwLock::default(),
        }))
    }

    /// What operators are told of them.
    pub(super) fn status(&self) -> JobsStatus {
        let reason = match &*self.state.borrow() {
            State::Away(why) => Some(why.clone()),
            State::Working => None,
        };
        JobsStatus {
            state: if reason.is_none() { "running" } else { "away" }.to_owned(),
            reason,
            kinds: self.catalog.jobs().keys().map(ToString::to_string).collect(),
            queues: kinds::run(&self.catalog).into_iter().map(|(name, ..)| name).collect(),
            pulled: kinds::pulled(&self.catalog),
        }
    }

    /// Why the engine is not ready, if it is for its jobs.
    pub(super) fn not_ready(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Away(why) => Some(format!("durable jobs do not run: {why}")),
            State::Working => None,
        }
    }

    /// What pull workers reach; `None`: nothing, for now.
    pub(super) fn pulls(&self) -> Option<Arc<Pulls>> {
        self.pulls.read().clone()
    }

    async fn run(&self, cancel: &CancellationToken) -> StoreResult<()> {
        let Some(registered) = self.stop.run_until_cancelled(self.register()).await else { return Ok(()) };
        let (executor, published, worker) = registered?;
        let executor = Arc::new(executor);
        let (pulls, asks) = Pulls::new(Arc::clone(&executor), self.outcomes.clone());
        let pulls = Arc::new(pulls);
        let loops = Loops::start(
            &self.database,
            worker,
            executor,
            (Arc::clone(&pulls), asks),
            &published,
            &self.catalog,
            (self.retention, self.outcomes.clone()),
        )?;
        *self.pulls.write() = Some(pulls);
        self.state.send_replace(State::Working);
        info!(kinds = self.kinds.len(), queues = published.queues.len(), "durable jobs run");
        let ended = loops.run(&self.stop, &self.hurry, cancel).await;
        *self.pulls.write() = None;
        if let Err(error) = self.database.leave(&worker).await {
            warn!(%error, "the worker stays registered until its leases end");
        }
        ended
    }

    async fn register(&self) -> StoreResult<(Executor, store::Published, Worker)> {
        let published = publish(&self.database, &self.catalog).await?;
        self.database.limit_queues(&kinds::limits(&self.catalog, &published)).await?;
        let strangers = Strangers {
            names: self.database.kinds().await?,
            metrics: self.unknown.clone(),
            told: Mutex::default(),
        };
        let numbered = self.kinds.iter().flat_map(|kind| {
            let numbers = kinds::names(kind.program.job()).filter_map(|name| published.kinds.get(name));
            numbers.map(|number| (*number, Arc::clone(kind)))
        });
        let (database, addresses) = (self.database.clone(), self.addresses.clone());
        let pulled = kinds::pulled(&self.catalog).into_iter();
        let pulled = pulled.filter_map(|name| Some((published.queues.get(&name).copied()?, name)));
        let pulled = pulled.map(|(number, name)| (name, number)).collect();
        let kinds = numbered.collect();
        let executor = Executor { kinds, pulled, database, addresses, strangers };
        let worker = self.database.register(&self.name, env!("CARGO_PKG_VERSION")).await?;
        Ok((executor, published, worker))
    }
}

impl Engine {
    /// Runs durable jobs until [`Engine::drain_jobs`] or `cancel`; where there are none, nothing.
    ///
    /// # Errors
    /// Where the database is away or not fit, or a loop ended before its time.
    pub async fn run_jobs(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        let Some(jobs) = &self.jobs else { return Ok(()) };
        let ended = jobs.run(&cancel).await;
        let why = ended.as_ref().err().map_or_else(|| "they have stopped".to_owned(), ToString::to_string);
        jobs.state.send_replace(State::Away(why));
        Ok(ended?)
    }

    /// Claims no more jobs, hands back those that have not started and waits for those that run, no longer
    /// than `limit` or until `hurry`; then those are handed back, too. True where all was written in time.
    pub async fn drain_jobs(&self, limit: Option<Duration>, hurry: &CancellationToken) -> bool {
        let Some(jobs) = &self.jobs else { return true };
        jobs.stop.cancel();
        let mut state = jobs.state.subscribe();
        tokio::select! {
            _ = state.wait_for(|state| *state != State::Working) => return true,
            () = hurry.cancelled() => {}
            () = tokio::time::sleep(limit.unwrap_or(DRAIN)) => {}
        }
        jobs.hurry.cancel();
        let ended = state.wait_for(|state| *state != State::Working);
        tokio::time::timeout(HAND_BACK, ended).await.is_ok()
    }
}

/// Makes kinds and queues known to the database, where its tables are those that this program knows.
async fn publish(database: &Database, catalog: &Catalog) -> StoreResult<store::Published> {
    store::standing(database.settings()).await?.check()?;
    database.publish(&kinds::queues(catalog), &kinds::definitions(catalog)).await
}
