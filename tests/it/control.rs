//! Pauses, resumes and what else the control topic holds, on a real Kafka.

use std::time::Duration;

use biplane::broker::ClientSettings;
use biplane::engine::control::{self, Settled, SettledState, SettledWriter};
use serde_json::{Value as Json, json};

use crate::support::commands::{ask, ask_with};
use crate::support::{Cluster, ConfigRoot, Engine, Message, brokers, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(30);

struct Scene {
    name: String,
    cluster: Cluster,
    root: ConfigRoot,
}

impl Scene {
    fn new(policy: &str) -> Self {
        let (name, cluster) = (unique("control"), Cluster::shared());
        let config = format!(
            "[topics.in]\ntopic = \"{name}.in\"\npartitions = 4\n[topics.out]\ntopic = \"{name}.out\"\n\
             [dlqs.d]\ntopic = \"{name}.dlq\"\n[retries.r]\n{policy}\n\
             [stages.s]\nfrom = \"in\"\nto = \"out\"\ndlq = \"d\"\nretry = \"r\"\n\
             [[stages.s.steps]]\nwhen = \"value.bad\"\nfail = {{ code = \"bad\", message = \"bad\" }}\n"
        );
        let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
        for topic in ["in", "out", "dlq"] {
            cluster.create_topic(&format!("{name}.{topic}"), 4, &[]);
        }
        Self { name, cluster, root }
    }

    fn engine(&self) -> Engine {
        Engine::start(&self.root, &brokers(), &[("BIPLANE_NAMESPACE", &self.name)])
    }

    fn produce(&self, from: usize, count: usize) {
        let records = (from..from + count)
            .map(|number| Message::json(number.to_string(), &json!({ "number": number, "bad": false })));
        self.cluster.produce(&format!("{}.in", self.name), &records.collect::<Vec<_>>());
    }

    fn written(&self) -> i64 {
        self.cluster.count(&format!("{}.out", self.name))
    }

    fn well(&self, arguments: &[&str]) {
        ask(&self.root, &self.name, arguments).well();
    }

    fn client(&self) -> ClientSettings {
        ClientSettings::new(brokers(), "test")
    }
}

fn state(engine: &Engine) -> (String, String) {
    let answer = engine.get("/v1/status").expect("an answer");
    let status: Json = serde_json::from_str(&answer.body).expect("JSON");
    let stage = &status["stages"][0];
    let text = |field: &str| stage[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn is(engine: &Engine, wanted: &str) -> bool {
    state(engine).0 == wanted
}

#[test]
fn a_pause_reaches_every_engine_and_outlives_all_of_them() {
    let scene = Scene::new("max_attempts = 1");
    let (mut one, mut two) = (scene.engine(), scene.engine());
    scene.produce(0, 100);
    wait_until("all is written", DEADLINE, || scene.written() == 100);
    scene.well(&["stages", "pause", "s", "--reason", "the store moves"]);
    wait_until("both stand still", DEADLINE, || is(&one, "paused") && is(&two, "paused"));
    let reason = state(&one).1;
    assert!(reason.starts_with("paused by ") && reason.ends_with(": the store moves"), "{reason}");
    assert_eq!(one.get("/ready").map(|answer| answer.status), Some(200), "as somebody wants it");
    scene.produce(100, 50);

    let listed = |listen: &str| {
        let answer = ask_with(&scene.root, &scene.name, &["stages", "list"], &[("BIPLANE_LISTEN", listen)]);
        answer.well()[0].clone()
    };
    assert_eq!(listed(one.address())["reason"], reason.as_str());
    assert!(one.terminate(DEADLINE).success() && two.terminate(DEADLINE).success());
    let paused = listed("127.0.0.1:9");
    assert_eq!((&paused["state"], &paused["reason"]), (&"paused".into(), &reason.into()), "no engine runs");
    let third = scene.engine();
    wait_until("it stands still, too", DEADLINE, || is(&third, "paused"));
    assert_eq!(scene.written(), 100, "nothing was taken before the pause was known");
    scene.well(&["stages", "resume", "s"]);
    wait_until("the rest is written", DEADLINE, || scene.written() == 150);
    wait_until("it runs", DEADLINE, || state(&third) == ("running".to_owned(), String::new()));

    for verb in ["pause", "show"] {
        let unknown = ask(&scene.root, &scene.name, &["stages", verb, "t"]);
        let said = "there is no stage `t`; did you mean `s`?";
        assert!(unknown.code == Some(2) && unknown.errors.contains(said), "{}", unknown.errors);
    }
}

#[test]
fn a_stage_that_halted_goes_on_when_somebody_says_so() {
    let scene = Scene::new("max_attempts = 1\non_exhausted = \"halt\"");
    let engine = scene.engine();
    let bad = Message::json("k", &json!({ "number": -1, "bad": true }));
    scene.cluster.produce(&format!("{}.in", scene.name), &[bad]);
    wait_until("it halts", DEADLINE, || is(&engine, "halted"));
    // The failure stays: it halts again, by a new attempt.
    let failed = || engine.metric("biplane_stage_records_in_total", &["s"]);
    let before = failed();
    scene.well(&["stages", "resume", "s"]);
    wait_until("it tries again", DEADLINE, || failed() > before);
    wait_until("it halts again", DEADLINE, || is(&engine, "halted"));
    assert_eq!(scene.written(), 0);
}

#[test]
fn a_dry_run_of_a_pause_changes_nothing_and_garbage_in_the_control_topic_stops_nobody() {
    let scene = Scene::new("max_attempts = 1");
    scene.well(&["stages", "pause", "s", "--dry-run"]);
    scene.well(&["stages", "resume", "s"]);
    let garbage = [
        Message::new("pause/s", "no JSON"),
        Message::new("pause/s", "{\"version\": 9, \"by\": \"me\"}"),
        Message::new([0xff], "x"),
        Message::new("other/kind", "{}"),
        Message::tombstone("pause/nobody"),
    ];
    scene.cluster.produce(&control::topic(&scene.name), &garbage);
    let engine = scene.engine();
    scene.produce(0, 10);
    wait_until("all is written", DEADLINE, || scene.written() == 10);
    assert!(is(&engine, "running"));
}

#[test]
fn settled_dead_letters_are_remembered_until_their_topic_has_passed_them() {
    let scene = Scene::new("max_attempts = 1");
    let (client, dlq) = (scene.client(), format!("{}.dlq", scene.name));
    let mut writer = SettledWriter::new(&client, &scene.name, SettledState::Discarded, "me");
    (0..10_000).for_each(|offset| writer.add(&dlq, 0, offset));
    writer.flush().expect("written");
    // The same block once more, by the same action and by another.
    writer.add(&dlq, 0, 10_001);
    writer.flush().expect("written");
    let mut other = SettledWriter::new(&client, &scene.name, SettledState::Replayed, "you");
    other.add(&dlq, 0, 10_003);
    other.flush().expect("written");
    let of = |offset| {
        let settled = Settled::load(&client, &scene.name).expect("read");
        settled.is_settled(&dlq, 0, offset)
    };
    assert_eq!((of(0), of(9_999)), (Some(SettledState::Discarded), Some(SettledState::Discarded)));
    assert_eq!((of(10_000), of(10_001)), (None, Some(SettledState::Discarded)));
    assert_eq!((of(10_002), of(10_003)), (None, Some(SettledState::Replayed)));
    assert!(scene.cluster.count(&control::topic(&scene.name)) < 20, "blocks, not single letters");

    assert_eq!(control::forget_behind(&client, &scene.name).expect("looked at"), 0, "all are there");
    let records: Vec<_> = (0..5_000).map(|_| Message::new("k", "v").at(0)).collect();
    scene.cluster.produce(&dlq, &records);
    scene.cluster.delete_before(&dlq, 0, 4_500);
    assert_eq!(control::forget_behind(&client, &scene.name).expect("looked at"), 1, "the first block");
    assert_eq!((of(0), of(4_096)), (None, Some(SettledState::Discarded)));
}
