//! The command plane's tables through `biplane::store`, on a real server.

mod away;
mod claims;
mod conflicts;
mod enqueue;
mod faults;
mod few;
mod groups;
mod killed;
mod leases;
mod limits;
mod operating;
mod pooler;
mod progress;
mod returning;
mod rolling;
mod running;
mod unique;
mod upkeep;
mod workers;

use std::time::Duration;

use biplane::store::{
    BatchId, Beside, ClaimRequest, Claimed, Claiming, Database, DatabaseSettings, JobId, JobOptions,
    KindDefinition, KindId, Lane, MAX_ARGS, Outcome, QueueId, Schema, StoreError, UniqueRule, Verdict,
    Worker, migrate,
};

use crate::support::TestDatabase;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

/// A migrated database of one test's own with one queue and three kinds: `plain`, `unique` by `args.key` and
/// `waiting`, which is unique only while it waits to run.
struct Work {
    database: Database,
    queue: QueueId,
    plain: KindId,
    worker: Worker,
    // Dropped last.
    server: TestDatabase,
}

impl Work {
    async fn new() -> Self {
        Self::on(TestDatabase::new()).await
    }

    async fn on(server: TestDatabase) -> Self {
        let database = open(&server.url(), 16);
        migrate(database.settings(), false, |_| ()).await.expect("migrated");
        let by_key = UniqueRule { by: Some(vec![vec!["key".to_owned()]]), ..UniqueRule::default() };
        let waiting = UniqueRule { states: biplane::store::states::QUEUED, ..by_key.clone() };
        let kinds = [kind("plain", UniqueRule::default()), kind("unique", by_key), kind("waiting", waiting)];
        let published = database.publish(&[], &kinds).await.expect("published");
        let worker = database.register("test", "0").await.expect("registered");
        let (queue, plain) = (published.queues["work"], published.kinds["plain"]);
        Self { database, queue, plain, worker, server }
    }

    async fn put(&self, count: usize) -> Vec<JobId> {
        let args = vec!["{}"; count];
        let ids = self.database.enqueue_many("plain", &args, None, &JobOptions::default()).await;
        ids.expect("enqueued").into_iter().map(|id| id.expect("an id")).collect()
    }

    async fn put_one(&self, kind: &str, args: &str) -> JobId {
        self.database.enqueue(kind, args, None, &JobOptions::default()).await.expect("enqueued")
    }

    fn request(&self, limit: usize) -> ClaimRequest {
        self.lane(Lane::New, limit)
    }

    fn lane(&self, lane: Lane, limit: usize) -> ClaimRequest {
        let claiming = Claiming::Free;
        ClaimRequest { queue: self.queue, claiming, lane, priority: 5, after: 0, limit, lease: LONG }
    }

    async fn claim(&self, lane: Lane, limit: usize) -> (BatchId, Vec<Claimed>) {
        let batch = BatchId::new();
        let claimed = self.database.claim(&self.worker, batch, &self.lane(lane, limit)).await;
        (batch, claimed.expect("claimed"))
    }

    async fn settle(&self, batch: BatchId, claimed: &[Claimed], verdict: &Verdict) -> usize {
        let outcomes = outcomes(claimed, verdict);
        self.database.settle(&self.worker, &[batch], &outcomes).await.expect("settled").written.len()
    }

    async fn state(&self, id: JobId) -> String {
        let job = self.database.show_job(id).await.expect("shown");
        job.map_or_else(|| "gone".to_owned(), |job| job.state)
    }

    /// Lets every lease of a worker be past its deadline by the database's clock.
    fn expire(&self, worker: &Worker) {
        let epoch = worker.epoch;
        self.server.execute(&format!(
            "update biplane.lease set deadline_at = now() - interval '1 second' where epoch = {epoch}"
        ));
    }

    fn count(&self, table: &str) -> usize {
        self.server.value(&format!("select count(*) from biplane.{table}")).parse().expect("a number")
    }
}

fn kind(name: &str, unique: UniqueRule) -> KindDefinition {
    KindDefinition {
        name: name.to_owned(),
        queue: "work".to_owned(),
        priority: 5,
        max_attempts: 3,
        unique,
        max_args_bytes: MAX_ARGS,
        exhausted_enqueues: None,
    }
}

fn open(url: &str, connections: u32) -> Database {
    let settings = DatabaseSettings::new(url, None, Schema::default()).expect("a URL");
    Database::new(settings, connections)
}

fn done() -> Verdict {
    Verdict::Succeeded { detail: None }
}

fn outcomes(claimed: &[Claimed], verdict: &Verdict) -> Vec<Outcome> {
    let outcome = |one: &Claimed| Outcome {
        id: one.id,
        kind: one.kind,
        keyed: one.keyed,
        remembered: one.remembered,
        took: Duration::from_millis(1),
        verdict: verdict.clone(),
        beside: Beside::default(),
    };
    claimed.iter().map(outcome).collect()
}

fn refused(error: StoreError) -> String {
    match error {
        StoreError::Refused { code, .. } => code,
        other => panic!("not refused: {other}"),
    }
}
