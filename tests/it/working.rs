//! Durable jobs through the binary, on a real Postgres and a real Kafka: enqueued, run, tried again, taken over
//! from a killed engine, handed back by one that stops.

use std::io::BufRead;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::stub::{Stub, reply};
use crate::support::{ConfigRoot, Engine, TestDatabase, brokers, signal, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// One migrated database, one service that jobs ask, and the config root of both.
pub(crate) struct Scene {
    pub(crate) database: TestDatabase,
    pub(crate) service: Stub,
    pub(crate) gate: Arc<Gate>,
    root: ConfigRoot,
    pub(crate) namespace: String,
}

/// Holds up who asks for `/held` until it is opened.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn pass(&self) {
        let open = self.open.lock().expect("the gate");
        drop(self.changed.wait_while(open, |open| !*open).expect("the gate"));
    }

    pub(crate) fn open(&self) {
        *self.open.lock().expect("the gate") = true;
        self.changed.notify_all();
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::on(TestDatabase::new())
    }

    pub(crate) fn on(database: TestDatabase) -> Self {
        let text = |url: &str| {
            format!(
                r#"
[queues.work]
concurrency = 2

[retries.twice]
max_attempts = 2
backoff      = {{ delays = ["50ms"] }}

[jobs.pull]
queue = "work"

[[jobs.pull.steps]]
http.method = "POST"
http.url    = "{0}/pull"
http.json   = {{ connector = "{{{{ args.connector }}}}" }}

[[jobs.pull.steps]]
set.connector = "{{{{ args.connector }}}}"

[jobs.bad]
queue = "work"
retry = "twice"

[[jobs.bad.steps]]
http.url = "{0}/bad"

[jobs.strict]
queue       = "work"
args_schema = "strict.json"

[[jobs.strict.steps]]
http.url = "{0}/strict"

[jobs.held]
queue = "work"

[[jobs.held.steps]]
http.url = "{0}/held"

[queues.shared]
global_concurrency = 3
per_key            = {{ key = "args.firm", concurrency = 2 }}

[jobs.turn]
queue = "shared"

[[jobs.turn.steps]]
http.url = "{0}/held"
timeout  = "2m"
"#,
                url
            )
        };
        Self::gated(database, text)
    }

    /// One with jobs of a test's own, whose service, at the URL that they are given, holds up who asks for `/held`.
    pub(crate) fn gated(database: TestDatabase, text: impl FnOnce(&str) -> String) -> Self {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        let service = Stub::start(move |path, stream| match path {
            "/bad" => reply(stream, "500 Internal Server Error", "no"),
            "/held" => {
                held.pass();
                reply(stream, "200 OK", r#"{"done": true}"#);
            }
            _ => reply(stream, "200 OK", r#"{"pulled": 3}"#),
        });
        let text = text(&service.url());
        Self::with(database, service, gate, &text)
    }

    /// One with a service and jobs of a test's own.
    pub(crate) fn of(service: Stub, text: &str) -> Self {
        Self::with(TestDatabase::new(), service, Arc::default(), text)
    }

    fn with(database: TestDatabase, service: Stub, gate: Arc<Gate>, text: &str) -> Self {
        let root = ConfigRoot::new(&[
            ("pipelines/jobs.toml", text),
            ("schemas/strict.json", r#"{"required": ["connector"]}"#),
        ]);
        let scene = Self { database, service, gate, root, namespace: unique("working") };
        let migrated = scene.command(&["migrate"]);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        scene
    }

    /// Adds a file to the config root.
    pub(crate) fn write(&self, path: &str, text: &str) {
        self.root.write(path, text);
    }

    pub(crate) fn start(&self) -> Engine {
        self.start_with(&[])
    }

    /// An engine that is ready, with these variables over the usual ones.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Engine {
        let mut engine = self.launch_with(variables);
        engine.wait_ready();
        engine
    }

    /// An engine that is ready, on other brokers.
    pub(crate) fn start_on(&self, brokers: &str) -> Engine {
        let url = self.database.url();
        let variables = [("DATABASE_URL", url.as_str()), ("BIPLANE_NAMESPACE", self.namespace.as_str())];
        Engine::start(&self.root, brokers, &variables)
    }

    pub(crate) fn launch_with(&self, variables: &[(&str, &str)]) -> Engine {
        let url = self.database.url();
        let usual = [("DATABASE_URL", url.as_str()), ("BIPLANE_NAMESPACE", self.namespace.as_str())];
        let all: Vec<_> = usual.iter().chain(variables).copied().collect();
        Engine::launch(&self.root, &brokers(), &all)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Output {
        Engine::command(self.root.path(), arguments, &[("DATABASE_URL", &self.database.url())])
    }

    /// Enqueues by SQL, as an application would.
    pub(crate) fn enqueue(&self, kind: &str, args: &str) -> String {
        // A write within a query has to be its outermost part.
        let before = self.database.value("select coalesce(max(id), 0) from biplane.job");
        self.database.execute(&format!("select biplane.enqueue('{kind}', '{args}')"));
        self.database.value(&format!("select id from biplane.job where id > {before}"))
    }

    pub(crate) fn shown(&self, id: &str) -> serde_json::Value {
        let shown = self.command(&["jobs", "show", id, "--format", "json"]);
        serde_json::from_slice(&shown.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&shown.stderr)))
    }

    pub(crate) fn count(&self, table: &str) -> String {
        self.database.value(&format!("select count(*) from biplane.{table}"))
    }

    pub(crate) fn wait_count(&self, table: &str, count: &str) {
        wait_until(&format!("{table} has {count}"), LONG, || self.count(table) == count);
    }

    pub(crate) fn wait_asked(&self, path: &str, times: usize) {
        wait_until(&format!("{path} is asked {times} times"), LONG, || {
            self.service.by_path().get(path).copied().unwrap_or_default() >= times
        });
    }
}

