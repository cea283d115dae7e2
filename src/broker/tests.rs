//! Consumer and producer together, on the cluster inside the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

type Answer = (u64, Result<(), SendError>);

/// Sends every answer on, in order.
struct Answers(Mutex<Sender<Answer>>);

impl DeliverySink for Answers {
    fn delivered(&self, token: u64, result: Result<(), SendError>) {
        let _ = self.0.lock().send((token, result));
    }
}

fn sink(producer: &Producer) -> (Sink, Receiver<Answer>) {
    let (sender, answers) = mpsc::channel();
    (producer.register(Arc::new(Answers(Mutex::new(sender)))), answers)
}

fn out<'a>(topic: &'a str, value: &'a [u8]) -> Outgoing<'a> {
    Outgoing {
        topic,
        partition: Some(0),
        key: Some(b"k"),
        value: Some(value),
        timestamp: Some(1_700_000_000_000),
        headers: OutHeaders::default(),
    }
}

fn send_all(producer: &Producer, topic: &str, count: u64) {
    let (id, answers) = sink(producer);
    for token in 0..count {
        let mut record = out(topic, b"");
        let value = token.to_string();
        record.value = Some(value.as_bytes());
        record.headers.push("n", Some(value.as_bytes()));
        record.headers.push("null", None);
        producer.send(record, &id, token).expect("there is room");
    }
    producer.flush(PATIENCE).expect("acknowledged");
    let tokens: Vec<u64> = answers
        .try_iter()
        .map(|(token, result)| {
            assert_eq!(result, Ok(()));
            token
        })
        .collect();
    assert_eq!(tokens, (0..count).collect::<Vec<_>>(), "one answer a send, in order");
}

/// Polls until `pick` takes something.
fn until<T>(consumer: &Consumer, mut pick: impl FnMut(Polled<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(found) = pick(consumer.poll(Duration::from_millis(100))) {
            return found;
        }
    }
    panic!("nothing within {PATIENCE:?}");
}

fn assigned(polled: Polled<'_>) -> Option<Vec<TopicPartition>> {
    match polled {
        Polled::Rebalance(Rebalance::Assigned(partitions)) => Some(partitions),
        Polled::Record(record) => panic!("a record before the assignment was answered: {record:?}"),
        Polled::Rebalance(_) | Polled::End(_) | Polled::Error(_) | Polled::Nothing => None,
    }
}

fn value(polled: Polled<'_>) -> Option<(i64, String)> {
    match polled {
        Polled::Record(record) => {
            let raw = record.raw();
            let value = String::from_utf8(raw.value.unwrap_or_default().to_vec()).expect("text");
            assert_eq!((raw.key, raw.timestamp), (Some(&b"k"[..]), Some(1_700_000_000_000)));
            assert_eq!(raw.headers.last("n"), Some(Some(value.as_bytes())));
            assert_eq!(raw.headers.last("null"), Some(None));
            assert_eq!(raw.headers.last("none"), None);
            Some((raw.offset, value))
        }
        _ => None,
    }
}

#[test]
fn records_offsets_and_metadata_make_the_round_trip() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let settings = kafka.settings("test");
    let producer = Producer::open(&settings, ProducerOptions::default()).expect("opened");
    send_all(&producer, "t", 1_000);

    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&wakes);
    let consumer = Consumer::open(&settings, ConsumerOptions::new("g", vec![Arc::from("t")]), move || {
        counter.fetch_add(1, Ordering::Relaxed);
    })
    .expect("opened");
    let partitions = until(&consumer, assigned);
    assert_eq!(partitions, [TopicPartition::new("t", 0)]);
    assert_eq!(consumer.committed(&partitions, PATIENCE).expect("asked")[0].offset, None);

    consumer.assign(&[(partitions[0].clone(), StartAt::Offset(10))]).expect("assigned");
    for expected in 10..1_000 {
        assert_eq!(until(&consumer, value), (expected, expected.to_string()));
    }
    assert!(wakes.load(Ordering::Relaxed) > 0, "the owner was woken");

    let commit = |offset| Commit { partition: partitions[0].clone(), offset, metadata: "v1 αβ".to_owned() };
    consumer.commit_later(&[commit(500)], 7).expect("sent");
    let results = until(&consumer, |_| Some(consumer.take_commit_results()).filter(|some| !some.is_empty()));
    assert_eq!(results, [(7, Ok(partitions.clone()))]);
    consumer.commit_now(&[commit(990)]).expect("committed");
    let committed = consumer.committed(&partitions, PATIENCE).expect("asked").remove(0);
    assert_eq!((committed.offset, committed.metadata.as_str()), (Some(990), "v1 αβ"));

    consumer.seek(&partitions[0], 42).expect("sought");
    assert_eq!(until(&consumer, value).0, 42);
    assert_eq!(consumer.watermarks(&partitions[0], PATIENCE), Ok((0, 1_000)));
    assert_eq!(consumer.ends(&partitions, PATIENCE), Ok([(partitions[0].clone(), 1_000)].into()));
    assert!(consumer.close(PATIENCE));
    assert!(producer.close(PATIENCE));
}

