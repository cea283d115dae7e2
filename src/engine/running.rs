//! The running engine: its stages, its producer, what the brokers answered last.
//!
//! Owns every stage's handle. Starting is all or nothing; a stage that halts later keeps the others
//! running and the engine not ready. Draining tells all stages to stop before it waits for the first.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::status::{BrokerState, EngineStatus, Readiness};
use super::supervisor::TaskError;
use super::view::View;
use crate::broker::{
    BrokerError, ClientSettings, Consumer, ConsumerOptions, ProducerOptions, TopicPartition,
};
use crate::catalog::Catalog;
use crate::events::{self, Producers, StageHandle, StageRuntime, StageStatus, StartError};
use crate::steps::Ports;
use crate::telemetry::Telemetry;

/// How often the brokers are asked whether they are there, and how long an answer may take.
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// How long one look at a draining stage waits, so that a hurry is noticed.
const DRAIN_SLICE: Duration = Duration::from_millis(50);

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
}

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
}

/// A started engine. Draining is the caller's duty before it is dropped.
pub struct Engine {
    id: String,
    started_at: i64,
    settings: EngineSettings,
    catalog: Arc<Catalog>,
    producers: Arc<Producers>,
    telemetry: Arc<Telemetry>,
    stages: Vec<StageHandle>,
    broker: Mutex<BrokerState>,
    draining: AtomicBool,
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
        let telemetry = Arc::new(Telemetry::new());
        let shared = StageRuntime {
            client: settings.client.clone(),
            producers: Arc::clone(&producers),
            namespace: settings.namespace.clone(),
            engine_id: settings.engine_id.clone(),
            runtime,
            telemetry: Arc::clone(&telemetry),
            ports: Ports::default(),
            generation: catalog.digest().to_owned(),
        };
        let stages = start_all(&catalog, &shared)?;
        info!(stages = stages.len(), catalog = catalog.digest(), "the stages start");
        Ok(Self {
            id: settings.engine_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string()),
            started_at: now_millis(),
            settings,
            catalog,
            producers,
            telemetry,
            stages,
            broker: Mutex::new(BrokerState::Unknown),
            draining: AtomicBool::new(false),
        })
    }

    /// The config in force.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
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
        loop {
            let (engine, consumer) = (Arc::clone(&self), Arc::clone(&asking));
            let answer = tokio::task::spawn_blocking(move || engine.ask(&consumer));
            let Some(answer) = cancel.run_until_cancelled(answer).await else { return Ok(()) };
            self.heard(answer?);
            if cancel.run_until_cancelled(tokio::time::sleep(PROBE_EVERY)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Stops every stage and waits until each has finished what it holds, no longer than its own
    /// `drain` or `limit`, and no longer at all once `hurry` is cancelled. Blocks. True where all
    /// ended in time.
    pub fn drain(&self, limit: Option<Duration>, hurry: &CancellationToken) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        self.stages.iter().for_each(StageHandle::stop);
        let started = Instant::now();
        let mut all = true;
        for handle in &self.stages {
            let drain = self.catalog.stages().get(handle.name()).map_or(Duration::ZERO, |stage| stage.drain);
            let until = started + limit.map_or(drain, |limit| limit.min(drain));
            let ended = wait_for(handle, until, hurry);
            if !ended {
                warn!(stage = handle.name(), "stopped before it had drained; what it held is redone");
            }
            all &= ended;
        }
        self.producers.current().close(FLUSH) && all
    }

    /// One round of questions; blocks for a round trip a partition.
    fn ask(&self, consumer: &Consumer) -> Result<(), BrokerError> {
        // Errors wait in the client's queue until someone polls.
        let _ = consumer.poll(Duration::ZERO);
        if let Some(topic) = self.catalog.stages().values().find_map(|stage| stage.inputs.first()) {
            let first = TopicPartition::new(Arc::clone(&topic.physical), 0);
            match consumer.watermarks(&first, PROBE_LIMIT) {
                // They answered, though not with what was asked.
                Ok(_) | Err(BrokerError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.stages.iter().for_each(|stage| stage.look_up_ends(consumer, PROBE_LIMIT));
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
        EngineStatus {
            engine: self.id.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            namespace: self.settings.namespace.clone(),
            catalog: self.catalog.digest().to_owned(),
            generation: 1,
            broker: self.broker.lock().clone(),
            stages: self.stages.iter().map(status_of).collect(),
        }
    }

    fn readiness(&self) -> Readiness {
        let stages: Vec<_> = self.stages.iter().map(status_of).collect();
        Readiness::judge(&self.broker.lock(), &stages, self.draining.load(Ordering::Relaxed))
    }

    fn metrics(&self) -> String {
        self.telemetry.render()
    }
}

/// A stage that runs without having been given its share of the partitions is still starting.
fn status_of(stage: &StageHandle) -> StageStatus {
    let mut status = stage.status();
    if status.state == "running" && !stage.was_assigned() {
        "starting".clone_into(&mut status.state);
    }
    status
}

fn start_all(catalog: &Catalog, shared: &StageRuntime) -> Result<Vec<StageHandle>, EngineError> {
    let mut started: Vec<StageHandle> = Vec::with_capacity(catalog.stages().len());
    for (name, stage) in catalog.stages() {
        match events::start(Arc::clone(stage), shared) {
            Ok(handle) => started.push(handle),
            Err(error) => {
                started.iter().for_each(StageHandle::stop);
                for handle in &started {
                    handle.join(Duration::from_secs(1));
                }
                return Err(EngineError::Stage { stage: Arc::clone(name), error });
            }
        }
    }
    Ok(started)
}

fn wait_for(handle: &StageHandle, until: Instant, hurry: &CancellationToken) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let slice = if hurry.is_cancelled() { Duration::ZERO } else { left.min(DRAIN_SLICE) };
        if handle.join(slice) {
            return true;
        }
        if slice.is_zero() {
            return false;
        }
    }
}

fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
