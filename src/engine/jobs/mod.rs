//! Durable jobs under an engine: made known to the database, claimed and run until the engine stops.
//!
//! One task of the supervisor owns every loop. It ends with an error where one of them does, and the
//! supervisor starts it anew under another worker; what the old one held comes back with its leases.
//!
//! An edit changes what is wanted, and that task follows: it makes the kinds known to the database, then to the
//! attempts that start from then on, and then has the queues worked that there are. What runs ends as it began.

mod callbacks;
mod execute;
mod kinds;
mod loops;
mod pulls;
mod queues;
mod relay;
mod verdict;
mod wanted;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::callbacks::Addresses;
use self::execute::{Executor, Known, Strangers};
use self::loops::Loops;
pub use self::pulls::{Holding, LEASES, Lease, PullClaim, PullError, PulledJob, PulledJobs, Pulls, Said};
use self::queues::Order;
pub(super) use self::wanted::Difference;
use self::wanted::Wanted;
use super::running::Engine;
use super::status::JobsStatus;
use super::supervisor::TaskError;
use crate::broker::BrokerError;
use crate::catalog::{Catalog, Topic};
use crate::events::{Producers, StageRuntime};
use crate::jobs::Retention;
use crate::steps::OpenError;
use crate::store::{self, Database, DatabaseSettings, StoreError, StoreResult, Worker};
use crate::telemetry::{OutboxMetrics, OutcomeCounts, UnknownKinds};

/// How long a stop waits for jobs that run, unless something else is said.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a stop waits for what was handed back to be written.
const HAND_BACK: Duration = Duration::from_secs(3);

/// How long an edit waits until the jobs have gone over to it; they do it in any case, once the database answers.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// How long the database is left alone that did not take an edit.
const AGAIN: Duration = Duration::from_secs(1);

/// Why durable jobs do not start.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The database is not what they need.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Kafka client refuses to write a topic to which one publishes.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A step of one cannot be opened.
    #[error("job `{job}`: {error}")]
    Open {
        /// Which.
        job: Arc<str>,
        /// Why.
        error: OpenError,
    },
    /// There is none.
    #[error("DATABASE_URL names no database: say where one is and start the engine again")]
    NoDatabase,
}

/// The durable jobs of an engine.
pub(super) struct Jobs {
    database: Database,
    retention: Retention,
    /// What the worker is called.
    name: String,
    producers: Arc<Producers>,
    outbox: OutboxMetrics,
    /// What is to run.
    wanted: watch::Sender<Arc<Wanted>>,
    /// What was taken over last by the worker that runs.
    taken: watch::Sender<Option<Arc<Wanted>>>,
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
    /// A database that cannot be reached now is waited for later. `None`: no database. Blocks for a round trip.
    pub(super) fn open(
        (database, retention): (Option<DatabaseSettings>, Retention),
        public_url: Option<&str>,
        catalog: &Arc<Catalog>,
        name: &str,
        shared: &StageRuntime,
    ) -> Result<Option<Self>, JobsError> {
        let Some(settings) = database else {
            if !catalog.jobs().is_empty() {
                warn!(jobs = catalog.jobs().len(), "durable jobs do not run: DATABASE_URL names no database");
            }
            return Ok(None);
        };
        let database = Database::new(settings, loops::connections(catalog));
        if !catalog.jobs().is_empty() {
            announce(&database, catalog, shared)?;
        }
        shared.producers.route_topics(published(catalog))?;
        let wanted = Arc::new(Wanted::open(catalog, None, shared)?);
        if catalog.jobs().values().any(|job| job.waits_for_callbacks()) {
            info!(public_url, "jobs are called back at this address (BIPLANE_PUBLIC_URL)");
        }
        Ok(Some(Self {
            database,
            retention,
            name: name.to_owned(),
            producers: Arc::clone(&shared.producers),
            outbox: shared.telemetry.outbox().clone(),
            wanted: watch::Sender::new(wanted),
            taken: watch::Sender::new(None),
            unknown: shared.telemetry.unknown_kinds().clone(),
            outcomes: shared.telemetry.job_outcomes().clone(),
            addresses: Addresses::new(public_url.unwrap_or_default()),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            state: watch::Sender::new(State::Away("no worker is registered yet".to_owned())),
            pulls: RwLock::default(),
        }))
    }

