//! The broker module on a real Kafka: what the mock cannot show.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use biplane::broker::{
    Admin, BrokerError, ClientSettings, Commit, ConsumeError, Consumer, ConsumerOptions, DeliverySink,
    OutHeaders, Outgoing, Polled, Producer, ProducerOptions, Rebalance, SendError, StartAt, TopicPartition,
    TopicRequest, TopicRoute,
};
use biplane::catalog::{CheckOptions, Nothing, Tree, check};
use biplane::engine::topics::{self, TopicChange};

use crate::support::{Cluster, Message, brokers, unique};

const LIMIT: Duration = Duration::from_secs(20);

fn settings() -> ClientSettings {
    ClientSettings::new(brokers(), "biplane-test")
}

fn open(settings: &ClientSettings, group: &str, topic: &str) -> Consumer {
    Consumer::open(settings, ConsumerOptions::new(group, vec![Arc::from(topic)]), || {}).expect("opened")
}

/// Polls until `pick` takes something.
fn until<T>(consumer: &Consumer, mut pick: impl FnMut(Polled<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(found) = pick(consumer.poll(Duration::from_millis(50))) {
            return found;
        }
    }
    panic!("nothing within {LIMIT:?}");
}

fn rebalance(polled: Polled<'_>) -> Option<Rebalance> {
    match polled {
        Polled::Rebalance(rebalance) => Some(rebalance),
        _ => None,
    }
}

fn assigned(polled: Polled<'_>) -> Option<Vec<TopicPartition>> {
    match polled {
        Polled::Rebalance(Rebalance::Assigned(partitions)) if !partitions.is_empty() => Some(partitions),
        _ => None,
    }
}

fn all_from(partitions: &[TopicPartition], start: StartAt) -> Vec<(TopicPartition, StartAt)> {
    partitions.iter().map(|partition| (partition.clone(), start)).collect()
}

fn commit(partition: &TopicPartition, offset: i64) -> Commit {
    Commit { partition: partition.clone(), offset, metadata: "m".to_owned() }
}

#[test]
fn a_topic_is_made_grown_and_configured_without_touching_its_other_settings() {
    let admin = Admin::open(&settings()).expect("opened");
    let name = unique("admin");
    let request = TopicRequest {
        name: name.clone(),
        partitions: Some(2),
        replication: None,
        settings: vec![("retention.ms".to_owned(), "1234567".to_owned())],
    };
    admin.create(&request, LIMIT).expect("made");
    assert!(admin.create(&request, LIMIT).is_err(), "it exists");
    admin.grow(&name, 4, LIMIT).expect("grown");
    assert!(admin.grow(&name, 3, LIMIT).is_err(), "Kafka does not shrink");
    admin
        .configure(&name, &[("max.message.bytes".to_owned(), "70000".to_owned())], LIMIT)
        .expect("configured");
    let settings = admin.settings(&[&name], LIMIT).expect("described").remove(0);
    let value = |key: &str| (settings[key].value.as_deref(), settings[key].own);
    assert_eq!(value("max.message.bytes"), (Some("70000"), true));
    assert_eq!(value("retention.ms"), (Some("1234567"), true), "kept");
    assert!(!settings["segment.ms"].own);
    let shape = admin.topics(LIMIT).expect("listed")[&name];
    assert_eq!((shape.partitions, shape.replication), (4, 1));
    admin.delete(&name, LIMIT).expect("deleted");
    assert!(admin.settings(&[&name], LIMIT).is_err(), "gone");
}

