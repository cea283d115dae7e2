//! The one producer of an engine: idempotent, acknowledged by all replicas, with a token a record.
//!
//! Every accepted send is answered exactly once through its sink, also when the producer is closed.
//! Nothing times out singly, so records of a partition never overtake one another; buffers are
//! bounded, and a full buffer refuses instead of waiting. Compression, linger and batch size are settings of
//! a client instance, so each distinct pair gets an instance of its own (a lane), opened when a topic
//! first asks for it; one topic always uses one lane. It does not retry what failed for good and does
//! not rebuild itself after a fatal error: [`Producer::fatal`] tells the owner to open a new one.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::context::ClientLog;
use super::error::{BrokerError, SendError};
use super::message::{OutHeaders, Outgoing};
use super::oauth::{self, Tokens};
use super::properties::Role;
use super::settings::ClientSettings;
use super::transactions::TransactionOptions;
use crate::base::guard::{self, Guard};

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Widely read, slow.
    Gzip,
    /// Fast.
    Snappy,
    /// Faster.
    Lz4,
    /// Smallest at a good speed.
    Zstd,
}

impl Compression {
    /// Kafka's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// How one topic is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicRoute {
    /// How its batches are compressed.
    pub compression: Compression,
    /// How long its records wait for company; `None`: [`ProducerOptions::linger`].
    pub linger: Option<Duration>,
    /// The topic's `max.message.bytes` where it is known. It bounds a whole batch, and the client does
    /// not split a batch that is refused: without it, a topic whose limit is under
    /// [`ProducerOptions::batch_bytes`] refuses good records together with the batch they are in, and
    /// only [`Producer::send_alone`] tells which are too large.
    pub max_message_bytes: Option<usize>,
}

/// How the producer batches and how much it buffers.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// How long a record waits for company, where its topic says nothing else.
    pub linger: Duration,
    /// The most bytes of a batch.
    pub batch_bytes: usize,
    /// The most records buffered or unacknowledged, a lane.
    pub buffer_records: usize,
    /// The most KiB of keys and values buffered or unacknowledged, a lane.
    pub buffer_kbytes: usize,
    /// The largest record the client takes; at most half the buffer counts.
    pub max_record_bytes: usize,
    /// How topics without a route of their own are written.
    pub route: TopicRoute,
    /// Where all is written in transactions: whose. Such a producer has one lane, for all topics.
    pub transactions: Option<TransactionOptions>,
}

impl Default for ProducerOptions {
    /// 5 ms of linger, batches of 1 MB, at most 100,000 records or 64 MiB under way.
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_bytes: 1_000_000,
            buffer_records: 100_000,
            buffer_kbytes: 64 * 1024,
            max_record_bytes: 32 * 1024 * 1024,
            route: TopicRoute::default(),
            transactions: None,
        }
    }
}

/// Takes the answers to sends. Called on the producer's own thread (and, while a producer is dropped,
/// on another): must be cheap, must not wait and must not send.
pub trait DeliverySink: Send + Sync {
    /// The send with this token has ended. Answers of one partition come in the order of its sends.
    fn delivered(&self, token: u64, result: Result<(), SendError>);
}

/// A registered sink, to send with.
#[derive(Debug, Clone)]
pub struct Sink {
    id: SinkId,
    traffic: Arc<Traffic>,
}

