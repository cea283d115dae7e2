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
use crate::catalog::{Compression, Stage, Start, Topic};

/// Where one assigned partition starts.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    /// The partition.
    pub(super) partition: TopicPartition,
    /// Its first offset to read: a known one, or the oldest.
    pub(super) at: StartAt,
    /// The committed offset, if there is one.
    pub(super) committed: Option<i64>,
    /// Whether that of the group under the stage's name before counts.
    pub(super) inherited: bool,
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
    /// Nobody here knows whether the last epoch closed; the group's commits say it.
    Unknown,
    /// It is still being given up: ask again soon.
    Pending,
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

    /// Whether the epoch holds anything that is not closed, so that it stands or falls with all partitions
    /// that are read. Never so where epochs are not closed as a whole.
    fn is_open(&self) -> bool {
        false
    }

    /// Why the brokers refused what an epoch holds, where that is known since the last time.
    fn refusal(&mut self) -> Option<String> {
        None
    }

    /// Gives up what is open before partitions go to others, within about `limit`: what was sent is not
    /// seen by anybody, or it is known to have been closed. Whichever it was, the group's commits say it.
    fn give_up(&mut self, _limit: Duration) {}

    /// Gives the epoch up, and says what stands of it. Nothing sent in it will be acknowledged any more;
    /// the runner reads its partitions again from there and clears their lanes.
    ///
    /// # Errors
    /// Where no new epoch can be opened yet; call again later. [`BrokerError::Fenced`]: never again.
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
        self.route_topics(written(stage))
    }

    /// The same of these topics.
    ///
    /// # Errors
    /// Where the client refuses a route.
    pub fn route_topics<'a>(&self, topics: impl Iterator<Item = &'a Arc<Topic>>) -> Result<(), BrokerError> {
        let mut limits = self.limits.lock();
        for topic in topics {
            if self.state.lock().routes.contains_key(&topic.physical) {
                continue;
            }
            let route = self.way(topic, &mut limits);
            let mut state = self.state.lock();
            if route != TopicRoute::default() {
                state.current.route(&topic.physical, route)?;
            }
            state.routes.insert(Arc::clone(&topic.physical), route);
        }
        limits.rest();
        Ok(())
    }

    fn way(&self, topic: &Topic, limits: &mut Limits) -> TopicRoute {
        let told = topic.max_message_bytes.map(ByteSize::as_usize);
        let limit = told.or_else(|| limits.of(&topic.physical));
        TopicRoute {
            compression: compression(topic.compression),
            linger: topic.linger,
            // A limit that no batch meets makes no difference.
            max_message_bytes: limit.filter(|limit| *limit < self.options.batch_bytes),
        }
    }

    /// How one producer writes all topics of `stage`: compressed as its first output, with the shortest
    /// linger and in batches that each of them takes.
    pub(super) fn common_way(&self, stage: &Stage) -> TopicRoute {
        let mut limits = self.limits.lock();
        let ways: Vec<_> = written(stage).map(|topic| self.way(topic, &mut limits)).collect();
        limits.rest();
        TopicRoute {
            compression: ways.first().map(|way| way.compression).unwrap_or_default(),
            linger: ways.iter().map(|way| way.linger.unwrap_or(self.options.linger)).min(),
            max_message_bytes: ways.iter().filter_map(|way| way.max_message_bytes).min(),
        }
    }

    /// How Kafka is reached.
    pub(super) fn settings(&self) -> &ClientSettings {
        &self.settings
    }

    /// How producers batch and buffer.
    pub(super) fn options(&self) -> &ProducerOptions {
        &self.options
    }

    /// A producer other than `broken`, which is beyond repair: the one that another stage opened
    /// since, or a new one.
    ///
    /// # Errors
    /// Where the client refuses its settings.
    pub fn renew(&self, broken: &Arc<Producer>) -> Result<Arc<Producer>, BrokerError> {
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

/// The topics that a stage writes.
fn written(stage: &Stage) -> impl Iterator<Item = &Arc<Topic>> {
    let outputs = stage.outputs.iter().map(|output| &output.topic);
    outputs.chain(stage.dlq.iter().map(|dlq| &dlq.topic))
}

/// Where partitions start, as the commits of the stage's group say, or else of the group `before`.
pub(super) fn look_up(
    settings: &ClientSettings,
    consumer: &Consumer,
    (before, start): (Option<&str>, Start),
    partitions: &[TopicPartition],
    deadline: Instant,
) -> Result<Vec<Begin>, BrokerError> {
    let starts = Starts { consumer, before: None, start, deadline };
    let Some(group) = before else { return starts.of(partitions) };
    // A member of no group, which only looks up, and only while partitions are assigned.
    let before = Consumer::open(settings, ConsumerOptions::new(group, Vec::new()), || {})?;
    Starts { before: Some(&before), ..starts }.of(partitions)
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
        let before = (self.before.as_deref(), self.start);
        look_up(&self.producers.settings, &self.consumer, before, partitions, deadline)
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
