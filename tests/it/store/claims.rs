//! Claiming: each job by one claimer, in order, under a lease; paused queues, low-water marks, heads.

use std::collections::HashSet;
use std::time::Instant;

use biplane::store::{BatchId, ClaimRequest, Held, JobOptions, Lane, LowWater};

use super::{LONG, Work, done};
use crate::support::block_on;

#[test]
fn many_claimers_at_once_never_get_the_same_job_and_get_all() {
    block_on(async {
        let work = Work::new().await;
        let put: HashSet<_> = work.put(3000).await.into_iter().collect();
        let mut claimers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (database, worker, request) = (work.database.clone(), work.worker, work.request(37));
            claimers.spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = database.claim(&worker, BatchId::new(), &request).await.expect("claimed");
                    if claimed.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.into_iter().map(|job| job.id));
                }
            });
        }
        let all: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();
        assert_eq!(all.len(), put.len(), "nobody claims what another has");
        assert_eq!(all.into_iter().collect::<HashSet<_>>(), put);
        assert_eq!(work.count("ready"), 0);
        assert_eq!(work.server.value("select sum(cardinality(job_ids)) from biplane.lease"), "3000");
    });
}

#[test]
fn a_claim_has_the_payload_and_leaves_a_lease_that_can_be_asked_for() {
    block_on(async {
        let work = Work::new().await;
        let options = JobOptions { trace: Some("00-1-2-01".to_owned()), ..JobOptions::default() };
        let id = work.database.enqueue("plain", r#"{"a": 1}"#, None, &options).await.expect("enqueued");
        let (batch, claimed) = work.claim(Lane::New, 10).await;
        assert_eq!(claimed.len(), 1);
        let job = &claimed[0];
        assert_eq!((job.id, job.attempt, job.rescues, job.kind), (id, 1, 0, work.plain));
        assert_eq!((job.args.as_str(), job.trace.as_deref()), (r#"{"a": 1}"#, Some("00-1-2-01")));
        assert_eq!((job.keyed, job.expired, job.max_attempts), (false, false, 3));
        assert_eq!(work.state(id).await, "running");
        let asked = work.database.ask(&work.worker, batch, LONG).await.expect("asked");
        assert_eq!(asked.iter().map(|job| (job.id, &job.args)).collect::<Vec<_>>(), [(id, &job.args)]);
        assert!(work.database.ask(&work.worker, BatchId::new(), LONG).await.expect("asked").is_empty());
        let (_, none) = work.claim(Lane::New, 10).await;
        assert!(none.is_empty());
        assert_eq!(work.count("lease"), 1, "a claim of nothing leaves no lease");
    });
}

#[test]
fn a_job_that_should_have_started_says_so() {
    block_on(async {
        let work = Work::new().await;
        let past = JobOptions { expires_at: Some(chrono::Utc::now()), ..JobOptions::default() };
        work.database.enqueue("plain", "{}", None, &past).await.expect("enqueued");
        let (_, claimed) = work.claim(Lane::New, 10).await;
        assert!(claimed[0].expired);
    });
}

#[test]
fn a_paused_queue_gives_nothing_until_it_is_resumed_and_the_audit_says_who() {
    block_on(async {
        let work = Work::new().await;
        work.put(2).await;
        let database = &work.database;
        assert_eq!(
            database.pause_queue("work", "ann", Some("upgrade")).await.expect("paused"),
            Held::Changed
        );
        assert_eq!(database.pause_queue("work", "bob", None).await.expect("paused"), Held::Unchanged);
        assert_eq!(database.pause_queue("none", "bob", None).await.expect("asked"), Held::Unknown);
        assert!(work.claim(Lane::New, 10).await.1.is_empty());
        let listed = database.queues().await.expect("listed");
        assert_eq!(
            (listed[0].paused_by.as_deref(), listed[0].pause_reason.as_deref()),
            (Some("ann"), Some("upgrade"))
        );
        assert_eq!((listed[0].queued, listed[0].running), (2, 0));
        assert_eq!(database.resume_queue("work", "bob").await.expect("resumed"), Held::Changed);
        assert_eq!(database.resume_queue("work", "bob").await.expect("resumed"), Held::Unchanged);
        assert_eq!(work.claim(Lane::New, 10).await.1.len(), 2);
        let audit = work
            .server
            .value("select string_agg(actor || ' ' || action, ', ' order by id) from biplane.audit");
        assert_eq!(audit, "ann queues.pause, bob queues.resume");
    });
}

#[test]
fn a_claim_above_the_mark_passes_over_what_lies_below_until_it_looks_back() {
    block_on(async {
        let work = Work::new().await;
        work.put(4).await;
        let mut low = LowWater::default();
        let mut claims = Vec::new();
        let start = Instant::now();
        for second in 0..4 {
            let now = start + std::time::Duration::from_secs(second);
            let from = low.begin(now, false);
            let request = ClaimRequest { after: from.after, ..work.request(2) };
            let batch = BatchId::new();
            let claimed = work.database.claim(&work.worker, batch, &request).await.expect("claimed");
            low.end(from, now, claimed.last().map(|job| job.seq), claimed.len(), 2);
            if second == 0 {
                // Two that were taken out of order come back below the mark.
                work.server.execute(
                    "insert into biplane.ready select id, id, queue_id, 1, 5, 0, 0 from biplane.job order by id limit 2",
                );
            }
            claims.push(claimed.len());
            work.settle(batch, &claimed, &done()).await;
        }
        assert_eq!(
            claims,
            [2, 2, 2, 0],
            "the mark is passed at once, what lies below it at the next look back"
        );
    });
}

#[test]
fn heads_say_which_priority_has_work_and_how_old_it_is() {
    block_on(async {
        let work = Work::new().await;
        let urgent = JobOptions { priority: Some(2), ..JobOptions::default() };
        let first = work.database.enqueue("plain", "{}", None, &urgent).await.expect("enqueued");
        work.database.enqueue("plain", "{}", None, &urgent).await.expect("enqueued");
        let other = work.put(1).await[0];
        let marks: Vec<_> = (1..=9).map(|priority| (Lane::New, priority, 0)).collect();
        let heads = work.database.look(work.queue, &marks).await.expect("asked").heads;
        let found: Vec<_> = heads.iter().map(|head| (head.priority, head.id)).collect();
        assert_eq!(found, [(2, first), (5, other)]);
        assert!(heads[0].age.as_secs() < 60);
    });
}