#[test]
fn jobs_from_sql_and_from_the_command_line_run_and_succeed() {
    let scene = Scene::new();
    let engine = scene.start();
    let by_sql = scene.enqueue("pull", r#"{"connector": 7}"#);
    let put = scene.command(&["jobs", "enqueue", "pull", "--args", r#"{"connector": 8}"#]);
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    scene.wait_count("done", "2");
    let shown = scene.shown(&by_sql);
    assert_eq!((&shown["state"], &shown["kind"]), (&"succeeded".into(), &"pull".into()), "{shown}");
    let detail = scene.database.value(&format!("select detail from biplane.done where job_id = {by_sql}"));
    assert_eq!(detail, r#"{"connector": 7}"#, "the value behind the last step");
    assert_eq!(scene.service.by_path()["/pull"], 2, "each ran once");
    wait_until("both are counted", LONG, || {
        engine.metric("biplane_job_attempts_total", &["kind=\"pull\"", "outcome=\"succeeded\""]) >= 2.0
    });
    let waited =
        |part: &str| engine.metric(&format!("biplane_job_claim_latency_seconds_{part}"), &["kind=\"pull\""]);
    assert_eq!(waited("count"), 2.0);
    assert!((0.0..60.0).contains(&waited("sum")), "{}", waited("sum"));
    assert_eq!((scene.count("lease"), scene.count("ready")), ("0".into(), "0".into()));
    let workers = scene.command(&["workers", "list"]);
    assert_eq!(String::from_utf8_lossy(&workers.stdout).lines().count(), 2, "a heading and a worker");
}

#[test]
fn a_job_that_fails_is_tried_again_and_kept_as_failed_with_its_code() {
    let scene = Scene::new();
    let engine = scene.start();
    let id = scene.enqueue("bad", "{}");
    scene.wait_count("failed", "1");
    let shown = scene.shown(&id);
    assert_eq!((&shown["state"], &shown["attempt"]), (&"failed".into(), &2.into()), "{shown}");
    let kept = scene.database.value("select code || ' ' || (error->>'step') from biplane.failed");
    assert!(kept.starts_with("http-500 "), "{kept}");
    assert_eq!(scene.service.by_path()["/bad"], 2);
    for outcome in ["retried", "failed"] {
        wait_until(outcome, LONG, || {
            engine.metric("biplane_job_attempts_total", &["kind=\"bad\"", outcome]) == 1.0
        });
    }
}

#[test]
fn args_from_sql_that_fail_the_schema_end_the_job_before_its_first_step() {
    let scene = Scene::new();
    let _engine = scene.start();
    let id = scene.enqueue("strict", "{}");
    scene.wait_count("failed", "1");
    let shown = scene.shown(&id);
    assert_eq!((&shown["code"], &shown["attempt"]), (&"args-invalid".into(), &1.into()), "{shown}");
    scene.enqueue("strict", r#"{"connector": 1}"#);
    scene.wait_count("done", "1");
    assert_eq!(scene.service.by_path()["/strict"], 1, "only that one came so far");
}

#[test]
fn jobs_of_a_kind_that_is_gone_from_the_config_wait_and_are_told_of() {
    let scene = Scene::new();
    scene.start().kill();
    scene.database.execute(
        "insert into biplane.kind (name, queue_id, max_attempts) select 'gone', id, 1 from biplane.queue where name = 'work'",
    );
    let gone = scene.enqueue("gone", "{}");
    let engine = scene.start();
    let pulled = scene.enqueue("pull", r#"{"connector": 1}"#);
    scene.wait_count("done", "1");
    assert_eq!(scene.shown(&pulled)["state"], "succeeded");
    scene.wait_count("deferred", "1");
    let shown = scene.shown(&gone);
    assert_eq!((&shown["state"], &shown["attempt"]), (&"scheduled".into(), &1.into()), "{shown}");
    wait_until("it is counted", LONG, || engine.metric("biplane_jobs_unknown_kind_total", &[]) >= 1.0);
    let log = engine.log();
    assert!(log.lines().any(|line| line.contains("gone") && line.contains(&gone)), "{log}");
}

#[test]
fn what_a_killed_engine_held_ends_once_on_another() {
    let scene = Scene::new();
    let mut killed = scene.start();
    let id = scene.enqueue("held", "{}");
    scene.wait_asked("/held", 1);
    killed.kill();
    assert_eq!(scene.count("lease"), "1", "it died with the job in its hands");
    let _other = scene.start();
    scene.wait_asked("/held", 2);
    scene.gate.open();
    scene.wait_count("done", "1");
    let shown = scene.shown(&id);
    assert_eq!((&shown["state"], &shown["attempt"]), (&"succeeded".into(), &1.into()), "{shown}");
    assert_eq!((scene.count("lease"), scene.count("ready")), ("0".into(), "0".into()));
}

#[test]
fn a_second_signal_hands_back_what_runs_and_the_worker_leaves() {
    let scene = Scene::new();
    let mut engine = scene.start();
    let ids = ["held", "held", "held"].map(|kind| scene.enqueue(kind, "{}"));
    scene.wait_asked("/held", 2);
    signal(engine.id(), "TERM");
    wait_until("it drains", LONG, || engine.log().contains("draining"));
    assert!(engine.runs(), "it waits for what runs");
    let ended = engine.terminate(Duration::from_secs(8));
    assert!(ended.success(), "{ended}");
    assert_eq!(
        (scene.count("lease"), scene.count("ready"), scene.count("worker")),
        ("0".into(), "3".into(), "0".into())
    );
    for id in ids {
        let shown = scene.shown(&id);
        assert_eq!(
            (&shown["state"], &shown["attempt"]),
            (&"queued".into(), &1.into()),
            "no attempt is spent: {shown}"
        );
    }
}

#[test]
fn engines_keep_the_limits_of_a_queue_together_though_one_is_killed() {
    let scene = Scene::new();
    let mut killed = scene.start();
    let _other = scene.start();
    let workers = || scene.count("worker") == "2";
    wait_until("both have registered", LONG, workers);
    for firm in ["a", "a", "a", "b", "b", "b"] {
        scene.enqueue("turn", &format!(r#"{{"firm": "{firm}"}}"#));
    }
    let running = || scene.database.value("select coalesce(sum(cardinality(job_ids)), 0) from biplane.lease");
    scene.wait_asked("/held", 3);
    let most_of_one = "select max(n) from (
        select count(*) as n from biplane.lease, unnest(job_ids) j join biplane.job on id = j group by args) f";
    assert_eq!((running(), scene.database.value(most_of_one)), ("3".into(), "2".into()));
    let listed = scene.command(&["queues", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("3 of 3 run, 2 each args.firm: 1 of 2 full"), "{listed}");
    killed.kill();
    // What the killed one held counts until it is taken back, and runs on the other then.
    wait_until("the other has all three places", LONG, || {
        assert!(scene.service.by_path()["/held"] <= 6, "no more than three were started anew");
        scene.database.value("select count(*) from biplane.worker w join biplane.lease l using (epoch)")
            != "0"
            && scene.database.value("select count(distinct epoch) from biplane.lease") == "1"
            && running() == "3"
    });
    assert_eq!(scene.database.value(most_of_one), "2");
    scene.gate.open();
    scene.wait_count("done", "6");
    assert_eq!((scene.count("lease"), scene.count("ready")), ("0".into(), "0".into()));
}

#[test]
fn a_stop_lets_what_runs_end() {
    let scene = Scene::new();
    let mut engine = scene.start();
    scene.enqueue("held", "{}");
    scene.wait_asked("/held", 1);
    signal(engine.id(), "TERM");
    wait_until("it drains", LONG, || engine.log().contains("draining"));
    scene.gate.open();
    wait_until("it ends", LONG, || !engine.runs());
    assert_eq!((scene.count("done"), scene.count("lease")), ("1".into(), "0".into()));
}

#[test]
fn an_engine_with_jobs_does_not_start_without_a_database_that_fits() {
    let scene = Scene::new();
    let brokers = brokers();
    let kafka = ("BIPLANE_KAFKA_BROKERS", &*brokers);
    let run = |variables: &[(&str, &str)]| {
        let output = Engine::command(scene.root.path(), &["run", "--listen", "127.0.0.1:0"], variables);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run(&[kafka]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("DATABASE_URL") && told.contains("`pull`"), "{told}");
    let empty = TestDatabase::new();
    let (code, told) = run(&[kafka, ("DATABASE_URL", &empty.url())]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("biplane migrate"), "{told}");
}

#[test]
fn a_job_that_runs_is_cancelled_at_its_worker_and_who_waits_for_it_is_told() {
    let scene = Scene::new();
    let engine = scene.start();
    let url = scene.database.url();
    let waiting = ["jobs", "enqueue", "held", "--wait=2m"];
    let waiting = Engine::begin(scene.root.path(), &waiting, &[("DATABASE_URL", &url)]);
    scene.wait_asked("/held", 1);
    let id = scene.database.value("select id from biplane.job");
    let cancelled = scene.command(&["jobs", "cancel", &id, "--yes", "--format", "json"]);
    let cancelled: serde_json::Value = serde_json::from_slice(&cancelled.stdout).expect("JSON");
    assert_eq!(cancelled["asked"], 1, "{cancelled}");
    scene.wait_count("done", "1");
    assert_eq!(scene.database.value("select outcome::text || code from biplane.done"), "casked");
    wait_until("its worker ended it", LONG, || {
        engine.metric("biplane_job_attempts_total", &["kind=\"held\"", "handed-back"]) == 1.0
    });
    assert!(!engine.log().contains("were taken from workers"), "it had not to be fenced");
    let told = waiting.wait_with_output().expect("it ends");
    assert_eq!(told.status.code(), Some(1), "one that did not succeed is a finding");
    assert!(String::from_utf8_lossy(&told.stdout).contains("cancelled asked"), "{told:?}");
    let followed = scene.command(&["jobs", "tail", &id]);
    assert!(String::from_utf8_lossy(&followed.stdout).contains("cancelled"), "{followed:?}");
}

#[test]
fn jobs_that_end_are_told_as_they_do() {
    let scene = Scene::new();
    let _engine = scene.start();
    let url = scene.database.url();
    let tail = ["jobs", "tail", "--kind", "pull", "--format", "json"];
    let mut tail = Engine::begin(scene.root.path(), &tail, &[("DATABASE_URL", &url)]);
    let mut said = std::io::BufReader::new(tail.stderr.take().expect("its notes"));
    let mut note = String::new();
    said.read_line(&mut note).expect("a note");
    assert!(note.contains("waiting"), "{note}");
    let done = scene.command(&["jobs", "enqueue", "pull", "--args", r#"{"connector": 1}"#, "--wait"]);
    assert!(done.status.success(), "{done:?}");
    let mut line = String::new();
    std::io::BufReader::new(tail.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let id = String::from_utf8_lossy(&done.stdout);
    assert_eq!(Some(told["id"].as_str().expect("an id")), id.split_whitespace().next(), "{told}");
    assert_eq!(told["state"], "succeeded");
    let _ = tail.kill();
    let _ = tail.wait();
}