    /// Goes over to the jobs of `catalog`; why they have not yet, where that takes long. Blocks until then.
    fn take_over(&self, catalog: &Arc<Catalog>, shared: &StageRuntime) -> Result<Option<String>, JobsError> {
        let before = Arc::clone(&self.wanted.borrow());
        if before.kinds.is_empty() && !catalog.jobs().is_empty() {
            announce(&self.database, catalog, shared)?;
        }
        shared.producers.route_topics(published(catalog))?;
        let wanted = Arc::new(Wanted::open(catalog, Some(&before), shared)?);
        self.wanted.send_replace(Arc::clone(&wanted));
        if wanted.kinds.is_empty() {
            return Ok(None);
        }
        let mut taken = self.taken.subscribe();
        let heard = taken.wait_for(|taken| taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &wanted)));
        let heard = self.stop.run_until_cancelled(timeout(TAKE_OVER, heard));
        let late = matches!(shared.runtime.block_on(heard), Some(Err(_)));
        Ok(late.then(|| "jobs go over to it once the database answers".to_owned()))
    }

    /// What operators are told of them; `None`: there are none.
    pub(super) fn status(&self) -> Option<JobsStatus> {
        let wanted = self.wanted.borrow();
        let reason = match &*self.state.borrow() {
            State::Away(why) => Some(why.clone()),
            State::Working => None,
        };
        (!wanted.kinds.is_empty()).then(|| JobsStatus {
            state: if reason.is_none() { "running" } else { "away" }.to_owned(),
            reason,
            kinds: wanted.catalog.jobs().keys().map(ToString::to_string).collect(),
            queues: kinds::run(&wanted.catalog),
            pulled: kinds::pulled(&wanted.catalog),
        })
    }

    /// Why the engine is not ready, if it is for its jobs.
    pub(super) fn not_ready(&self) -> Option<String> {
        let status = self.status()?;
        status.reason.map(|why| format!("durable jobs do not run: {why}"))
    }

    /// What pull workers reach; `None`: nothing, for now.
    pub(super) fn pulls(&self) -> Option<Arc<Pulls>> {
        self.pulls.read().clone()
    }

    async fn run(&self, cancel: &CancellationToken) -> StoreResult<()> {
        let mut wanted = self.wanted.subscribe();
        // Nobody registers while there is nothing to run.
        let some = async { wanted.wait_for(|wanted| !wanted.kinds.is_empty()).await.is_ok() };
        if cancel.run_until_cancelled(self.stop.run_until_cancelled(some)).await.flatten().is_none() {
            return Ok(());
        }
        let now = Arc::clone(&wanted.borrow_and_update());
        let Some(registered) = self.stop.run_until_cancelled(self.register(&now)).await else {
            return Ok(());
        };
        let (executor, orders, worker) = registered?;
        let (executor, (orders, ordered)) = (Arc::new(executor), watch::channel(orders));
        let (pulls, asks) = Pulls::new(Arc::clone(&executor), self.outcomes.clone());
        let pulls = Arc::new(pulls);
        let loops = Loops::start(
            &self.database,
            worker,
            Arc::clone(&executor),
            (Arc::clone(&pulls), asks),
            ordered,
            (self.retention, self.outcomes.clone()),
            (Arc::clone(&self.producers), self.outbox.clone()),
        )?;
        *self.pulls.write() = Some(pulls);
        info!(kinds = now.kinds.len(), queues = orders.borrow().len(), "durable jobs run");
        self.taken.send_replace(Some(now));
        self.state.send_replace(State::Working);
        let ended = tokio::select! {
            ended = loops.run(&self.stop, &self.hurry, cancel) => ended,
            never = self.follow(wanted, &executor, &orders) => match never {},
        };
        *self.pulls.write() = None;
        if let Err(error) = self.database.leave(&worker).await {
            warn!(%error, "the worker stays registered until its leases end");
        }
        ended
    }

    async fn register(&self, wanted: &Wanted) -> StoreResult<(Executor, Vec<Order>, Worker)> {
        let (known, orders) = self.publish(wanted).await?;
        let strangers = Strangers { metrics: self.unknown.clone(), told: Mutex::default() };
        let (database, addresses) = (self.database.clone(), self.addresses.clone());
        let executor = Executor { known: RwLock::new(known), database, addresses, strangers };
        let worker = self.database.register(&self.name, env!("CARGO_PKG_VERSION")).await?;
        Ok((executor, orders, worker))
    }

    /// Makes kinds and queues known to the database.
    async fn publish(&self, wanted: &Wanted) -> StoreResult<(Known, Vec<Order>)> {
        let Wanted { catalog, .. } = wanted;
        let published = publish(&self.database, catalog).await?;
        self.database.limit_queues(&kinds::limits(catalog, &published)).await?;
        let pulled = kinds::pulled(catalog).into_iter().filter_map(|name| {
            let number = *published.queues.get(&name)?;
            Some((name, number))
        });
        let known = Known {
            kinds: wanted.numbered(&published),
            pulled: pulled.collect(),
            names: self.database.kinds().await?,
        };
        Ok((known, kinds::orders(catalog, &published)))
    }

    /// Goes over to what is wanted, each time that it is something else. A kind is known before its queue is worked.
    async fn follow(
        &self,
        mut wanted: watch::Receiver<Arc<Wanted>>,
        executor: &Executor,
        orders: &watch::Sender<Vec<Order>>,
    ) -> Infallible {
        loop {
            if wanted.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let now = Arc::clone(&wanted.borrow_and_update());
            match self.publish(&now).await {
                Ok((known, queues)) => {
                    *executor.known.write() = known;
                    orders.send_replace(queues);
                    self.taken.send_replace(Some(now));
                }
                Err(error) => {
                    warn!(%error, "the database does not take an edit of jobs yet; it is tried again");
                    sleep(AGAIN).await;
                    wanted.mark_changed();
                }
            }
        }
    }
}

