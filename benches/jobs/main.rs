//! Durable jobs on a real PostgreSQL: bulk enqueue, draining a backlog of no-op jobs, single enqueue beside a
//! bare insert, and how soon an idle claimer has a job that was just committed.
//!
//! `benches/run jobs [--records N] [--rounds N]`; BIPLANE_TEST_DATABASE_URL names the server.

#![allow(clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use biplane::store::{
    BatchId, Beside, ClaimRequest, Claiming, Database, DatabaseSettings, JobOptions, KindDefinition, Lane,
    Listener, LowWater, MAX_ARGS, Outcome, QueueId, Schema, UniqueRule, Verdict, Worker, migrate,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

const CONNECTIONS: usize = 4;
const BATCH: usize = 500;
const BULK: usize = 1_000;
/// Args of 150 bytes, as text.
const ARGS: usize = 150;
const LEASE: Duration = Duration::from_secs(60);
const SINGLES: Duration = Duration::from_secs(3);
const WAKES: usize = 300;

fn main() {
    let (records, rounds) = (argument("--records", 1_000_000), argument("--rounds", 3));
    let url = std::env::var("BIPLANE_TEST_DATABASE_URL").expect("BIPLANE_TEST_DATABASE_URL names a server");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for round in 1..=rounds {
            let bench = Bench::new(&url).await;
            bench.backlog(round, records).await;
            bench.singles(round).await;
            bench.wakes(round).await;
            bench.end().await;
        }
    });
}

struct Bench {
    server: String,
    name: String,
    url: String,
    database: Database,
    queue: QueueId,
    worker: Worker,
}

impl Bench {
    async fn new(server: &str) -> Self {
        let name = format!("bench_{}", BatchId::new().0.simple());
        run(server, &format!("create database {name}")).await;
        let url = format!("{}/{name}", server.rsplit_once('/').expect("a URL with a database").0);
        let settings = DatabaseSettings::new(&url, None, Schema::default()).expect("a URL");
        migrate(&settings, false, |_| ()).await.expect("migrated");
        let database = Database::new(settings, 20);
        let kind = KindDefinition {
            name: "noop".to_owned(),
            queue: "noop".to_owned(),
            priority: 5,
            max_attempts: 3,
            unique: UniqueRule::default(),
            max_args_bytes: MAX_ARGS,
            exhausted_enqueues: None,
        };
        let published = database.publish(&[], &[kind]).await.expect("published");
        let worker = database.register("bench", "0").await.expect("registered");
        let queue = published.queues["noop"];
        Self { server: server.to_owned(), name, url, database, queue, worker }
    }

