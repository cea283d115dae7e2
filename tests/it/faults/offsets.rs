//! Offsets that do not exist.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::{Bed, DEADLINE, INTACT};
use crate::support::Cluster;

/// Offsets of aborted records and of transaction markers do not exist for a reader. Without `gaps` the
/// commit stands before the first of them for ever.
#[test]
fn a_stage_does_not_wait_for_offsets_that_transactions_left_empty() {
    fn check(without: &'static str) -> (Vec<i64>, i64) {
        let cluster = Cluster::shared();
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n";
        let bed = Bed::new(&cluster, 1, stage, without);
        write_transactions(&cluster, &bed);
        let mut engine = bed.start(&cluster);
        let out = cluster.wait_for_records(&bed.topic("output"), 3, DEADLINE);
        let rounds = out.iter().map(|record| record.value_json()["round"].as_i64().expect("a round"));
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        (rounds.collect(), bed.committed(&cluster))
    }
    // Round 4 lies at offset 8: two offsets a round.
    assert_eq!(check(INTACT), (vec![0, 2, 4], 9));
    #[cfg(debug_assertions)]
    assert_eq!(check("gaps"), (vec![0, 2, 4], 1));
}

/// Six transactions of one record; every second is aborted.
fn write_transactions(cluster: &Cluster, bed: &Bed) {
    let mut config = cluster.config();
    config.set("transactional.id", &bed.prefix);
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(DEADLINE).expect("transactions");
    let input = bed.topic("input");
    for round in 0..6 {
        producer.begin_transaction().expect("a transaction");
        let value = json!({"round": round}).to_string();
        producer.send(BaseRecord::to(&input).key("k").payload(value.as_bytes())).expect("sent");
        producer.flush(DEADLINE).expect("flushed");
        match round % 2 {
            0 => producer.commit_transaction(DEADLINE).expect("committed"),
            _ => producer.abort_transaction(DEADLINE).expect("aborted"),
        }
    }
}
