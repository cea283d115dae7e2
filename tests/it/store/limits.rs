//! Limits that all engines keep together: never passed, never lost, whatever becomes of who claims; keys take
//! turns.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use biplane::base::guard::{Guard, without};
use biplane::store::{
    BatchId, ClaimRequest, Claimed, Claiming, JobId, JobOptions, Lane, QueueLimits, Verdict,
};
use futures_util::future::join_all;
use parking_lot::Mutex;
use sqlx::Connection;
use tokio::task::JoinSet;

use super::{LONG, Work, done};
use crate::support::{Random, block_on, breathe, connect};

const DEADLINE: Duration = Duration::from_secs(120);

fn together(global_concurrency: i32) -> QueueLimits {
    QueueLimits { global_concurrency: Some(global_concurrency), ..QueueLimits::default() }
}

fn by_firm(per_key: Option<i32>, global_concurrency: Option<i32>) -> QueueLimits {
    let turns_by = Some(vec!["firm".to_owned()]);
    QueueLimits { global_concurrency, per_key, turns_by, rate: None }
}

/// The firm that a job belongs to.
fn firm(job: &Claimed) -> String {
    let args: serde_json::Value = serde_json::from_str(&job.args).expect("args");
    args["firm"].as_str().unwrap_or("none").to_owned()
}

impl Work {
    async fn limit(&self, limits: QueueLimits) {
        self.database.limit_queues(&[(self.queue, limits)]).await.expect("limited");
    }

    async fn put_for(&self, firm: &str, count: usize) -> Vec<JobId> {
        let args = format!("{{\"firm\": \"{firm}\"}}");
        let args = vec![args.as_str(); count];
        let ids = self.database.enqueue_many("plain", &args, None, &JobOptions::default()).await;
        ids.expect("enqueued").into_iter().flatten().collect()
    }

    fn limited(&self, claiming: Claiming, lane: Lane, limit: usize) -> ClaimRequest {
        ClaimRequest { claiming, ..self.lane(lane, limit) }
    }

    /// Claims as an engine does: what lies in the wrong half of the queue is moved first.
    async fn take(&self, limit: usize) -> (BatchId, Vec<Claimed>) {
        let lanes = [Lane::New, Lane::Again, Lane::Alone].into_iter();
        let marks: Vec<_> = lanes.flat_map(|lane| (1..=9).map(move |priority| (lane, priority, 0))).collect();
        let mut look = self.database.look(self.queue, &marks).await.expect("asked");
        while look.is_unsorted() {
            self.database.sort_queue(self.queue).await.expect("sorted");
            look = self.database.look(self.queue, &marks).await.expect("asked");
        }
        let lane = look.heads.first().map_or(Lane::New, |head| head.lane);
        let batch = BatchId::new();
        let claimed =
            self.database.claim(&self.worker, batch, &self.limited(look.claiming, lane, limit)).await;
        (batch, claimed.expect("claimed"))
    }

    async fn take_firms(&self, limit: usize) -> (BatchId, Vec<Claimed>, String) {
        let (batch, claimed) = self.take(limit).await;
        let firms = claimed.iter().map(firm).collect::<Vec<_>>().join(" ");
        (batch, claimed, firms)
    }
}

/// What runs at one time at most, of all and of one firm.
#[derive(Default)]
struct Counts {
    running: BTreeMap<String, usize>,
    most: usize,
    most_of_one: usize,
}

impl Counts {
    fn begin(&mut self, claimed: &[Claimed]) {
        for job in claimed {
            let of_one = self.running.entry(firm(job)).or_default();
            *of_one += 1;
            self.most_of_one = self.most_of_one.max(*of_one);
        }
        self.most = self.most.max(self.running.values().sum());
    }

    fn end(&mut self, claimed: &[Claimed]) {
        for job in claimed {
            *self.running.get_mut(&firm(job)).expect("it runs") -= 1;
        }
    }
}

