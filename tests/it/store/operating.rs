//! What operators do to jobs: each verb, by id and by filter, beside leases, unique keys and other operators.

use std::time::Duration;

use biplane::jobs::Action;
use biplane::store::{Change, JobId, JobOptions, Lane, Selection, Verdict};

use super::{LONG, Work, done, outcomes};
use crate::support::block_on;

const AT_ONCE: Change = Change::Cancel(Duration::ZERO);

impl Work {
    async fn change(&self, change: Change, ids: &[JobId]) -> (u64, u64) {
        let done = Action::new(change).to_jobs(&self.database, ids, "me").await.expect("done");
        (done.done, done.asked)
    }

    /// What a filter means and how many it then was done to.
    async fn by_filter(&self, change: Change, selection: Selection) -> (i64, u64) {
        let selected = self.database.select_jobs(selection).await.expect("selected");
        let counts = self.database.count_selected(&selected).await.expect("counted");
        let operated = Action::new(change)
            .to_selected(&self.database, &selected, "{}", "me", |_| ())
            .await
            .expect("done");
        (counts.iter().map(|(_, count)| count).sum(), operated.done + operated.asked)
    }

    /// One job that is kept as failed.
    async fn fail(&self, kind: &str, args: &str) -> JobId {
        let id = self.put_one(kind, args).await;
        let (batch, claimed) = self.claim(Lane::New, 1).await;
        assert_eq!(claimed[0].id, id);
        let failed =
            Verdict::Failed { code: "http-500".to_owned(), detail: r#"{"message": "no"}"#.to_owned() };
        assert_eq!(self.settle(batch, &claimed, &failed).await, 1);
        id
    }
}

fn of(states: &[&str]) -> Selection {
    Selection { states: states.iter().map(|state| (*state).to_owned()).collect(), ..Selection::default() }
}

#[test]
fn a_job_is_cancelled_wherever_it_waits_and_lets_its_key_go() {
    block_on(async {
        let work = Work::new().await;
        let queued = work.put_one("unique", r#"{"key": 1}"#).await;
        let later = JobOptions { run_at: Some(chrono::Utc::now() + LONG), ..JobOptions::default() };
        let scheduled =
            work.database.enqueue("unique", r#"{"key": 2}"#, None, &later).await.expect("enqueued");
        let back = work.put_one("plain", "{}").await;
        // The two oldest of the lane: the unique one comes back by deferral, the plain one to its lane.
        let (batch, claimed) = work.claim(Lane::New, 2).await;
        assert_eq!(claimed.iter().map(|job| job.id).collect::<Vec<_>>(), [queued, back]);
        assert_eq!(work.settle(batch, &claimed, &Verdict::Back).await, 2);
        for id in [queued, scheduled, back] {
            assert_eq!(work.change(AT_ONCE, &[id]).await, (1, 0));
            assert_eq!(work.state(id).await, "cancelled");
            assert_eq!(work.change(AT_ONCE, &[id]).await, (0, 0), "once is enough");
        }
        assert_eq!((work.count("ready"), work.count("deferred"), work.count("unique_claim")), (0, 0, 0));
        let audited = "select string_agg(distinct actor || ' ' || action, ',') from biplane.audit";
        assert_eq!(work.server.value(audited), "me jobs.cancel");
        let counted = "select sum((detail ->> 'count')::int) from biplane.audit";
        assert_eq!(work.server.value(counted), "3");
    });
}

#[test]
fn a_worker_that_does_not_end_a_cancelled_job_loses_it_alone() {
    block_on(async {
        let work = Work::new().await;
        let ids = work.put(3).await;
        let (batch, claimed) = work.claim(Lane::New, 3).await;
        assert_eq!(work.change(Change::Cancel(LONG), &ids[1..2]).await, (0, 1));
        assert_eq!(work.database.fence_cancelled().await.expect("looked"), 0, "its time is not over");
        assert_eq!(work.state(ids[1]).await, "running");
        work.server.execute("update biplane.cancel_ask set fence_at = now()");
        assert_eq!(work.database.fence_cancelled().await.expect("fenced"), 1);
        assert_eq!(work.state(ids[1]).await, "cancelled");
        assert_eq!(work.count("cancel_ask"), 0);
        let written = work.database.settle(&work.worker, &[batch], &outcomes(&claimed, &done())).await;
        let written = written.expect("settled");
        assert_eq!(written.stale, [ids[1]], "its worker's outcome counts for nothing");
        assert_eq!((work.count("lease"), work.count("done")), (0, 3));
    });
}

#[test]
fn a_cancelled_job_that_came_back_in_between_ends_all_the_same() {
    block_on(async {
        let work = Work::new().await;
        let id = work.put_one("plain", "{}").await;
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        assert_eq!(work.change(Change::Cancel(Duration::ZERO), &[id]).await, (0, 1));
        let retry = Verdict::Retry { delay: LONG, code: "http-500".to_owned(), detail: "{}".to_owned() };
        assert_eq!(work.settle(batch, &claimed, &retry).await, 1);
        assert_eq!(work.database.fence_cancelled().await.expect("fenced"), 1);
        assert_eq!((work.state(id).await, work.count("cancel_ask")), ("cancelled".to_owned(), 0));
    });
}

#[test]
fn what_was_given_up_begins_anew_and_forgets_that_it_was_cancelled() {
    block_on(async {
        let work = Work::new().await;
        let id = work.fail("unique", r#"{"key": 1}"#).await;
        assert_eq!(work.change(Change::Retry, &[id]).await, (1, 0));
        work.database.promote().await.expect("promoted");
        assert_eq!(work.state(id).await, "queued");
        assert_eq!(work.count("unique_claim"), 1, "it has its key again");
        let (batch, claimed) = work.claim(Lane::Again, 1).await;
        assert_eq!(claimed[0].attempt, 1, "with all its attempts");
        assert_eq!(work.change(Change::Cancel(LONG), &[id]).await, (0, 1));
        let cancelled = Verdict::Cancelled { code: "asked".to_owned() };
        assert_eq!(work.settle(batch, &claimed, &cancelled).await, 1);
        assert_eq!(work.change(Change::Retry, &[id]).await, (1, 0));
        assert_eq!((work.count("done"), work.count("cancel_ask")), (0, 0), "a job is in one place");
        work.database.promote().await.expect("promoted");
        assert_eq!(work.state(id).await, "queued");
        assert_eq!(work.change(Change::Retry, &[id]).await, (0, 0), "it is due already");
    });
}

#[test]
fn failed_jobs_are_discarded_and_those_that_wait_put_off_or_put_first() {
    block_on(async {
        let work = Work::new().await;
        let failed = work.fail("plain", "{}").await;
        assert_eq!(work.change(Change::Discard, &[failed]).await, (1, 0));
        assert_eq!(work.state(failed).await, "discarded");
        assert_eq!(
            work.server.value("select code || (detail ->> 'message') from biplane.done"),
            "http-500no"
        );

        let ids = work.put(2).await;
        assert_eq!(work.change(Change::SnoozeFor(LONG), &ids[..1]).await, (1, 0));
        assert_eq!(work.state(ids[0]).await, "scheduled");
        let sooner = Change::SnoozeUntil(chrono::Utc::now() - LONG);
        assert_eq!(work.change(sooner, &ids[..1]).await, (1, 0), "the time of a deferred one is moved");
        work.database.promote().await.expect("promoted");
        for (id, lane) in [(ids[0], Lane::Again), (ids[1], Lane::New)] {
            assert_eq!(work.change(Change::Prioritise(2), &[id]).await, (1, 0));
            let request = biplane::store::ClaimRequest { priority: 2, ..work.lane(lane, 1) };
            let batch = biplane::store::BatchId::new();
            let claimed = work.database.claim(&work.worker, batch, &request).await.expect("claimed");
            assert_eq!((claimed[0].id, claimed[0].priority), (id, 2), "found by its new place");
        }
    });
}

#[test]
fn a_key_that_another_took_meanwhile_ends_a_snoozed_job_of_its_own_account() {
    block_on(async {
        let work = Work::new().await;
        let first = work.put_one("waiting", r#"{"key": 1}"#).await;
        assert_eq!(work.change(Change::SnoozeFor(Duration::ZERO), &[first]).await, (1, 0));
        let second = work.put_one("waiting", r#"{"key": 1}"#).await;
        assert_ne!(first, second, "a job that is not queued does not hold that key");
        work.database.promote().await.expect("promoted");
        assert_eq!(
            (work.state(first).await, work.state(second).await),
            ("cancelled".into(), "queued".into())
        );
    });
}

#[test]
fn a_filter_means_exactly_what_it_says_in_any_number() {
    block_on(async {
        let work = Work::new().await;
        let args: Vec<String> =
            (0..2_400).map(|nth| format!(r#"{{"tenant": {}, "nth": {nth}}}"#, nth % 3)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        work.database.enqueue_many("plain", &args, None, &JobOptions::default()).await.expect("enqueued");
        let keyed = work.put_one("unique", r#"{"key": 9}"#).await;
        let (_, running) = work.claim(Lane::New, 30).await;
        assert_eq!(running.len(), 30);

        let key = Selection { key: Some("[9]".to_owned()), ..of(&["queued"]) };
        assert_eq!(work.by_filter(Change::Prioritise(1), key).await, (1, 1));
        assert_eq!(work.database.show_job(keyed).await.expect("shown").and_then(|job| job.priority), Some(1));

        let tenant = Selection { args: Some(r#"{"tenant": 1}"#.to_owned()), ..of(&["queued", "running"]) };
        assert_eq!(work.by_filter(Change::Cancel(LONG), tenant).await, (800, 800));
        assert_eq!((work.count("done"), work.count("cancel_ask"), work.count("ready")), (790, 10, 1_581));

        let kind =
            Selection { kind: Some("plain".to_owned()), queue: Some("work".to_owned()), ..of(&["queued"]) };
        assert_eq!(work.by_filter(Change::SnoozeFor(LONG), kind).await, (1_580, 1_580));
        assert_eq!((work.count("ready"), work.count("deferred")), (1, 1_580));
        let old = Selection { since_seconds: Some(0), ..of(&["scheduled"]) };
        assert_eq!(work.by_filter(AT_ONCE, old).await, (0, 0), "none was enqueued within no time");
        assert_eq!(work.by_filter(Change::Retry, of(&["cancelled"])).await, (790, 790));
        let counts = "select string_agg(detail ->> 'count', ' ' order by id) from biplane.audit";
        assert_eq!(work.server.value(counts), "1 800 1580 0 790");

        let unheard = Selection { queue: Some("unheard-of".to_owned()), ..of(&["queued"]) };
        assert_eq!(super::refused(work.database.select_jobs(unheard).await.unwrap_err()), "BP005");
    });
}

#[test]
fn two_operators_and_engines_at_once_lose_no_job_and_end_none_twice() {
    block_on(async {
        let work = Work::new().await;
        let ids = work.put(2_000).await;
        let mut busy = tokio::task::JoinSet::new();
        for part in 0..4 {
            let (database, ids) = (work.database.clone(), ids.clone());
            busy.spawn(async move {
                let mine: Vec<JobId> = ids.into_iter().filter(|id| id.0 % 2 == part % 2).collect();
                Action::new(Change::Cancel(LONG)).to_jobs(&database, &mine, "me").await.expect("cancelled");
            });
        }
        for _ in 0..4 {
            let (database, worker, queue) = (work.database.clone(), work.worker, work.queue);
            busy.spawn(async move {
                loop {
                    let batch = biplane::store::BatchId::new();
                    let request = biplane::store::ClaimRequest {
                        queue,
                        claiming: biplane::store::Claiming::Free,
                        lane: Lane::New,
                        priority: 5,
                        after: 0,
                        limit: 50,
                        lease: LONG,
                    };
                    let claimed = database.claim(&worker, batch, &request).await.expect("claimed");
                    if claimed.is_empty() {
                        return;
                    }
                    database.settle(&worker, &[batch], &outcomes(&claimed, &done())).await.expect("settled");
                }
            });
        }
        busy.join_all().await;
        assert_eq!((work.count("ready"), work.count("lease"), work.count("done")), (0, 0, 2_000));
        assert_eq!(work.server.value("select count(distinct job_id) from biplane.done"), "2000");
        work.server.execute("update biplane.cancel_ask set fence_at = now()");
        work.database.fence_cancelled().await.expect("fenced");
        assert_eq!(work.count("done"), 2_000, "what ended before it was fenced stays as it ended");
    });
}

#[test]
fn statements_of_operators_go_by_indexes_where_tables_are_long() {
    block_on(async {
        let work = Work::new().await;
        let ids = work.put(30_000).await;
        work.server.execute(
            "insert into biplane.deferred (job_id, run_at, queue_id, attempt, priority, reason)
                select id, now(), queue_id, 1, 5, 'z' from biplane.job;
            insert into biplane.failed (job_id, queue_id, kind_id, attempt, code, error)
                select id, queue_id, kind_id, 1, 'c', '{}' from biplane.job;
            insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome)
                select id, queue_id, kind_id, 1, 1, 's' from biplane.job;
            analyze",
        );
        let today = work.server.value("select to_char(now() at time zone 'UTC', 'YYYYMMDD')");
        let named = ids[..200].iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let let_go = include_str!("../../../src/store/sql/claim/let_go.sql");
        for (name, sql, end, third, fourth) in [
            ("cancel", include_str!("../../../src/store/sql/operator/cancel.sql"), let_go, "'me'", "10"),
            ("retry", include_str!("../../../src/store/sql/operator/retry.sql"), "", "", ""),
            ("discard", include_str!("../../../src/store/sql/operator/discard.sql"), let_go, "", ""),
            ("snooze", include_str!("../../../src/store/sql/operator/snooze.sql"), let_go, "null", "10"),
            (
                "prioritise",
                include_str!("../../../src/store/sql/operator/prioritise.sql"),
                "",
                "3::smallint",
                "",
            ),
        ] {
            let sql =
                format!("{sql}{end}").replace("$1", &format!("array[{named}]::bigint[]")).replace("$2", "7");
            let plan = work.server.plan(&sql.replace("$3", third).replace("$4", fourth));
            let days = ["job", "done"].map(|table| format!("{table}_{today}"));
            for table in ["ready", "deferred", "failed"].into_iter().chain(days.iter().map(String::as_str)) {
                let whole = format!("Seq Scan on {table} ");
                assert!(!plan.contains(&whole), "{name} reads all of {table}:\n{plan}");
            }
        }
    });
}
