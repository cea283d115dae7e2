//! Starting a stage and holding on to it: its thread, its handle, and the look-up of how far the
//! brokers are ahead of it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::budget::Budget;
use super::delivery::{AtLeastOnce, Delivery, Producers};
use super::hold::Holds;
use super::in_database::InDatabase;
use super::inbox::{Command, Inbox};
use super::program::Program;
use super::reset::Reset;
use super::runner::{Reopen, Runner};
use super::sources::Sources;
use super::status::{Shared, StageStatus};
use super::transactional::Transactional;
use crate::base::guard;
use crate::broker::{BrokerError, ClientSettings, Consumer, ConsumerOptions, DeliverySink, TopicPartition};
use crate::catalog::{Guarantee, Stage};
use crate::steps::{OpenError, Ports};
use crate::telemetry::Telemetry;
use crate::telemetry::traces::Tracer;

/// How long the last commit and leaving the group may take, each, where no broker answers.
pub const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// What all stages of an engine share.
#[derive(Clone)]
pub struct StageRuntime {
    /// How Kafka is reached.
    pub client: ClientSettings,
    /// The shared producer.
    pub producers: Arc<Producers>,
    /// What the stages may hold in flight together.
    pub budget: Arc<Budget>,
    /// Which stages are to stand still.
    pub holds: Arc<Holds>,
    /// The prefix of the groups.
    pub namespace: String,
    /// Static membership under this id.
    pub engine_id: Option<String>,
    /// Where steps that wait run.
    pub runtime: Handle,
    /// Where metrics go.
    pub telemetry: Arc<Telemetry>,
    /// Makes spans, where the environment names a receiver of them.
    pub tracer: Option<Tracer>,
    /// What steps may ask of the world.
    pub ports: Ports,
    /// The digest of the catalog in force.
    pub generation: String,
}