#[test]
fn a_plan_that_was_applied_leaves_nothing_to_do_and_shrinking_is_refused() {
    let admin = Admin::open(&settings()).expect("opened");
    let prefix = unique("plan");
    let catalog = |partitions: u32, retention: &str| {
        let mut tree = Tree::default();
        let text = format!(
            "[topics.a]\ntopic = \"{prefix}.a\"\npartitions = {partitions}\nretention = \"{retention}\"\n\
             [topics.b]\ntopic = \"{prefix}.b\"\n[dlqs.d]\ntopic = \"{prefix}.d\"\npartitions = 1\n\
             [stages.s]\nfrom = \"a\"\nto = \"b\"\ndlq = \"d\"\n\
             [[stages.s.steps]]\nfilter = \"value.x\"\n"
        );
        tree.insert("pipelines/p.toml", text.into_bytes());
        let options = CheckOptions { environment: None, require_env: false, outside: &Nothing };
        let checked = check(&tree, &options);
        assert_eq!(checked.errors(), 0, "{:?}", checked.findings);
        checked.catalog.expect("clean")
    };
    let actions = |changes: &[TopicChange]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let first = catalog(2, "1d");
    let changes = topics::plan(&first, &admin, LIMIT).expect("planned");
    assert_eq!(changes.len(), 3, "{:?}", actions(&changes));
    let mut done = 0;
    topics::apply(&changes, &admin, LIMIT, |_| done += 1).expect("applied");
    assert_eq!(done, 3);
    assert_eq!(topics::plan(&first, &admin, LIMIT), Ok(Vec::new()));

    let changes = topics::plan(&catalog(3, "2d"), &admin, LIMIT).expect("planned");
    assert_eq!(
        actions(&changes),
        [
            format!("grow {prefix}.a: 2 -> 3 partitions"),
            format!("configure {prefix}.a: retention.ms = 86400000 -> 172800000"),
        ]
    );
    topics::apply(&changes, &admin, LIMIT, |_| {}).expect("applied");
    let changes = topics::plan(&catalog(2, "2d"), &admin, LIMIT).expect("planned");
    assert!(changes.len() == 1 && changes[0].is_refused(), "{:?}", actions(&changes));
}

#[test]
fn partitions_move_to_a_second_member_only_when_the_first_answers() {
    let (topic, group) = (unique("move"), unique("group"));
    Cluster::shared().create_topic(&topic, 2, &[]);
    let settings = settings();
    let first = open(&settings, &group, &topic);
    let both = until(&first, assigned);
    assert_eq!(both.len(), 2);
    first.assign(&all_from(&both, StartAt::Earliest)).expect("assigned");

    let second = open(&settings, &group, &topic);
    let revoked = until(&first, |polled| {
        // The newcomer must be polled for the group to know of it.
        assert!(assigned(second.poll(Duration::ZERO)).is_none(), "nothing moves before it is given up");
        rebalance(polled)
    });
    assert_eq!(revoked, Rebalance::Revoked { partitions: both.clone(), lost: false });
    first.commit_now(&[commit(&both[0], 0), commit(&both[1], 0)]).expect("still ours");
    first.unassign();
    let mut other = None;
    let mine = until(&first, |polled| {
        other = other.take().or_else(|| assigned(second.poll(Duration::ZERO)));
        assigned(polled)
    });
    let other = other.unwrap_or_else(|| until(&second, assigned));
    assert_eq!((mine.len(), other.len()), (1, 1));
    first.assign(&all_from(&mine, StartAt::Earliest)).expect("assigned");
    second.assign(&all_from(&other, StartAt::Earliest)).expect("assigned");
    assert_eq!(second.committed(&other, LIMIT).expect("asked")[0].offset, Some(0));
    assert!(second.close(LIMIT) && first.close(LIMIT));
}

#[test]
fn grown_partitions_are_picked_up() {
    let (topic, group) = (unique("grow"), unique("group"));
    Cluster::shared().create_topic(&topic, 1, &[]);
    let mut settings = settings();
    settings.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "300".to_owned());
    let consumer = open(&settings, &group, &topic);
    let one = until(&consumer, assigned);
    consumer.assign(&all_from(&one, StartAt::Earliest)).expect("assigned");
    Admin::open(&settings).expect("opened").grow(&topic, 3, LIMIT).expect("grown");
    let Rebalance::Revoked { lost: false, .. } = until(&consumer, rebalance) else { panic!("revoked first") };
    consumer.unassign();
    assert_eq!(until(&consumer, assigned).len(), 3);
    assert!(consumer.close(LIMIT));
}