/// Claims and ends jobs in every way there is, dying now and then, until none is left.
async fn work_on(work: Arc<Work>, counts: Arc<Mutex<Counts>>, seed: u64) {
    let mut random = Random(seed);
    loop {
        let (batch, claimed) = work.take(1 + (random.uniform() * 6.0) as usize).await;
        if claimed.is_empty() {
            work.database.rescue().await.expect("rescued");
            work.database.promote().await.expect("promoted");
            let listed = work.database.queues().await.expect("listed");
            if listed[0].queued + listed[0].running + listed[0].deferred == 0 {
                return;
            }
            breathe().await;
            continue;
        }
        counts.lock().begin(&claimed);
        tokio::task::yield_now().await;
        counts.lock().end(&claimed);
        let now = || Verdict::Snooze { delay: Duration::ZERO };
        let retry =
            || Verdict::Retry { delay: Duration::ZERO, code: "x".to_owned(), detail: "{}".to_owned() };
        match (random.uniform() * 8.0) as usize {
            // A worker that dies: its lease is past its deadline, and whoever finds nothing takes it back.
            0 => work.server.execute(&format!(
                "update biplane.lease set deadline_at = now() - interval '1 second' where batch_id = '{batch}'"
            )),
            1 => drop(work.settle(batch, &claimed, &Verdict::Back).await),
            2 => drop(work.settle(batch, &claimed, &now()).await),
            3 if claimed[0].attempt == 1 => drop(work.settle(batch, &claimed, &retry()).await),
            4 => {
                let (alone, first) = (BatchId::new(), &claimed[..1]);
                let graduated = work.database.graduate(&work.worker, batch, first[0].id, alone, LONG).await;
                assert!(graduated.expect("graduated"));
                work.settle(batch, &claimed[1..], &done()).await;
                work.settle(alone, first, &done()).await;
            }
            // In two parts.
            _ => {
                let (some, rest) = claimed.split_at(claimed.len() / 2);
                work.settle(batch, some, &done()).await;
                work.settle(batch, rest, &done()).await;
            }
        }
    }
}

/// Works 400 jobs of four firms off with six claimers.
async fn worked_off(work: &Arc<Work>) -> Counts {
    for (firm, count) in [("a", 250), ("b", 100), ("c", 45), ("d", 5)] {
        work.put_for(firm, count).await;
    }
    let counts = Arc::new(Mutex::new(Counts::default()));
    let mut claimers = JoinSet::new();
    for seed in 1..=6 {
        claimers.spawn(work_on(Arc::clone(work), Arc::clone(&counts), seed));
    }
    tokio::time::timeout(DEADLINE, claimers.join_all()).await.expect("all jobs end");
    let ended = work.count("done") + work.count("failed");
    assert_eq!((ended, work.count("ready"), work.count("lease")), (400, 0, 0));
    std::mem::take(&mut *counts.lock())
}

#[test]
fn all_engines_together_run_no_more_than_global_concurrency_and_no_place_is_lost() {
    block_on(async {
        let work = Arc::new(Work::new().await);
        work.limit(together(7)).await;
        let counts = worked_off(&work).await;
        assert!((2..=7).contains(&counts.most), "{}", counts.most);
        work.put(30).await;
        assert_eq!(work.take(30).await.1.len(), 7, "every place is free again");
        assert!(work.take(30).await.1.is_empty());
    });
}

#[test]
fn no_key_runs_more_than_its_share_and_no_place_is_lost() {
    block_on(async {
        let work = Arc::new(Work::new().await);
        work.limit(by_firm(Some(2), Some(7))).await;
        let counts = worked_off(&work).await;
        assert!((2..=7).contains(&counts.most), "{}", counts.most);
        assert_eq!(counts.most_of_one, 2);
        for firm in ["a", "b", "c", "d"] {
            work.put_for(firm, 10).await;
        }
        let (_, _, firms) = work.take_firms(30).await;
        let each = ["a", "b", "c", "d"].map(|firm| firms.matches(firm).count());
        assert_eq!(each.iter().sum::<usize>(), 7, "{firms}");
        assert!(each.iter().all(|count| (1..=2).contains(count)), "{firms}");
    });
}

