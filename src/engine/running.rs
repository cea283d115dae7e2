//! The running engine: its stages, its producer, what the brokers answered last.
//!
//! Owns every stage's handle. Starting is all or nothing; a stage that halts later keeps the others
//! running and the engine not ready. Draining tells all stages to stop before it waits for the first.
//! Going over to another config is in [`super::reconcile`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::control::{self, ControlError, Pause, Resume};
use super::drain::drain;
use super::jobs::{Jobs, JobsError, Pulls};
use super::own_topics;
use super::status::{BrokerState, EngineStatus, Readiness};
use super::supervisor::TaskError;
use super::view::View;
use crate::base::{ByteSize, now_millis};
use crate::broker::{
    BrokerError, ClientSettings, Consumer, ConsumerOptions, ProducerOptions, TopicPartition,
};
use crate::catalog::{Bound, Catalog};
use crate::events::{self, Budget, Producers, StageHandle, StageRuntime, StageStatus, StartError};
use crate::jobs::Retention;
use crate::steps::{ExecRoot, Ports};
use crate::store::{DatabaseSettings, StepDatabases, StepJobs};
use crate::telemetry::Telemetry;
use crate::telemetry::traces::{SpanExport, TraceError, TraceSettings, Tracer};

/// How often the brokers are asked whether they are there, and how long an answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// In each of so many rounds all topics are listed, to see which stages have a replay topic by now,
/// and the engine's own topics are made where they are missing.
const TOPICS_EVERY: u64 = 3;

/// How long the producer may take to write what drained stages left to it.
const FLUSH: Duration = Duration::from_millis(500);

/// Where an engine connects and who it is.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// The brokers.
    pub client: ClientSettings,
    /// The prefix of groups and of the engine's own topics.
    pub namespace: String,
    /// Its name for static membership, if it has one.
    pub engine_id: Option<String>,
    /// What all stages may hold in flight together.
    pub window: Bound,
    /// How spans are exported, where they are.
    pub traces: Option<TraceSettings>,
    /// Where durable jobs are; `None`: they do not run.
    pub database: Option<DatabaseSettings>,
    /// Where programs of `exec` steps lie; `None`: none may be started.
    pub programs: Option<Arc<ExecRoot>>,
    /// How long what has ended of them is kept.
    pub retention: Retention,
    /// Where others reach its HTTP server, as a URL; `None`: nobody is told.
    pub public_url: Option<String>,
}

