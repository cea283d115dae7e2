//! Records that wait for long are parked: they are done on their input, tried again when they are due,
//! and what comes behind them follows, in order, whatever happens to engines meanwhile. Each on a real
//! Kafka.

mod faults;
mod figures;
mod flow;
mod gone;
mod order;
mod span;
mod topics;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(90);
/// No guard is missing.
const INTACT: &str = "";

/// A stage that asks an HTTP server, which refuses some paths until it is well again.
struct Bed {
    prefix: String,
    root: ConfigRoot,
    stub: Stub,
    well: Arc<AtomicBool>,
    without: &'static str,
}

impl Bed {
    /// Waits of `wait` are parked. `keys` are further keys of the stage. Paths that begin with `bad` are
    /// refused.
    fn new(cluster: &Cluster, partitions: i32, wait: &str, keys: &str, without: &'static str) -> Self {
        let well = Arc::new(AtomicBool::new(false));
        let is_well = Arc::clone(&well);
        let stub = Stub::start(move |path, stream| match path.starts_with("/bad") {
            true if !is_well.load(Ordering::Acquire) => reply(stream, "503 Service Unavailable", ""),
            _ => reply(stream, "200 OK", "{}"),
        });
        Self { well, without, ..Self::of(cluster, partitions, wait, keys, stub) }
    }

    /// As [`Bed::new`], but the server answers as it is told to.
    fn answering(
        cluster: &Cluster,
        partitions: i32,
        wait: &str,
        keys: &str,
        answer: impl Fn(&str, usize, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        Self::of(cluster, partitions, wait, keys, Stub::counting(answer))
    }

    fn of(cluster: &Cluster, partitions: i32, wait: &str, keys: &str, stub: Stub) -> Self {
        let prefix = unique("parking");
        let pipeline = format!(
            "[topics.input]\ntopic = \"{prefix}.input\"\n\n[topics.output]\ntopic = \"{prefix}.output\"\n\n\
             [dlqs.dead]\ntopic = \"{prefix}.dlq\"\n\n\
             [retries.long]\nmax_attempts = 1000\ndelays = [\"{wait}\"]\nin_place_up_to = \"50ms\"\n\n\
             [http_clients.stub]\nbase_url = \"{}\"\n\n\
             [stages.bed]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\nretry = \"long\"\n\
             deadline = \"1d\"\ncommit_interval = \"200ms\"\nbreaker.transient = {{ enabled = false }}\n{keys}\n\n\
             [[stages.bed.steps]]\nhttp.client = \"stub\"\nhttp.path = \"/{{{{ value.path }}}}\"\n",
            stub.url()
        );
        let root = ConfigRoot::new(&[("pipelines/bed.toml", &pipeline)]);
        let bed = Self { prefix, root, stub, well: Arc::default(), without: INTACT };
        for (name, partitions) in [("input", partitions), ("output", partitions), ("dlq", 1)] {
            cluster.create_topic(&bed.topic(name), partitions, &[]);
        }
        bed
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn group(&self) -> String {
        format!("{}.bed", self.prefix)
    }

    /// Where the input's records are parked.
    fn parking(&self) -> String {
        format!("{}.bed.parked.{}", self.prefix, self.topic("input"))
    }

    /// Starts an engine and waits until it parks.
    fn start(&self, cluster: &Cluster) -> Engine {
        self.start_with(cluster, &[])
    }

    /// The same static member again and again: a restart waits for no session.
    fn start_named(&self, cluster: &Cluster) -> Engine {
        self.start_with(cluster, &[("BIPLANE_ENGINE_ID", "one")])
    }

    fn start_with(&self, cluster: &Cluster, more: &[(&str, &str)]) -> Engine {
        let mut engine = self.launch(cluster, more);
        engine.wait_ready();
        // Who reads it for the first time says at once where it begins.
        let parking = self.parking();
        wait_until("the parking topic is read", DEADLINE, || {
            cluster.has_topic(&parking)
                && cluster.committed(&self.group(), &parking).len() == cluster.end_offsets(&parking).len()
        });
        engine
    }

    fn launch(&self, cluster: &Cluster, more: &[(&str, &str)]) -> Engine {
        let mut variables =
            vec![("BIPLANE_NAMESPACE", self.prefix.as_str()), ("BIPLANE_TEST_WITHOUT", self.without)];
        variables.extend(more);
        Engine::launch(&self.root, cluster.brokers(), &variables)
    }

    /// From now on the server refuses nothing.
    fn heal(&self) {
        self.well.store(true, Ordering::Release);
    }

    /// Writes records to the input, each with its key, path and the number that it has in its key.
    fn produce(&self, cluster: &Cluster, records: &[(String, &str, usize)]) {
        let records: Vec<_> = records
            .iter()
            .map(|(key, path, number)| {
                Message::json(key, &json!({"key": key, "path": path, "number": number}))
            })
            .collect();
        cluster.produce(&self.topic("input"), &records);
    }

    /// Whether all that was written to the input is done there.
    fn is_done(&self, cluster: &Cluster) -> bool {
        self.is_read(cluster, &self.topic("input"))
    }

    /// Whether nothing is parked.
    fn is_cleared(&self, cluster: &Cluster) -> bool {
        self.is_read(cluster, &self.parking())
    }

    fn is_read(&self, cluster: &Cluster, topic: &str) -> bool {
        let committed = cluster.committed(&self.group(), topic);
        let ends = cluster.end_offsets(topic);
        ends.iter().all(|(partition, end)| {
            *end == 0 || committed.get(partition).is_some_and(|(offset, _)| offset >= end)
        })
    }

    /// The numbers that came out, by key, in their order.
    fn out(&self, cluster: &Cluster) -> BTreeMap<String, Vec<usize>> {
        let mut keys: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for message in cluster.read_all(&self.topic("output")) {
            let value = message.value_json();
            let key = value["key"].as_str().expect("a key").to_owned();
            keys.entry(key).or_default().push(value["number"].as_u64().expect("a number") as usize);
        }
        keys
    }
}

/// How many keys came out of order, counting the first occurrences of each number, and how many numbers
/// of `0..count` of each key are missing.
fn faults(out: &BTreeMap<String, Vec<usize>>, keys: &[String], count: usize) -> (usize, usize) {
    let (mut disordered, mut missing) = (0, 0);
    for key in keys {
        let numbers = out.get(key).map(Vec::as_slice).unwrap_or_default();
        let mut seen = BTreeSet::new();
        let firsts: Vec<_> = numbers.iter().filter(|number| seen.insert(**number)).collect();
        disordered += usize::from(!firsts.is_sorted());
        missing += count - seen.len();
    }
    (disordered, missing)
}