impl Engine {
    /// Goes over from the jobs of one catalog to those of another: how they differ, and why they have not gone over
    /// yet, where that takes long.
    pub(super) fn take_over_jobs(
        &self,
        before: &Catalog,
        after: &Arc<Catalog>,
    ) -> Result<(Difference, Option<String>), JobsError> {
        let difference = Difference::between(before, after);
        let late = match &self.jobs {
            _ if difference.is_empty() => None,
            Some(jobs) => jobs.take_over(after, &self.shared)?,
            None if before.jobs().is_empty() => return Err(JobsError::NoDatabase),
            None => Some(format!("jobs do not run: {}", JobsError::NoDatabase)),
        };
        Ok((difference, late))
    }

    /// Runs durable jobs until [`Engine::drain_jobs`] or `cancel`; where there are none, nothing.
    ///
    /// # Errors
    /// Where the database is away or not fit, or a loop ended before its time.
    pub async fn run_jobs(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        let Some(jobs) = &self.jobs else { return Ok(()) };
        let ended = jobs.run(&cancel).await;
        jobs.taken.send_replace(None);
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

/// Makes kinds known before anything runs; a database that is away is waited for later. Blocks for a round trip.
fn announce(database: &Database, catalog: &Catalog, shared: &StageRuntime) -> Result<(), JobsError> {
    match shared.runtime.block_on(publish(database, catalog)) {
        Err(error) if error.is_transient() => warn!(%error, "durable jobs wait for the database"),
        published => drop(published?),
    }
    Ok(())
}

/// The topics to which jobs publish.
fn published(catalog: &Catalog) -> impl Iterator<Item = &Arc<Topic>> {
    let steps = catalog.jobs().values().flat_map(|job| &job.steps);
    steps.filter_map(|step| catalog.topics().get(&step.body.publishes()?.name))
}

/// Makes kinds and queues known to the database, where its tables are those that this program knows.
async fn publish(database: &Database, catalog: &Catalog) -> StoreResult<store::Published> {
    store::standing(database.settings()).await?.check()?;
    database.publish(&kinds::queues(catalog), &kinds::definitions(catalog)).await
}