/// How many jobs eight claims get together, of a queue that runs four, where all have begun before one ends.
fn claimed_at_once() -> usize {
    block_on(async {
        let work = Work::new().await;
        work.limit(together(4)).await;
        // Each claim has jobs of its own, so that none stands in another's way but by the limit.
        for priority in 1..=8 {
            let options = JobOptions { priority: Some(priority), ..JobOptions::default() };
            work.database.enqueue_many("plain", &["{}"; 3], None, &options).await.expect("enqueued");
        }
        let mut holder = connect(&work.server.url()).await;
        let mut held = holder.begin().await.expect("begun");
        // What a claim locks before it counts, and writes after it has taken its jobs.
        let lock = "select 1 from biplane.queue_turn for update";
        sqlx::query(lock).execute(&mut *held).await.expect("locked");
        let request = |priority| ClaimRequest { priority, ..work.limited(Claiming::Limited, Lane::New, 3) };
        let requests: Vec<_> = (1..=8).map(request).collect();
        // On this thread, whose guards count.
        let claim = |request| work.database.claim(&work.worker, BatchId::new(), request);
        let claims = join_all(requests.iter().map(claim));
        let released = async {
            let waiting = "select count(*) from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock'";
            let deadline = Instant::now() + DEADLINE;
            while work.server.value(waiting) != "8" {
                assert!(Instant::now() < deadline, "all eight wait");
                breathe().await;
            }
            held.rollback().await.expect("let go");
        };
        let (claims, ()) = tokio::join!(claims, released);
        claims.into_iter().map(|claimed| claimed.expect("claimed").len()).sum()
    })
}

#[test]
fn claims_at_the_same_moment_count_each_other() {
    assert_eq!(claimed_at_once(), 4);
    assert_eq!(
        without(Guard::OneTurn, claimed_at_once),
        24,
        "without waiting for each other each takes three"
    );
}

#[test]
fn a_rate_is_never_passed_whoever_claims_and_however_often() {
    block_on(async {
        let work = Arc::new(Work::new().await);
        work.put(200).await;
        let started = Instant::now();
        work.limit(QueueLimits { rate: Some(50.0), ..QueueLimits::default() }).await;
        let mut claimers = JoinSet::new();
        for _ in 0..4 {
            let work = Arc::clone(&work);
            claimers.spawn(async move {
                let mut mine = 0;
                while mine < 25 {
                    let (batch, claimed) = work.take(25 - mine).await;
                    mine += work.settle(batch, &claimed, &done()).await;
                    tokio::task::yield_now().await;
                }
                mine
            });
        }
        let all = tokio::time::timeout(DEADLINE, claimers.join_all()).await.expect("all start");
        // One and a tenth of a second's are saved at most.
        let least = Duration::from_secs_f64((100.0 - 6.0) / 50.0);
        assert_eq!(all.iter().sum::<usize>(), 100);
        assert!(started.elapsed() >= least, "100 within {:?}", started.elapsed());
        work.server
            .execute("update biplane.queue_turn set tokens = 0, refilled_at = now() + interval '1 hour'");
        assert_eq!(work.take(20).await.1.len(), 1, "a clock that was set back holds nobody up");
    });
}

/// In which round each of three jobs of ten firms starts, where another firm has `backlog` of them. Each round
/// fills what is free of four places, and ends what started the round before.
fn rounds(backlog: usize) -> Vec<usize> {
    block_on(async {
        let work = Work::new().await;
        work.limit(by_firm(Some(2), Some(4))).await;
        work.put_for("large", backlog).await;
        for small in 0..10 {
            work.put_for(&format!("small-{small}"), 3).await;
        }
        let mut started = Vec::new();
        let mut before = None;
        for round in 0.. {
            let (batch, claimed) = work.take(4).await;
            started.extend(claimed.iter().filter(|job| firm(job) != "large").map(|_| round));
            if started.len() == 30 {
                break;
            }
            if let Some((batch, claimed)) = before.replace((batch, claimed)) {
                work.settle(batch, &claimed, &done()).await;
            }
        }
        started
    })
}

