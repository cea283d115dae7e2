//! A Kafka as tests see it: topics of their own, records in, records out, what a group committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The brokers that tests run against. Panics where none are named.
pub fn brokers() -> String {
    std::env::var("BIPLANE_TEST_KAFKA_BROKERS").unwrap_or_else(|_| {
        panic!(
            "BIPLANE_TEST_KAFKA_BROKERS is not set: run tests/run, which starts a Kafka, or name one yourself"
        )
    })
}

/// A name that no other test and no other run uses.
pub fn unique(name: &str) -> String {
    let id = uuid::Uuid::now_v7().simple().to_string();
    format!("{name}-{}", &id[8..24])
}

/// One record, to write or as read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Where it was read; ignored when written unless `to_partition` is set.
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Writes it to this partition instead of the key's.
    pub to_partition: Option<i32>,
}

impl Message {
    /// A record with a key and a value.
    pub fn new(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), value: Some(value.as_ref().to_vec()), ..Self::default() }
    }

    /// A record with a key and a JSON value.
    pub fn json(key: impl AsRef<[u8]>, value: &serde_json::Value) -> Self {
        Self::new(key, value.to_string())
    }

    /// A record with a key and a null value.
    pub fn tombstone(key: impl AsRef<[u8]>) -> Self {
        Self { key: Some(key.as_ref().to_vec()), ..Self::default() }
    }

    /// With one header more.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), Some(value.as_ref().to_vec())));
        self
    }

    /// To a partition of the test's choice.
    pub fn at(mut self, partition: i32) -> Self {
        self.to_partition = Some(partition);
        self
    }

    /// The key as text. Panics where there is none.
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().expect("a key")).expect("a key in UTF-8")
    }

    /// The value as JSON. Panics where it is not JSON.
    pub fn value_json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("a value in JSON")
    }

    /// The last header of that name as text, if there is one.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(found, _)| found == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    fn read(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
            to_partition: None,
        }
    }

    fn owned_headers(&self) -> OwnedHeaders {
        self.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_deref() })
        })
    }
}

/// Access to one Kafka cluster.
pub struct Cluster {
    brokers: String,
}

impl Cluster {
    /// The cluster that all tests share.
    pub fn shared() -> Self {
        Self::at(brokers())
    }

