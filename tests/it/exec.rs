//! `exec` in stages on a real Kafka and in jobs on a real Postgres: programs that are started for each run and
//! such that are kept, how they end, and what is left of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::{Cluster, ConfigRoot, Engine, Message, TestDatabase, unique, wait_until};

const LONG: Duration = Duration::from_secs(60);

/// What both programs do with a line: `$1` is asked for. Whatever they start notes itself in `started`.
const BEHAVIOUR: &str = r#"
behave() {
    case "$1" in
        *crash*) kill -SEGV $$ ;;
        *slow*) sleep 600 & echo $! >> started; echo $$ >> started; wait ;;
        *again*) if mkdir "seen-$KIND" 2>/dev/null; then return 75; fi; echo "{\"by\": $$}" ;;
        *noise*) echo "no json" ;;
        *) echo "{\"by\": $$}" ;;
    esac
}
"#;

const ONCE: &str = ". ./behaviour.sh\nread -r line\nbehave \"$line\"\n";

/// Exit 75 is a line that says so.
const LINES: &str = ". ./behaviour.sh\necho $$ >> started\nwhile read -r line; do\n\
     behave \"$line\" || echo '{\"error\": {\"message\": \"not now\", \"retry\": true}}'\ndone\n";

const PIPELINE: &str = r#"
[topics.input]
topic      = "PREFIX.input"
partitions = 1

[topics.output]
topic      = "PREFIX.output"
partitions = 1

[dlqs.dead]
topic = "PREFIX.dlq"

[retries.twice]
max_attempts = 2
backoff      = { delays = ["50ms"] }

[defaults.stages]
from  = "input"
to    = "output"
dlq   = "dead"
retry = "twice"
drain = "1s"

[[stages.once.steps]]
timeout   = "TIMEOUT"
exec.argv = ["/bin/sh", "once.sh"]
exec.env  = { KIND = "once" }
exec.into = "out"

[[stages.lines.steps]]
timeout   = "TIMEOUT"
exec.argv = ["/bin/sh", "lines.sh"]
exec.env  = { KIND = "lines" }
exec.mode = "lines"
exec.into = "out"

[queues.work]

[jobs.once]
queue = "work"
retry = "twice"

[[jobs.once.steps]]
set.what = "{{ args.what }}"

[[jobs.once.steps]]
timeout   = "TIMEOUT"
exec.argv = ["/bin/sh", "once.sh"]
exec.env  = { KIND = "job-once" }
exec.into = "out"

[jobs.lines]
queue = "work"
retry = "twice"

[[jobs.lines.steps]]
set.what = "{{ args.what }}"

[[jobs.lines.steps]]
timeout   = "TIMEOUT"
exec.argv = ["/bin/sh", "lines.sh"]
exec.env  = { KIND = "job-lines" }
exec.mode = "lines"
exec.into = "out"
"#;

struct Scene {
    prefix: String,
    cluster: Cluster,
    database: TestDatabase,
    root: ConfigRoot,
}

impl Scene {
    /// Steps that may take so long.
    fn new(timeout: &str) -> Self {
        let (prefix, cluster, database) = (unique("exec"), Cluster::shared(), TestDatabase::new());
        let text = PIPELINE.replace("PREFIX", &prefix).replace("TIMEOUT", timeout);
        let root = ConfigRoot::new(&[
            ("pipelines/exec.toml", &text),
            ("behaviour.sh", BEHAVIOUR),
            ("once.sh", ONCE),
            ("lines.sh", LINES),
        ]);
        for topic in ["input", "output", "dlq"] {
            cluster.create_topic(&format!("{prefix}.{topic}"), 1, &[]);
        }
        let scene = Self { prefix, cluster, database, root };
        let migrated =
            Engine::command(scene.root.path(), &["migrate"], &[("DATABASE_URL", &scene.database.url())]);
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        scene
    }

