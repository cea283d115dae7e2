//! Four engines run durable jobs while each of them is killed and stopped again and again, and Postgres as well:
//! every job ends, each outcome is recorded once, no key is held by two, and no limit is overshot. `tests/jobs-run` runs
//! it at full size.
//!
//! `BIPLANE_TEST_JOBS` says how many jobs, `BIPLANE_TEST_JOBS_STRIKES` how often each engine is killed, and how often
//! stopped, `BIPLANE_TEST_JOBS_CRASHES` how often Postgres is killed.

mod verdict;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use biplane::store::{Database, DatabaseSettings, JobId, JobOptions, Schema, StoreError};

use crate::support::stub::{Stub, reply};
use crate::support::{
    ConfigRoot, Engine, PrivatePostgres, Random, TestDatabase, breathe, brokers, holds_within, unique,
};
use verdict::{Faults, Verdict};

/// How many different keys there are. The jobs of kind `limited` have all of them, those of kind `unique` six.
const KEYS: usize = 40;

/// How long a service takes to answer a job of kind `long`.
const ANSWER: Duration = Duration::from_millis(200);

/// Of twenty jobs in a row, which kind each is of.
const KINDS: [&str; 20] = [
    "doomed", "flaky", "long", "unique", "short", "short", "short", "unique", "short", "short", "short",
    "flaky", "short", "short", "unique", "short", "short", "short", "paced", "limited",
];

/// How many jobs of kind `paced` all engines start in a second.
const RATE: usize = 25;

/// Every twentieth job is of kind `long`.
const LONG_EVERY: usize = 20;

const CONFIG: &str = r#"
[queues.work]
concurrency = 8

[retries.brief]
max_attempts = 9
backoff      = { delays = ["50ms"] }

[retries.twice]
max_attempts = 2
backoff      = { delays = ["50ms"] }

[jobs.short]
queue = "work"

[[jobs.short.steps]]
set.number = "{{ args.n }}"

[jobs.long]
queue = "work"
retry = "brief"

[[jobs.long.steps]]
http.url = "URL/{{ args.n }}"

[jobs.flaky]
queue = "work"
retry = "brief"

[[jobs.flaky.steps]]
when         = "job.attempt < 3"
fail.class   = "transient"
fail.code    = "flaky"
fail.message = "once more"

[jobs.doomed]
queue = "work"
retry = "twice"

[[jobs.doomed.steps]]
fail.class   = "transient"
fail.code    = "doomed"
fail.message = "it never passes"

[queues.limited]
global_concurrency = 6
per_key            = { key = "args.key", concurrency = 1 }

[jobs.limited]
queue = "limited"
retry = "brief"

[[jobs.limited.steps]]
http.url = "URL/limited/{{ args.n }}"

[queues.paced]
rate = "RATE/s"

[jobs.paced]
queue = "paced"

[[jobs.paced.steps]]
set.number = "{{ args.n }}"

[jobs.unique]
queue  = "work"
unique = { by = ["args.key"] }

[[jobs.unique.steps]]
set.key = "{{ args.key }}"
"#;

/// One run.
#[derive(Debug, Clone, Copy)]
struct Setup {
    jobs: usize,
    engines: usize,
    /// How often each engine is killed, and how often it is stopped.
    strikes: usize,
    /// How often Postgres is killed.
    crashes: usize,
    /// The guard that the engines do without.
    without: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Strike {
    Kill(usize),
    Stop(usize),
    Crash,
}

struct Run {
    setup: Setup,
    database: Database,
    runtime: tokio::runtime::Runtime,
    server: TestDatabase,
    postgres: PrivatePostgres,
    service: Stub,
    root: ConfigRoot,
    namespace: String,
    /// What was acknowledged to whoever enqueued it.
    put: Vec<JobId>,
    given: usize,
    overlaps: usize,
    overshot: usize,
}

/// Without `rescue` nobody takes back what killed engines held.
#[test]
fn every_job_ends_once_though_engines_and_the_server_are_killed_again_and_again() {
    let number = |name: &str, otherwise: usize| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
    };
    let verdict = Run::new(Setup {
        jobs: number("BIPLANE_TEST_JOBS", 3_000),
        engines: 4,
        strikes: number("BIPLANE_TEST_JOBS_STRIKES", 1),
        crashes: number("BIPLANE_TEST_JOBS_CRASHES", 2),
        without: "",
    })
    .carry_out();
    assert_eq!(verdict.faults, Faults::default());
    assert!(verdict.failed > 0 && verdict.retried > 0, "{verdict:?}");
    #[cfg(debug_assertions)]
    {
        let small = Setup { jobs: 400, engines: 1, strikes: 2, crashes: 0, without: "rescue" };
        let faults = Run::new(small).carry_out().faults;
        assert!(faults.unended > 0, "{faults:?}");
    }
}

impl Run {
    fn new(setup: Setup) -> Self {
        let postgres = PrivatePostgres::start(&["fsync=on"]);
        let server = TestDatabase::on(&postgres.url());
        let service = Stub::start(|_, stream| {
            let (_never, answer) = mpsc::channel::<()>();
            let _ = answer.recv_timeout(ANSWER);
            reply(stream, "200 OK", "{}");
        });
        let config = CONFIG.replace("URL", &service.url()).replace("RATE", &RATE.to_string());
        let root = ConfigRoot::new(&[("pipelines/run.toml", &config)]);
        let settings = DatabaseSettings::new(&server.url(), None, Schema::default()).expect("a URL");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(biplane::store::migrate(&settings, false, |_| ())).expect("migrated");
        let database = runtime.block_on(async { Database::new(settings, 2) });
        let namespace = unique("jobs-run");
        Self {
            setup,
            database,
            runtime,
            server,
            postgres,
            service,
            root,
            namespace,
            put: Vec::new(),
            given: 0,
            overlaps: 0,
            overshot: 0,
        }
    }

