//! Topics that the engine may not write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Engine, Message, SecuredKafka, holds_within, wait_until};

fn record(key: &str, number: i64) -> Message {
    Message::json(key, &json!({ "number": number }))
}

fn start(bed: &Bed, kafka: &SecuredKafka) -> Engine {
    let variables = kafka.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    bed.start_at(&kafka.secured(), &variables)
}

fn status(engine: &Engine) -> String {
    engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default()
}

/// Whether the status says, in time, that something is refused; where a transaction is given up for it, what.
fn tells(engine: &Engine, topic: &str, without: &str) -> bool {
    let limit = if without == INTACT { DEADLINE } else { Duration::from_secs(4) };
    holds_within(limit, || {
        let status = status(engine);
        let given_up = format!("Failed to add partition \\\"{topic}\\\"");
        status.contains("writing to the topic is not permitted")
            || status.contains(&given_up) && status.contains("Topic authorization failed")
    })
}

/// The DLQ may not be written when a record is given up: nothing of it is committed, the status says so, and
/// once it may, the record is in it. Without `dead-letter` it is gone for good.
#[test]
fn a_record_whose_dlq_is_forbidden_is_kept_until_it_is_not() {
    /// What was committed while it was, and what is in the DLQ at the end.
    fn check(kafka: &SecuredKafka, without: &'static str) -> (i64, usize) {
        let cluster = kafka.cluster();
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"50ms\"\n\
                     order = \"partition\"\n\n[[STAGE.steps]]\nwhen = \"value.number == 3\"\n\
                     fail.code = \"doomed\"\nfail.message = \"no\"\n";
        let bed = Bed::new(&cluster, 1, stage, without);
        kafka.forbid_writing(&bed.topic("dlq"));
        let engine = start(&bed, kafka);
        cluster.produce(&bed.topic("input"), &(0..6).map(|number| record("k", number)).collect::<Vec<_>>());
        assert!(tells(&engine, &bed.topic("dlq"), without) || without != INTACT, "{}", engine.log());
        let committed = bed.committed(&cluster);
        kafka.allow_writing(&bed.topic("dlq"));
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == 6);
        assert_eq!(out(&cluster, &bed), [0, 1, 2, 4, 5]);
        (committed, cluster.read_all(&bed.topic("dlq")).len())
    }
    let kafka = SecuredKafka::start();
    assert_eq!(check(&kafka, INTACT), (3, 1));
    #[cfg(debug_assertions)]
    assert_eq!(check(&kafka, "dead-letter"), (6, 0));
}

/// The parking topic may not be written when a record has to wait for long: it is not committed, the status
/// says so, and its key stays in order. Without `acknowledgement` it is taken for parked, and is lost.
#[test]
fn a_record_whose_parking_topic_is_forbidden_is_kept_until_it_is_not() {
    /// What was committed while it was, and what came out at the end.
    fn check(kafka: &SecuredKafka, delivery: &str, without: &'static str) -> (i64, Vec<i64>) {
        let cluster = kafka.cluster();
        let well = Arc::new(AtomicBool::new(false));
        let is_well = Arc::clone(&well);
        let stub = Stub::start(move |path, stream| match path {
            "/0" if !is_well.load(Ordering::Acquire) => reply(stream, "503 Service Unavailable", ""),
            _ => reply(stream, "200 OK", "{}"),
        });
        let stage = format!(
            "[retries.long]\nmax_attempts = 1000\ndelays = [\"300ms\"]\nin_place_up_to = \"50ms\"\n\n\
             [http_clients.stub]\nbase_url = \"{}\"\n\n\
             [STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"long\"\n\
             commit_interval = \"50ms\"\ndelivery = \"{delivery}\"\n\
             breaker.transient = {{ enabled = false }}\n\n[[STAGE.steps]]\n\
             http.client = \"stub\"\nhttp.path = \"/{{{{ value.number }}}}\"\n",
            stub.url()
        );
        let bed = Bed::new(&cluster, 1, &stage, without);
        let parking = format!("{}.bed.parked.{}", bed.prefix, bed.topic("input"));
        cluster.create_topic(&parking, 1, &[]);
        kafka.forbid_writing(&parking);
        let engine = start(&bed, kafka);
        let group = format!("{}.bed", bed.prefix);
        wait_until("it is read", DEADLINE, || cluster.committed(&group, &parking).len() == 1);
        cluster.produce(&bed.topic("input"), &[record("ill", 0), record("ill", 1), record("ill", 2)]);
        assert!(tells(&engine, &parking, without) || without != INTACT, "{}", engine.log());
        let committed = bed.committed(&cluster);
        kafka.allow_writing(&parking);
        let limit = if without == INTACT { DEADLINE } else { Duration::from_secs(5) };
        let parked = || bed.committed(&cluster) >= 3;
        assert!(holds_within(limit, parked) || without != INTACT, "{}", engine.log());
        well.store(true, Ordering::Release);
        let all = || out(&cluster, &bed).len() == 3;
        assert!(holds_within(limit, all) || without != INTACT, "{}", engine.log());
        if delivery == "exactly-once" {
            assert!(engine.metric("biplane_stage_epochs_given_up_total", &["bed"]) > 0.0);
            let told = engine.log().matches("is given up and done again").count();
            assert!(told <= 10, "told {told} times: {}", engine.log());
            wait_until("nothing is refused", DEADLINE, || !status(&engine).contains("given up"));
        }
        (committed, out(&cluster, &bed))
    }
    let kafka = SecuredKafka::start();
    for delivery in ["at-least-once", "exactly-once"] {
        assert_eq!(check(&kafka, delivery, INTACT), (0, vec![0, 1, 2]), "{delivery}");
    }
    #[cfg(debug_assertions)]
    assert_ne!(check(&kafka, "at-least-once", "acknowledgement").1, [0, 1, 2]);
}

fn out(cluster: &Cluster, bed: &Bed) -> Vec<i64> {
    numbers(&cluster.read_all(&bed.topic("output")))
}
