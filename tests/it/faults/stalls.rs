//! A consumer that stops fetching and says nothing, and what only looks like that.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::gate::{Gate, Kind};
use crate::support::{Cluster, Engine, Message, holds_within, wait_until};

const STAGE: &str = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nwatchdog = \"2s\"\n";
const REBUILDS: &str = "biplane_watchdog_rebuilds_total";

/// Fetches of the stage's consumer get no answer, while its group and every other client go on. The
/// watchdog replaces the consumer; without it the stage stands still.
#[test]
fn a_partition_that_stalls_silently_flows_again_with_another_consumer() {
    fn check(without: &'static str, limit: Duration) -> (usize, f64) {
        let cluster = Cluster::shared();
        let gate = Gate::before(&cluster);
        let bed = Bed::new(&cluster, 1, STAGE, without);
        let records: Vec<_> =
            (0..40).map(|number| Message::json("key", &json!({"number": number}))).collect();
        cluster.produce(&bed.topic("input"), &records[..20]);
        let mut engine = bed.start_at(&gate.brokers(), &[]);
        wait_until("the first are committed", DEADLINE, || bed.committed(&cluster) == 20);
        gate.stall(Kind::Fetch);
        wait_until("the next fetch hangs", DEADLINE, || gate.held() > 0);
        cluster.produce(&bed.topic("input"), &records[20..]);
        holds_within(limit, || cluster.count(&bed.topic("output")) == 40);
        let rebuilds = engine.metric(REBUILDS, &[]);
        let status = engine.get("/v1/status").expect("its status").body;
        assert!(status.contains(&format!("\"watchdog_rebuilds\":{rebuilds}")), "{status}");
        assert_eq!(engine.log().contains("the watchdog replaces"), rebuilds > 0.0, "{}", engine.log());
        if without == INTACT {
            assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
            assert_eq!(bed.committed(&cluster), 40);
        }
        let out = numbers(&cluster.read_all(&bed.topic("output")));
        assert_eq!(out, (0..out.len() as i64).collect::<Vec<_>>());
        (out.len(), rebuilds)
    }
    assert_eq!(check(INTACT, DEADLINE), (40, 1.0));
    #[cfg(debug_assertions)]
    assert_eq!(check("watchdog", Duration::from_secs(8)), (20, 0.0));
}

/// Behind the last record there are only an aborted one and markers: an end that no record reaches.
/// Without `gaps` the stage seems to be behind for ever; a look shows that nothing is there.
#[test]
fn an_end_without_records_before_it_is_no_stall() {
    fn bed(without: &'static str) -> (Cluster, Bed) {
        let cluster = Cluster::shared();
        let bed = Bed::new(&cluster, 1, STAGE, without);
        let mut config = cluster.config();
        config.set("transactional.id", &bed.prefix);
        let producer: BaseProducer = config.create().expect("a producer");
        producer.init_transactions(DEADLINE).expect("transactions");
        for kept in [true, false] {
            producer.begin_transaction().expect("a transaction");
            let (topic, value) = (bed.topic("input"), json!({"number": 0}).to_string());
            producer.send(BaseRecord::to(&topic).key("k").payload(value.as_bytes())).expect("sent");
            producer.flush(DEADLINE).expect("flushed");
            match kept {
                true => producer.commit_transaction(DEADLINE).expect("committed"),
                false => producer.abort_transaction(DEADLINE).expect("aborted"),
            }
        }
        (cluster, bed)
    }
    let lag = |engine: &Engine| engine.metric("biplane_stage_lag_records", &[]);

    let (cluster, passing) = bed(INTACT);
    let engine = passing.start(&cluster);
    wait_until("the end is reached", DEADLINE, || passing.committed(&cluster) == 4 && lag(&engine) == 0.0);
    #[cfg(debug_assertions)]
    {
        let (cluster, bed) = bed("gaps");
        let engine = bed.start_at(cluster.brokers(), &[("BIPLANE_LOG", "biplane=debug")]);
        let looked = || engine.log().contains("finding=Nothing(4)");
        wait_until("the look-ups find nothing there", DEADLINE, looked);
        // As long as it took to be suspected, it is looked at again and again.
        let rebuilt = holds_within(Duration::from_secs(3), || engine.metric(REBUILDS, &[]) > 0.0);
        assert!(!rebuilt && lag(&engine) > 0.0, "{}", engine.log());
    }
}