#[test]
fn a_key_with_nearly_the_whole_backlog_makes_others_wait_no_longer_than_any_other_key() {
    let (alike, large) = (rounds(3), rounds(3000));
    assert_eq!(large[..10], alike[..10], "the first of each");
    let waits = |rounds: &[usize]| rounds.iter().sum::<usize>() as f64 / rounds.len() as f64;
    assert!(waits(&large) <= waits(&alike) * 1.25, "{alike:?}, and beside a long backlog {large:?}");
}

#[test]
fn keys_without_a_limit_of_their_own_share_the_places_evenly() {
    block_on(async {
        let work = Work::new().await;
        work.limit(by_firm(None, Some(6))).await;
        work.put_for("a", 50).await;
        let (first, claimed, firms) = work.take_firms(6).await;
        assert_eq!(firms, "a a a a a a", "nobody else has any");
        work.put_for("b", 50).await;
        work.put_for("c", 50).await;
        work.settle(first, &claimed[..2], &done()).await;
        let (_, _, firms) = work.take_firms(6).await;
        assert!(["b c", "c b"].contains(&&*firms), "{firms}");
        work.settle(first, &claimed[2..], &done()).await;
        let (_, _, firms) = work.take_firms(6).await;
        let each = ["a", "b", "c"].map(|firm| firms.matches(firm).count());
        assert_eq!(each, [2, 1, 1], "{firms}");
    });
}

#[test]
fn among_the_jobs_of_one_key_priority_age_and_lane_count() {
    block_on(async {
        let work = Work::new().await;
        work.limit(by_firm(Some(1), None)).await;
        let put = |priority| {
            let options = JobOptions { priority: Some(priority), ..JobOptions::default() };
            let database = work.database.clone();
            async move { database.enqueue("plain", r#"{"firm": "a"}"#, None, &options).await.expect("enqueued") }
        };
        let (late, soon) = (put(9).await, put(1).await);
        let (batch, claimed) = work.take(5).await;
        assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [soon]);
        // What is handed back and what is new take turns.
        work.settle(batch, &claimed, &Verdict::Back).await;
        let mut seen = HashSet::new();
        for _ in 0..2 {
            let (batch, claimed) = work.take(5).await;
            seen.extend(claimed.iter().map(|job| job.id));
            work.settle(batch, &claimed, &done()).await;
        }
        assert_eq!(seen, HashSet::from([late, soon]));
        // One that waits for ten minutes is ahead of a new one of the first priority.
        let (old, new) = (put(9).await, put(1).await);
        let older = old.0 - (600_000 << 20);
        work.server.execute(&format!(
            "update biplane.ready set seq = {older}, job_id = {older} where job_id = {0};
             update biplane.job set id = {older} where id = {0}",
            old.0
        ));
        let (batch, claimed) = work.take(1).await;
        assert_eq!(claimed.iter().map(|job| job.id.0).collect::<Vec<_>>(), [older]);
        work.settle(batch, &claimed, &done()).await;
        assert_eq!(work.take(1).await.1[0].id, new);
    });
}

#[test]
fn a_job_whose_workers_die_is_claimed_alone_and_holds_up_no_other() {
    block_on(async {
        let work = Work::new().await;
        work.limit(by_firm(Some(2), None)).await;
        work.put_for("a", 1).await;
        for _ in 0..3 {
            assert_eq!(work.take(5).await.1.len(), 1);
            work.expire(&work.worker);
            work.database.rescue().await.expect("rescued");
        }
        work.put_for("b", 4).await;
        work.put_for("a", 4).await;
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let (batch, claimed) = work.take(5).await;
            let alone = claimed.iter().any(|job| job.rescues == 3);
            sizes.push((claimed.len(), alone));
            work.settle(batch, &claimed, &done()).await;
        }
        sizes.sort_unstable();
        assert_eq!(sizes, [(1, true), (4, false), (4, false)]);
    });
}