#[test]
fn a_time_finds_its_first_record_and_past_the_newest_the_end() {
    let topic = unique("times");
    let cluster = Cluster::shared();
    cluster.create_topic(&topic, 1, &[]);
    let messages: Vec<Message> = (1..=5)
        .map(|n| Message { timestamp: Some(1_700_000_000_000 + n * 1_000), ..Message::new("k", "v") })
        .collect();
    cluster.produce(&topic, &messages);
    let consumer = Consumer::open(&settings(), ConsumerOptions::new(unique("group"), Vec::new()), || {})
        .expect("opened");
    let partition = TopicPartition::new(&*topic, 0);
    let at = |millis| {
        let found = consumer.offsets_for_time(std::slice::from_ref(&partition), millis, LIMIT);
        found.expect("asked").remove(0).1
    };
    assert_eq!(at(1_700_000_002_500), StartAt::Offset(2));
    assert_eq!(at(1_700_000_003_000), StartAt::Offset(2));
    assert_eq!(at(1_700_000_009_000), StartAt::Latest);
    assert!(consumer.close(LIMIT));
}

#[test]
fn a_topic_that_does_not_exist_is_named_by_consumer_and_admin() {
    let topic = unique("missing");
    let consumer = open(&settings(), &unique("group"), &topic);
    let error = until(&consumer, |polled| match polled {
        Polled::Error(error) => Some(error),
        _ => None,
    });
    assert!(matches!(error, ConsumeError::UnknownTopic(_)), "{error:?}");
    let asked = Admin::open(&settings()).expect("opened").settings(&[&topic], LIMIT);
    assert!(matches!(asked, Err(BrokerError::UnknownTopic(_))), "{asked:?}");
    assert!(consumer.close(LIMIT));
}

type Answer = (u64, Result<(), SendError>);

struct Answers(Mutex<Sender<Answer>>);

impl DeliverySink for Answers {
    fn delivered(&self, token: u64, result: Result<(), SendError>) {
        let _ = self.0.lock().expect("never poisoned").send((token, result));
    }
}

fn send_sizes(producer: &Producer, topic: &str, sizes: &[usize]) -> BTreeMap<u64, Result<(), SendError>> {
    let (sender, answers): (_, Receiver<Answer>) = mpsc::channel();
    let sink = producer.register(Arc::new(Answers(Mutex::new(sender))));
    for (token, size) in sizes.iter().enumerate() {
        let value = vec![b'x'; *size];
        let record = Outgoing {
            topic,
            partition: None,
            key: None,
            value: Some(&value),
            timestamp: None,
            headers: OutHeaders::default(),
        };
        producer.send(record, &sink, token as u64).expect("there is room");
    }
    producer.flush(LIMIT).expect("answered");
    producer.deregister(&sink);
    answers.try_iter().collect()
}

#[test]
fn in_a_topic_of_small_batches_only_the_record_that_is_too_large_is_refused() {
    let topic = unique("small");
    Cluster::shared().create_topic(&topic, 1, &[("max.message.bytes", "20000")]);
    let options = ProducerOptions { linger: Duration::from_millis(100), ..ProducerOptions::default() };
    let producer = Producer::open(&settings(), options).expect("opened");
    producer
        .route(&topic, TopicRoute { max_message_bytes: Some(20_000), ..TopicRoute::default() })
        .expect("routed");
    let mut sizes = vec![5_000; 20];
    sizes[7] = 30_000;
    let ends = send_sizes(&producer, &topic, &sizes);
    assert_eq!(ends.len(), 20);
    for (token, end) in &ends {
        let expected = if *token == 7 { Err(SendError::TooLarge) } else { Ok(()) };
        assert_eq!(*end, expected, "record {token}");
    }
    assert_eq!(producer.fatal(), None);
    assert!(producer.close(LIMIT));
}
