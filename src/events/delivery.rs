//! The four duties of delivery behind one interface, so that guarantees can differ without the runner
//! knowing: where an assigned partition starts; an epoch that collects what is sent; closing it with
//! offsets; aborting it, after which the runner rewinds.
//!
//! At-least-once is an epoch that never aborts but for a producer that is beyond repair.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use parking_lot::Mutex;

use super::limits::Limits;
use super::metadata::Beyond;
use super::starts::Starts;
use crate::base::ByteSize;
use crate::broker::{
    BrokerError, ClientSettings, Commit, Consumer, ConsumerOptions, DeliverySink, OutHeaders, Outgoing,
    Producer, ProducerOptions, SendError, Sink, StartAt, TopicPartition, TopicRoute,
};
use crate::catalog::{Compression, Stage, Start};

/// Where one assigned partition starts.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    /// The partition.
    pub(super) partition: TopicPartition,
    /// Its first offset to read: a known one, or the oldest.
    pub(super) at: StartAt,
    /// The committed offset, if there is one.
    pub(super) committed: Option<i64>,
    /// What is known beyond it.
    pub(super) beyond: Beyond,
}

/// The number of a call of [`Delivery::close_later`] and what became of it.
pub(super) type Answer = (u64, Result<Vec<TopicPartition>, BrokerError>);

/// What stands of an epoch that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// What was acknowledged: consumers have it.
    Acknowledged,
    /// Nothing: consumers never see what was sent since the last epoch closed.
    Nothing,
}

/// What a runner needs of the guarantee behind it. Called from the runner's thread only.
pub(super) trait Delivery: Send {
    /// Where assigned partitions start, known before `deadline`.
    fn starts(&mut self, partitions: &[TopicPartition], deadline: Instant)
    -> Result<Vec<Begin>, BrokerError>;

    /// Adds a record to the open epoch; its acknowledgement comes to the sink under `token`.
    fn produce(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)>;

    /// As [`Delivery::produce`], in a batch that holds nothing else. Called only while nothing is
    /// unacknowledged, and nothing else is produced before its acknowledgement.
    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)>;

    /// Closes the epoch with these offsets without waiting; the answer comes by
    /// [`Delivery::take_closed`] under `number`, which rises from call to call.
    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError>;

    /// Closes the epoch with these offsets and waits for the answer, at most `limit`.
    fn close_now(&mut self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError>;

    /// Answers to [`Delivery::close_later`] since the last call: the number, and the partitions that
    /// were closed or why none was. One answer may stand for several calls, under the newest number.
    fn take_closed(&mut self) -> Vec<Answer>;

    /// Goes on with another consumer of the same group. Nothing of the old one's partitions is open.
    fn rejoin(&mut self, consumer: Arc<Consumer>);

    /// Whether an epoch closes only as a whole: not before all that was sent in it is acknowledged.
    fn closes_whole(&self) -> bool {
        false
    }

    /// Gives the epoch up, and says what stands of it. Nothing sent in it will be acknowledged any more;
    /// the runner reads its partitions again from there and clears their lanes.
    ///
    /// # Errors
    /// Where no new epoch can be opened yet; call again later.
    fn abort(&mut self) -> Result<Standing, BrokerError>;
}

/// The producer that the stages of an engine share; replaced when it is beyond repair.
pub struct Producers {
    settings: ClientSettings,
    options: ProducerOptions,
    limits: Mutex<Limits>,
    state: Mutex<State>,
}

struct State {
    current: Arc<Producer>,
    routes: IndexMap<Arc<str>, TopicRoute>,
}

impl Producers {
    /// Opens the first producer.
    ///
    /// # Errors
    /// Where the client refuses its settings.
    pub fn open(settings: ClientSettings, options: ProducerOptions) -> Result<Self, BrokerError> {
        let current = Producer::open(&settings, options.clone())?;
        let limits = Mutex::new(Limits::new(settings.clone()));
        let state = Mutex::new(State { current, routes: IndexMap::new() });
        Ok(Self { settings, options, limits, state })
    }

    /// The producer in use.
    pub fn current(&self) -> Arc<Producer> {
        Arc::clone(&self.state.lock().current)
    }

