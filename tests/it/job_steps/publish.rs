//! `publish`: an event stands in its topic exactly where its job is done, whoever dies and whatever is away.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Cluster, Message, PrivateKafka, TestDatabase, unique, wait_until};
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

fn jobs(topic: &str, url: &str) -> String {
    format!(
        r#"
[topics.events]
topic = "{topic}"

[queues.work]
concurrency        = 4
global_concurrency = 4

[queues.one]
global_concurrency = 1

[jobs.tell]
queue = "work"

[[jobs.tell.steps]]
name            = "event"
publish.topic   = "events"
publish.key     = "args.key"
publish.headers = {{ kind = "told" }}
publish.value   = {{ n = "{{{{ args.n }}}}" }}

[[jobs.tell.steps]]
http.url = "{url}/held"

[jobs.bad]
queue = "work"

[[jobs.bad.steps]]
publish.topic = "events"

[[jobs.bad.steps]]
http.url = "{url}/bad"

[jobs.count]
queue = "one"

[[jobs.count.steps]]
publish.topic = "events"
publish.key   = "args.key"
publish.value = "{{{{ args.n }}}}"
"#
    )
}

fn scene(cluster: &Cluster, partitions: i32) -> (Scene, String) {
    let topic = unique("published");
    cluster.create_topic(&topic, partitions, &[]);
    let scene = Scene::gated(TestDatabase::new(), |url| jobs(&topic, url));
    (scene, topic)
}

/// A job `count` for each of these numbers, under two keys.
fn count(scene: &Scene, first: usize, last: usize) {
    scene.database.execute(&format!(
        "select biplane.enqueue_many('count',
            array(select jsonb_build_object('n', n, 'key', 'k' || n % 2) from generate_series({first}, {last}) n))"
    ));
}

/// Fails unless each key's numbers rise from the first to the last.
fn verify_order(read: &[Message], last: usize) {
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for message in read {
        let number = message.value_json().as_u64().expect("a number") as usize;
        by_key.entry(message.key_text()).or_default().push(number);
    }
    let expected = |odd: usize| (1..=last).filter(|number| number % 2 == odd).collect::<Vec<_>>();
    assert_eq!(by_key, BTreeMap::from([("k0", expected(0)), ("k1", expected(1))]));
}

#[test]
fn an_event_stands_in_its_topic_once_its_job_is_done_and_not_before() {
    let cluster = Cluster::shared();
    let (scene, topic) = scene(&cluster, 1);
    let engine = scene.start();
    scene.enqueue("bad", "{}");
    let id = scene.enqueue("tell", r#"{"key": 7, "n": 1}"#);
    scene.wait_count("failed", "1");
    scene.wait_asked("/held", 1);
    assert_eq!((cluster.count(&topic), scene.count("outbox")), (0, "0".to_owned()));
    scene.gate.open();
    let read = cluster.wait_for_records(&topic, 1, LONG);
    assert_eq!((read[0].key_text(), read[0].value_json()), ("7", serde_json::json!({"n": 1})));
    assert_eq!(read[0].header_text("kind"), Some("told"));
    assert_eq!(read[0].header_text("biplane-id"), Some(&*format!("jobs/tell/{id}/event")));
    scene.wait_count("outbox", "0");
    assert_eq!(cluster.count(&topic), 1);
    wait_until("it is counted", LONG, || engine.metric("biplane_outbox_published_total", &[]) == 1.0);
}

#[test]
fn what_an_engine_leaves_that_dies_is_sent_by_the_others_in_order() {
    const LAST: usize = 60;
    let cluster = Cluster::shared();
    let (scene, topic) = scene(&cluster, 3);
    let mut killed = scene.start_with(&[("BIPLANE_TEST_WITHOUT", "relay")]);
    count(&scene, 1, LAST / 2);
    scene.wait_count("done", &(LAST / 2).to_string());
    assert_eq!(scene.count("outbox"), (LAST / 2).to_string(), "nothing is sent without the relay");
    killed.kill();
    let _others = [scene.start(), scene.start()];
    count(&scene, LAST / 2 + 1, LAST);
    scene.wait_count("done", &LAST.to_string());
    scene.wait_count("outbox", "0");
    verify_order(&cluster.read_all(&topic), LAST);
}

#[test]
fn while_kafka_is_away_jobs_go_on_and_their_events_wait_in_order() {
    const LAST: usize = 40;
    let mut kafka = PrivateKafka::start();
    let (scene, topic) = scene(&kafka.cluster(), 2);
    let brokers = kafka.cluster().brokers().to_owned();
    let engine = scene.start_on(&brokers);
    kafka.kill();
    count(&scene, 1, LAST);
    scene.wait_count("done", &LAST.to_string());
    wait_until("the events that wait are seen", LONG, || {
        engine.metric("biplane_outbox_events", &[]) >= LAST as f64
    });
    assert_eq!(scene.count("outbox"), LAST.to_string());
    kafka.restart();
    scene.wait_count("outbox", "0");
    verify_order(&kafka.cluster().read_all(&topic), LAST);
}
