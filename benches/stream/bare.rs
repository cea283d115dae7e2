//! The floor: poll, (parse, validate, rebuild,) produce with the engine's id header, commit.

use std::io::Write;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::engine::SCHEMA;
use crate::kafka::{PARTITIONS, producer, send};

/// Delivery reports are looked at after so many records, as a tuned loop does.
const POLL_EVERY: u32 = 128;

pub(crate) fn run(json_case: bool, input: &str, output: &str) {
    let brokers = std::env::var("BIPLANE_TEST_KAFKA_BROKERS").expect("the brokers");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("group.id", output)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[input]).expect("subscribed");
    let producer = producer(&brokers);
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema compiles");
    let mut positions = vec![0; PARTITIONS as usize];
    let mut committed = Instant::now();
    let mut since_poll = 0;
    let mut id = Vec::new();
    loop {
        since_poll += 1;
        if since_poll >= POLL_EVERY {
            since_poll = 0;
            producer.poll(Duration::ZERO);
            if committed.elapsed() > Duration::from_secs(1) {
                commit(&consumer, input, &positions);
                committed = Instant::now();
            }
        }
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) else {
            since_poll = POLL_EVERY;
            continue;
        };
        id.clear();
        write!(id, "loop/{input}/{}/{}/0", message.partition(), message.offset()).expect("into memory");
        let built;
        let payload = match json_case {
            true => {
                built = rebuilt(&message, &validator);
                &built[..]
            }
            false => message.payload().unwrap_or_default(),
        };
        let mut record =
            BaseRecord::<[u8], [u8]>::to(output).payload(payload).headers(headers(&message, &id));
        record.key = message.key();
        record.timestamp = message.timestamp().to_millis();
        send(&producer, record);
        positions[message.partition() as usize] = message.offset() + 1;
    }
}

/// The headers of the input and the id that the engine writes.
fn headers(message: &BorrowedMessage<'_>, id: &[u8]) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(1);
    if let Some(borrowed) = message.headers() {
        for header in borrowed.iter() {
            headers = headers.insert(header);
        }
    }
    headers.insert(Header { key: "biplane-id", value: Some(id) })
}

fn rebuilt(message: &BorrowedMessage<'_>, validator: &jsonschema::Validator) -> Vec<u8> {
    let value: Value = serde_json::from_slice(message.payload().unwrap_or_default()).expect("JSON");
    assert!(validator.is_valid(&value));
    let built = json!({
        "order_id": value["id"], "customer": value["customer"], "currency": value["currency"],
        "amount": value["amount"], "quantity": value["quantity"],
    });
    serde_json::to_vec(&built).expect("an object")
}

fn commit(consumer: &BaseConsumer, input: &str, positions: &[i64]) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in positions.iter().enumerate().filter(|(_, offset)| **offset > 0) {
        let _ = list.add_partition_offset(input, partition as i32, Offset::Offset(*offset));
    }
    if list.count() > 0 {
        let _ = consumer.commit(&list, CommitMode::Async);
    }
}
