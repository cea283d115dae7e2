//! Edits of the config root while `biplane run` works, on a real Kafka and a real Postgres: of stages and of durable
//! jobs. Nothing is lost, nothing is done twice.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::stub::{Stub, reply};
use crate::support::{
    Cluster, ConfigRoot, Engine, Message, TestDatabase, brokers, request, signal, unique, wait_for,
    wait_until,
};
use crate::working::Gate;

const LONG: Duration = Duration::from_secs(60);
const ADMIN: &str = "an-admin-token-of-a-test-0123456789abcdef";

/// A config root whose stage sets `mark` and whose jobs do.
struct Scene {
    root: ConfigRoot,
    cluster: Cluster,
    database: TestDatabase,
    service: Stub,
    gate: Arc<Gate>,
    name: String,
}

impl Scene {
    fn new() -> Self {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let service = Stub::start(move |path, stream| {
            if path == "/held" {
                held.pass();
            }
            reply(stream, "200 OK", "{}");
        });
        let (name, cluster, database) = (unique("reloads"), Cluster::shared(), TestDatabase::new());
        let scene = Self { root: ConfigRoot::new(&[]), cluster, database, service, gate, name };
        for topic in ["in", "out", "dead"] {
            scene.cluster.create_topic(&scene.topic(topic), 1, &[]);
        }
        scene.edit_stage("one", "out");
        scene
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    fn edit_stage(&self, mark: &str, to: &str) {
        let name = &self.name;
        self.root.write(
            "pipelines/stages.toml",
            &format!(
                r#"
[topics]
in    = {{ topic = "{name}.in" }}
{to}  = {{ topic = "{name}.{to}" }}
[dlqs.d]
topic = "{name}.dead"
[stages.mark]
from = "in"
to   = "{to}"
dlq  = "d"
[[stages.mark.steps]]
set.mark = "{mark}"
"#
            ),
        );
    }

    /// Jobs of the kinds that are named, each in its queue; every one asks `/KIND` and sets `mark`.
    fn edit_jobs(&self, mark: &str, kinds: &[(&str, &str)]) {
        let mut queues: Vec<_> = kinds.iter().map(|(_, queue)| *queue).collect();
        queues.sort_unstable();
        queues.dedup();
        let mut text: String =
            queues.iter().map(|queue| format!("[queues.{queue}]\nconcurrency = 2\n")).collect();
        for (kind, queue) in kinds {
            text += &format!(
                "[jobs.{kind}]\nqueue = \"{queue}\"\n[[jobs.{kind}.steps]]\nhttp.url = \"{}/{kind}\"\n\
                 [[jobs.{kind}.steps]]\nset.mark = \"{mark}\"\n",
                self.service.url()
            );
        }
        self.root.write("pipelines/jobs.toml", &text);
    }

    fn start(&self) -> Engine {
        let url = self.database.url();
        let variables =
            [("DATABASE_URL", &*url), ("BIPLANE_NAMESPACE", &*self.name), ("BIPLANE_ADMIN_TOKEN", ADMIN)];
        let migrated = Engine::command(self.root.path(), &["migrate"], &variables);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        Engine::start(&self.root, &brokers(), &variables)
    }

    fn produce(&self, numbers: Range<i64>) {
        let records: Vec<_> = numbers.map(|n| Message::json("k", &json!({ "n": n }))).collect();
        self.cluster.produce(&self.topic("in"), &records);
    }

    fn values(&self, topic: &str, count: usize) -> Vec<Value> {
        let records = self.cluster.wait_for_records(&self.topic(topic), count, LONG);
        records.iter().map(Message::value_json).collect()
    }

    /// Enqueues so many jobs of a kind.
    fn enqueue(&self, kind: &str, count: usize) {
        self.database
            .execute(&format!("select biplane.enqueue('{kind}', '{{}}') from generate_series(1, {count})"));
    }

    /// How many jobs of a kind succeeded at their first attempt and set this mark.
    fn marked(&self, kind: &str, mark: &str) -> usize {
        let count = self.database.value(&format!(
            "select count(*) from biplane.done d join biplane.kind k on k.id = d.kind_id
             where k.name = '{kind}' and d.outcome = 's' and d.attempt = 1 and d.detail->>'mark' = '{mark}'"
        ));
        count.parse().expect("a number")
    }

    fn wait_marked(&self, kind: &str, mark: &str, count: usize) {
        wait_until(&format!("{count} of {kind} are marked {mark}"), LONG, || {
            self.marked(kind, mark) == count
        });
    }

    fn asked(&self, kind: &str) -> usize {
        self.service.by_path().get(&format!("/{kind}")).copied().unwrap_or_default()
    }
}

/// Waits for reload number `index` (from 0) and returns what became of what.
fn reloaded(engine: &Engine, index: usize) -> String {
    wait_for(&format!("reload {index}"), LONG, || {
        let log = engine.log();
        let line =
            log.lines().filter(|line| line.contains("reloaded") && line.contains("changes=")).nth(index)?;
        let (_, changes) = line.split_once("changes=")?;
        Some(changes.trim_matches('"').to_owned())
    })
}

#[test]
fn a_stage_goes_on_with_other_steps_while_records_flow() {
    let scene = Scene::new();
    let engine = scene.start();
    scene.produce(0..200);
    scene.values("out", 1);
    scene.edit_stage("two", "out");
    let mut sent = 200;
    // Records come before, while and after it goes over.
    wait_until("it has gone over", LONG, || {
        scene.produce(sent..sent + 20);
        sent += 20;
        engine.log().contains("reloaded")
    });
    assert_eq!(reloaded(&engine, 0), "mark changed");
    scene.produce(sent..sent + 20);
    sent += 20;
    let values = scene.values("out", usize::try_from(sent).expect("a count"));
    let numbers: Vec<_> = values.iter().map(|value| value["n"].as_i64().expect("a number")).collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>(), "nothing lost, nothing twice, in order");
    assert_eq!((&values[0]["mark"], &values[values.len() - 1]["mark"]), (&json!("one"), &json!("two")));
    assert_eq!(engine.metric("biplane_stage_rebalances_total", &["stage=\"mark\""]), 1.0);
}

