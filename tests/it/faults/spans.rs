//! A receiver of traces that takes nothing: no record waits for it.

use std::net::TcpListener;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, LIMIT};
use crate::support::otlp::Otlp;
use crate::support::{Cluster, Engine, Message, holds_within, wait_until};

const RECORDS: usize = 200;
/// How many spans may wait, and how many are on their way.
const ROOM: usize = 8;

fn started(cluster: &Cluster, url: &str, timeout: &str, without: &'static str) -> (Bed, Engine) {
    let bed = Bed::new(cluster, 1, "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n", without);
    let engine = bed.start_at(
        cluster.brokers(),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", timeout),
            ("OTEL_BSP_MAX_QUEUE_SIZE", &ROOM.to_string()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20"),
        ],
    );
    (bed, engine)
}

fn feed(cluster: &Cluster, bed: &Bed) {
    let record = |number: usize| Message::json(format!("k{number}"), &json!({ "number": number }));
    cluster.produce(&bed.topic("input"), &(0..RECORDS).map(record).collect::<Vec<_>>());
}

/// A receiver that takes connections and never answers: what finds no room is counted and gone. Without
/// the bound on waiting, the records wait with it.
#[test]
fn a_receiver_of_traces_that_hangs_holds_up_no_record_and_what_is_dropped_is_counted() {
    let cluster = Cluster::shared();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("its address"));
    let (bed, mut engine) = started(&cluster, &url, "600000", INTACT);
    feed(&cluster, &bed);
    cluster.wait_for_records(&bed.topic("output"), RECORDS, DEADLINE);
    feed(&cluster, &bed);
    cluster.wait_for_records(&bed.topic("output"), 2 * RECORDS, DEADLINE);
    wait_until("what has no room is counted", DEADLINE, || {
        engine.metric("biplane_spans_dropped_total{", &["queue-full"]) >= (2 * (RECORDS - ROOM)) as f64
    });
    assert_eq!(engine.metric("biplane_spans_exported_total", &[]), 0.0);
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());

    let (bed, engine) = started(&cluster, &url, "600000", "span-queue");
    feed(&cluster, &bed);
    // What was read at once is written before the first span ends.
    holds_within(LIMIT, || engine.metric("biplane_stage_records_in_total", &[]) >= RECORDS as f64);
    feed(&cluster, &bed);
    let all = || cluster.count(&bed.topic("output")) >= 2 * RECORDS as i64;
    assert!(!holds_within(LIMIT, all), "the records would have waited");
    drop(engine);
}

#[test]
fn a_receiver_of_traces_that_is_down_costs_spans_alone_and_takes_them_once_it_is_back() {
    let (cluster, receiver) = (Cluster::shared(), Otlp::start());
    receiver.is_down(true);
    let (bed, engine) = started(&cluster, &receiver.url(), "200", INTACT);
    feed(&cluster, &bed);
    cluster.wait_for_records(&bed.topic("output"), RECORDS, DEADLINE);
    wait_until("all are counted", DEADLINE, || {
        engine.metric("biplane_spans_dropped_total{", &[]) == RECORDS as f64
    });
    assert!(engine.metric("biplane_spans_dropped_total{", &["not-taken"]) > 0.0);
    assert!(engine.log().contains("spans are not exported and are gone"), "{}", engine.log());
    assert_eq!(engine.get("/ready").map(|ready| ready.status), Some(200));
    receiver.is_down(false);
    feed(&cluster, &bed);
    receiver.wait(1, |span| span.name.starts_with("process "));
    wait_until("they are counted", DEADLINE, || engine.metric("biplane_spans_exported_total", &[]) > 0.0);
}