    fn start(&self) -> Engine {
        let url = self.database.url();
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("BIPLANE_NAMESPACE", &self.prefix),
            ("BIPLANE_ALLOW_EXEC", "true"),
        ];
        Engine::start(&self.root, self.cluster.brokers(), &variables)
    }

    /// Asks for each of these as records and as jobs of both kinds.
    fn ask(&self, whats: &[&str]) {
        let record = |what: &&str| Message::json(what, &json!({ "what": what }));
        self.cluster.produce(&self.topic("input"), &whats.iter().map(record).collect::<Vec<_>>());
        for kind in ["once", "lines"] {
            for what in whats {
                self.database
                    .execute(&format!("select biplane.enqueue('{kind}', '{{\"what\": \"{what}\"}}')"));
            }
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// The processes that were noted so far.
    fn started(&self) -> Vec<u32> {
        let noted = fs::read_to_string(self.root.path().join("started")).unwrap_or_default();
        noted.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn all_have_ended(&self) -> bool {
        self.started().into_iter().all(has_ended)
    }
}

/// Ended, be it not yet collected by whoever has to.
fn has_ended(process: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    stat.is_err() || stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// What came out of a stage or a kind for each thing that was asked: the code of the failure, or what it gave.
type Ends = BTreeMap<(String, String), String>;

fn ends(scene: &Scene) -> Ends {
    let mut ends = Ends::new();
    for message in scene.cluster.read_all(&scene.topic("output")) {
        let id = message.header_text("biplane-id").expect("an id");
        let stage = id.split('/').next().expect("a stage");
        let value = message.value_json();
        assert!(value["out"]["by"].is_u64(), "{value}");
        ends.insert((stage.to_owned(), message.key_text().to_owned()), "done".to_owned());
    }
    for message in scene.cluster.read_all(&scene.topic("dlq")) {
        let header = |name| message.header_text(name).expect("a header").to_owned();
        let end = format!("{} {}", header("biplane-error-code"), header("biplane-attempts"));
        ends.insert((header("biplane-stage"), message.key_text().to_owned()), end);
    }
    ends
}

#[test]
fn programs_end_well_or_with_their_code_and_leave_no_process_behind() {
    let scene = Scene::new("1500ms");
    let mut engine = scene.start();
    scene.ask(&["fine", "again", "crash", "noise", "slow", "fine-too"]);
    wait_until("both stages have ended all", LONG, || ends(&scene).len() == 12);
    let expected = |kind: &str, crash: &str| {
        let ends = [
            ("fine", "done"),
            ("fine-too", "done"),
            ("again", "done"),
            ("crash", crash),
            ("noise", "exec-output 1"),
            ("slow", "timeout 2"),
        ];
        ends.map(|(what, end)| ((kind.to_owned(), what.to_owned()), end.to_owned()))
    };
    let all: Ends = expected("once", "exec-signal-11 1")
        .into_iter()
        .chain(expected("lines", "exec-signal-11 1"))
        .collect();
    assert_eq!(ends(&scene), all);

    wait_until("all jobs have ended", LONG, || {
        scene.database.value(
            "select (select count(*) from biplane.done) || ' ' || (select count(*) from biplane.failed)",
        ) == "6 6"
    });
    let failed = "select string_agg(name || ' ' || code || ' ' || attempt, ', ' order by name, code) \
                  from biplane.failed join biplane.kind on kind.id = kind_id";
    assert_eq!(
        scene.database.value(failed),
        "lines exec-output 1, lines exec-signal-11 1, lines timeout 2, \
         once exec-output 1, once exec-signal-11 1, once timeout 2"
    );
    let given: Json =
        serde_json::from_str(&scene.database.value("select min(detail::text) from biplane.done"))
            .expect("JSON");
    assert!(given["out"]["by"].is_u64(), "{given}");

    let kept = scene.started();
    assert!(kept.len() > 8, "{kept:?}");
    assert!(engine.terminate(LONG).success(), "{}", engine.log());
    wait_until("no process is left", LONG, || scene.all_have_ended());
}

/// Programs that are in the middle of something, or wait for work, when the engine is told to stop.
#[test]
fn an_engine_that_stops_ends_its_programs() {
    let scene = Scene::new("10m");
    let mut engine = scene.start();
    scene.ask(&["fine", "slow"]);
    // Each of the four notes itself and its child, and those that are kept note their start as well.
    wait_until("all four are slow", LONG, || scene.started().len() >= 4 * 2 + 2);
    assert!(scene.started().iter().any(|process| !has_ended(*process)));
    assert!(engine.terminate(LONG).success(), "{}", engine.log());
    wait_until("no process is left", LONG, || scene.all_have_ended());
    // What was cut short is not lost: the record is not committed, and the jobs are handed back.
    let committed = scene.cluster.committed(&format!("{}.once", scene.prefix), &scene.topic("input"));
    assert!(committed.get(&0).is_none_or(|(offset, _)| *offset < 2), "{committed:?}");
    assert_eq!(scene.database.value("select count(*) from biplane.done"), "2");
    assert_eq!(scene.database.value("select count(*) from biplane.lease"), "0");
}