    async fn backlog(&self, round: usize, records: usize) {
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for share in 0..CONNECTIONS {
            let (database, count) = (self.database.clone(), share_of(records, share));
            tasks.spawn(async move {
                let args = args();
                let mut left = count;
                while left > 0 {
                    let bulk = vec![args.as_str(); left.min(BULK)];
                    database
                        .enqueue_many("noop", &bulk, None, &JobOptions::default())
                        .await
                        .expect("enqueued");
                    left -= bulk.len();
                }
            });
        }
        tasks.join_all().await;
        let put = rate(records, began.elapsed());
        run(&self.url, "analyze biplane.ready").await;

        let before = wal(&self.url).await;
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            tasks.spawn(drain(self.database.clone(), self.worker, self.queue));
        }
        let done: usize = tasks.join_all().await.iter().sum();
        let took = began.elapsed();
        assert_eq!(done, records, "every job ended");
        let bytes = (wal(&self.url).await - before) / records as i64;
        println!(
            "round {round}: bulk enqueue {put:>9.0}/s; drain {:>9.0} jobs/s, {bytes} bytes of WAL a job",
            rate(records, took)
        );
    }

    async fn singles(&self, round: usize) {
        run(
            &self.url,
            "create table bare (id bigint generated always as identity primary key, args jsonb not null)",
        )
        .await;
        for clients in [1, 16] {
            let bare = self.single("insert into bare (args) values ($1::text::jsonb)", clients).await;
            let enqueue = self.single("select biplane.enqueue('noop', $1::text::jsonb)", clients).await;
            println!(
                "round {round}: {clients:>2} clients: bare insert {bare:>7.0}/s, biplane.enqueue {enqueue:>7.0}/s, ratio {:.2}",
                enqueue / bare
            );
        }
    }

    async fn single(&self, statement: &'static str, clients: usize) -> f64 {
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for _ in 0..clients {
            let url = self.url.clone();
            tasks.spawn(async move {
                let mut connection = PgConnection::connect(&url).await.expect("connected");
                let (args, began, mut count) = (args(), Instant::now(), 0);
                while began.elapsed() < SINGLES {
                    sqlx::query(statement).bind(&args).execute(&mut connection).await.expect("put");
                    count += 1;
                }
                count
            });
        }
        let count: usize = tasks.join_all().await.iter().sum();
        rate(count, began.elapsed())
    }

    /// From the commit of an enqueue elsewhere to the answer of the claim that gets it.
    async fn wakes(&self, round: usize) {
        run(&self.url, "truncate biplane.ready").await;
        let mut listener = Listener::open(&self.database).await.expect("listening").expect("no pooler");
        let mut other = PgConnection::connect(&self.url).await.expect("connected");
        let mut times = Vec::new();
        for _ in 0..WAKES {
            self.database.arm(&[self.queue], LEASE).await.expect("armed");
            sqlx::query("select biplane.enqueue('noop', '{}')").execute(&mut other).await.expect("put");
            let committed = Instant::now();
            listener.next().await.expect("heard");
            let (batch, request) = (BatchId::new(), self.request(0));
            let claimed = self.database.claim(&self.worker, batch, &request).await.expect("claimed");
            times.push(committed.elapsed());
            assert_eq!(claimed.len(), 1);
        }
        times.sort();
        let at = |share: f64| times[(WAKES as f64 * share) as usize].as_secs_f64() * 1_000.0;
        println!("round {round}: from commit to claim: p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
    }

    fn request(&self, after: i64) -> ClaimRequest {
        request(self.queue, after)
    }

    async fn end(self) {
        self.database.close().await;
        run(&self.server, &format!("drop database {} with (force)", self.name)).await;
    }
}

async fn drain(database: Database, worker: Worker, queue: QueueId) -> usize {
    let (mut low, mut total) = (LowWater::default(), 0);
    loop {
        let from = low.begin(Instant::now(), false);
        let batch = BatchId::new();
        let claimed = database.claim(&worker, batch, &request(queue, from.after)).await.expect("claimed");
        low.end(from, Instant::now(), claimed.last().map(|job| job.seq), claimed.len(), BATCH);
        if claimed.is_empty() {
            if from.after == 0 {
                return total;
            }
            low = LowWater::default();
            continue;
        }
        let outcomes: Vec<Outcome> = claimed
            .iter()
            .map(|job| Outcome {
                id: job.id,
                kind: job.kind,
                keyed: job.keyed,
                remembered: job.remembered,
                took: Duration::from_millis(1),
                verdict: Verdict::Succeeded { detail: None },
                beside: Beside::default(),
            })
            .collect();
        total += database.settle(&worker, &[batch], &outcomes).await.expect("settled").written.len();
    }
}

fn request(queue: QueueId, after: i64) -> ClaimRequest {
    ClaimRequest {
        queue,
        claiming: Claiming::Free,
        lane: Lane::New,
        priority: 5,
        after,
        limit: BATCH,
        lease: LEASE,
    }
}

async fn run(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("connected");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect(sql);
    let _ = connection.close().await;
}

async fn wal(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("connected");
    let asked = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
    let at = sqlx::query_scalar(asked).fetch_one(&mut connection).await.expect("a position");
    let _ = connection.close().await;
    at
}

fn args() -> String {
    let (start, end) = (r#"{"connector_id": 4711, "text": ""#, r#""}"#);
    format!("{start}{}{end}", "x".repeat(ARGS - start.len() - end.len()))
}

fn share_of(records: usize, share: usize) -> usize {
    records / CONNECTIONS + usize::from(share < records % CONNECTIONS)
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn argument(name: &str, default: usize) -> usize {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
}
