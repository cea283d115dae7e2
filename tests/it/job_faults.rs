//! Faults of engines that run durable jobs: one that stood still past its lease, a server with hardly a connection to
//! spare and a role that owns nothing.

use std::time::Duration;

use crate::databases::documented_grants;
use crate::support::{PrivatePostgres, TestDatabase, holds_within, wait_until};
use crate::working::Scene;

const LONG: Duration = Duration::from_secs(60);

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