#[test]
fn limits_that_come_and_go_while_jobs_wait_and_run_strand_nothing_and_are_kept_at_once() {
    block_on(async {
        let work = Work::new().await;
        for firm in ["a", "b", "c"] {
            work.put_for(firm, 10).await;
        }
        let (free, running) = work.take(5).await;
        assert_eq!(running.iter().map(firm).collect::<HashSet<_>>().len(), 1, "the oldest, all of one firm");

        work.limit(by_firm(Some(3), Some(8))).await;
        assert!(work.claim(Lane::New, 5).await.1.is_empty(), "an engine that knows of no limit gets nothing");
        let (keyed_batch, keyed) = work.take(8).await;
        assert_eq!(keyed.len(), 3, "five of eight places were taken already");
        assert!(keyed.iter().all(|job| firm(job) != firm(&running[0])), "and so was the first firm's share");

        work.limit(together(9)).await;
        let (global, limited) = work.take(8).await;
        assert_eq!(limited.len(), 1, "under another limit all eight count");

        work.limit(QueueLimits::default()).await;
        let (rest, free_again) = work.take(100).await;
        assert_eq!(
            free_again.len(),
            30 - 5 - 3 - 1,
            "jobs under keys are found where keys do not count any more"
        );
        for (batch, jobs) in [(free, running), (keyed_batch, keyed), (global, limited), (rest, free_again)] {
            assert_eq!(work.settle(batch, &jobs, &done()).await, jobs.len());
        }
        assert_eq!((work.count("done"), work.count("lease")), (30, 0));
    });
}

#[test]
fn jobs_that_wait_under_an_older_path_start_under_the_share_of_the_new_one() {
    block_on(async {
        let work = Work::new().await;
        work.limit(by_firm(Some(5), None)).await;
        for n in 0..12 {
            let args = format!("{{\"firm\": \"f{n}\", \"region\": \"{}\"}}", n % 2);
            work.put_one("plain", &args).await;
        }
        let (_, first) = work.take(3).await;
        assert_eq!(first.len(), 3);
        let by_region = Some(vec!["region".to_owned()]);
        work.limit(QueueLimits { per_key: Some(4), turns_by: by_region, ..QueueLimits::default() }).await;
        let mut running = first;
        // A claim of jobs under old keys moves them first.
        for _ in 0..20 {
            running.extend(work.take(12).await.1);
        }
        let regions = ["0", "1"].map(|region| {
            let of = |job: &&Claimed| job.args.contains(&format!("\"region\": \"{region}\""));
            running.iter().filter(of).count()
        });
        assert_eq!(regions, [4, 4], "with what ran before");
    });
}

#[test]
fn a_paused_queue_with_limits_gives_nothing_and_the_list_says_what_is_in_use() {
    block_on(async {
        let work = Work::new().await;
        let limits = QueueLimits { rate: Some(1000.0), ..by_firm(Some(1), Some(5)) };
        work.limit(limits.clone()).await;
        work.limit(limits).await;
        for firm in ["a", "b", "b"] {
            work.put_for(firm, 1).await;
        }
        work.database.pause_queue("work", "ann", None).await.expect("paused");
        assert!(work.take(5).await.1.is_empty());
        work.database.resume_queue("work", "ann").await.expect("resumed");
        let (mut claimed, deadline) = (0, Instant::now() + DEADLINE);
        while claimed < 2 {
            assert!(Instant::now() < deadline, "the rate lets two start");
            claimed += work.take(5).await.1.len();
        }
        let listed = &work.database.queues().await.expect("listed")[0];
        let limits = &listed.limits;
        assert_eq!((listed.running, listed.queued), (2, 1));
        assert_eq!(
            (limits.global_concurrency, limits.per_key, limits.rate),
            (Some(5), Some(1), Some(1000.0))
        );
        assert_eq!((limits.key.as_deref(), limits.keys, limits.keys_at_limit), (Some("args.firm"), 2, 2));
        assert!(limits.may_start.is_some_and(|count| count <= 101.0));
    });
}