    fn carry_out(mut self) -> Verdict {
        let started = Instant::now();
        let mut engines: Vec<Engine> = (0..self.setup.engines).map(|number| self.engine(number)).collect();
        engines.iter_mut().for_each(Engine::wait_ready);
        let mut random = Random(23);
        let strikes = self.strikes(&mut random);
        let share = self.setup.jobs.div_ceil(strikes.len() + 1);
        for strike in &strikes {
            self.enqueue(share);
            // It comes at a moment of its own, while jobs run.
            let asked = self.service.asked() + (share as f64 / LONG_EVERY as f64 * random.uniform()) as usize;
            holds_within(Duration::from_secs(5), || self.service.asked() >= asked);
            match *strike {
                Strike::Kill(number) => {
                    assert!(engines[number].runs(), "{}", engines[number].log());
                    engines[number].kill();
                    engines[number] = self.engine(number);
                }
                Strike::Stop(number) => {
                    let ended = engines[number].terminate(Duration::from_secs(60));
                    assert!(ended.success(), "{ended}: {}", engines[number].log());
                    engines[number] = self.engine(number);
                }
                Strike::Crash => {
                    self.postgres.kill();
                    self.postgres.restart();
                }
            }
            self.overlaps += verdict::overlaps(&self.server);
            self.overshot += verdict::overshot(&self.server);
        }
        self.enqueue(self.setup.jobs - self.given);
        self.wait_for_the_end();
        for engine in &mut engines {
            assert!(engine.terminate(Duration::from_secs(60)).success(), "{}", engine.log());
        }
        let verdict = Verdict::reach(&self);
        eprintln!("{}", self.report(&verdict, started.elapsed()));
        verdict
    }

    fn engine(&self, number: usize) -> Engine {
        let (url, name) = (self.server.url(), format!("engine-{number}"));
        let variables = [
            ("DATABASE_URL", url.as_str()),
            ("BIPLANE_NAMESPACE", self.namespace.as_str()),
            ("BIPLANE_ENGINE_ID", name.as_str()),
            ("BIPLANE_TEST_WITHOUT", self.setup.without),
        ];
        Engine::launch(&self.root, &brokers(), &variables)
    }

    /// All of them in an order of their own.
    fn strikes(&self, random: &mut Random) -> Vec<Strike> {
        let Setup { engines, strikes, crashes, .. } = self.setup;
        let mut all: Vec<Strike> = (0..engines)
            .flat_map(|number| (0..strikes).flat_map(move |_| [Strike::Kill(number), Strike::Stop(number)]))
            .chain((0..crashes).map(|_| Strike::Crash))
            .collect();
        for place in (1..all.len()).rev() {
            all.swap(place, (random.uniform() * (place + 1) as f64) as usize);
        }
        all
    }

    /// Enqueues that many more, each kind in a bulk of its own.
    fn enqueue(&mut self, count: usize) {
        let numbers = self.given..(self.given + count).min(self.setup.jobs);
        self.given = numbers.end;
        for kind in ["short", "long", "flaky", "doomed", "limited", "paced", "unique"] {
            // What is never taken back holds its place under a limit for good.
            if kind == "limited" && !self.setup.without.is_empty() {
                continue;
            }
            let of_kind = numbers.clone().filter(|number| KINDS[number % KINDS.len()] == kind);
            let args = of_kind.map(|number| {
                let key = if kind == "limited" { number / KINDS.len() } else { number } % KEYS;
                format!("{{\"n\": {number}, \"key\": {key}}}")
            });
            let args: Vec<String> = args.collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            for bulk in args.chunks(1_000) {
                let put = self.runtime.block_on(put(&self.database, kind, bulk));
                self.put.extend(put.into_iter().flatten());
            }
        }
    }

    fn wait_for_the_end(&self) {
        let patience = Duration::from_secs(120 + self.setup.jobs as u64 / 200);
        // Without a guard what is left of a dead engine stays where it is.
        let left = match self.setup.without {
            "" => {
                "select (select count(*) from biplane.ready) + (select count(*) from biplane.deferred)
                + (select count(*) from biplane.lease)"
            }
            _ => {
                "select (select count(*) from biplane.ready) + (select count(*) from biplane.deferred)
                + (select count(*) from biplane.lease where deadline_at > now())"
            }
        };
        let ended = holds_within(patience, || self.server.value(left) == "0");
        assert!(ended, "{} are left after {patience:?}", self.server.value(left));
    }

    fn report(&self, verdict: &Verdict, took: Duration) -> String {
        let Setup { jobs, engines, strikes, crashes, without } = self.setup;
        let each = engines * strikes;
        let missing = if without.is_empty() { String::new() } else { format!(", without `{without}`") };
        format!(
            "{jobs} jobs given, {} made, {engines} engines killed {each} and stopped {each} times in all, Postgres \
             killed {crashes} times, {:.1} s{missing}\n{verdict}",
            verdict.made,
            took.as_secs_f64(),
        )
    }
}

/// Sends until it is answered. What an answer was lost of may be there twice, as it may be for whoever enqueues.
async fn put(database: &Database, kind: &str, args: &[&str]) -> Vec<Option<JobId>> {
    loop {
        match database.enqueue_many(kind, args, None, &JobOptions::default()).await {
            Ok(ids) => return ids,
            Err(error) => {
                // A new server has no kinds until the first engine has told it.
                let early = matches!(&error, StoreError::Refused { code, .. } if code == "BP001");
                assert!(error.is_transient() || early, "{error}");
                breathe().await;
            }
        }
    }
}
