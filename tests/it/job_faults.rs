//! Faults of engines that run durable jobs: one that stood still past its lease, a clock that is wrong, a server with
//! hardly a connection to spare and a role that owns nothing.

use std::process::Command;
use std::time::Duration;

use crate::databases::documented_grants;
use crate::support::{PrivatePostgres, TestDatabase, holds_within, request, wait_until};
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

const TOKEN: &str = "of-an-operator-whoever-that-is-0001";

/// Whether what an engine writes that stood still past its lease changes nothing for the one that has its job now.
fn a_sleeper_changes_nothing(without: &str) -> bool {
    let scene = Scene::new();
    let variables = [("BIPLANE_TEST_WITHOUT", without)];
    let sleeper = scene.start_with(&variables);
    scene.enqueue("held", "{}");
    scene.wait_asked("/held", 1);
    sleeper.freeze();
    scene.database.execute("update biplane.lease set deadline_at = now() - interval '1 second'");
    let other = scene.start_with(&variables);
    scene.wait_asked("/held", 2);
    sleeper.thaw();
    let stale = || sleeper.metric("biplane_job_outcomes_total", &["result=\"stale\""]) >= 1.0;
    let again = || scene.service.by_path()["/held"] > 2;
    wait_until("the sleeper says what became of it", LONG, || stale() || again());
    scene.gate.open();
    scene.wait_count("done", "1");
    let counted = other.metric("biplane_job_outcomes_total", &["result=\"stale\""]);
    !again() && counted == 0.0 && scene.count("lease") == "0"
}

#[test]
fn an_engine_that_stood_still_past_its_lease_writes_nothing_and_counts_it() {
    assert!(a_sleeper_changes_nothing(""));
    #[cfg(debug_assertions)]
    assert!(!a_sleeper_changes_nothing("lease"));
}

/// How often a job is run that one engine holds while the clock of another is an hour ahead.
fn runs_beside_a_wrong_clock(without: &str) -> usize {
    let scene = Scene::new();
    let _right = scene.start_with(&[]);
    scene.enqueue("held", "{}");
    scene.wait_asked("/held", 1);
    scene.database.execute("select biplane.enqueue('pull', '{}', run_at => now() + interval '30 minutes')");
    let folder = tempfile::tempdir().expect("a folder");
    let ahead = folder.path().join("ahead.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/ahead.c");
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&ahead).arg(source).status();
    assert!(compiled.is_ok_and(|status| status.success()), "{source} is not compiled");
    let wrong = scene.start_with(&[
        ("LD_PRELOAD", ahead.to_str().expect("a path")),
        ("BIPLANE_ADMIN_TOKEN", TOKEN),
        ("BIPLANE_TEST_WITHOUT", without),
    ]);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let status = request(wrong.address(), "GET", "/v1/status", &bearer, "").expect("an answer");
    let status: serde_json::Value = serde_json::from_str(&status.body).expect("JSON");
    let started = status["started_at"].as_i64().expect("milliseconds");
    assert!(started > chrono::Utc::now().timestamp_millis() + 1_800_000, "its clock is ahead: {status}");
    // Every three seconds each looks for leases that have ended.
    let looked = "select count(*) from biplane.worker where started_at < now() - interval '7 seconds'";
    wait_until("both have looked for leases that have ended", LONG, || scene.database.value(looked) == "2");
    assert_eq!(scene.count("deferred"), "1", "nothing is due before its time");
    scene.gate.open();
    scene.wait_count("done", "1");
    scene.service.by_path()["/held"]
}

#[test]
fn an_engine_whose_clock_is_an_hour_ahead_changes_nothing() {
    assert_eq!(runs_beside_a_wrong_clock(""), 1);
    #[cfg(debug_assertions)]
    assert!(runs_beside_a_wrong_clock("database-clock") > 1);
}

#[test]
fn an_engine_under_a_role_that_owns_nothing_runs_with_hardly_a_connection_to_spare() {
    // Five are left for the engine, which would have eight; the others are the test's.
    let server = PrivatePostgres::start(&["max_connections=13", "superuser_reserved_connections=8"]);
    let mut scene = Scene::on(TestDatabase::on(&server.url()));
    let (role, url) = scene.database.role();
    scene.database.execute(&documented_grants().replace("ROLE", &role));
    let last = scene.database.value(
        "select max(c.relname::text) from pg_inherits i join pg_class c on c.oid = i.inhrelid
         where i.inhparent = 'biplane.job'::regclass and c.relname ~ '[0-9]$'",
    );
    scene.database.execute(&format!("drop table biplane.{last}"));
    let mut engine = scene.launch_with(&[("DATABASE_URL", &url)]);
    let known = "select count(*) from biplane.kind where name = 'pull'";
    wait_until("it has made its kinds known", LONG, || scene.database.value(known) == "1");
    for _ in 0..20 {
        scene.database.execute(
            "select biplane.enqueue_many('pull', array_fill('{\"connector\": 1}'::jsonb, array[20]))",
        );
    }
    let done = holds_within(LONG, || scene.count("done") == "400");
    assert!(done && engine.runs(), "{} are done: {}", scene.count("done"), engine.log());
    let ahead = "select biplane.upkeep_days_ahead()";
    wait_until("the day that was missing is made", LONG, || scene.database.value(ahead) == "7");
    assert!(engine.terminate(LONG).success());
}
