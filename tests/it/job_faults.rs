//! Faults of engines that run durable jobs: one that stood still past its lease.

use std::time::Duration;

use crate::support::wait_until;
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
