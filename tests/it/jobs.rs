//! `jobs`, `queues` and `workers` as operators use them, on a database that an engine has made its kinds known to.

use std::process::Output;

use crate::support::{ConfigRoot, Engine, TestDatabase};

const KNOWN: &str = "insert into biplane.queue (name) values ('sync');
    insert into biplane.kind (name, queue_id, max_attempts) select 'pull', id, 3 from biplane.queue;
    insert into biplane.worker (id, name, version) values (gen_random_uuid(), 'engine-1', '9.9.9')";

#[test]
fn a_job_is_enqueued_and_shown() {
    let (database, url) = known();
    let put = run(&["jobs", "enqueue", "pull", "--args", r#"{"connector": 7}"#, "--unique-key", "c:7"], &url);
    assert_eq!(code(&put), 0, "{}", err(&put));
    let id = out(&put).trim().to_owned();
    let again = run(&["jobs", "enqueue", "pull", "--unique-key", "c:7", "--format", "json"], &url);
    assert_eq!(json(&again)["id"], id.as_str(), "the holder of the key");
    let shown = json(&run(&["jobs", "show", &id, "--format", "json"], &url));
    assert_eq!((&shown["state"], &shown["kind"]), (&"queued".into(), &"pull".into()));
    assert_eq!((&shown["args"], &shown["max_attempts"]), (&r#"{"connector": 7}"#.into(), &3.into()));
    let table = run(&["jobs", "show", &id], &url);
    assert!(out(&table).contains("c:7") && !out(&table).contains("detail"), "{}", out(&table));

    let later = run(&["jobs", "enqueue", "pull", "--run-at", "2999-01-01T00:00:00Z"], &url);
    let shown = json(&run(&["jobs", "show", out(&later).trim(), "--format", "json"], &url));
    assert_eq!(shown["state"], "scheduled");
    assert_eq!(database.value("select count(*) from biplane.job"), "2");
    assert_eq!(code(&run(&["jobs", "show", "1"], &url)), 1);

    let listed = json(&run(&["jobs", "list", "--format", "json"], &url));
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|job| &job["state"]).collect();
    assert_eq!(states, ["queued", "scheduled"]);
    assert_eq!(listed[0]["id"], id.as_str());
    database.execute(
        "with gone as (delete from biplane.ready returning *)
         insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome)
         select job_id, queue_id, 1, 5, attempt, 's' from gone",
    );
    let of =
        |state| json(&run(&["jobs", "list", "--kind", "pull", "--state", state, "--format", "json"], &url));
    assert_eq!((of("succeeded")[0]["id"].clone(), of("queued")), (id.as_str().into(), serde_json::json!([])));
    assert_eq!(of("scheduled").as_array().map(Vec::len), Some(1));
}

#[test]
fn what_cannot_be_a_job_is_a_mistake_of_the_command_line() {
    let (_database, url) = known();
    for (arguments, told) in [
        (&["jobs", "enqueue", "unheard-of"][..], "BP001"),
        (&["jobs", "enqueue", "pull", "--args", "{"], "--args is no JSON"),
        (&["jobs", "enqueue", "pull", "--args", r#"{"a": "\u0000"}"#], "22P05"),
        (&["jobs", "enqueue", "pull", "--priority", "10"], "BP003"),
        (&["jobs", "enqueue", "pull", "--run-at", "tomorrow"], "expected a time"),
        (&["queues", "pause", "unheard-of"], "unheard-of"),
    ] {
        let output = run(arguments, &url);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(told), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn args_that_their_kind_does_not_take_are_refused_before_anything_is_put_in() {
    let (database, url) = known();
    database.execute("update biplane.kind set max_args_bytes = 2000");
    let root = ConfigRoot::new(&[
        ("pipelines/jobs.toml", SCHEMA_JOB),
        (
            "schemas/pull.json",
            r#"{"properties": {"connector": {"type": "integer"}}, "required": ["connector"]}"#,
        ),
    ]);
    let put = |args: &str| {
        Engine::fed(root.path(), &["jobs", "enqueue", "pull", "--args", "-"], args, &[("DATABASE_URL", &url)])
    };
    let large = |bytes: usize| format!(r#"{{"connector": 1, "pad": "{}"}}"#, "x".repeat(bytes));
    for (args, told) in [
        (large(10 << 20), "BP002"),
        (large(2000), "BP002"),
        (r#"{"connector": 1, "a": "\u0000"}"#.to_owned(), "22P05"),
        (r#"{"connector": "#.to_owned(), "--args is no JSON"),
        (r#"{"connector": "seven"}"#.to_owned(), "args-invalid"),
    ] {
        let output = put(&args);
        assert_eq!(code(&output), 2, "{}", err(&output));
        assert!(err(&output).contains(told), "{told}: {}", err(&output));
    }
    assert_eq!(database.value("select count(*) from biplane.job"), "0");
    let output = put(&large(1900));
    assert_eq!(code(&output), 0, "{}", err(&output));
}

const SCHEMA_JOB: &str = r#"
[queues.sync]

[jobs.pull]
queue       = "sync"
args_schema = "pull.json"

[[jobs.pull.steps]]
log = "{{ args.connector }}"
"#;

#[test]
fn queues_and_workers_are_listed_and_a_queue_stands_still_until_it_is_resumed() {
    let (database, url) = known();
    run(&["jobs", "enqueue", "pull"], &url);
    let pause = ["queues", "pause", "sync", "--reason", "upgrade"];
    assert_eq!(out(&run(&pause, &url)), "queue `sync` is paused\n");
    assert_eq!(out(&run(&pause, &url)), "queue `sync` is already paused\n");
    let listed = json(&run(&["queues", "list", "--format", "json"], &url));
    assert_eq!((&listed[0]["queued"], &listed[0]["pause_reason"]), (&1.into(), &"upgrade".into()));
    assert!(out(&run(&["queues", "list"], &url)).contains("upgrade"));
    let resumed = json(&run(&["queues", "resume", "sync", "--format", "json"], &url));
    assert_eq!((&resumed["state"], &resumed["changed"]), (&"open".into(), &true.into()));
    assert_eq!(database.value("select count(*) from biplane.audit"), "2");
    assert!(out(&run(&["workers", "list"], &url)).contains("engine-1"));
}

#[test]
fn operators_end_put_off_and_retry_jobs_by_id_and_by_filter() {
    let (database, url) = known();
    let enqueue =
        |args: &str| out(&run(&["jobs", "enqueue", "pull", "--args", args], &url)).trim().to_owned();
    let ids: Vec<String> = (0..6).map(|nth| enqueue(&format!(r#"{{"half": {}}}"#, nth % 2))).collect();
    let state = |id: &str| json(&run(&["jobs", "show", id, "--format", "json"], &url))["state"].clone();

    let snoozed = run(&["jobs", "snooze", &ids[0], "--for", "2h"], &url);
    assert_eq!((code(&snoozed), &*out(&snoozed)), (0, "snooze: 1 done\n"), "{}", err(&snoozed));
    assert_eq!(state(&ids[0]), "scheduled");
    let unasked = run(&["jobs", "cancel", &ids[1]], &url);
    assert_eq!(code(&unasked), 2, "nobody is there to be asked");
    assert!(err(&unasked).contains("--yes"), "{}", err(&unasked));

    let half = ["jobs", "cancel", "--where-args", r#"{"half": 1}"#, "--yes", "--format", "json"];
    let dry = json(&run(&[&half[..], &["--dry-run"]].concat(), &url));
    assert_eq!((&dry["counts"]["queued"], &dry["done"]), (&3.into(), &0.into()), "{dry}");
    assert_eq!(json(&run(&half, &url))["done"], 3);
    assert_eq!(state(&ids[1]), "cancelled");
    let again = run(&["jobs", "cancel", &ids[1], "--yes"], &url);
    assert_eq!(code(&again), 1, "it is over");
    assert!(err(&again).contains("is cancelled"), "{}", err(&again));
    let listed = run(&["jobs", "list", "--state", "cancelled", "--where-args", r#"{"half": 1}"#], &url);
    assert_eq!(out(&listed).lines().count(), 4, "{}", out(&listed));

    let retried = json(&run(&["jobs", "retry", "--state", "cancelled", "-y", "--format", "json"], &url));
    assert_eq!(retried["done"], 3, "{retried}");
    let first = run(&["jobs", "prioritise", "--priority", "1", &ids[2], &ids[4]], &url);
    assert_eq!(out(&first), "prioritise: 2 done\n", "{}", err(&first));
    for (arguments, told) in [
        (&["jobs", "cancel", "--yes"][..], "which jobs?"),
        (&["jobs", "discard", "--state", "queued", "--yes"], "only to those that are failed"),
        (&["jobs", "cancel", "--queue", "nowhere", "--yes"], "nowhere"),
        (&["jobs", "retry", "--where-args", "{", "--yes"], "no JSON"),
        (&["jobs", "snooze", "1"], "--for"),
    ] {
        let refused = run(arguments, &url);
        assert_eq!(code(&refused), 2, "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains(told), "{arguments:?}: {}", err(&refused));
    }
    let audit = json(&run(&["audit", "list", "--action", "jobs.cancel", "--format", "json"], &url));
    assert_eq!(audit[0]["subject"]["filter"]["args"], r#"{"half": 1}"#, "{audit}");
    assert_eq!((&audit[0]["detail"]["count"], audit.as_array().map(Vec::len)), (&3.into(), Some(1)));
    assert!(out(&run(&["audit", "list"], &url)).contains("jobs.prioritise"));
    assert_eq!(database.value("select count(*) from biplane.audit"), "4");
}

#[test]
fn a_database_without_tables_is_told_what_to_run() {
    let database = TestDatabase::new();
    for arguments in
        [&["queues", "list"][..], &["workers", "list"], &["jobs", "show", "1"], &["jobs", "enqueue", "x"]]
    {
        let output = run(arguments, &database.url());
        assert_eq!(code(&output), 3, "{arguments:?}");
        assert!(err(&output).contains("run `biplane migrate`"), "{arguments:?}: {}", err(&output));
    }
}

fn known() -> (TestDatabase, String) {
    let database = TestDatabase::new();
    let url = database.url();
    let migrated = run(&["migrate"], &url);
    assert_eq!(code(&migrated), 0, "{}", err(&migrated));
    database.execute(KNOWN);
    (database, url)
}

fn run(arguments: &[&str], url: &str) -> Output {
    Engine::command(ConfigRoot::new(&[]).path(), arguments, &[("DATABASE_URL", url)])
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)))
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