impl Sink {
    /// How many sends are not answered.
    pub fn in_flight(&self) -> usize {
        self.traffic.in_flight()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SinkId(u16);

/// What was sent under a sink and what was answered. Senders write one, the producer's thread the
/// other; on one cache line they would slow each other down.
#[derive(Debug, Default)]
struct Traffic {
    sent: OwnLine,
    answered: OwnLine,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine(AtomicUsize);

impl Traffic {
    fn in_flight(&self) -> usize {
        // Answers first: what is answered in between was sent before.
        let answered = self.answered.0.load(Ordering::Acquire);
        self.sent.0.load(Ordering::Acquire).wrapping_sub(answered)
    }
}

/// Tokens are below this.
pub const TOKEN_LIMIT: u64 = 1 << TOKEN_BITS;
const TOKEN_BITS: u32 = 48;
const _: () = assert!(usize::BITS == 64, "a delivery carries sink and token in one pointer-sized number");

/// See the module's documentation. Cheap to share; all methods may be called from any thread.
pub struct Producer {
    settings: ClientSettings,
    options: ProducerOptions,
    shared: Arc<Shared>,
    lanes: RwLock<Lanes>,
}

/// The lanes in use; empty once closed.
struct Lanes {
    default: Option<Arc<Lane>>,
    by_topic: HashMap<Arc<str>, Arc<Lane>, foldhash::fast::FixedState>,
    by_key: HashMap<LaneKey, Arc<Lane>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LaneKey {
    compression: Compression,
    batch_bytes: usize,
    linger: Duration,
    /// A batch for each record.
    alone: bool,
}

impl Producer {
    /// Opens the producer with the lane of topics that have no route of their own.
    ///
    /// # Errors
    /// [`BrokerError::Settings`] where the client refuses its configuration. Unreachable brokers are
    /// no error: sends are buffered until they are back.
    pub fn open(settings: &ClientSettings, options: ProducerOptions) -> Result<Arc<Self>, BrokerError> {
        let shared = Arc::new(Shared::default());
        let key = options.lane(options.route);
        let lane = Lane::open(settings, &options, key, &shared)?;
        let lanes = Lanes {
            default: Some(Arc::clone(&lane)),
            by_topic: HashMap::default(),
            by_key: HashMap::from([(key, lane)]),
        };
        Ok(Arc::new(Self { settings: settings.clone(), options, shared, lanes: RwLock::new(lanes) }))
    }

    /// Says how `topic` is written from the next send on. Change it only while nothing of the topic is
    /// under way, since two lanes know no common order.
    ///
    /// # Errors
    /// As [`Producer::open`]; [`BrokerError::Fatal`] once closed.
    pub fn route(&self, topic: &str, route: TopicRoute) -> Result<(), BrokerError> {
        let key = self.options.lane(route);
        let mut lanes = self.lanes.write();
        if lanes.default.is_none() {
            return Err(BrokerError::Fatal("the producer is closed".to_owned()));
        }
        let lane = self.lane(&mut lanes, key)?;
        lanes.by_topic.insert(Arc::from(topic), lane);
        Ok(())
    }

    fn lane(&self, lanes: &mut Lanes, key: LaneKey) -> Result<Arc<Lane>, BrokerError> {
        if let Some(lane) = lanes.by_key.get(&key) {
            return Ok(Arc::clone(lane));
        }
        let lane = Lane::open(&self.settings, &self.options, key, &self.shared)?;
        lanes.by_key.insert(key, Arc::clone(&lane));
        Ok(lane)
    }

    /// The client of topics without a route; `None` once closed.
    pub(super) fn client(&self) -> Option<Arc<Client>> {
        Some(Arc::clone(&self.lanes.read().default.as_ref()?.client))
    }

    /// Which topic a transaction was refused for, and why, where the client has said so since the last time.
    pub(super) fn refusal(&self) -> Option<String> {
        self.shared.refused.lock().take()
    }

    /// Adds a sink. Its id is not given to another before every send under it has been answered.
    /// There is room for 65,536 sinks at one time.
    pub fn register(&self, sink: Arc<dyn DeliverySink>) -> Sink {
        self.shared.register(sink)
    }

    /// Removes a sink; answers still under way are dropped unseen. Do not send with it any more.
    pub fn deregister(&self, sink: &Sink) {
        self.shared.deregister(sink.id);
    }

    /// Hands a record to the client. `token` (below [`TOKEN_LIMIT`]) comes back with the answer.
    ///
    /// # Errors
    /// The record was not taken and no answer will come; its headers are handed back.
    /// [`SendError::Full`] means: wait for answers, then send again.
    pub fn send(&self, out: Outgoing<'_>, sink: &Sink, token: u64) -> Result<(), (SendError, OutHeaders)> {
        let lanes = self.lanes.read();
        match lanes.of(out.topic) {
            Some(lane) => self.send_on(lane, out, sink, token),
            None => Err((SendError::Purged, out.headers)),
        }
    }

    /// As [`Producer::send`], in a batch that holds nothing else, so that a refusal is the record's
    /// own. It knows no order with other sends: let them be answered first, and its answer come before
    /// the next.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send_alone(
        &self,
        out: Outgoing<'_>,
        sink: &Sink,
        token: u64,
    ) -> Result<(), (SendError, OutHeaders)> {
        let mut lanes = self.lanes.write();
        let Some(usual) = lanes.of(out.topic) else { return Err((SendError::Purged, out.headers)) };
        let key = LaneKey { alone: true, linger: Duration::ZERO, ..usual.key };
        match self.lane(&mut lanes, key) {
            Ok(lane) => self.send_on(&lane, out, sink, token),
            Err(error) => {
                Err((SendError::Other { retriable: true, message: error.to_string() }, out.headers))
            }
        }
    }

    fn send_on(
        &self,
        lane: &Lane,
        out: Outgoing<'_>,
        sink: &Sink,
        token: u64,
    ) -> Result<(), (SendError, OutHeaders)> {
        sink.traffic.sent.0.fetch_add(1, Ordering::AcqRel);
        let record = BaseRecord::<[u8], [u8], usize> {
            topic: out.topic,
            partition: out.partition,
            payload: out.value,
            key: out.key,
            timestamp: out.timestamp,
            headers: out.headers.into_client(),
            delivery_opaque: pack(sink.id, token),
        };
        lane.client.send(record).map_err(|(error, record)| {
            sink.traffic.sent.0.fetch_sub(1, Ordering::AcqRel);
            (self.shared.explain(&error), OutHeaders::from_client(record.headers))
        })
    }

    /// Waits until every accepted send has been answered, at most `limit`.
    ///
    /// # Errors
    /// [`BrokerError::Unfinished`] at the limit; the sends go on.
    pub fn flush(&self, limit: Duration) -> Result<(), BrokerError> {
        let deadline = Instant::now() + limit;
        loop {
            let left = self.in_flight();
            if left == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(BrokerError::Unfinished { left, limit });
            }
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// How many sends have not been answered.
    pub fn in_flight(&self) -> usize {
        self.shared.slots.load().iter().map(|slot| slot.traffic.in_flight()).sum()
    }

    /// Why the producer is beyond repair, if it is. What was unacknowledged is answered with an error
    /// and must be sent by a new one.
    pub fn fatal(&self) -> Option<&str> {
        self.shared.fatal.get().map(String::as_str)
    }

    /// Takes no more sends, waits for the answers, then gives up what is left ([`SendError::Purged`]),
    /// all within about `limit`. Returns whether every send was acknowledged or refused by the broker.
    pub fn close(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let lanes = self.lanes.write().drain();
        let finished = self.flush(limit).is_ok();
        let stopped: Vec<_> = lanes.into_iter().map(|lane| lane.stop()).collect();
        for end in stopped {
            // Purging answers at once; a client that hangs in its own shut-down is left to its thread.
            let patience = deadline.saturating_duration_since(Instant::now()).max(PURGE_PATIENCE);
            let _ = end.recv_timeout(patience);
        }
        finished
    }
}

const PURGE_PATIENCE: Duration = Duration::from_millis(200);

impl Drop for Producer {
    fn drop(&mut self) {
        for lane in self.lanes.get_mut().drain() {
            drop(lane.stop());
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl Lanes {
    /// The lane of a topic; `None` once closed.
    fn of(&self, topic: &str) -> Option<&Arc<Lane>> {
        match self.by_topic.is_empty() {
            true => self.default.as_ref(),
            false => self.by_topic.get(topic).or(self.default.as_ref()),
        }
    }

    fn drain(&mut self) -> Vec<Arc<Lane>> {
        self.default = None;
        self.by_topic.clear();
        self.by_key.drain().map(|(_, lane)| lane).collect()
    }
}

impl ProducerOptions {
    fn lane(&self, route: TopicRoute) -> LaneKey {
        let bound = route.max_message_bytes.unwrap_or(usize::MAX);
        let batch_bytes = self.batch_bytes.min(bound).max(1);
        let linger = route.linger.unwrap_or(self.linger);
        LaneKey { compression: route.compression, batch_bytes, linger, alone: false }
    }

    fn config(&self, settings: &ClientSettings, key: LaneKey) -> ClientConfig {
        let mut config = settings.config(Role::Producer);
        let send_limit = if guard::removed(Guard::EndlessSends) { "2000" } else { "0" };
        for (name, value) in [
            ("queue.buffering.max.messages", self.buffer_records),
            ("queue.buffering.max.kbytes", self.buffer_kbytes),
        ] {
            if config.get(name).is_none() {
                config.set(name, value.max(1).to_string());
            }
        }
        let buffer = config.get("queue.buffering.max.kbytes").and_then(|kbytes| kbytes.parse().ok());
        let buffer: usize = buffer.unwrap_or(self.buffer_kbytes);
        let largest = self.max_record_bytes.min(buffer.saturating_mul(512)).max(1_000);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", send_limit)
            .set("partitioner", "murmur2_random")
            .set("linger.ms", (key.linger.as_micros() as f64 / 1_000.0).to_string())
            .set("batch.size", key.batch_bytes.to_string())
            .set("message.max.bytes", largest.to_string())
            .set("compression.codec", key.compression.as_str());
        if key.alone {
            config.set("batch.num.messages", "1");
        }
        if let Some(transactions) = &self.transactions {
            let timeout = transactions.timeout.as_millis().max(1_000).to_string();
            config
                .set("transactional.id", &transactions.id)
                .set("transaction.timeout.ms", &timeout)
                // What fails in a transaction is all aborted, so that nothing overtakes.
                .set("message.timeout.ms", &timeout);
            if config.get("retry.backoff.ms").is_none() {
                // Between two transactions the broker has something to finish, and says: again.
                config.set("retry.backoff.ms", "10");
            }
        }
        config
    }
}

/// One client instance with the thread that polls it. The thread owns the instance's end: when it
/// stops, it drops the client, which purges and answers what is left.
struct Lane {
    key: LaneKey,
    client: Arc<BaseProducer<Context>>,
    stop: Arc<AtomicBool>,
    ended: Mutex<Option<mpsc::Receiver<()>>>,
}

/// How long the polling thread may take to notice that it shall stop.
const POLL: Duration = Duration::from_millis(200);

impl Lane {
    fn open(
        settings: &ClientSettings,
        options: &ProducerOptions,
        key: LaneKey,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>, BrokerError> {
        let context = Context {
            log: ClientLog::new("producer"),
            shared: Arc::clone(shared),
            client: OnceLock::new(),
            tokens: settings.tokens.clone(),
        };
        let client: BaseProducer<Context> = options
            .config(settings, key)
            .create_with_context(context)
            .map_err(|error| BrokerError::from_client("open a producer", &error))?;
        let client = Arc::new(client);
        let _ = client.context().client.set(Arc::downgrade(&client));
        let stop = Arc::new(AtomicBool::new(false));
        let (done, ended) = mpsc::sync_channel(1);
        let (polled, told) = (Arc::clone(&client), Arc::clone(&stop));
        thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || {
                while !told.load(Ordering::Acquire) {
                    polled.poll(POLL);
                }
                drop(polled);
                let _ = done.send(());
            })
            .map_err(|error| BrokerError::Other { retriable: true, message: error.to_string() })?;
        Ok(Arc::new(Self { key, client, stop, ended: Mutex::new(Some(ended)) }))
    }

    /// Tells the thread to stop; what is returned hears of its end.
    fn stop(self: Arc<Self>) -> mpsc::Receiver<()> {
        let ended = self.ended.lock().take();
        let stop = Arc::clone(&self.stop);
        // The thread must be the last to hold the client.
        drop(self);
        stop.store(true, Ordering::Release);
        ended.unwrap_or_else(|| mpsc::sync_channel(1).1)
    }
}

/// What all lanes share: who gets the answers.
#[derive(Default)]
struct Shared {
    slots: ArcSwap<Vec<Slot>>,
    changing: Mutex<()>,
    fatal: OnceLock<String>,
    /// Which topic the broker lets no transaction write, and why, until somebody asks.
    refused: Mutex<Option<String>>,
}

#[derive(Clone)]
struct Slot {
    sink: Option<Arc<dyn DeliverySink>>,
    traffic: Arc<Traffic>,
}

impl Shared {
    fn register(&self, sink: Arc<dyn DeliverySink>) -> Sink {
        let _changing = self.changing.lock();
        let mut slots = Vec::clone(&self.slots.load());
        let free = slots.iter().position(|slot| slot.sink.is_none() && slot.traffic.in_flight() == 0);
        let index = free.unwrap_or(slots.len()).min(usize::from(u16::MAX));
        let traffic = Arc::new(Traffic::default());
        let slot = Slot { sink: Some(sink), traffic: Arc::clone(&traffic) };
        match slots.get_mut(index) {
            Some(old) => *old = slot,
            None => slots.push(slot),
        }
        self.slots.store(Arc::new(slots));
        Sink { id: SinkId(index as u16), traffic }
    }

    fn deregister(&self, id: SinkId) {
        let _changing = self.changing.lock();
        let mut slots = Vec::clone(&self.slots.load());
        if let Some(slot) = slots.get_mut(usize::from(id.0)) {
            slot.sink = None;
        }
        self.slots.store(Arc::new(slots));
    }

    fn delivered(&self, opaque: usize, result: Result<(), SendError>) {
        let (id, token) = unpack(opaque);
        let slots = self.slots.load();
        let Some(slot) = slots.get(usize::from(id.0)) else { return };
        if let Some(sink) = &slot.sink {
            sink.delivered(token, result);
        }
        slot.traffic.answered.0.fetch_add(1, Ordering::AcqRel);
    }

    /// After a fatal error the client answers with all kinds of codes; the reason is the first one.
    fn explain(&self, error: &KafkaError) -> SendError {
        match (SendError::from_client(error), self.fatal.get()) {
            (SendError::Other { .. } | SendError::Fatal(_) | SendError::Purged, Some(reason)) => {
                SendError::Fatal(reason.clone())
            }
            (error, _) => error,
        }
    }
}

fn pack(id: SinkId, token: u64) -> usize {
    debug_assert!(token < TOKEN_LIMIT, "a token of {token} does not fit");
    (usize::from(id.0) << TOKEN_BITS) | (token & (TOKEN_LIMIT - 1)) as usize
}

fn unpack(opaque: usize) -> (SinkId, u64) {
    (SinkId((opaque >> TOKEN_BITS) as u16), opaque as u64 & (TOKEN_LIMIT - 1))
}

/// What the client says, without the name of its thread.
fn said(line: &str) -> &str {
    line.split_once("]: ").filter(|(thread, _)| thread.starts_with("[thrd:")).map_or(line, |(_, said)| said)
}

/// One instance of the client.
pub(super) type Client = BaseProducer<Context>;

pub(super) struct Context {
    log: ClientLog,
    shared: Arc<Shared>,
    client: OnceLock<Weak<BaseProducer<Self>>>,
    tokens: Option<Arc<Tokens>>,
}

impl Context {
    /// The answer to a send can come before the report of the fatal error that caused it.
    fn look_for_fatal(&self) {
        let client = self.client.get().and_then(Weak::upgrade);
        if let Some((_, reason)) = client.and_then(|client| client.client().fatal_error()) {
            let _ = self.shared.fatal.set(reason);
        }
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        oauth::token(self.tokens.as_deref())
    }

    fn log(&self, level: RDKafkaLogLevel, kind: &str, message: &str) {
        // The client says nowhere else which topic a transaction is refused for.
        if matches!((level, kind), (RDKafkaLogLevel::Error, "ADDPARTS")) {
            *self.shared.refused.lock() = Some(said(message).to_owned());
        }
        self.log.line(level, kind, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            let _ = self.shared.fatal.set(reason.to_owned());
        }
        self.log.line(RDKafkaLogLevel::Warning, "error", &format!("{error}: {reason}"));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => {
                if self.shared.fatal.get().is_none() {
                    self.look_for_fatal();
                }
                Err(self.shared.explain(error))
            }
        };
        self.shared.delivered(opaque, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sink_and_token_survive_the_way_through_the_client(sink: u16, token in 0..TOKEN_LIMIT) {
            prop_assert_eq!(unpack(pack(SinkId(sink), token)), (SinkId(sink), token));
        }
    }

    struct Nowhere;

    impl DeliverySink for Nowhere {
        fn delivered(&self, _: u64, _: Result<(), SendError>) {}
    }

    #[test]
    fn an_id_is_given_again_only_when_its_last_send_was_answered() {
        let shared = Shared::default();
        let first = shared.register(Arc::new(Nowhere));
        first.traffic.sent.0.fetch_add(1, Ordering::AcqRel);
        shared.deregister(first.id);
        assert_ne!(shared.register(Arc::new(Nowhere)).id, first.id);
        shared.delivered(pack(first.id, 7), Ok(()));
        assert_eq!(first.traffic.in_flight(), 0);
        assert_eq!(shared.register(Arc::new(Nowhere)).id, first.id);
    }

    #[test]
    fn a_buffer_that_the_deployment_sets_holds_and_bounds_the_largest_record() {
        let mut settings = ClientSettings::new("b:1", "test");
        settings.properties.insert("queue.buffering.max.kbytes".to_owned(), "1024".to_owned());
        let options = ProducerOptions::default();
        let config = options.config(&settings, options.lane(TopicRoute::default()));
        assert_eq!(config.get("queue.buffering.max.kbytes"), Some("1024"));
        assert_eq!(config.get("message.max.bytes"), Some("524288"), "half of it");
    }

    #[test]
    fn topics_share_a_lane_unless_compression_linger_or_batch_size_differ() {
        let options = ProducerOptions::default();
        let route = |compression, max| TopicRoute { compression, max_message_bytes: max, linger: None };
        let lane = |compression, max| options.lane(route(compression, max));
        assert_eq!(lane(Compression::None, None), lane(Compression::None, Some(1_048_588)));
        assert_ne!(lane(Compression::None, None), lane(Compression::None, Some(65_536)));
        assert_ne!(lane(Compression::None, None), lane(Compression::Zstd, None));
        let linger = |linger| options.lane(TopicRoute { linger: Some(linger), ..TopicRoute::default() });
        assert_eq!(linger(options.linger), lane(Compression::None, None));
        let slow = linger(Duration::from_millis(1_500));
        let config = options.config(&ClientSettings::new("b:1", "test"), slow);
        assert_eq!(config.get("queue.buffering.max.kbytes"), Some("65536"));
        assert_eq!((config.get("linger.ms"), slow == linger(Duration::ZERO)), (Some("1500"), false));
    }
}
