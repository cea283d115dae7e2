//! The broker that coordinates a stage's group is lost.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, LIMIT, numbers};
use crate::support::{Cluster, Message, PrivateCluster, holds_within, wait_for, wait_until};

const STAGE: &str =
    "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"50ms\"\n";
const COUNT: i64 = 4_000;

fn records(numbers: std::ops::Range<i64>) -> Vec<Message> {
    numbers.map(|number| Message::json(format!("key-{}", number % 20), &json!({"number": number}))).collect()
}

/// A stage whose topics are on the first broker and whose group is coordinated by another.
fn bed(brokers: &PrivateCluster, cluster: &Cluster, without: &'static str) -> (Bed, i32) {
    wait_for("a group that another broker coordinates", DEADLINE, || {
        let bed = Bed::without_topics(STAGE, without);
        for name in ["input", "output", "dlq"] {
            cluster.create_topic_at(&bed.topic(name), 2, 1);
        }
        // The first question makes the topic that the groups are in.
        assert_eq!(bed.committed(cluster), 0);
        let group = format!("{}.bed", bed.prefix);
        let coordinator = wait_for("a coordinator", DEADLINE, || brokers.coordinator(&group));
        (coordinator != 1).then_some((bed, coordinator))
    })
}

/// While the coordinator is killed and another takes its place, records go on, no commit goes back, and
/// nothing is lost or repeats. Without `ride-out` the stage halts at the first connection that breaks.
#[test]
fn a_coordinator_that_is_killed_costs_no_record_and_no_commit() {
    let mut brokers = PrivateCluster::start();
    let cluster = brokers.cluster();
    let (bed, coordinator) = bed(&brokers, &cluster, INTACT);
    cluster.produce(&bed.topic("input"), &records(0..COUNT / 2));
    let mut engine = bed.start(&cluster);
    wait_until("the first half is committed", DEADLINE, || bed.committed(&cluster) == COUNT / 2);
    brokers.kill(coordinator);
    let cluster = brokers.cluster();
    cluster.produce(&bed.topic("input"), &records(COUNT / 2..COUNT));
    let mut newest: BTreeMap<i32, i64> = BTreeMap::new();
    wait_until("all is committed", DEADLINE, || {
        for (partition, offset) in bed.commits(&cluster) {
            let before = newest.insert(partition, offset).unwrap_or_default();
            assert!(before <= offset, "the commit of {partition} went from {before} back to {offset}");
        }
        newest.values().sum::<i64>() == COUNT
    });
    let mut out = numbers(&cluster.read_all(&bed.topic("output")));
    out.sort_unstable();
    assert_eq!(out, (0..COUNT).collect::<Vec<_>>(), "{}", engine.log());
    assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());

    #[cfg(debug_assertions)]
    {
        // The one that is left may coordinate all groups by now.
        let mut brokers = PrivateCluster::start();
        let cluster = brokers.cluster();
        let (bed, coordinator) = self::bed(&brokers, &cluster, "ride-out");
        let engine = bed.start(&cluster);
        brokers.kill(coordinator);
        assert!(holds_within(LIMIT, || engine.log().contains("halted")), "{}", engine.log());
    }
}
