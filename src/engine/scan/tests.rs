//! The scan on the client's in-memory cluster.

use std::sync::Arc;

use super::reading::read_within;
use super::*;
use crate::broker::{DeliverySink, MockKafka, OutHeaders, Outgoing, Producer, ProducerOptions, SendError};

struct Unheard;

impl DeliverySink for Unheard {
    fn delivered(&self, _: u64, result: Result<(), SendError>) {
        assert_eq!(result, Ok(()));
    }
}

/// Two brokers that lead a partition each of `t`, and five records in each.
fn cluster() -> (MockKafka, Consumer) {
    let kafka = MockKafka::start(2).expect("started");
    kafka.create_topic("t", 2).expect("created");
    let producer = Producer::open(&kafka.settings("p"), ProducerOptions::default()).expect("opened");
    let sink = producer.register(Arc::new(Unheard));
    for n in 0..10 {
        let outgoing = Outgoing {
            topic: "t",
            partition: Some(n % 2),
            key: None,
            value: Some(b"v"),
            timestamp: None,
            headers: OutHeaders::new(0),
        };
        producer.send(outgoing, &sink, 0).expect("sent");
    }
    producer.flush(ANSWER).expect("acknowledged");
    let looker = looker(&kafka.settings("l"), "g").expect("opened");
    (kafka, looker)
}

#[test]
fn every_record_is_read_and_what_comes_later_is_not_waited_for() {
    let (_kafka, looker) = cluster();
    let parts = parts(&looker, "t").expect("asked");
    assert_eq!(parts.iter().map(Part::span).sum::<usize>(), 10);
    let mut seen = 0;
    read(&looker, &parts, |_: &RawRecord<'_>| {
        seen += 1;
        Seen::More
    })
    .expect("all of it");
    assert_eq!(seen, 10);
    let firsts = firsts(&looker, &parts, |raw| raw.offset).expect("all of it");
    assert_eq!((firsts.len(), firsts.values().sum::<i64>()), (2, 0));
}

#[test]
fn the_last_record_of_each_part_is_found_from_its_end() {
    let (_kafka, looker) = cluster();
    let mut parts = parts(&looker, "t").expect("asked");
    let offsets = |parts: &[Part]| -> Vec<_> {
        let lasts = lasts(&looker, parts, |_| true).expect("the ends");
        lasts.iter().map(|record| record.as_raw().offset).collect()
    };
    assert_eq!(offsets(&parts), [4, 4]);
    parts.truncate(1);
    parts[0].end = 3;
    assert_eq!(offsets(&parts), [2]);
    let even = lasts(&looker, &parts, |raw| raw.offset < 2).expect("the ends");
    assert_eq!(even[0].as_raw().offset, 1, "the last of those that are wanted");
}

#[test]
fn an_offset_that_holds_no_record_ends_its_partition() {
    let (_kafka, looker) = cluster();
    let beyond = Part { partition: TopicPartition::new("t", 0), from: 5, end: 9 };
    read(&looker, &[beyond], |raw: &RawRecord<'_>| -> Seen {
        panic!("there is no record at {}", raw.offset)
    })
    .expect("the end");
}

#[test]
fn a_partition_that_cannot_be_read_to_its_end_is_an_error_that_names_it() {
    let (kafka, looker) = cluster();
    let parts = parts(&looker, "t").expect("asked");
    kafka.broker_down(2).expect("down");
    let mut seen = 0;
    let error = read_within(&looker, &parts, Duration::from_secs(1), &mut |_: &RawRecord<'_>| {
        seen += 1;
        Seen::More
    })
    .expect_err("half of it is missing");
    assert_eq!(seen, 5);
    let error = error.to_string();
    assert!(error.contains("from 0 to 5") && !error.contains("], t["), "{error}");
}