/// What all stages of an engine may hold in flight together where nothing else is said.
pub const WINDOW: Bound = Bound { records: 200_000, bytes: ByteSize(512 << 20) };

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The Kafka client refused its settings.
    #[error("the Kafka client does not start: {0}")]
    Broker(#[from] BrokerError),
    /// A stage did not start.
    #[error("stage `{stage}` does not start: {error}")]
    Stage {
        /// Which.
        stage: Arc<str>,
        /// Why.
        error: StartError,
    },
    /// The exporter of traces refused its settings.
    #[error("traces cannot be exported: {0}")]
    Traces(#[from] TraceError),
    /// What durable jobs need is not there.
    #[error("durable jobs do not start: {0}")]
    Jobs(#[from] JobsError),
    /// It is on its way out.
    #[error("the engine is draining")]
    Draining,
}

/// A started engine. Draining is the caller's duty before it is dropped.
pub struct Engine {
    id: String,
    started_at: i64,
    settings: EngineSettings,
    /// What all stages share, those that start later included.
    pub(super) shared: StageRuntime,
    pub(super) running: RwLock<Running>,
    /// Held while the engine goes over to another config: one at a time.
    pub(super) reloading: Mutex<()>,
    broker: Mutex<BrokerState>,
    /// Durable jobs, where a database is named.
    pub(super) jobs: Option<Jobs>,
    /// Where spans go, where they are exported.
    spans: Option<SpanExport>,
    /// The next offset of the control topic to read; `None`: nothing of it was read yet.
    pub(super) control_next: Mutex<Option<i64>>,
    pub(super) draining: AtomicBool,
}

/// What runs now.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) catalog: Arc<Catalog>,
    /// In the order of the files.
    pub(super) stages: Vec<Arc<StageHandle>>,
    /// How many configs were in force since the start; counts from 1.
    pub(super) generation: u64,
    /// Stages that should run and could not be started, and why.
    pub(super) missing: Vec<String>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the producer and starts every stage of `catalog`. Blocks while clients are opened.
    ///
    /// # Errors
    /// Where a client or a stage does not start; stages that did are stopped again.
    pub fn start(
        settings: EngineSettings,
        catalog: Arc<Catalog>,
        runtime: Handle,
    ) -> Result<Self, EngineError> {
        let producers = Arc::new(Producers::open(settings.client.clone(), ProducerOptions::default())?);
        let id = settings.engine_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let telemetry = Arc::new(Telemetry::new());
        let traces =
            settings.traces.as_ref().map(|traces| Tracer::open(traces, &telemetry, &id)).transpose()?;
        let (tracer, spans) = traces.unzip();
        let shared = StageRuntime {
            client: settings.client.clone(),
            producers,
            budget: Budget::new(settings.window),
            holds: Arc::default(),
            namespace: settings.namespace.clone(),
            engine_id: settings.engine_id.clone(),
            runtime,
            telemetry,
            tracer,
            ports: Ports {
                sql: Some(Arc::new(StepDatabases::new(settings.database.clone()))),
                exec: settings.programs.clone(),
                jobs: Some(Arc::new(StepJobs::new(settings.database.clone()))),
                ..Ports::default()
            },
            generation: catalog.digest().to_owned(),
        };
        // Before a stage reads its first record: with what is wrong here nothing starts.
        let database = (settings.database.clone(), settings.retention);
        let jobs = Jobs::open(database, settings.public_url.as_deref(), &catalog, &id, &shared)?;
        let stages = start_all(&catalog, &shared)?;
        info!(stages = stages.len(), catalog = catalog.digest(), "the stages start");
        Ok(Self {
            id,
            jobs,
            spans,
            started_at: now_millis(),
            settings,
            shared,
            running: RwLock::new(Running { catalog, stages, generation: 1, missing: Vec::new() }),
            reloading: Mutex::new(()),
            broker: Mutex::new(BrokerState::Unknown),
            control_next: Mutex::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// Its name, or one of its own making.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// How it reaches Kafka, and under which namespace.
    pub(super) fn reach(&self) -> (ClientSettings, String) {
        (self.settings.client.clone(), self.settings.namespace.clone())
    }

    /// The config in force.
    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.running.read().catalog)
    }

    /// Exports spans until `cancel`, and then those that still wait; where none are made, nothing.
    ///
    /// # Errors
    /// None.
    pub async fn export_spans(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        if let Some(spans) = &self.spans {
            spans.run(cancel).await;
        }
        Ok(())
    }

    /// Asks the brokers every few seconds whether they are there and how far they are ahead of the
    /// stages, until `cancel`.
    ///
    /// # Errors
    /// Where the client that asks does not open.
    pub async fn watch_brokers(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        let asking = Arc::new(Consumer::open(
            &self.settings.client,
            ConsumerOptions::new(format!("{}.engine", self.settings.namespace), Vec::new()),
            || {},
        )?);
        for round in 0.. {
            let (engine, consumer) = (Arc::clone(&self), Arc::clone(&asking));
            let answer = tokio::task::spawn_blocking(move || engine.ask(&consumer, round));
            let Some(answer) = cancel.run_until_cancelled(answer).await else { return Ok(()) };
            self.heard(answer?);
            if cancel.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Stops every stage and waits until each has finished what it holds, no longer than its own
    /// `drain` or `limit`, has committed and has left its group. Nothing is finished any more once `hurry`
    /// is cancelled. Blocks. True where all left in time.
    pub fn drain(&self, limit: Option<Duration>, hurry: &CancellationToken) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        // A reload that is under way sees that and leaves off.
        let _reload = self.reloading.lock();
        let stages = self.running.read().stages.clone();
        drain(&stages, limit, || hurry.is_cancelled())
    }

    /// Sends what is under way, for a moment; nothing is sent afterwards. Blocks. True where all was sent.
    pub fn close_producer(&self) -> bool {
        self.shared.producers.current().close(FLUSH)
    }

    /// One round of questions; blocks for a few round trips.
    fn ask(&self, consumer: &Consumer, round: u64) -> Result<(), BrokerError> {
        // Errors wait in the client's queue until someone polls.
        let _ = consumer.poll(Duration::ZERO);
        let Running { catalog, stages, .. } = self.running.read().clone();
        if let Some(topic) = catalog.stages().values().find_map(|stage| stage.inputs.first()) {
            let first = TopicPartition::new(Arc::clone(&topic.physical), 0);
            match consumer.watermarks(&first, PROBE_LIMIT) {
                // They answered, though not with what was asked.
                Ok(_) | Err(BrokerError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let ends = ends(consumer, &stages);
        for stage in &stages {
            stage.ends_are(&ends);
            stage.look_at_stalls(consumer, PROBE_LIMIT);
        }
        if round.is_multiple_of(TOPICS_EVERY) {
            let EngineSettings { client, namespace, .. } = &self.settings;
            if let Err(error) = own_topics::keep(&catalog, namespace, client, PROBE_LIMIT) {
                warn!(%error, "a topic of the engine's own cannot be made; it is tried again");
            }
            let there = consumer.topics(PROBE_LIMIT)?;
            stages.iter().for_each(|stage| stage.topics_are_there(&self.settings.namespace, &there));
        }
        Ok(())
    }

    fn heard(&self, answer: Result<(), BrokerError>) {
        let now = match answer {
            Ok(()) => BrokerState::Reachable,
            Err(error) => BrokerState::Unreachable(error.to_string()),
        };
        let before = std::mem::replace(&mut *self.broker.lock(), now.clone());
        match (before, now) {
            (BrokerState::Unreachable(_), BrokerState::Reachable) => info!("the brokers answer again"),
            (BrokerState::Unreachable(_), _) | (_, BrokerState::Reachable | BrokerState::Unknown) => {}
            (_, BrokerState::Unreachable(error)) => warn!(error, "the brokers do not answer"),
        }
    }
}

impl View for Engine {
    fn status(&self) -> EngineStatus {
        let running = self.running.read().clone();
        EngineStatus {
            engine: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            namespace: self.settings.namespace.clone(),
            catalog: running.catalog.digest().to_owned(),
            generation: running.generation,
            broker: self.broker.lock().clone(),
            stages: running.stages.iter().map(|stage| status_of(stage)).collect(),
            jobs: self.jobs.as_ref().and_then(Jobs::status),
        }
    }

    fn readiness(&self) -> Readiness {
        let running = self.running.read().clone();
        let stages: Vec<_> = running.stages.iter().map(|stage| status_of(stage)).collect();
        let draining = self.draining.load(Ordering::Relaxed);
        let jobs = self.jobs.as_ref().and_then(Jobs::not_ready);
        let missing = running.missing.into_iter().chain(jobs).collect();
        Readiness::judge(&self.broker.lock(), &stages, draining).without(missing)
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.catalog()
    }

    fn pulls(&self) -> Option<Arc<Pulls>> {
        self.jobs.as_ref()?.pulls()
    }

    fn pause_stage(&self, stage: &str, pause: &Pause) -> Result<(), ControlError> {
        control::pause(&self.settings.client, &self.settings.namespace, stage, pause)
    }

    fn resume_stage(&self, stage: &str, resume: &Resume) -> Result<(), ControlError> {
        control::resume(&self.settings.client, &self.settings.namespace, stage, resume)
    }

    fn metrics(&self) -> String {
        self.shared.telemetry.render()
    }
}

/// How far the brokers are ahead of these stages, with one request a broker for all of them.
fn ends(consumer: &Consumer, stages: &[Arc<StageHandle>]) -> BTreeMap<TopicPartition, i64> {
    let owned: BTreeSet<TopicPartition> = stages.iter().flat_map(|stage| stage.owned()).collect();
    let owned: Vec<_> = owned.into_iter().collect();
    consumer.ends(&owned, PROBE_LIMIT).unwrap_or_else(|_| {
        // One that is away would hide those that are there.
        let end = |name: TopicPartition| Some((consumer.watermarks(&name, PROBE_LIMIT).ok()?.1, name));
        owned.into_iter().filter_map(end).map(|(end, name)| (name, end)).collect()
    })
}

/// A stage that runs without having been given its share of the partitions is still starting.
fn status_of(stage: &StageHandle) -> StageStatus {
    let mut status = stage.status();
    if status.state == "running" && !stage.was_assigned() {
        "starting".clone_into(&mut status.state);
    }
    status
}

fn start_all(catalog: &Catalog, shared: &StageRuntime) -> Result<Vec<Arc<StageHandle>>, EngineError> {
    let mut started: Vec<Arc<StageHandle>> = Vec::with_capacity(catalog.stages().len());
    for (name, stage) in catalog.stages() {
        match events::start(Arc::clone(stage), shared) {
            Ok(handle) => started.push(Arc::new(handle)),
            Err(error) => {
                started.iter().for_each(|handle| handle.stop());
                for handle in &started {
                    handle.join(Duration::from_secs(1));
                }
                return Err(EngineError::Stage { stage: Arc::clone(name), error });
            }
        }
    }
    Ok(started)
}
