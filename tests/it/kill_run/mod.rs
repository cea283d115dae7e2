//! The engine is killed again and again while records flow through two stages whose steps fail: nothing
//! is lost, each key's first occurrences stay in order, and what repeats after a kill is what the kill
//! left written and not committed, record by record. `tests/kill-run` runs it at full size.
//!
//! `BIPLANE_TEST_KILL_RECORDS` and `BIPLANE_TEST_KILLS` say how many of each.

mod evidence;
mod metadata;
mod verdict;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, Random, holds_within, unique};
use evidence::Evidence;
use verdict::Verdict;

const KEYS: usize = 2_000;
const PARTITIONS: i32 = 4;

/// Three kinds of failure: a transient one that passes on the second attempt, a permanent one, and a
/// transient one that never passes. `FIRST` and `SECOND` are what a run wants of its stages besides.
pub(super) const PIPELINE: &str = r#"
[topics.input]
topic = "PREFIX.input"
[topics.middle]
topic = "PREFIX.middle"
[topics.output]
topic = "PREFIX.output"
[dlqs.first]
topic = "PREFIX.first-dlq"
[dlqs.second]
topic = "PREFIX.second-dlq"

[retries.brief]
max_attempts = 4
delays       = ["WAIT"]

[http_clients.stub]
base_url = "URL"

[stages.first]
from            = "input"
to              = "middle"
dlq             = "first"
retry           = "brief"
FIRST
# Half of all requests fail, each record's first.
breaker.transient.enabled = false

[[stages.first.steps]]
when        = "value.number % 211 == 7"
http.client = "stub"
http.path   = "/{{ value.number }}"

[[stages.first.steps]]
when         = "value.number % 97 == 13"
fail.code    = "doomed"
fail.message = "{{ value.number }}"

[stages.second]
from            = "middle"
to              = "output"
dlq             = "second"
retry           = "brief"
SECOND

[[stages.second.steps]]
when         = "value.number % 389 == 5"
fail.class   = "transient"
fail.code    = "never"
fail.message = "{{ value.number }}"

[[stages.second.steps]]
set.passed = "{{ value.number }}"
"#;

/// One run.
#[derive(Debug, Clone, Copy)]
struct Setup {
    records: usize,
    kills: usize,
    /// How long a failed record waits, and how often offsets are committed.
    wait: &'static str,
    commit: &'static str,
    /// The guard that the engine does without.
    without: &'static str,
}

struct Run {
    setup: Setup,
    cluster: Cluster,
    prefix: String,
    root: ConfigRoot,
    keys: Vec<u16>,
}

/// Without `contiguous` the newest finished offset is committed, and what a kill finds unfinished below
/// it is lost; without `lanes` a record that waits is overtaken by the next of its key.
#[test]
fn an_engine_killed_again_and_again_loses_nothing_keeps_the_order_and_repeats_only_what_it_must() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let records = number("BIPLANE_TEST_KILL_RECORDS").unwrap_or(20_000);
    let kills = number("BIPLANE_TEST_KILLS").unwrap_or(5);
    let verdict = Run::new(Setup { records, kills, wait: "20ms", commit: "500ms", without: "" }).carry_out();
    assert_eq!(verdict.faults(), verdict::Faults::default());
    assert!(verdict.dead_letters() > 0 && verdict.retried > 0);
    #[cfg(debug_assertions)]
    {
        let small = |kills, without| {
            Run::new(Setup { records: 4_000, kills, wait: "400ms", commit: "50ms", without })
        };
        let faults = small(3, "contiguous").carry_out().faults();
        assert!(faults.lost > 0, "{faults:?}");
        let faults = small(0, "lanes").carry_out().faults();
        assert!(faults.disordered > 0, "{faults:?}");
    }
}