#[test]
fn a_lost_offset_is_an_error_and_only_its_partition_starts_where_the_owner_says() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("good", 1).expect("created");
    kafka.create_topic("lost", 1).expect("created");
    let settings = kafka.settings("test");
    let producer = Producer::open(&settings, ProducerOptions::default()).expect("opened");
    // No more than is read before the pause: what was fetched ahead may still come behind it.
    send_all(&producer, "good", 3);
    send_all(&producer, "lost", 5);
    let options = ConsumerOptions::new("g", vec![Arc::from("good"), Arc::from("lost")]);
    let consumer = Consumer::open(&settings, options, || {}).expect("opened");
    let assigned = until(&consumer, assigned);
    let (good, lost) = (assigned[0].clone(), assigned[1].clone());
    consumer
        .assign(&[(good.clone(), StartAt::Offset(1)), (lost.clone(), StartAt::Offset(4_000))])
        .expect("assigned");
    let (mut offsets, mut lost_offset) = (Vec::new(), None);
    let error = until(&consumer, |polled| {
        match polled {
            Polled::Error(error) => lost_offset = Some(error),
            Polled::Record(record) => {
                assert_eq!(record.raw().topic, "good", "a silent jump to {}", record.offset());
                offsets.push(record.offset());
            }
            Polled::Rebalance(_) | Polled::End(_) | Polled::Nothing => {}
        }
        lost_offset.clone().filter(|_| offsets == [1, 2])
    });
    consumer.pause(std::slice::from_ref(&good));

    assert!(matches!(error, ConsumeError::OffsetOutOfRange(_)), "{error:?}");
    let gone = consumer.out_of_range(&[(good.clone(), 3), (lost.clone(), 4_000)], PATIENCE).expect("asked");
    assert_eq!(gone, [(lost.clone(), 0, 5)]);
    consumer.seek_to(&lost, StartAt::Earliest).expect("started anew");
    for expected in 0..5 {
        assert_eq!(until(&consumer, value).0, expected, "only of the lost one: the good one stays paused");
    }
    send_all(&producer, "good", 1);
    consumer.resume(&[good]);
    assert_eq!(until(&consumer, value).0, 3, "the good one goes on where it stood");
    assert!(consumer.close(PATIENCE));
}

/// A pause belongs to the assignment it was made in: whatever comes back is read, whether it was away
/// meanwhile or not.
#[test]
fn what_was_paused_is_read_again_after_the_next_assignment() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let settings = kafka.settings("test");
    let producer = Producer::open(&settings, ProducerOptions::default()).expect("opened");
    send_all(&producer, "t", 3);
    let consumer = Consumer::open(&settings, ConsumerOptions::new("g", Vec::new()), || {}).expect("opened");
    let partition = TopicPartition::new("t", 0);
    let assign = |offset| consumer.assign(&[(partition.clone(), StartAt::Offset(offset))]).expect("assigned");
    assign(0);
    assert_eq!(until(&consumer, value).0, 0);
    consumer.pause(std::slice::from_ref(&partition));
    assign(1);
    assert_eq!(until(&consumer, value).0, 1, "assigned again");
    consumer.pause(std::slice::from_ref(&partition));
    consumer.unassign();
    assign(2);
    assert_eq!(until(&consumer, value).0, 2, "taken away and given back");
    assert!(consumer.close(PATIENCE));
}

#[test]
fn closing_does_not_wait_for_a_rebalance_that_nobody_answered() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let consumer =
        Consumer::open(&kafka.settings("test"), ConsumerOptions::new("g", vec![Arc::from("t")]), || {})
            .expect("opened");
    until(&consumer, assigned);
    assert!(consumer.close(Duration::from_secs(5)));
}