/// A stage that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A step cannot be opened.
    #[error(transparent)]
    Step(#[from] OpenError),
    /// The client refuses its settings.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The system gives no thread.
    #[error("no thread can be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running stage. Dropping the handle stops it without waiting.
pub struct StageHandle {
    name: Arc<str>,
    program: Mutex<Arc<Program>>,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
}

/// Opens what `stage` needs and lets go of it again, so that a stage which cannot start is known before
/// another one is stopped for it.
///
/// # Errors
/// Where a step cannot be opened.
pub fn prove(stage: &Arc<Stage>, runtime: &StageRuntime) -> Result<(), StartError> {
    runtime.open(stage)?;
    Ok(())
}

impl StageRuntime {
    fn group(&self, stage: &str) -> String {
        format!("{}.{stage}", self.namespace)
    }

    /// What keeps the promise of the stage's `delivery`.
    fn deliver(
        &self,
        program: &Program,
        consumer: &Arc<Consumer>,
        inbox: &Arc<Inbox>,
    ) -> Result<Box<dyn Delivery>, BrokerError> {
        let stage = &*program.stage;
        let before = stage.was.as_ref().map(|was| self.group(was));
        if let Some(offsets) = &program.offsets {
            let inner = self.at_least_once(stage, consumer, inbox)?;
            let (consumer, offsets) = (Arc::clone(consumer), Arc::clone(offsets));
            let groups = (self.group(&stage.name), before);
            let inputs = stage.inputs.iter().map(|topic| Arc::clone(&topic.physical)).collect();
            let runtime = self.runtime.clone();
            return Ok(Box::new(InDatabase::new(inner, consumer, offsets, runtime, groups, inputs)));
        }
        // The cluster in this process shows its readers what is not committed.
        let isolated = !self.client.mock;
        if stage.delivery == Guarantee::ExactlyOnce && !isolated {
            tracing::warn!(
                stage = &*stage.name,
                "at-least-once here: the cluster in this process has no transactions"
            );
        }
        if stage.delivery == Guarantee::AtLeastOnce || !isolated {
            return Ok(Box::new(self.at_least_once(stage, consumer, inbox)?));
        }
        let (consumer, producers) = (Arc::clone(consumer), Arc::clone(&self.producers));
        let id = self.transactional_id(&stage.name);
        Ok(Box::new(Transactional::open(stage, id, consumer, producers, Arc::clone(inbox), before)?))
    }

    fn at_least_once(
        &self,
        stage: &Stage,
        consumer: &Arc<Consumer>,
        inbox: &Arc<Inbox>,
    ) -> Result<AtLeastOnce, BrokerError> {
        self.producers.route(stage)?;
        let before = stage.was.as_ref().map(|was| self.group(was));
        let sink: Arc<dyn DeliverySink> = Arc::clone(inbox) as _;
        let (consumer, producers) = (Arc::clone(consumer), Arc::clone(&self.producers));
        Ok(AtLeastOnce::new(consumer, producers, sink, stage.start).after(before))
    }

    /// Under the id of an engine that has one, so that a restart settles at once what its predecessor left.
    fn transactional_id(&self, stage: &str) -> String {
        let engine = self.engine_id.clone();
        let engine = engine.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        format!("{}.{engine}", self.group(stage))
    }

    fn open(&self, stage: &Arc<Stage>) -> Result<Program, OpenError> {
        let program = Program::open(Arc::clone(stage), &self.generation, &self.ports)?;
        let group = self.group(&stage.name);
        let tracer = self.tracer.as_ref().map(|tracer| tracer.stage(&stage.name, &group));
        Ok(program.read_by(&group).timed_by(&self.telemetry.stage(&stage.name)).traced_by(tracer))
    }
}

/// Starts `stage` on a thread of its own.
///
/// # Errors
/// See [`StartError`]. Unreachable brokers are no error: the stage waits for them.
pub fn start(stage: Arc<Stage>, runtime: &StageRuntime) -> Result<StageHandle, StartError> {
    start_by(stage, runtime, |program, consumer, inbox| runtime.deliver(program, consumer, inbox))
}

/// As [`start`], with something between the runner and its delivery.
#[cfg(test)]
pub(super) fn start_with(
    stage: Arc<Stage>,
    runtime: &StageRuntime,
    wrap: impl FnOnce(AtLeastOnce) -> Box<dyn Delivery>,
) -> Result<StageHandle, StartError> {
    let kept = Arc::clone(&stage);
    start_by(stage, runtime, |_, consumer, inbox| Ok(wrap(runtime.at_least_once(&kept, consumer, inbox)?)))
}

fn start_by(
    stage: Arc<Stage>,
    runtime: &StageRuntime,
    deliver: impl FnOnce(&Program, &Arc<Consumer>, &Arc<Inbox>) -> Result<Box<dyn Delivery>, BrokerError>,
) -> Result<StageHandle, StartError> {
    let program = Arc::new(runtime.open(&stage)?);
    let shared = Arc::new(Shared::new(&stage.name, runtime.telemetry.stage(&stage.name)));
    let inbox = Arc::new(Inbox::default());
    let group = runtime.group(&stage.name);
    let mut sources = Sources::new(&runtime.namespace, &stage);
    // The cluster in this process makes every topic that it is asked for.
    if !runtime.client.mock {
        sources = sources.with_parking(&runtime.namespace, &stage);
    }
    let mut options = ConsumerOptions::new(group, Vec::new());
    options.instance_id = runtime.engine_id.clone();
    let reopen = reopening(runtime.client.clone(), options, Arc::clone(&inbox));
    let consumer = Arc::new(reopen(sources.subscription())?);
    let delivery = deliver(&program, &consumer, &inbox)?;
    let runner = Runner::new(
        Arc::clone(&program),
        consumer,
        (reopen, sources),
        delivery,
        Arc::clone(&inbox),
        Arc::clone(&shared),
        runtime,
    );
    let (watch, inherited) = (Arc::clone(&shared), guard::inherited());
    thread::Builder::new().name(format!("stage {}", stage.name)).spawn(move || {
        inherited.adopt();
        if catch_unwind(AssertUnwindSafe(|| runner.run())).is_err() {
            watch.halted("the stage's own thread panicked; restart the engine and report this");
            watch.stopped();
        }
    })?;
    Ok(StageHandle { name: Arc::clone(&stage.name), program: Mutex::new(program), inbox, shared })
}

/// What opens a consumer of the stage, the first and each later one.
fn reopening(client: ClientSettings, options: ConsumerOptions, inbox: Arc<Inbox>) -> Reopen {
    Box::new(move |topics| {
        let waker = Arc::clone(&inbox);
        Consumer::open(&client, ConsumerOptions { topics, ..options.clone() }, move || waker.wake())
    })
}

impl StageHandle {
    /// The stage's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stage as checked, of the generation in force.
    pub fn stage(&self) -> Arc<Stage> {
        Arc::clone(&self.program.lock().stage)
    }

    /// A copy of its status, at most a second old.
    pub fn status(&self) -> StageStatus {
        self.shared.status()
    }

    /// Whether the group has given it an assignment since it started, be it an empty one.
    pub fn was_assigned(&self) -> bool {
        self.shared.was_assigned()
    }

    /// Goes on with another generation of the same stage from the next record on. Inputs and group
    /// must be the same; what is in flight ends on the old one.
    ///
    /// # Errors
    /// Where a step cannot be opened; the old generation goes on.
    pub fn replace(&self, stage: Arc<Stage>, runtime: &StageRuntime) -> Result<(), StartError> {
        let program = Arc::new(runtime.open(&stage)?);
        // An exactly-once stage has a producer of its own, unless a database says where it stands.
        if stage.delivery == Guarantee::AtLeastOnce || program.offsets.is_some() {
            runtime.producers.route(&stage)?;
        }
        *self.program.lock() = Arc::clone(&program);
        self.inbox.command(Command::Replace(program));
        Ok(())
    }

    /// Says which topics are on the broker: those that the engine keeps beside its inputs are read from
    /// when they are there.
    pub fn topics_are_there(&self, namespace: &str, there: &BTreeSet<String>) {
        let prefix = format!("{namespace}.");
        let own = there.range(prefix.clone()..).take_while(|name| name.starts_with(&prefix));
        self.inbox.command(Command::TopicsAreThere(own.map(|name| name.as_str().into()).collect()));
    }

    /// Stands still, or goes on, as the engine's [`Holds`] say by now.
    pub fn heed(&self, holds: &Holds) {
        self.inbox.command(Command::Hold(holds.of(&self.name)));
    }

    /// Goes on after a halt, from the first record that is not finished.
    pub fn go_on(&self) {
        self.inbox.command(Command::GoOn);
    }

    /// Lets partitions that it reads go on elsewhere.
    pub fn reset(&self, reset: Reset) {
        self.inbox.command(Command::Reset(reset));
    }

    /// Starts nothing new, finishes what runs within the stage's `drain`, commits and leaves.
    pub fn stop(&self) {
        self.stop_by(Instant::now() + self.stage().drain, LEAVE_LIMIT);
    }

    /// As [`StageHandle::stop`], but what runs is given up at `by`, and the last commit and leaving the
    /// group take at most `leave` each. Of several calls the shortest limits count.
    pub fn stop_by(&self, by: Instant, leave: Duration) {
        self.inbox.command(Command::Stop { by, leave });
    }

    /// Waits until the stage has left, at most `limit`; false where it has not.
    pub fn join(&self, limit: Duration) -> bool {
        self.shared.wait_stopped(Instant::now() + limit)
    }

    /// The partitions that it reads.
    pub fn owned(&self) -> Vec<TopicPartition> {
        self.shared.owned()
    }

    /// How far the brokers are ahead was looked up, of its partitions among others.
    pub fn ends_are(&self, ends: &BTreeMap<TopicPartition, i64>) {
        self.shared.set_ends(ends);
    }

    /// Looks at a partition that seems to stand still, through a consumer that joins no group. Blocks for up
    /// to `limit` where there is one.
    pub fn look_at_stalls(&self, consumer: &Consumer, limit: Duration) {
        self.shared.suspicion.prove(consumer, limit);
    }
}

impl Drop for StageHandle {
    fn drop(&mut self) {
        self.stop();
    }
}
