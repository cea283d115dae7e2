//! Faults that a stage must survive, each on a real Kafka: what happened is counted, nothing is lost,
//! and the stage goes on. Each check runs once more without the guard that it rests on, which
//! `BIPLANE_TEST_WITHOUT` leaves out of a debug build, and must then come out bad.

mod attempts;
mod breakers;
mod coordinator;
mod dedupe;
mod effects;
mod forbidden;
mod frozen;
mod hostile;
mod members;
mod offsets;
mod outage;
mod sends;
mod spans;
mod stalls;
mod topics;
mod transactions;
mod unreachable;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Cluster, ConfigRoot, Engine, Message, unique};

const DEADLINE: Duration = Duration::from_secs(90);
/// How long a check waits for what may never come, where its guard is missing.
const LIMIT: Duration = Duration::from_secs(5);
/// No guard is missing.
const INTACT: &str = "";

/// One stage between two topics of a test's own.
struct Bed {
    prefix: String,
    root: ConfigRoot,
    without: &'static str,
}

impl Bed {
    /// A stage with these keys and steps; `STAGE` stands for its table. Its engines do without the guard
    /// named `without`.
    fn new(cluster: &Cluster, partitions: i32, stage: &str, without: &'static str) -> Self {
        let bed = Self::without_topics(stage, without);
        for (name, partitions) in [("input", partitions), ("output", partitions), ("dlq", 1)] {
            cluster.create_topic(&bed.topic(name), partitions, &[]);
        }
        bed
    }

    /// As [`Bed::new`], but its topics are the test's to make.
    fn without_topics(stage: &str, without: &'static str) -> Self {
        let prefix = unique("fault");
        let pipeline = format!(
            "[topics.input]\ntopic = \"{prefix}.input\"\n\n[topics.output]\ntopic = \"{prefix}.output\"\n\n\
             [dlqs.dead]\ntopic = \"{prefix}.dlq\"\n\n{}",
            stage.replace("STAGE", "stages.bed")
        );
        let root = ConfigRoot::new(&[("pipelines/bed.toml", &pipeline)]);
        Self { prefix, root, without }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn start(&self, cluster: &Cluster) -> Engine {
        self.start_at(cluster.brokers(), &[])
    }

    /// The same static member again and again: a restart waits for no session.
    fn start_named(&self, brokers: &str) -> Engine {
        self.start_at(brokers, &[("BIPLANE_ENGINE_ID", "one")])
    }

    fn start_at(&self, brokers: &str, more: &[(&str, &str)]) -> Engine {
        let mut engine = self.launch_at(brokers, more);
        engine.wait_ready();
        engine
    }

    /// Without waiting for anything.
    fn launch_at(&self, brokers: &str, more: &[(&str, &str)]) -> Engine {
        let mut variables =
            vec![("BIPLANE_NAMESPACE", self.prefix.as_str()), ("BIPLANE_TEST_WITHOUT", self.without)];
        variables.extend(more);
        Engine::launch(&self.root, brokers, &variables)
    }

    /// The sum of the offsets that are committed.
    fn committed(&self, cluster: &Cluster) -> i64 {
        self.commits(cluster).values().sum()
    }

    /// The offset that is committed for each partition.
    fn commits(&self, cluster: &Cluster) -> BTreeMap<i32, i64> {
        let committed = cluster.committed(&format!("{}.bed", self.prefix), &self.topic("input"));
        committed.into_iter().map(|(partition, (offset, _))| (partition, offset)).collect()
    }
}

/// The `number` in each record.
fn numbers(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.value_json()["number"].as_i64().expect("a number")).collect()
}
