//! `biplane offsets show|set` on a real Kafka.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::commands::{Answer, ask};
use crate::support::{Cluster, ConfigRoot, Engine, Message, brokers, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 2;

struct Scene {
    name: String,
    cluster: Cluster,
    root: ConfigRoot,
}

impl Scene {
    /// A stage that passes records on and tries those again that say they are bad, after so long.
    fn new(wait: &str) -> Self {
        let (name, cluster) = (unique("offsets"), Cluster::shared());
        let config = format!(
            "[topics.in]\ntopic = \"{name}.in\"\n[topics.out]\ntopic = \"{name}.out\"\n\
             [dlqs.d]\ntopic = \"{name}.dlq\"\n\
             [retries.r]\nmax_attempts = 2\nin_place_up_to = \"5m\"\nbackoff = {{ initial = \"{wait}\" }}\n\
             [stages.s]\nfrom = \"in\"\nto = \"out\"\ndlq = \"d\"\nretry = \"r\"\n\
             [[stages.s.steps]]\nwhen = \"value.bad\"\n\
             fail = {{ code = \"bad\", message = \"bad\", class = \"transient\" }}\n"
        );
        let root = ConfigRoot::new(&[("pipelines/a.toml", &config)]);
        for topic in ["in", "out", "dlq"] {
            cluster.create_topic(&format!("{name}.{topic}"), PARTITIONS, &[]);
        }
        Self { name, cluster, root }
    }

    fn engine(&self) -> Engine {
        Engine::start(&self.root, &brokers(), &[("BIPLANE_NAMESPACE", &self.name)])
    }

    /// Bad records hold up no good ones.
    fn produce(&self, partition: i32, count: usize, bad: bool) {
        let record =
            |number: usize| Message::json(format!("{number}-{bad}"), &json!({ "bad": bad })).at(partition);
        self.cluster.produce(&format!("{}.in", self.name), &(0..count).map(record).collect::<Vec<_>>());
    }

    fn written(&self) -> i64 {
        self.cluster.count(&format!("{}.out", self.name))
    }

    fn wait_written(&self, count: i64) {
        wait_until("the records are written", DEADLINE, || self.written() >= count);
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        ask(&self.root, &self.name, &[&["offsets"], arguments].concat())
    }

    fn set(&self, aim: &[&str]) -> Json {
        self.run(&[&["set", "s", "--yes"], aim].concat()).well()
    }

    /// Of each partition.
    fn shown(&self, field: &str) -> Vec<i64> {
        let json = self.run(&["show", "s"]).well();
        let partitions = json["partitions"].as_array().unwrap_or_else(|| panic!("{json}"));
        partitions.iter().map(|partition| partition[field].as_i64().unwrap_or(-1)).collect()
    }
}

#[test]
fn offsets_are_shown_previewed_set_and_read_from() {
    let scene = Scene::new("1s");
    scene.produce(0, 6, false);
    scene.produce(1, 4, false);
    assert_eq!((scene.shown("committed"), scene.shown("lag")), (vec![-1, -1], vec![6, 4]));
    let mut engine = scene.engine();
    scene.wait_written(10);

    engine.terminate(DEADLINE);
    assert_eq!((scene.shown("committed"), scene.shown("lag")), (vec![6, 4], vec![0, 0]));

    let Answer { code, json: dry, errors } = scene.run(&["set", "s", "--to-earliest", "--dry-run"]);
    assert_eq!(
        (code, &dry["again"], &dry["skipped"], &dry["done"]),
        (Some(0), &10.into(), &0.into(), &false.into()),
        "{dry}{errors}"
    );
    assert_eq!(
        dry["changes"][0],
        json!({ "topic": format!("{}.in", scene.name), "partition": 0, "from": 6, "to": 0, "again": 6, "skipped": 0 })
    );
    assert_eq!(scene.run(&["set", "s", "--to-earliest"]).code, Some(2), "nobody can be asked");
    assert_eq!(scene.shown("committed"), [6, 4], "nothing was set so far");

    scene.set(&["--to-offset", "2", "--topic", "in", "--partition", "0"]);
    assert_eq!(scene.shown("committed"), [2, 4]);
    let set = scene.set(&["--to-earliest"]);
    assert_eq!((&set["again"], &set["done"]), (&6.into(), &true.into()), "{set}");
    let mut engine = scene.engine();
    scene.wait_written(20);
    engine.terminate(DEADLINE);
    assert_eq!((scene.written(), scene.shown("committed")), (20, vec![6, 4]), "each was read once more");
}

#[test]
fn what_was_finished_beyond_a_commit_is_read_again_too() {
    let scene = Scene::new("5m");
    scene.produce(0, 1, true);
    scene.produce(0, 5, false);
    let mut engine = scene.engine();
    scene.wait_written(5);
    engine.terminate(DEADLINE);
    assert_eq!((scene.shown("committed")[0], scene.shown("finished_beyond")[0]), (0, 5));

    // It stands there already, and what is finished beyond would not be read again.
    let set = scene.set(&["--to-offset", "0", "--partition", "0"]);
    assert_eq!((&set["again"], &set["done"]), (&5.into(), &true.into()), "{set}");
    assert_eq!(scene.shown("finished_beyond")[0], 0);
    let mut engine = scene.engine();
    scene.wait_written(10);
    engine.terminate(DEADLINE);
    let set = scene.set(&["--to-latest", "--partition", "0"]);
    assert_eq!((&set["skipped"], &set["again"]), (&1.into(), &0.into()), "only one is unfinished: {set}");
    assert_eq!((scene.shown("committed")[0], scene.shown("lag")[0]), (6, 0));
}

#[test]
fn a_time_is_the_first_record_that_is_not_older_and_the_end_where_there_is_none() {
    let scene = Scene::new("1s");
    scene.produce(0, 3, false);
    scene.set(&["--to-time", "2100-01-01T00:00:00Z"]);
    assert_eq!(scene.shown("committed"), [3, 0]);
    scene.set(&["--to-time", "1h"]);
    assert_eq!(scene.shown("committed"), [0, 0]);
}

#[test]
fn what_cannot_be_meant_is_said_and_nothing_is_set() {
    let scene = Scene::new("1s");
    scene.produce(0, 3, false);
    for (arguments, said) in [
        (&["set", "s"][..], "--to-earliest"),
        (&["set", "s", "--to-earliest", "--to-latest"], "cannot be used with"),
        (&["set", "t", "--to-earliest"], "did you mean `s`?"),
        (&["set", "s", "--to-offset", "4", "--partition", "0"], "holds the offsets 0 to 3, not 4"),
        (&["set", "s", "--to-offset", "-1"], "-1"),
        (&["set", "s", "--to-latest", "--topic", "out"], "the stage reads `in`"),
        (&["set", "s", "--to-latest", "--partition", "2"], "the stage reads `in`"),
        (&["set", "s", "--to-time", "yesterday"], "such as `2h`"),
    ] {
        let Answer { code, errors, .. } = scene.run(&[arguments, &["--yes"]].concat());
        assert_eq!(code, Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    assert_eq!(scene.shown("committed"), [-1, -1]);
}

/// Two engines, each with a partition; one record rests in its lane, and the stage is paused once.
#[test]
fn offsets_are_set_by_the_engines_that_read_the_partitions() {
    let scene = Scene::new("5m");
    let engines = [scene.engine(), scene.engine()];
    wait_until("each reads a partition", DEADLINE, || {
        let reads = |engine: &Engine| {
            let status = engine.get("/v1/status").map(|answer| answer.body).unwrap_or_default();
            status.matches("\"partition\":").count() == 1
        };
        engines.iter().all(reads)
    });
    scene.produce(0, 1, true);
    scene.produce(0, 6, false);
    scene.produce(1, 4, false);
    scene.wait_written(10);
    wait_until("what is finished is committed", DEADLINE, || {
        scene.shown("finished_beyond")[0] == 6 && scene.shown("committed")[1] == 4
    });

    // The first that is said of all: the control topic is not there yet.
    let set = scene.set(&["--to-earliest"]);
    assert_eq!(
        (&set["done"], &set["by_engines"], &set["again"]),
        (&true.into(), &true.into(), &10.into()),
        "{set}"
    );
    scene.wait_written(20);
    let finished = || scene.shown("lag") == [7, 0] && scene.shown("finished_beyond")[0] == 6;
    wait_until("what is finished is committed", DEADLINE, finished);
    assert_eq!(scene.written(), 20, "each was read once more, and only once");

    // Past the record that rests.
    let set = scene.set(&["--to-latest", "--partition", "0"]);
    assert_eq!((&set["skipped"], &set["by_engines"]), (&1.into(), &true.into()), "{set}");
    assert_eq!((scene.shown("committed"), scene.shown("lag")), (vec![7, 4], vec![0, 0]));

    ask(&scene.root, &scene.name, &["stages", "pause", "s"]).well();
    scene.set(&["--to-offset", "2", "--partition", "1"]);
    assert_eq!(scene.shown("committed"), [7, 2], "also while it stands still");
    assert_eq!(scene.written(), 20);
    ask(&scene.root, &scene.name, &["stages", "resume", "s"]).well();
    scene.wait_written(22);
    let left = scene.cluster.read_all(&format!("{}.control", scene.name));
    let of_resets = left.iter().filter(|entry| entry.key_text().starts_with("reset"));
    let newest: std::collections::BTreeMap<_, _> =
        of_resets.map(|entry| (entry.key_text(), entry.value.is_some())).collect();
    assert!(newest.values().all(|stands| !stands), "nothing of it is left: {newest:?}");
}

/// The group has a member that does not listen: nothing is moved, now or later.
#[test]
fn what_no_engine_moves_stays_and_is_named() {
    let scene = Scene::new("1s");
    scene.produce(0, 3, false);
    let engine = scene.engine();
    wait_until("all is committed", DEADLINE, || {
        scene.shown("lag") == [0, 0] && scene.shown("committed")[0] == 3
    });
    engine.freeze();
    let Answer { code, errors, .. } = scene.run(&["set", "s", "--to-earliest", "--partition", "0", "--yes"]);
    engine.thaw();
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("0 of 1 partitions were moved"), "{errors}");
    assert!(errors.contains(&format!("and not {}.in[0]", scene.name)), "{errors}");
    scene.produce(0, 1, false);
    scene.wait_written(4);
    assert_eq!(scene.written(), 4, "what was taken back is not done later");
}
