//! Offsets that do not exist, or not any more.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::{Cluster, Message, wait_until};

/// Offsets of aborted records and of transaction markers do not exist for a reader, neither before the
/// newest record nor behind it. Without `gaps` the commit stands before the first of them for ever.
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
        if without == INTACT {
            let lag = || engine.metric("biplane_stage_lag_records", &[]);
            wait_until("all is committed and nothing is behind", DEADLINE, || {
                bed.committed(&cluster) == 12 && lag() == 0.0
            });
        }
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        (rounds.collect(), bed.committed(&cluster))
    }
    // Two offsets a round, and behind round 4 an aborted one.
    assert_eq!(check(INTACT), (vec![0, 2, 4], 12));
    #[cfg(debug_assertions)]
    assert_eq!(check("gaps"), (vec![0, 2, 4], 1));
}

/// Most records of a topic were compacted away before they are read. Without `gaps` the commit stands
/// before the first offset that is not there.
#[test]
fn a_stage_does_not_wait_for_offsets_that_compaction_left_empty() {
    const ROUNDS: i64 = 40;
    /// How far the commit is behind at the end.
    fn check(without: &'static str) -> i64 {
        let cluster = Cluster::shared();
        let stage =
            "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"50ms\"\n";
        let bed = Bed::without_topics(stage, without);
        let settings = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "200"),
        ];
        cluster.create_topic(&bed.topic("input"), 1, &settings);
        for name in ["output", "dlq"] {
            cluster.create_topic(&bed.topic(name), 1, &[]);
        }
        let input = bed.topic("input");
        // One key once, then three again and again; the segment that is written to is never compacted.
        let record = |number: i64| {
            let key = if number == 0 { 9 } else { number % 3 };
            Message::json(key.to_string(), &json!({"number": number}))
        };
        cluster.produce(&input, &(0..ROUNDS).map(record).collect::<Vec<_>>());
        let mut end = ROUNDS;
        wait_until("the topic is compacted", DEADLINE, || {
            cluster.produce(&input, &[record(end)]);
            end += 1;
            cluster.read_all(&input).len() < ROUNDS as usize / 2
        });
        let mut engine = bed.start(&cluster);
        wait_until("the newest is out", DEADLINE, || {
            numbers(&cluster.read_all(&bed.topic("output"))).contains(&(end - 1))
        });
        if without == INTACT {
            wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == end);
        }
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        end - bed.committed(&cluster)
    }
    assert_eq!(check(INTACT), 0);
    #[cfg(debug_assertions)]
    assert!(check("gaps") > ROUNDS / 2);
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

/// Records 3 and 4 are deleted before they are read, as retention does, while no engine runs; 5, 6 and 7
/// are there. `on_lost` decides: the stage halts and says which offset is gone, or it goes on at the oldest
/// record. Without `lost-offset` it goes on behind the newest one, and three records are lost in silence.
#[test]
fn an_offset_that_was_deleted_is_never_passed_over_in_silence() {
    struct Truncated {
        cluster: Cluster,
        bed: Bed,
    }

    impl Truncated {
        fn new(on_lost: &str, without: &'static str) -> Self {
            let cluster = Cluster::shared();
            let stage = format!(
                "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\non_lost = \"{on_lost}\"\n"
            );
            let bed = Bed::new(&cluster, 1, &stage, without);
            let scene = Self { cluster, bed };
            scene.produce(0..3);
            let mut engine = scene.bed.start(&scene.cluster);
            scene.written(3);
            assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
            scene.produce(3..8);
            scene.cluster.delete_before(&scene.bed.topic("input"), 0, 5);
            scene
        }

        fn produce(&self, range: std::ops::Range<i64>) {
            let record = |number: i64| Message::json("k", &json!({ "number": number }));
            self.cluster.produce(&self.bed.topic("input"), &range.map(record).collect::<Vec<_>>());
        }

        fn written(&self, count: usize) -> Vec<i64> {
            numbers(&self.cluster.wait_for_records(&self.bed.topic("output"), count, DEADLINE))
        }
    }

    let scene = Truncated::new("halt", INTACT);
    let mut engine = scene.bed.launch_at(scene.cluster.brokers(), &[]);
    let status = || engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default();
    wait_until("it halts", DEADLINE, || status().contains(r#""state":"halted""#));
    assert!(status().contains("offset 3 is gone; the broker has 5 to 8"), "{}", status());
    engine.terminate(DEADLINE);
    assert_eq!((scene.written(3), scene.bed.committed(&scene.cluster)), (vec![0, 1, 2], 3));

    let scene = Truncated::new("earliest", INTACT);
    let mut engine = scene.bed.start(&scene.cluster);
    assert_eq!(scene.written(6), [0, 1, 2, 5, 6, 7]);
    engine.terminate(DEADLINE);
    assert_eq!(scene.bed.committed(&scene.cluster), 8);

    #[cfg(debug_assertions)]
    {
        let scene = Truncated::new("halt", "lost-offset");
        let _engine = scene.bed.start(&scene.cluster);
        // It reads nothing that lay there; what comes later it does read.
        wait_until("a later record is read", DEADLINE, || {
            scene.produce(8..9);
            scene.cluster.count(&scene.bed.topic("output")) > 3
        });
        let written = scene.written(4);
        assert!(written.starts_with(&[0, 1, 2, 8]), "{written:?}");
    }
}