    /// The cluster at these addresses.
    pub fn at(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into() }
    }

    /// Its addresses.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// A configuration to build any client of rdkafka from.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    /// Creates a topic with one replica. Panics where the broker refuses.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        self.create(settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value)));
    }

    /// Creates a topic all of whose partitions are on one broker alone.
    pub fn create_topic_at(&self, name: &str, partitions: usize, broker: i32) {
        let replicas: &[i32] = &[broker];
        let replicas = vec![replicas; partitions];
        self.create(NewTopic::new(name, partitions as i32, TopicReplication::Variable(&replicas)));
    }

    /// Sets one setting of a topic. Others that were set are forgotten.
    pub fn set_topic(&self, name: &str, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let wanted = AlterConfig::new(ResourceSpecifier::Topic(name)).set(key, value);
        let set = block_on(admin.alter_configs([&wanted], &AdminOptions::new())).expect("an answer");
        set.into_iter().for_each(|result| drop(result.expect("set")));
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let deleted = block_on(admin.delete_topics(&[name], &AdminOptions::new())).expect("an answer");
        deleted.into_iter().for_each(|result| drop(result.expect("deleted")));
        super::wait_until("the topic is gone", TIMEOUT, || self.leader(name, 0).is_none());
    }

    /// Which broker leads a partition; `None`: none, or there is no such partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        let metadata = self.reader().fetch_metadata(Some(topic), TIMEOUT).ok()?;
        let found = metadata.topics().first().filter(|found| found.error().is_none())?;
        let partition = found.partitions().iter().find(|found| found.id() == partition)?;
        Some(partition.leader()).filter(|leader| *leader >= 0)
    }

    fn create(&self, topic: NewTopic<'_>) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("an admin client");
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
        let created = block_on(admin.create_topics([&topic], &options)).expect("an answer");
        created.into_iter().for_each(|result| {
            result.unwrap_or_else(|(topic, code)| panic!("topic `{topic}` is not created: {code}"));
        });
    }

    /// Whether there is such a topic.
    pub fn has(&self, name: &str) -> bool {
        let metadata = self.reader().fetch_metadata(None, TIMEOUT).expect("the topics");
        metadata.topics().iter().any(|topic| topic.name() == name)
    }

    /// Creates the topics of the shipped example under `prefix`.
    pub fn create_example_topics(&self, prefix: &str) {
        for name in
            ["raw.connector.events", "normalized.records", "intelligence.pipeline.input", "graph.changes"]
        {
            self.create_topic(&format!("{prefix}.{name}"), 6, &[]);
        }
        for name in ["ingest.dlq", "intelligence.dlq"] {
            self.create_topic(&format!("{prefix}.{name}"), 1, &[("max.message.bytes", "1114112")]);
        }
    }

    /// Writes the records in this order and waits until all are acknowledged.
    pub fn produce(&self, topic: &str, messages: &[Message]) {
        let producer: BaseProducer = self
            .config()
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.max.bytes", "20000000")
            .set("queue.buffering.max.messages", "2000000")
            .create()
            .expect("a producer");
        for message in messages {
            let mut record = BaseRecord::<Vec<u8>, Vec<u8>>::to(topic);
            record.key = message.key.as_ref();
            record.payload = message.value.as_ref();
            record.partition = message.to_partition;
            record.timestamp = message.timestamp;
            if !message.headers.is_empty() {
                record.headers = Some(message.owned_headers());
            }
            producer.send(record).unwrap_or_else(|(error, _)| panic!("not queued for `{topic}`: {error}"));
            producer.poll(Duration::ZERO);
        }
        producer.flush(TIMEOUT).expect("all records acknowledged");
    }

    /// Every record from the start to where the topic ends now, ordered by partition and offset.
    pub fn read_all(&self, topic: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        self.scan(topic, |message| messages.push(Message::read(message)));
        messages.sort_by_key(|message| (message.partition, message.offset));
        messages
    }

    /// Shows every record from the start to where the topic ends now, a partition's in their order.
    pub fn scan(&self, topic: &str, mut show: impl FnMut(&BorrowedMessage<'_>)) {
        let consumer = self.reader();
        let ends = self.ends(&consumer, topic);
        let mut open: BTreeMap<i32, i64> =
            ends.iter().filter(|(_, (low, high))| low < high).map(|(p, (_, high))| (*p, *high)).collect();
        let mut assignment = TopicPartitionList::new();
        for partition in open.keys() {
            assignment
                .add_partition_offset(topic, *partition, Offset::Beginning)
                .expect("a valid start offset");
        }
        consumer.assign(&assignment).expect("an assignment");
        let started = Instant::now();
        while !open.is_empty() {
            assert!(started.elapsed() < TIMEOUT * 6, "`{topic}` is not read to its end: {open:?} are open");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let high = ends.get(&message.partition()).map_or(0, |(_, high)| *high);
                    if message.offset() < high {
                        show(&message);
                    }
                    if message.offset() + 1 < high {
                        continue;
                    }
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => panic!("`{topic}` cannot be read: {error}"),
            }
            // The position, not the last record, ends a partition: compaction and transactions leave gaps.
            let position = consumer.position().expect("positions");
            open.retain(|partition, high| {
                let reached = position.find_partition(topic, *partition).map(|found| found.offset());
                !matches!(reached, Some(Offset::Offset(offset)) if offset >= *high)
            });
        }
    }

    /// Where each partition ends: the offset behind its newest record.
    pub fn end_offsets(&self, topic: &str) -> BTreeMap<i32, i64> {
        let ends = self.ends(&self.reader(), topic);
        ends.into_iter().map(|(partition, (_, high))| (partition, high)).collect()
    }

    /// Whether there is such a topic.
    pub fn has_topic(&self, topic: &str) -> bool {
        let metadata = self.reader().fetch_metadata(None, TIMEOUT).expect("the topics");
        metadata.topics().iter().any(|found| found.name() == topic)
    }

    /// Removes what lies before an offset, as retention does.
    pub fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let admin: AdminClient<_> = self.config().create().expect("an admin client");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        block_on(admin.delete_records(&offsets, &AdminOptions::new())).expect("removed");
    }

    /// How many offsets the topic spans in all partitions, with what open transactions have written.
    pub fn written(&self, topic: &str) -> i64 {
        let consumer = self.config().set("isolation.level", "read_uncommitted").create();
        let ends = self.ends(&consumer.expect("a consumer"), topic);
        ends.values().map(|(low, high)| high - low).sum()
    }

    /// How many offsets the topic spans in all partitions; what open transactions have written and what
    /// lies behind it does not count.
    pub fn count(&self, topic: &str) -> i64 {
        let consumer = self.reader();
        self.ends(&consumer, topic).values().map(|(low, high)| high - low).sum()
    }

    /// Waits until the topic holds at least `count` records and returns them all.
    pub fn wait_for_records(&self, topic: &str, count: usize, deadline: Duration) -> Vec<Message> {
        let consumer = self.reader();
        let wanted = i64::try_from(count).expect("a count that fits");
        super::wait_until(&format!("{count} records in `{topic}`"), deadline, || {
            self.ends(&consumer, topic).values().map(|(low, high)| high - low).sum::<i64>() >= wanted
        });
        self.read_all(topic)
    }

    /// What a group committed for each partition of a topic: next offset and metadata.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, (i64, String)> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create().expect("a consumer");
        let mut asked = TopicPartitionList::new();
        for partition in self.ends(&consumer, topic).keys() {
            asked.add_partition(topic, *partition);
        }
        // A coordinator that has just come back may refuse for a while.
        let found = super::wait_for("committed offsets", TIMEOUT, || {
            consumer.committed_offsets(asked.clone(), TIMEOUT).ok()
        });
        found
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => {
                    Some((element.partition(), (offset, element.metadata().to_owned())))
                }
                _ => None,
            })
            .collect()
    }

    fn reader(&self) -> BaseConsumer {
        self.config()
            .set("group.id", unique("test-reader"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20")
            .set("isolation.level", "read_committed")
            .create()
            .expect("a consumer")
    }

    fn ends(&self, consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        // A broker that has just come back leads nothing for a while.
        let metadata = super::wait_for("the topic's metadata", TIMEOUT, || {
            consumer.fetch_metadata(Some(topic), TIMEOUT).ok()
        });
        let partitions = metadata.topics().first().map_or(&[][..], |found| found.partitions());
        partitions
            .iter()
            .map(|partition| {
                let ends = super::wait_for("watermarks", TIMEOUT, || {
                    consumer.fetch_watermarks(topic, partition.id(), TIMEOUT).ok()
                });
                (partition.id(), ends)
            })
            .collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime for the admin client")
        .block_on(future)
}