#[test]
fn what_cannot_run_is_told_and_what_ran_goes_on_until_it_can() {
    let scene = Scene::new();
    let mut engine = scene.start();
    let in_step = |engine: &Engine| engine.metric("biplane_config_last_reload_successful", &[]) == 1.0;
    assert!(in_step(&engine));
    scene.edit_stage("{{ nonsense( }}", "out");
    wait_until("it is refused", LONG, || engine.log().contains("not reloaded: the config has errors"));
    assert!(engine.log().contains("pipelines/stages.toml:"), "{}", engine.log());
    assert!(!in_step(&engine));
    scene.edit_stage("two", "late");
    wait_until("its topic is missed", LONG, || {
        engine.log().contains("these topics do not exist") && engine.log().contains(&scene.topic("late"))
    });
    scene.produce(0..10);
    assert_eq!(scene.values("out", 10)[9], json!({ "n": 9, "mark": "one" }));
    scene.cluster.create_topic(&scene.topic("late"), 1, &[]);
    // It would look by itself within half a minute.
    signal(engine.id(), "HUP");
    assert_eq!(reloaded(&engine, 0), "mark restarted");
    scene.produce(10..20);
    assert_eq!(scene.values("late", 10)[9], json!({ "n": 19, "mark": "two" }));
    wait_until("it is in step", LONG, || in_step(&engine));
    signal(engine.id(), "HUP");
    assert_eq!(reloaded(&engine, 1), "mark unchanged", "who asks is answered");
    assert!(engine.terminate(LONG).success());
}

#[test]
fn an_edit_of_a_job_counts_for_attempts_that_start_from_then_on() {
    let scene = Scene::new();
    scene.edit_jobs("one", &[("held", "slow"), ("quick", "fast")]);
    let engine = scene.start();
    scene.enqueue("held", 2);
    scene.enqueue("quick", 50);
    wait_until("two are held", LONG, || scene.asked("held") == 2);
    scene.wait_marked("quick", "one", 50);

    scene.edit_jobs("two", &[("held", "slow"), ("quick", "fast")]);
    let mut sent = 0;
    // Jobs come before, while and after it goes over.
    wait_until("it has gone over", LONG, || {
        scene.enqueue("quick", 10);
        sent += 10;
        engine.log().contains("reloaded")
    });
    assert_eq!(reloaded(&engine, 0), "mark unchanged, job held changed, job quick changed");
    let before = scene.marked("quick", "one");
    scene.enqueue("quick", 10);
    sent += 10;
    scene.enqueue("held", 1);
    scene.gate.open();
    scene.wait_marked("held", "one", 2);
    scene.wait_marked("held", "two", 1);
    wait_until("all quick ones are done", LONG, || {
        scene.marked("quick", "one") + scene.marked("quick", "two") == 50 + sent
    });
    assert_eq!((scene.asked("held"), scene.asked("quick")), (3, 50 + sent), "each ran once");
    assert!(scene.marked("quick", "two") >= 10 && before >= 50, "{before}");
    assert_eq!(scene.database.value("select count(*) from biplane.worker"), "1", "the same worker goes on");
}

#[test]
fn queues_and_kinds_come_and_go_and_their_jobs_wait() {
    let scene = Scene::new();
    let engine = scene.start();

    scene.edit_jobs("one", &[("held", "slow"), ("quick", "fast")]);
    let added = "mark unchanged, queue fast added, queue slow added, job held added, job quick added";
    assert_eq!(reloaded(&engine, 0), added);
    scene.enqueue("held", 5);
    scene.enqueue("quick", 5);
    scene.wait_marked("quick", "one", 5);
    wait_until("two are held", LONG, || scene.asked("held") == 2);

    scene.edit_jobs("two", &[("quick", "fast")]);
    let gone = "mark unchanged, queue slow removed (its jobs wait), job quick changed, job held removed (its jobs wait)";
    assert_eq!(reloaded(&engine, 1), gone);
    scene.gate.open();
    scene.wait_marked("held", "one", 2);
    scene.enqueue("quick", 5);
    scene.wait_marked("quick", "two", 5);
    let waiting = "select count(*) from biplane.ready r join biplane.queue q on q.id = r.queue_id where q.name = 'slow'";
    wait_until("the rest was handed back", LONG, || scene.database.value(waiting) == "3");
    assert_eq!(scene.asked("held"), 2);
    let bearer = format!("Authorization: Bearer {ADMIN}\r\n");
    let status = request(engine.address(), "GET", "/v1/status", &bearer, "").expect("an answer").body;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!((&status["jobs"]["kinds"], &status["jobs"]["queues"]), (&json!(["quick"]), &json!(["fast"])));

    scene.edit_jobs("three", &[("held", "slow"), ("quick", "fast")]);
    reloaded(&engine, 2);
    scene.wait_marked("held", "three", 3);
    assert_eq!((scene.asked("held"), scene.asked("quick")), (5, 10), "each ran once");
}
