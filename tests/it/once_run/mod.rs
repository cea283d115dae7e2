//! Two exactly-once stages under everything at once: the engine is killed again and again, the broker is
//! killed and started again, connections break, answers to commits of transactions never come, and steps
//! fail. Readers of committed records see each record once. `tests/once-run` runs it at full size.
//!
//! `BIPLANE_TEST_ONCE_RECORDS` and `BIPLANE_TEST_ONCE_KILLS` say how many of each;
//! `BIPLANE_TEST_PARKED_RECORDS` and `BIPLANE_TEST_PARKED_KILLS`, of the run whose records are parked.

mod verdict;

use std::time::{Duration, Instant};

use serde_json::json;

use crate::kill_run::PIPELINE;
use crate::support::gate::{Gate, Kind};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, ConfigRoot, Engine, Message, PrivateKafka, Random, holds_within};
use verdict::Verdict;

const KEYS: usize = 200;
const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(120);

/// What befalls a life besides the kill that ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The broker is killed and started again.
    BrokerKilled,
    /// All connections break.
    Cut,
    /// Answers to commits and aborts of transactions are held back, and then lost.
    Unanswered,
}

impl Trouble {
    fn of(life: usize) -> Self {
        match life % 10 {
            2 => Self::BrokerKilled,
            5 => Self::Cut,
            4 | 8 => Self::Unanswered,
            _ => Self::None,
        }
    }
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    brokers_killed: usize,
    cuts: usize,
    unanswered: usize,
}

struct Run {
    records: usize,
    kills: usize,
    delivery: &'static str,
    /// Whether records that failed are parked while they wait.
    parks: bool,
    broker: PrivateKafka,
    gate: Gate,
    root: ConfigRoot,
    tally: Tally,
}

/// How many records and kills the run of that name takes.
fn size(name: &str, usual: (usize, usize)) -> (usize, usize) {
    let number = |what| std::env::var(format!("BIPLANE_TEST_{name}_{what}")).ok()?.parse().ok();
    (number("RECORDS").unwrap_or(usual.0), number("KILLS").unwrap_or(usual.1))
}

/// What fails waits in parking topics.
#[test]
fn what_exactly_once_stages_park_is_seen_once_and_in_order_whatever_is_killed() {
    let (records, kills) = size("PARKED", (1_500, 5));
    let run = Run { parks: true, ..Run::new(records, kills, "exactly-once") };
    let verdict = run.carry_out();
    assert_eq!(verdict.faults(), verdict::Faults::default());
    assert!(verdict.dead_letters() > 0);
}

/// With `at-least-once` the same run shows readers some records twice.
#[test]
fn two_exactly_once_stages_show_readers_each_record_once_whatever_is_killed() {
    let (records, kills) = size("ONCE", (2_500, 5));
    let verdict = Run::new(records, kills, "exactly-once").carry_out();
    assert_eq!(verdict.faults(), verdict::Faults::default());
    assert!(verdict.dead_letters() > 0);
    let verdict = Run::new(2_000, 2, "at-least-once").carry_out();
    assert!(verdict.faults().repeated > 0 && verdict.faults().lost == 0, "{:?}", verdict.faults());
}

impl Run {
    fn new(records: usize, kills: usize, delivery: &'static str) -> Self {
        let broker = PrivateKafka::start();
        let cluster = broker.cluster();
        for name in ["input", "middle", "output"] {
            cluster.create_topic(&topic(name), PARTITIONS, &[]);
        }
        for name in ["first-dlq", "second-dlq"] {
            cluster.create_topic(&topic(name), 1, &[]);
        }
        let gate = Gate::before(&cluster);
        let (root, tally) = (ConfigRoot::new(&[]), Tally::default());
        Self { records, kills, delivery, parks: false, broker, gate, root, tally }
    }

    fn carry_out(mut self) -> Verdict {
        let stub = Stub::counting(|_, times, stream| match times {
            1 => reply(stream, "503 Service Unavailable", ""),
            _ => reply(stream, "200 OK", "{}"),
        });
        // A life lasts about a second.
        let rate = self.share();
        let delivery = format!("delivery = \"{}\"", self.delivery);
        let pipeline = PIPELINE
            .replace("PREFIX", "once")
            .replace("URL", &stub.url())
            .replace(
                "[\"WAIT\"]",
                if self.parks { "[\"80ms\"]\nin_place_up_to = \"10ms\"" } else { "[\"20ms\"]" },
            )
            // The rate spreads what a life does over several transactions.
            .replace("FIRST", &format!("{delivery}\nrate_limit.rate = \"{rate}/s\""))
            .replace("SECOND", &delivery);
        self.root.write("pipelines/run.toml", &pipeline);
        self.produce();
        let started = Instant::now();
        let mut random = Random(11);
        for life in 0..self.kills {
            self.live_and_die(life, random.uniform());
        }
        self.finish();
        let verdict = Verdict::reach(&self.broker.cluster(), self.records);
        eprintln!("{}", self.report(&verdict, started.elapsed()));
        verdict
    }