    /// Says how the topics that `stage` writes are written. A topic keeps its first route as long as
    /// the engine runs, since two routes know no common order. Waits a moment for the brokers where
    /// the files do not say how large a record may be.
    ///
    /// # Errors
    /// Where the client refuses a route.
    pub(super) fn route(&self, stage: &Stage) -> Result<(), BrokerError> {
        let outputs = stage.outputs.iter().map(|output| &output.topic);
        let mut limits = self.limits.lock();
        for topic in outputs.chain(stage.dlq.iter().map(|dlq| &dlq.topic)) {
            if self.state.lock().routes.contains_key(&topic.physical) {
                continue;
            }
            let told = topic.max_message_bytes.map(ByteSize::as_usize);
            let limit = told.or_else(|| limits.of(&topic.physical));
            let route = TopicRoute {
                compression: compression(topic.compression),
                linger: topic.linger,
                // A limit that no batch meets makes no difference.
                max_message_bytes: limit.filter(|limit| *limit < self.options.batch_bytes),
            };
            let mut state = self.state.lock();
            if route != TopicRoute::default() {
                state.current.route(&topic.physical, route)?;
            }
            state.routes.insert(Arc::clone(&topic.physical), route);
        }
        limits.rest();
        Ok(())
    }

    /// A producer other than `broken`, which is beyond repair: the one that another stage opened
    /// since, or a new one.
    fn renew(&self, broken: &Arc<Producer>) -> Result<Arc<Producer>, BrokerError> {
        let mut state = self.state.lock();
        if Arc::ptr_eq(&state.current, broken) {
            let renewed = Producer::open(&self.settings, self.options.clone())?;
            for (topic, route) in state.routes.iter().filter(|(_, route)| **route != TopicRoute::default()) {
                renewed.route(topic, *route)?;
            }
            state.current = renewed;
        }
        Ok(Arc::clone(&state.current))
    }
}

/// At-least-once: the shared idempotent producer and the group's commits.
pub(super) struct AtLeastOnce {
    consumer: Arc<Consumer>,
    producers: Arc<Producers>,
    producer: Arc<Producer>,
    answers: Arc<dyn DeliverySink>,
    sink: Sink,
    start: Start,
    /// The group whose commits count where its own has none.
    before: Option<String>,
}

impl AtLeastOnce {
    pub(super) fn new(
        consumer: Arc<Consumer>,
        producers: Arc<Producers>,
        answers: Arc<dyn DeliverySink>,
        start: Start,
    ) -> Self {
        let producer = producers.current();
        let sink = producer.register(Arc::clone(&answers));
        Self { consumer, producers, producer, answers, sink, start, before: None }
    }

    /// Where the group has no commit, one of `before` counts.
    #[must_use]
    pub(super) fn after(mut self, before: Option<String>) -> Self {
        self.before = before;
        self
    }
}

impl Delivery for AtLeastOnce {
    fn starts(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Vec<Begin>, BrokerError> {
        let starts = Starts { consumer: &self.consumer, before: None, start: self.start, deadline };
        let Some(group) = &self.before else { return starts.of(partitions) };
        // A member of no group, which only looks up, and only while partitions are assigned.
        let options = ConsumerOptions::new(group.as_str(), Vec::new());
        let before = Consumer::open(&self.producers.settings, options, || {})?;
        Starts { before: Some(&before), ..starts }.of(partitions)
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.producer.send(outgoing, &self.sink, token)
    }

    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.producer.send_alone(outgoing, &self.sink, token)
    }

    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        self.consumer.commit_later(commits, number)
    }

    fn close_now(&mut self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError> {
        self.consumer.commit_within(commits, limit)
    }

    fn take_closed(&mut self) -> Vec<Answer> {
        self.consumer.take_commit_results()
    }

    fn rejoin(&mut self, consumer: Arc<Consumer>) {
        self.consumer = consumer;
    }

    fn abort(&mut self) -> Result<Standing, BrokerError> {
        let renewed = self.producers.renew(&self.producer)?;
        if !Arc::ptr_eq(&renewed, &self.producer) {
            self.producer.deregister(&self.sink);
            self.sink = renewed.register(Arc::clone(&self.answers));
            self.producer = renewed;
        }
        Ok(Standing::Acknowledged)
    }
}

impl Drop for AtLeastOnce {
    fn drop(&mut self) {
        self.producer.deregister(&self.sink);
    }
}

/// The client's word for how a topic is written.
pub fn compression(wanted: Compression) -> crate::broker::Compression {
    use crate::broker::Compression as Client;
    match wanted {
        Compression::None => Client::None,
        Compression::Gzip => Client::Gzip,
        Compression::Snappy => Client::Snappy,
        Compression::Lz4 => Client::Lz4,
        Compression::Zstd => Client::Zstd,
    }
}
