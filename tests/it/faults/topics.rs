//! Topics that are not there, or not any more.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, numbers};
use crate::support::{Cluster, Message, holds_within, wait_for, wait_until};

/// A little less than how long the group waits for a member that says nothing.
const SESSION: Duration = Duration::from_secs(8);

fn records(numbers: std::ops::Range<i64>) -> Vec<Message> {
    numbers.map(|number| Message::json("k", &json!({ "number": number }))).collect()
}

/// The DLQ's topic is not there when a record is given up: nothing of it is committed, the status says
/// what is missing, and once the topic is there the record is in it. Without `dead-letter` the record is
/// gone for good.
#[test]
fn a_record_without_a_dlq_to_go_to_is_kept_until_there_is_one() {
    fn check(without: &'static str) -> (i64, usize) {
        let cluster = Cluster::shared();
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"50ms\"\n\
                     order = \"partition\"\n\n[[STAGE.steps]]\nwhen = \"value.number == 3\"\n\
                     fail.code = \"doomed\"\nfail.message = \"no\"\n";
        let bed = Bed::without_topics(stage, without);
        for name in ["input", "output"] {
            cluster.create_topic(&bed.topic(name), 1, &[]);
        }
        cluster.produce(&bed.topic("input"), &records(0..6));
        let refresh = [("BIPLANE_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS", "500")];
        let engine = bed.launch_at(cluster.brokers(), &refresh);
        let status = || engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default();
        let told = || status().contains("no such topic or partition");
        let told = holds_within(if without.is_empty() { DEADLINE } else { Duration::from_secs(3) }, told);
        assert!(told || !without.is_empty(), "{}", engine.log());
        let committed = bed.committed(&cluster);
        cluster.create_topic(&bed.topic("dlq"), 1, &[]);
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == 6);
        (committed, cluster.read_all(&bed.topic("dlq")).len())
    }
    assert_eq!(check(INTACT), (3, 1));
    #[cfg(debug_assertions)]
    assert_eq!(check("dead-letter"), (6, 0));
}

/// The input is deleted and made anew, with fewer records than were read. A stage that sees it go reads the
/// new one from its start, as the group's commits went with the old one. One that finds another topic in
/// its place says so and stands still, or reads that from its start, as `on_lost` says. Without
/// `lost-offset` it goes on behind the newest record, and what is there is never read.
#[test]
fn a_topic_that_was_made_anew_is_read_from_its_start_or_halts_the_stage() {
    struct Remade {
        cluster: Cluster,
        bed: Bed,
        engine: crate::support::Engine,
    }

    impl Remade {
        /// Whether the stage sees the topic go.
        fn new(on_lost: &str, sees: bool, without: &'static str) -> Self {
            let cluster = Cluster::shared();
            let stage = format!(
                "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\ncommit_interval = \"50ms\"\n\
                 on_lost = \"{on_lost}\"\n"
            );
            let bed = Bed::new(&cluster, 1, &stage, without);
            let input = bed.topic("input");
            let refresh = [("BIPLANE_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS", "300")];
            let engine = bed.start_at(cluster.brokers(), &refresh);
            cluster.produce(&input, &records(0..20));
            wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == 20);
            let stood = Instant::now();
            if !sees {
                engine.freeze();
            }
            cluster.delete_topic(&input);
            if sees {
                let told = || engine.log().contains("no such topic");
                wait_until("the stage sees it", DEADLINE, told);
            }
            cluster.create_topic(&input, 1, &[]);
            cluster.produce(&input, &records(100..105));
            engine.thaw();
            if !sees && stood.elapsed() > SESSION {
                // The group took it for dead and forgot where it stood: once more.
                return Self::new(on_lost, sees, without);
            }
            Self { cluster, bed, engine }
        }

        /// A stage that found another topic in its place. One that was told of the deletion first, which can
        /// come in between, is another case.
        fn unseen(on_lost: &str, without: &'static str, settled: impl Fn(&Self) -> bool) -> Self {
            wait_for("a stage that did not see its topic go", DEADLINE, || {
                let scene = Self::new(on_lost, false, without);
                let saw = || scene.engine.log().contains("no such topic");
                wait_until("it goes on or halts", DEADLINE, || settled(&scene) || saw());
                (!saw()).then_some(scene)
            })
        }

        fn status(&self) -> String {
            self.engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default()
        }

        fn written(&self) -> Vec<i64> {
            numbers(&self.cluster.read_all(&self.bed.topic("output"))).split_off(20)
        }
    }

    const NEW: [i64; 5] = [100, 101, 102, 103, 104];
    let scene = Remade::new("halt", true, INTACT);
    wait_until("the new topic is committed", DEADLINE, || scene.bed.committed(&scene.cluster) == 5);
    assert_eq!(scene.written(), NEW);

    let scene = Remade::unseen("halt", INTACT, |scene| scene.status().contains(r#""state":"halted""#));
    assert!(scene.status().contains("offset 20 is gone; the broker has 0 to 5"), "{}", scene.status());
    assert_eq!(scene.written(), [0; 0]);

    let scene = Remade::unseen("earliest", INTACT, |scene| scene.bed.committed(&scene.cluster) == 5);
    assert_eq!(scene.written(), NEW);

    #[cfg(debug_assertions)]
    {
        let scene = Remade::unseen("halt", "lost-offset", |scene| {
            scene.cluster.produce(&scene.bed.topic("input"), &records(200..201));
            !scene.written().is_empty()
        });
        assert!(!scene.written().contains(&100), "{:?}", scene.written());
    }
}
