//! `enqueue` in stages and in jobs: what is run again enqueues nothing a second time, groups end in one job.

use std::time::Duration;

use serde_json::json;

use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Message, TestDatabase, unique, wait_until};
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

/// A stage that enqueues a job for each line of a record and is held up behind that, before its offsets are committed.
fn stage(prefix: &str, url: &str) -> String {
    format!(
        r#"
[topics.input]
topic = "{prefix}.input"

[dlqs.dead]
topic = "{prefix}.dlq"

[queues.work]

[stages.take]
from  = "input"
dlq   = "dead"
order = "none"

[[stages.take.steps]]
explode = "value.lines"

[[stages.take.steps]]
enqueue.kind = "note"
enqueue.args = {{ line = "{{{{ value }}}}" }}

[[stages.take.steps]]
http.url = "{url}/held"

[jobs.note]
queue = "work"

[[jobs.note.steps]]
map.line = "{{{{ args.line }}}}"
"#
    )
}

/// How many jobs two records with two lines each come to, where the engine is killed behind the first job of each.
fn jobs_after_a_kill(without: &str) -> String {
    let cluster = Cluster::shared();
    let prefix = unique("enqueue");
    cluster.create_topic(&format!("{prefix}.input"), 1, &[]);
    cluster.create_topic(&format!("{prefix}.dlq"), 1, &[]);
    let scene = Scene::gated(TestDatabase::new(), |url| stage(&prefix, url));
    let variables = [("BIPLANE_ENGINE_ID", "one"), ("BIPLANE_TEST_WITHOUT", without)];
    let mut killed = scene.start_with(&variables);
    cluster.produce(
        &format!("{prefix}.input"),
        &[Message::json("a", &json!({"lines": [1, 2]})), Message::json("b", &json!({"lines": [3, 4]}))],
    );
    scene.wait_count("done", "2");
    killed.kill();
    scene.gate.open();
    let _other = scene.start_with(&variables);
    let group = format!("{}.take", scene.namespace);
    wait_until("both records are finished", LONG, || {
        let committed = cluster.committed(&group, &format!("{prefix}.input"));
        committed.values().any(|(offset, _)| *offset == 2)
    });
    assert_eq!(cluster.count(&format!("{prefix}.dlq")), 0);
    scene.count("job")
}

#[test]
fn a_record_that_is_run_again_after_a_kill_enqueues_nothing_again() {
    assert_eq!(jobs_after_a_kill(""), "4");
    assert_eq!(jobs_after_a_kill("enqueue-once"), "6");
}

const JOBS: &str = r#"
[queues.work]

[retries.twice]
max_attempts = 2
backoff      = { delays = ["10ms"] }

[jobs.fan]
queue      = "work"
retry      = "twice"
checkpoint = false

[[jobs.fan.steps]]
name         = "parts"
enqueue.kind = "part"
enqueue.each = "args.parts"
enqueue.args = { part = "{{ item }}", of = "{{ args.name }}" }
enqueue.then = { kind = "last", args = { of = "{{ args.name }}" } }

[[jobs.fan.steps]]
name     = "bad"
http.url = "URL/bad"

[[jobs.fan.steps]]
map.parts = "{{ steps.parts }}"

[jobs.part]
queue = "work"

[[jobs.part.steps]]
map.part = "{{ args.part }}"

[jobs.last]
queue  = "work"
unique = { by = ["args.of"] }

[[jobs.last.steps]]
enqueue.kind   = "last"
enqueue.args   = { of = "{{ args.of }}" }
enqueue.delay  = "1h"

[[jobs.last.steps]]
map.itself = "{{ steps.enqueue.duplicate and steps.enqueue.id == job.id }}"
"#;

#[test]
fn a_job_that_is_tried_again_makes_one_group_and_one_job_behind_it() {
    let service = Stub::counting(|_, times, stream| match times {
        1 => reply(stream, "500 Internal Server Error", "no"),
        _ => reply(stream, "200 OK", "{}"),
    });
    let text = JOBS.replace("URL", &service.url());
    let scene = Scene::of(service, &text);
    let _engine = scene.start();
    scene.enqueue("fan", r#"{"name": "x", "parts": ["a", "b", "c"]}"#);
    scene.wait_count("done", "5");
    let outcomes = |kind: &str, column: &str| {
        scene.database.value(&format!(
            "select string_agg({column}::text, ' ' order by {column}::text) from biplane.done d
             join biplane.kind k on k.id = d.kind_id where k.name = '{kind}'"
        ))
    };
    assert_eq!(outcomes("part", "detail->>'part'"), "a b c");
    assert_eq!(outcomes("last", "detail->>'itself'"), "true", "another job has its key: itself");
    assert_eq!(outcomes("fan", "(detail->'parts'->'duplicates')"), "[true, true, true]", "the second run");
    assert_eq!((scene.count("job"), scene.count("job_group")), ("5".to_owned(), "0".to_owned()));
}