#[test]
fn a_commit_without_a_coordinator_ends_at_its_limit() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let consumer =
        Consumer::open(&kafka.settings("test"), ConsumerOptions::new("g", vec![Arc::from("t")]), || {})
            .expect("opened");
    let partition = until(&consumer, assigned).remove(0);
    consumer.assign(&[(partition.clone(), StartAt::Earliest)]).expect("assigned");
    kafka.broker_down(1).expect("down");
    let start = Instant::now();
    let commit = Commit { partition, offset: 1, metadata: String::new() };
    let error = consumer.commit_within(&[commit], Duration::from_millis(300)).expect_err("nobody there");
    assert!(error.retriable(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(3));
    let start = Instant::now();
    consumer.close(Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_producer_without_brokers_refuses_when_full_and_answers_every_send_when_closed() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    kafka.broker_down(1).expect("down");
    let options = ProducerOptions { buffer_records: 10, ..ProducerOptions::default() };
    let producer = Producer::open(&kafka.settings("test"), options).expect("opened");
    let (id, answers) = sink(&producer);
    for token in 0..10 {
        producer.send(out("t", b"x"), &id, token).expect("there is room");
    }
    let mut eleventh = out("t", b"x");
    eleventh.headers.push("kept", Some(b"1"));
    let (error, headers) = producer.send(eleventh, &id, 10).expect_err("no room");
    assert_eq!((error, headers.len()), (SendError::Full, 1));
    assert_eq!(producer.in_flight(), 10);
    assert!(matches!(
        producer.flush(Duration::from_millis(10)),
        Err(BrokerError::Unfinished { left: 10, .. })
    ));

    assert!(!producer.close(Duration::from_millis(100)));
    let ends: BTreeMap<u64, _> = (0..10).filter_map(|_| answers.recv_timeout(PATIENCE).ok()).collect();
    assert_eq!(ends.len(), 10);
    assert!(ends.values().all(|end| *end == Err(SendError::Purged)), "{ends:?}");
    assert_eq!(producer.in_flight(), 0);
    assert_eq!(producer.send(out("t", b"x"), &id, 11).expect_err("closed").0, SendError::Purged);
}

#[test]
fn a_record_past_the_limit_is_refused_at_once() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let options = ProducerOptions { max_record_bytes: 2_000, ..ProducerOptions::default() };
    let producer = Producer::open(&kafka.settings("test"), options).expect("opened");
    let (id, _answers) = sink(&producer);
    let (error, _) = producer.send(out("t", &[b'x'; 5_000]), &id, 0).expect_err("too large");
    assert_eq!(error, SendError::TooLarge);
}

#[test]
fn what_the_broker_refuses_reaches_the_sink_with_its_reason() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let producer = Producer::open(&kafka.settings("test"), ProducerOptions::default()).expect("opened");
    let (id, answers) = sink(&producer);
    kafka.fail_next(MockRequest::Produce, MockError::RequestTimedOut, 2).expect("injected");
    producer.send(out("t", b"x"), &id, 2).expect("there is room");
    assert_eq!(answers.recv_timeout(PATIENCE).expect("answered"), (2, Ok(())), "tried again by itself");
    for (error, expected) in
        [(MockError::TooLarge, SendError::TooLarge), (MockError::TopicDenied, SendError::Denied)]
    {
        kafka.fail_next(MockRequest::Produce, error, 1).expect("injected");
        producer.send(out("t", b"x"), &id, 1).expect("there is room");
        assert_eq!(answers.recv_timeout(PATIENCE).expect("answered"), (1, Err(expected)));
    }
    assert_eq!(producer.fatal(), None);
}

#[test]
fn routes_of_other_compression_are_lanes_that_answer_alike() {
    let kafka = MockKafka::start(1).expect("started");
    let producer = Producer::open(&kafka.settings("test"), ProducerOptions::default()).expect("opened");
    let kinds =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for compression in kinds {
        let topic = compression.as_str();
        kafka.create_topic(topic, 1).expect("created");
        producer.route(topic, TopicRoute { compression, ..TopicRoute::default() }).expect("routed");
        send_all(&producer, topic, 50);
    }
    assert!(producer.close(PATIENCE));
}

#[test]
fn a_producer_beyond_repair_says_so_and_answers_what_was_under_way() {
    let kafka = MockKafka::start(1).expect("started");
    kafka.create_topic("t", 1).expect("created");
    let producer = Producer::open(&kafka.settings("test"), ProducerOptions::default()).expect("opened");
    send_all(&producer, "t", 3);
    kafka.fail_next(MockRequest::Produce, MockError::OutOfOrderSequence, 1).expect("injected");
    let (id, answers) = sink(&producer);
    producer.send(out("t", b"x"), &id, 1).expect("there is room");
    let (token, end) = answers.recv_timeout(PATIENCE).expect("answered");
    assert!(token == 1 && matches!(end, Err(SendError::Fatal(_))), "{end:?}");
    assert!(producer.fatal().is_some());
    let refused = producer.send(out("t", b"x"), &id, 2).expect_err("beyond repair").0;
    assert!(matches!(refused, SendError::Fatal(_)), "{refused:?}");
    assert!(producer.close(PATIENCE), "nothing is left under way");
}
