//! Parking topics that are deleted while records are parked in them: nothing is passed in silence.

use super::{Bed, DEADLINE, INTACT};
use crate::support::{Cluster, Engine, wait_until};

/// Two records of a key are parked for long, with this further key of the stage.
struct Scene {
    cluster: Cluster,
    bed: Bed,
}

impl Scene {
    fn new(keys: &str, without: &'static str) -> Self {
        let cluster = Cluster::shared();
        Self { bed: Bed::new(&cluster, 2, "60s", keys, without), cluster }
    }

    fn start(&self) -> Engine {
        // A client that is told soon that a topic is gone.
        let soon = ("BIPLANE_KAFKA_TOPIC_METADATA_REFRESH_INTERVAL_MS", "500");
        self.bed.start_with(&self.cluster, &[soon])
    }

    fn parked(&self) -> Engine {
        let engine = self.start();
        self.produce("ill", "bad", 0);
        self.produce("ill", "good", 1);
        wait_until("both are parked, and commits say so", DEADLINE, || {
            engine.metric("biplane_stage_parked_records", &["bed"]) == 2.0 && self.bed.is_done(&self.cluster)
        });
        engine
    }

    fn produce(&self, key: &str, path: &'static str, number: usize) {
        self.bed.produce(&self.cluster, &[(key.to_owned(), path, number)]);
    }

    fn is_out(&self, key: &str, numbers: &[usize]) -> bool {
        self.bed.out(&self.cluster).get(key).is_some_and(|all| all == numbers)
    }

    /// Topics that are just being made have no leader for a moment.
    fn run(&self, arguments: &[&str]) {
        let variables =
            [("BIPLANE_KAFKA_BROKERS", self.cluster.brokers()), ("BIPLANE_NAMESPACE", &self.bed.prefix)];
        wait_until(&format!("{arguments:?} ends well"), DEADLINE, || {
            Engine::command(self.bed.root.path(), arguments, &variables).status.success()
        });
    }
}

fn status(engine: &Engine) -> String {
    engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default()
}

fn is_halted(engine: &Engine) -> bool {
    let status = status(engine);
    status.contains(r#""state":"halted""#) && status.contains("2 parked records are lost")
}

/// The topic goes while no engine runs. The next one halts, also after another restart, until somebody lets it
/// go on. Without `missing` it goes on at once, and nobody hears of the loss.
#[test]
fn a_stage_whose_parked_records_went_while_no_engine_ran_halts_until_it_is_told_to_go_on() {
    fn check(without: &'static str) -> bool {
        let scene = Scene::new("", without);
        let mut engine = scene.parked();
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        scene.cluster.delete_topic(&scene.bed.parking());
        scene.produce("well", "good", 0);
        let mut engine = scene.bed.launch(&scene.cluster, &[]);
        wait_until("it halts or goes on", DEADLINE, || is_halted(&engine) || scene.is_out("well", &[0]));
        if !is_halted(&engine) {
            return false;
        }
        let gone = format!("in {}[", scene.bed.parking());
        assert!(status(&engine).contains(&gone), "{}", status(&engine));
        // The topic is there again by then.
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        let mut engine = scene.bed.launch(&scene.cluster, &[]);
        wait_until("it halts again", DEADLINE, || is_halted(&engine));
        assert!(!scene.is_out("well", &[0]));
        scene.run(&["stages", "resume", "bed"]);
        wait_until("it goes on", DEADLINE, || scene.is_out("well", &[0]));
        assert_eq!(engine.metric("biplane_stage_parked_lost_total", &["bed"]), 2.0);
        wait_until("all is committed", DEADLINE, || scene.bed.is_done(&scene.cluster));
        assert!(engine.terminate(DEADLINE).success(), "{}", engine.log());
        let _engine = scene.start();
        scene.produce("well", "good", 1);
        wait_until("a restart knows that", DEADLINE, || scene.is_out("well", &[0, 1]));
        true
    }
    assert!(check(INTACT));
    #[cfg(debug_assertions)]
    assert!(!check("missing"));
}

/// The topic goes under a running engine, and what was lost is done again from where the stage says.
#[test]
fn a_stage_whose_parked_records_go_while_it_runs_halts_and_says_where_they_came_from() {
    for delivery in ["at-least-once", "exactly-once"] {
        let scene = Scene::new(&format!("delivery = \"{delivery}\""), INTACT);
        let engine = scene.parked();
        scene.cluster.delete_topic(&scene.bed.parking());
        wait_until("it halts", DEADLINE, || is_halted(&engine));
        scene.bed.heal();
        let status = status(&engine);
        let (_, way) = status.split_once("`biplane offsets set bed ").expect("a way out");
        let (way, _) = way.split_once('`').expect("its end");
        let way: Vec<_> =
            ["offsets", "set", "bed"].into_iter().chain(way.split(' ')).chain(["--yes"]).collect();
        scene.run(&way);
        scene.run(&["stages", "resume", "bed"]);
        wait_until("all are out", DEADLINE, || scene.is_out("ill", &[0, 1]));
        // It parks again.
        scene.produce("ill", "good", 2);
        wait_until("it goes on", DEADLINE, || scene.is_out("ill", &[0, 1, 2]));
    }
}

/// With `on_lost = "earliest"` the stage counts what is lost and goes on.
#[test]
fn a_stage_that_goes_on_after_a_loss_counts_the_parked_records() {
    let scene = Scene::new("on_lost = \"earliest\"", INTACT);
    let engine = scene.parked();
    scene.cluster.delete_topic(&scene.bed.parking());
    wait_until("it is counted", DEADLINE, || {
        engine.metric("biplane_stage_parked_lost_total", &["bed"]) == 2.0
    });
    assert!(engine.log().contains("2 parked records are lost"), "{}", engine.log());
    scene.produce("ill", "good", 2);
    wait_until("it goes on", DEADLINE, || scene.is_out("ill", &[2]));
    wait_until("nothing is parked", DEADLINE, || {
        engine.metric("biplane_stage_parked_records", &["bed"]) == 0.0
    });
}