    /// How many records fall to a life.
    fn share(&self) -> usize {
        self.records.div_ceil(self.kills + 2)
    }

    fn produce(&self) {
        let record = |number: usize| {
            Message::json(format!("key-{}", verdict::key_of(number)), &json!({"number": number}))
        };
        let records: Vec<_> = (0..self.records).map(record).collect();
        self.broker.cluster().produce(&topic("input"), &records);
    }

    fn engine(&self) -> Engine {
        let variables = [("BIPLANE_NAMESPACE", "once"), ("BIPLANE_ENGINE_ID", "one")];
        Engine::launch(&self.root, &self.gate.brokers(), &variables)
    }

    /// One life. It is ended while one stage or the other is at work, and most often in the middle of a
    /// transaction: what counts is what was written, committed or not.
    fn live_and_die(&mut self, life: usize, random: f64) {
        let cluster = self.broker.cluster();
        let watched = topic(["middle", "output"][life % 2]);
        let (share, before) = (self.share() as f64, cluster.written(&watched));
        let grown = |run: &Self, by: f64| {
            cluster.written(&watched) >= before + by as i64 || run.is_finished(&cluster)
        };
        let mut engine = self.engine();
        self.wait_for("some is written", &mut engine, || grown(self, 0.1 * share));
        let trouble = Trouble::of(life);
        self.strike(trouble, &mut engine);
        // What the stages do once a lost answer is given up takes longer than some lives are.
        if trouble != Trouble::Unanswered || life % 20 < 10 {
            let by = share * (0.2 + random);
            self.wait_for("more is written", &mut engine, || grown(self, by));
        }
        engine.kill();
        self.gate.open();
        self.tally.kills += 1;
    }

    fn strike(&mut self, trouble: Trouble, engine: &mut Engine) {
        match trouble {
            Trouble::None => {}
            Trouble::BrokerKilled => {
                self.broker.restart();
                self.tally.brokers_killed += 1;
            }
            Trouble::Cut => {
                self.gate.cut();
                self.tally.cuts += 1;
            }
            Trouble::Unanswered => {
                let before = self.gate.held();
                self.gate.hold_answers(Kind::EndTransaction);
                let transactional = self.delivery == "exactly-once";
                if transactional {
                    let cluster = self.broker.cluster();
                    let held = || self.gate.held() > before || self.is_finished(&cluster);
                    self.wait_for("an answer is held back", engine, held);
                }
                self.gate.cut();
                self.gate.open();
                self.tally.unanswered += usize::from(transactional);
            }
        }
    }

    /// The last life: it finishes all, and then has no lag.
    fn finish(&self) {
        let cluster = self.broker.cluster();
        let mut engine = self.engine();
        self.wait_for("all is committed", &mut engine, || self.is_finished(&cluster));
        assert!(engine.terminate(Duration::from_secs(30)).success(), "{}", engine.log());
    }

    fn is_finished(&self, cluster: &Cluster) -> bool {
        [("first", "input"), ("second", "middle")].into_iter().all(|(stage, input)| {
            let is_read = |topic: &str| {
                let committed = cluster.committed(&format!("once.{stage}"), topic);
                committed.values().map(|(offset, _)| offset).sum::<i64>() >= cluster.count(topic)
            };
            let parked = topic(&format!("{stage}.parked.{}", topic(input)));
            is_read(&topic(input)) && (!self.parks || is_read(&parked))
        })
    }

    fn wait_for(&self, what: &str, engine: &mut Engine, condition: impl FnMut() -> bool) {
        let patience = DEADLINE + Duration::from_millis(2 * self.records as u64);
        let came = holds_within(patience, condition);
        assert!(came && engine.runs(), "{what}: {}", engine.log());
    }

    fn report(&self, verdict: &Verdict, took: Duration) -> String {
        let Tally { kills, brokers_killed, cuts, unanswered } = self.tally;
        format!(
            "{} records through two `{}` stages in {:.0} s: {kills} engines killed, {brokers_killed} brokers \
             killed, {cuts} times all connections broken, {unanswered} commits or aborts whose answer was \
             lost\n{verdict}",
            self.records,
            self.delivery,
            took.as_secs_f64(),
        )
    }
}

fn topic(name: &str) -> String {
    format!("once.{name}")
}
