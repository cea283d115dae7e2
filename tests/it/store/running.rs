//! The loops together: claimed, run, acknowledged, brought back; stopped, killed, panicked.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use biplane::jobs::{Acker, Execute, QueueOptions, QueueRunner, Shared, Wakes, listen, promote, rescue};
use biplane::store::{
    Beside, Claimed, Database, Heartbeat, HeartbeatOptions, JobId, JobOptions, KindId, Verdict, Worker,
};
use biplane::telemetry::OutcomeCounts;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Work, open};
use crate::support::{block_on, breathe};

const DEADLINE: Duration = Duration::from_secs(60);

/// Does what a job's args say, and remembers how often each ran.
pub(super) struct Script {
    known: KindId,
    pub(super) ran: Mutex<HashMap<JobId, u32>>,
    unknown: Mutex<HashMap<KindId, u32>>,
    pub(super) cancelled: Mutex<Vec<JobId>>,
}

impl Execute for Script {
    fn knows(&self, kind: KindId) -> bool {
        kind == self.known
    }

    fn unknown(&self, job: &Claimed) {
        *self.unknown.lock().entry(job.kind).or_default() += 1;
    }

    async fn execute(&self, job: &Claimed, cancel: CancellationToken) -> (Verdict, Beside) {
        *self.ran.lock().entry(job.id).or_default() += 1;
        let args: serde_json::Value = serde_json::from_str(&job.args).expect("args");
        let verdict = match args["do"].as_str() {
            Some("panic") => panic!("as it was told"),
            Some("hang") => {
                cancel.cancelled().await;
                self.cancelled.lock().push(job.id);
                Verdict::Back
            }
            Some("retry") if job.attempt < 3 => {
                Verdict::Retry { delay: Duration::ZERO, code: "told".to_owned(), detail: "{}".to_owned() }
            }
            _ => Verdict::Succeeded { detail: Some(format!("{{\"attempt\": {}}}", job.attempt)) },
        };
        (verdict, Beside::default())
    }

    fn panicked(&self, _: &Claimed, message: &str) -> Verdict {
        Verdict::Failed {
            code: "panic".to_owned(),
            detail: serde_json::json!({ "message": message }).to_string(),
        }
    }
}

/// One engine's loops.
pub(super) struct Running {
    pub(super) script: Arc<Script>,
    pub(super) acker: Option<Acker>,
    stop: CancellationToken,
    pub(super) hurry: CancellationToken,
    tasks: JoinSet<()>,
    acking: JoinSet<()>,
    wakes: Arc<Wakes>,
}

impl Running {
    pub(super) async fn start(work: &Work, lease: Duration) -> Self {
        let database = open(&work.server.url(), 8);
        let worker = database.register("runner", "0").await.expect("registered");
        Self::with(work, database, worker, lease)
    }

    pub(super) fn with(work: &Work, database: Database, worker: Worker, lease: Duration) -> Self {
        let options = HeartbeatOptions { every: lease / 10, lease };
        let heartbeat = Arc::new(Heartbeat::start(&database, worker, options).expect("a heartbeat"));
        let script = Arc::new(Script {
            known: work.plain,
            ran: Mutex::default(),
            unknown: Mutex::default(),
            cancelled: Mutex::default(),
        });
        let (acker, acks) =
            Acker::new(database.clone(), worker, Arc::clone(&heartbeat), OutcomeCounts::default());
        let wakes = Arc::new(Wakes::default());
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let (mut tasks, mut acking) = (JoinSet::new(), JoinSet::new());
        acking.spawn(acks);
        tasks.spawn(listen(database.clone(), Arc::clone(&wakes), stop.clone()));
        tasks.spawn(rescue(database.clone(), Arc::clone(&wakes), stop.clone()));
        tasks.spawn(promote(database.clone(), Arc::clone(&wakes), stop.clone()));
        let options = QueueOptions {
            name: "work".to_owned(),
            queue: work.queue,
            concurrency: watch::channel(8).1,
            lease,
            drain: DEADLINE,
        };
        let execute = Arc::clone(&script);
        let hears = Arc::clone(&wakes);
        let shared = Shared { database, worker, execute, acker: acker.clone(), heartbeat, wakes };
        tasks.spawn(QueueRunner::new(shared, options).run(stop.clone(), hurry.clone()));
        Self { script, acker: Some(acker), stop, hurry, tasks, acking, wakes: hears }
    }