impl Run {
    fn new(setup: Setup) -> Self {
        assert!(setup.kills < 250, "the verdict counts lives in a byte");
        let cluster = Cluster::shared();
        let prefix = unique("kill-run");
        let topics = ["input", "middle", "output"].map(|name| (name, PARTITIONS));
        for (name, partitions) in topics.into_iter().chain([("first-dlq", 1), ("second-dlq", 1)]) {
            cluster.create_topic(&format!("{prefix}.{name}"), partitions, &[]);
        }
        let keys = zipf_keys(setup.records);
        Self { setup, cluster, prefix, root: ConfigRoot::new(&[]), keys }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn carry_out(&self) -> Verdict {
        let stub = Stub::counting(|_, times, stream| match times {
            1 => reply(stream, "503 Service Unavailable", ""),
            _ => reply(stream, "200 OK", "{}"),
        });
        let commit = format!("commit_interval = \"{}\"", self.setup.commit);
        let pipeline = PIPELINE
            .replace("PREFIX", &self.prefix)
            .replace("URL", &stub.url())
            .replace("WAIT", self.setup.wait)
            .replace("FIRST", &commit)
            .replace("SECOND", &commit);
        self.root.write("pipelines/run.toml", &pipeline);
        let started = Instant::now();
        let mut evidence = Evidence::default();
        let mut random = Random(7);
        self.produce(0);
        for life in 0..self.setup.kills {
            // One share ahead, so that both stages are at work when the kill comes.
            self.produce(life + 1);
            self.live_and_die(life, random.uniform());
            evidence.collect(&self.cluster, &self.prefix);
        }
        self.produce(self.setup.kills + 1);
        self.finish();
        let took = started.elapsed();
        let mut verdict = Verdict::reach(self, &evidence);
        verdict.retried = stub.by_path().len();
        eprintln!("{}", self.report(&verdict, took));
        verdict
    }

    /// How many records are added for each life, next to what the ones before left undone.
    fn share(&self) -> usize {
        self.setup.records.div_ceil(self.setup.kills + 2)
    }

    fn produce(&self, share: usize) {
        let pad = "x".repeat(100);
        let from = share * self.share();
        let numbers = from..(from + self.share()).min(self.setup.records);
        let record = |number: usize| {
            let key = format!("key-{}", self.keys[number]);
            Message::json(key, &json!({"number": number, "pad": pad}))
        };
        self.cluster.produce(&self.topic("input"), &numbers.map(record).collect::<Vec<_>>());
    }

    fn engine(&self) -> Engine {
        let variables = [
            ("BIPLANE_NAMESPACE", self.prefix.as_str()),
            ("BIPLANE_ENGINE_ID", "one"),
            ("BIPLANE_TEST_WITHOUT", self.setup.without),
        ];
        Engine::launch(&self.root, self.cluster.brokers(), &variables)
    }

    /// One life: it ends at a moment of its own, while one stage or the other is at work.
    fn live_and_die(&self, life: usize, random: f64) {
        let written = self.topic(["middle", "output"][life % 2]);
        let grow = self.share() as f64 * (0.5 + 0.9 * random);
        let produced = (life + 2) * self.share();
        let target = (self.cluster.count(&written) + grow as i64).min(produced as i64 * 9 / 10);
        let mut engine = self.engine();
        let came = holds_within(self.patience(), || self.cluster.count(&written) >= target);
        assert!(came && engine.runs() || !self.setup.without.is_empty(), "{}", engine.log());
        engine.kill();
    }

    /// The last life: it finishes all.
    fn finish(&self) {
        let mut engine = self.engine();
        for (stage, topic) in [("first", "input"), ("second", "middle")] {
            let (group, topic) = (format!("{}.{stage}", self.prefix), self.topic(topic));
            let done = holds_within(self.patience(), || {
                let committed = self.cluster.committed(&group, &topic);
                committed.values().map(|(offset, _)| offset).sum::<i64>() >= self.cluster.count(&topic)
            });
            assert!(done || !self.setup.without.is_empty(), "{}", engine.log());
        }
        assert!(engine.terminate(Duration::from_secs(30)).success(), "{}", engine.log());
    }

    fn patience(&self) -> Duration {
        match self.setup.without {
            "" => Duration::from_secs(90 + self.setup.records as u64 / 2_000),
            // What is lost never comes.
            _ => Duration::from_secs(5),
        }
    }

    fn report(&self, verdict: &Verdict, took: Duration) -> String {
        let Setup { records, kills, without, .. } = self.setup;
        let mut text = format!(
            "{records} records, {KEYS} keys, {kills} kills, {:.1} s{}\n\
             tried again: {} records; dead letters: {}\n",
            took.as_secs_f64(),
            if without.is_empty() { String::new() } else { format!(", without `{without}`") },
            verdict.retried,
            verdict.dead_letters(),
        );
        for stage in &verdict.stages {
            let _ = writeln!(
                text,
                "stage {}: read {}, wrote {}, lost {}, out of order {}, repeated {}, \
                 of these not left open by a kill {}",
                stage.name,
                stage.read,
                stage.written,
                stage.lost,
                stage.disordered,
                stage.repeated.iter().sum::<usize>(),
                stage.unpermitted,
            );
            let _ = writeln!(text, "  kill: written and not committed / repeated");
            let pairs = stage.open.iter().zip(&stage.repeated).enumerate();
            let pairs: Vec<_> =
                pairs.map(|(kill, (open, repeated))| format!("{}: {open}/{repeated}", kill + 1)).collect();
            for line in pairs.chunks(8) {
                let _ = writeln!(text, "  {}", line.join("  "));
            }
        }
        text
    }
}

/// The key of each record: the n-th most frequent comes 1/n as often as the first.
fn zipf_keys(records: usize) -> Vec<u16> {
    let mut sum = 0.0;
    let shares: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut random = Random(42);
    let pick = |random: f64| shares.partition_point(|share| *share < random * sum).min(KEYS - 1) as u16;
    (0..records).map(|_| pick(random.uniform())).collect()
}
