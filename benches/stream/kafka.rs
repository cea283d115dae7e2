//! Topics, input and counting, on the broker that the environment names.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

pub(crate) const PARTITIONS: i32 = 4;
const KEYS: usize = 2_000;

pub(crate) struct Cluster {
    brokers: String,
    runtime: tokio::runtime::Runtime,
    admin: AdminClient<DefaultClientContext>,
    watcher: BaseConsumer,
}

impl Cluster {
    pub(crate) fn from_environment() -> Self {
        let brokers = std::env::var("BIPLANE_TEST_KAFKA_BROKERS")
            .expect("benches/run starts a broker; else name one in BIPLANE_TEST_KAFKA_BROKERS");
        Self::new(&brokers)
    }

    pub(crate) fn new(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            admin: config.create().expect("an admin client"),
            watcher: config.create().expect("a watcher"),
            brokers: brokers.to_owned(),
        }
    }

    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    pub(crate) fn create(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let made = self.admin.create_topics([&topic], &AdminOptions::new());
        let results = self.runtime.block_on(made).expect("topics are created");
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    pub(crate) fn delete(&self, topics: &[&str]) {
        let deleted = self.admin.delete_topics(topics, &AdminOptions::new());
        self.runtime.block_on(deleted).expect("topics are deleted");
    }

    /// How many records a topic has taken, `None` where the broker does not say for one of its
    /// partitions (it is asked again by whoever waits, who has a deadline).
    pub(crate) fn written(&self, topic: &str) -> Option<u64> {
        (0..PARTITIONS)
            .map(|partition| match self.watcher.fetch_watermarks(topic, partition, Duration::from_secs(5)) {
                Ok((low, high)) => Some(high.abs_diff(low)),
                Err(error) => {
                    eprintln!("{topic}/{partition} cannot be counted: {error}");
                    None
                }
            })
            .sum()
    }

    /// Fills `topic` with orders whose keys follow Zipf's law (rank r drawn with weight 1/r).
    pub(crate) fn fill(&self, topic: &str, records: u64) {
        let producer = producer(&self.brokers);
        let mut sums = Vec::with_capacity(KEYS);
        let mut total = 0.0;
        for rank in 1..=KEYS {
            total += 1.0 / rank as f64;
            sums.push(total);
        }
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let padding = "x".repeat(80);
        for number in 0..records {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let drawn = (state >> 11) as f64 / (1u64 << 53) as f64 * total;
            let key = format!("customer-{}", sums.partition_point(|sum| *sum < drawn));
            let value = order(number, &key, &padding);
            send(&producer, BaseRecord::to(topic).key(key.as_bytes()).payload(value.as_bytes()));
        }
        producer.flush(Duration::from_secs(60)).expect("the input is written");
    }
}

/// One order of about 200 bytes.
pub(crate) fn order(number: u64, key: &str, padding: &str) -> String {
    format!(
        r#"{{"id":"order-{number:012}","customer":"{key}","amount":{}.25,"currency":"EUR","quantity":{},"note":"{padding}"}}"#,
        number % 1_000,
        number % 9 + 1,
    )
}

/// An idempotent producer with the engine's own settings.
pub(crate) fn producer(brokers: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "100000")
        .create()
        .expect("a producer")
}

/// Sends, waiting for room where there is none.
pub(crate) fn send(producer: &BaseProducer, mut record: BaseRecord<'_, [u8], [u8]>) {
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((_, back)) => {
                producer.poll(Duration::from_millis(1));
                record = back;
            }
        }
    }
}