    /// Whether it is told of new jobs.
    pub(super) fn hears(&self) -> bool {
        self.wakes.listening()
    }

    /// Ends every loop as a stop does, and the acker last.
    pub(super) async fn stop(mut self) -> Arc<Script> {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no loop panics");
        }
        self.acker = None;
        while let Some(ended) = self.acking.join_next().await {
            ended.expect("no loop panics");
        }
        self.script
    }

    /// Ends it as a kill does: no loop says farewell.
    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
        self.acking.shutdown().await;
    }
}

pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            breathe().await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

pub(super) async fn put(work: &Work, what: &str, count: usize) -> Vec<JobId> {
    let args = format!("{{\"do\": \"{what}\"}}");
    let args = vec![args.as_str(); count];
    let ids = work.database.enqueue_many("plain", &args, None, &JobOptions::default()).await;
    ids.expect("enqueued").into_iter().flatten().collect()
}

#[test]
fn jobs_that_succeed_fail_and_panic_each_end_once() {
    block_on(async {
        let work = Work::new().await;
        put(&work, "succeed", 1500).await;
        let retried = put(&work, "retry", 20).await;
        let panicked = put(&work, "panic", 3).await;
        let foreign = work.put_one("unique", r#"{"key": 1}"#).await;
        let running = Running::start(&work, DEADLINE).await;
        until("all have ended", || work.count("done") == 1520 && work.count("failed") == 3).await;
        let late = put(&work, "succeed", 1).await;
        until("the late one has ended", || work.count("done") == 1521).await;
        let script = running.stop().await;
        let ran = script.ran.lock().clone();
        assert!(retried.iter().all(|id| ran[id] == 3));
        assert!(panicked.iter().chain(&late).all(|id| ran[id] == 1));
        assert_eq!(ran.values().sum::<u32>(), 1500 + 60 + 3 + 1, "nothing ran twice");
        assert!(!ran.contains_key(&foreign));
        assert_eq!(work.state(foreign).await, "scheduled", "what is not known here is put off");
        assert_eq!(script.unknown.lock().values().copied().collect::<Vec<_>>(), [1], "and told of");
        let shown = work.database.show_job(panicked[0]).await.expect("shown").expect("known");
        assert!(shown.detail.expect("an error").contains("as it was told"));
        assert_eq!(work.count("lease"), 0);
    });
}

#[test]
fn a_stop_hands_back_what_has_not_started_and_a_hurry_cancels_what_runs() {
    block_on(async {
        let work = Work::new().await;
        put(&work, "hang", 100).await;
        let running = Running::start(&work, DEADLINE).await;
        until("eight run", || running.script.ran.lock().len() == 8).await;
        running.hurry.cancel();
        let script = running.stop().await;
        assert_eq!(script.ran.lock().len(), 8);
        assert_eq!((work.count("lease"), work.count("ready"), work.count("done")), (0, 100, 0));
        assert_eq!(work.server.value("select max(attempt) from biplane.ready"), "1", "no attempt is spent");
    });
}

#[test]
fn what_a_killed_engine_held_runs_on_another_and_ends_once() {
    block_on(async {
        let work = Work::new().await;
        put(&work, "hang", 8).await;
        let killed = Running::start(&work, Duration::from_secs(2)).await;
        until("it holds all", || killed.script.ran.lock().len() == 8).await;
        killed.kill().await;
        work.server.execute("update biplane.job set args = '{}'");
        let other = Running::start(&work, Duration::from_secs(2)).await;
        until("all have ended", || work.count("done") == 8).await;
        other.stop().await;
        assert_eq!(work.server.value("select count(distinct job_id) from biplane.done"), "8");
        assert_eq!(work.count("lease"), 0);
    });
}
