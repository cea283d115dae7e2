//! Kills at each attempt: a record is tried at most as often as its policy says, and once more a kill.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bed, DEADLINE, INTACT};
use crate::support::gate::{Gate, Kind};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Message, wait_until};

const MOST: usize = 4;
const KILLS: usize = 3;
/// Between two attempts.
const WAIT: Duration = Duration::from_millis(250);

fn stub() -> Stub {
    Stub::start(|path, stream| match path {
        "/doomed" => reply(stream, "503 Service Unavailable", ""),
        _ => reply(stream, "200 OK", "{}"),
    })
}

fn bed(cluster: &Cluster, stub: &Stub, without: &'static str) -> Bed {
    let stage = format!(
        "[retries.short]\nmax_attempts = {MOST}\ndelays = [\"{}ms\"]\n\n[http_clients.stub]\n\
         base_url = \"{}\"\n\n[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"short\"\n\n\
         [[STAGE.steps]]\nhttp.client = \"stub\"\nhttp.path = \"/{{{{ value.path }}}}\"\n",
        WAIT.as_millis(),
        stub.url()
    );
    Bed::new(cluster, 1, &stage, without)
}

fn doomed() -> Message {
    Message::json("doomed", &json!({"path": "doomed"}))
}

fn asked(stub: &Stub) -> usize {
    stub.by_path().get("/doomed").copied().unwrap_or_default()
}

/// The engine is killed after every second attempt. Without `attempts` each life counts anew.
#[test]
fn a_record_whose_engine_is_killed_at_its_attempts_is_tried_at_most_once_more_a_kill() {
    fn check(without: &'static str) -> usize {
        let (cluster, stub) = (Cluster::shared(), stub());
        let bed = bed(&cluster, &stub, without);
        cluster.produce(&bed.topic("input"), &[doomed()]);
        for _ in 0..KILLS {
            let before = asked(&stub);
            let mut engine = bed.start_named(cluster.brokers());
            wait_until("two attempts more, or the dead letter", DEADLINE, || {
                asked(&stub) >= before + 2 || cluster.count(&bed.topic("dlq")) > 0
            });
            engine.kill();
        }
        let _engine = bed.start_named(cluster.brokers());
        cluster.wait_for_records(&bed.topic("dlq"), 1, DEADLINE);
        asked(&stub)
    }
    let asked = check(INTACT);
    assert!((MOST..=MOST + KILLS).contains(&asked), "{asked} attempts with {KILLS} kills");
    #[cfg(debug_assertions)]
    assert!(check("attempts") > MOST + KILLS);
}

/// The coordinator does not answer commits until the last life. Each life tries once and waits, while
/// other keys go on. Without `attempt-gate` each life spends all attempts.
#[test]
fn attempts_that_cannot_be_committed_are_not_followed_by_others() {
    fn check(without: &'static str) -> usize {
        let (cluster, stub) = (Cluster::shared(), stub());
        let gate = Gate::before(&cluster);
        let bed = bed(&cluster, &stub, without);
        cluster.produce(&bed.topic("input"), &[doomed()]);
        for life in 0..KILLS {
            let before = asked(&stub);
            gate.hold(Kind::OffsetCommit);
            let mut engine = bed.start_named(&gate.brokers());
            wait_until("an attempt", DEADLINE, || asked(&stub) > before);
            // One after the other, until several times the policy's wait has gone by. Not for much longer: the
            // group, whose coordinator hears nothing, takes the engine for dead after ten seconds.
            let began = Instant::now();
            while began.elapsed() < 5 * WAIT {
                let out = cluster.count(&bed.topic("output"));
                let path = format!("{life}-{}", began.elapsed().as_millis());
                cluster.produce(&bed.topic("input"), &[Message::json("other", &json!({"path": path}))]);
                wait_until("another key goes on", DEADLINE, || cluster.count(&bed.topic("output")) > out);
            }
            engine.kill();
            gate.cut();
            gate.open();
        }
        let _engine = bed.start_named(cluster.brokers());
        cluster.wait_for_records(&bed.topic("dlq"), 1, DEADLINE);
        asked(&stub)
    }
    assert_eq!(check(INTACT), MOST + KILLS);
    #[cfg(debug_assertions)]
    assert!(check("attempt-gate") > MOST + KILLS);
}
