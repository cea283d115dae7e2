//! Jobs in: from Rust, from SQL within an application's transaction, one by one and in bulk; what is refused.

use std::time::Duration;

use biplane::steps::ports::{JobOrder, Origin};
use biplane::store::{JobOptions, Lane, Listener, StoreError};
use chrono::{TimeDelta, Utc};

use super::{Work, open, refused};
use crate::support::block_on;

#[test]
fn a_job_that_is_due_is_queued_and_one_that_is_due_later_is_scheduled() {
    block_on(async {
        let work = Work::new().await;
        let now = work.put_one("plain", r#"{"connector": 7}"#).await;
        let options = JobOptions { run_at: Some(Utc::now() + TimeDelta::hours(1)), ..JobOptions::default() };
        let later = work.database.enqueue("plain", "{}", None, &options).await.expect("enqueued");
        assert_eq!(work.state(now).await, "queued");
        assert_eq!(work.state(later).await, "scheduled");
        let shown = work.database.show_job(now).await.expect("shown").expect("known");
        assert_eq!(shown.args.as_deref(), Some(r#"{"connector": 7}"#));
        assert_eq!((shown.kind.as_deref(), shown.queue.as_deref()), (Some("plain"), Some("work")));
        assert_eq!((shown.attempt, shown.max_attempts, shown.priority), (1, Some(3), Some(5)));
        assert!((0.0..60.0).contains(&shown.age_seconds), "{}", shown.age_seconds);
        assert_eq!(work.state(biplane::store::JobId(1)).await, "gone");
    });
}

#[test]
fn an_application_enqueues_in_its_own_transaction_with_no_right_but_to_execute() {
    block_on(async {
        let mut work = Work::new().await;
        let (role, _) = work.server.role();
        work.server.execute(&format!(
            "grant usage on schema biplane to {role};
             grant execute on function biplane.enqueue to {role};
             create table orders (n integer);
             grant insert on orders to {role}"
        ));
        for (n, end) in [(1, "rollback"), (2, "commit")] {
            work.server.execute(&format!(
                "set role {role};
                 begin; insert into orders values ({n}); select biplane.enqueue('plain', '{{\"n\": {n}}}'); {end}"
            ));
        }
        let (_, claimed) = work.claim(Lane::New, 10).await;
        let args: Vec<_> = claimed.iter().map(|job| job.args.as_str()).collect();
        assert_eq!(args, [r#"{"n": 2}"#], "what was rolled back was never there");
    });
}

#[test]
fn what_cannot_be_a_job_is_refused_with_a_code() {
    block_on(async {
        let work = Work::new().await;
        let plain = JobOptions::default();
        let large = format!("{{\"a\": \"{}\"}}", "x".repeat(10 << 20));
        let long = "k".repeat(2000);
        let priority = JobOptions { priority: Some(0), ..JobOptions::default() };
        let attempts = JobOptions { max_attempts: Some(0), ..JobOptions::default() };
        for (kind, args, key, options, code) in [
            ("unheard-of", "{}", None, &plain, "BP001"),
            ("plain", large.as_str(), None, &plain, "BP002"),
            ("plain", "{}", None, &priority, "BP003"),
            ("plain", "{}", None, &attempts, "BP003"),
            ("plain", "{}", Some(long.as_str()), &plain, "BP004"),
            ("plain", r#"{"a": "\u0000"}"#, None, &plain, "22P05"),
            ("plain", "{\"a\": ", None, &plain, "22P02"),
        ] {
            let one = work.database.enqueue(kind, args, key, options).await.expect_err(code);
            assert_eq!(refused(one), code);
            let keys = key.map(|key| vec![key]);
            let many = work.database.enqueue_many(kind, &[args], keys.as_deref(), options).await;
            if code != "BP004" {
                assert_eq!(refused(many.expect_err(code)), code, "in bulk");
            }
        }
        assert_eq!(work.count("job"), work.count("ready"), "nothing is left of what was refused");
    });
}

#[test]
fn a_kind_says_how_large_its_args_may_be_as_text() {
    block_on(async {
        let work = Work::new().await;
        work.server.execute("update biplane.kind set max_args_bytes = 64 where name = 'plain'");
        // Of the longest text for what it is kept as, and of the shortest.
        for (unit, text) in [(r"\u0001", 6), ("x", 1), ("\u{20ac}", 3)] {
            for (count, fits) in [(55 / text, true), (55 / text + 1, false)] {
                let args = format!("{{\"a\": \"{}\"}}", unit.repeat(count));
                let put = work.database.enqueue("plain", &args, None, &JobOptions::default()).await;
                assert_eq!(put.is_ok(), fits, "{args}");
                let many = work.database.enqueue_many("plain", &[&args], None, &JobOptions::default()).await;
                assert_eq!(many.map_err(refused).err(), (!fits).then(|| "BP002".to_owned()), "{args}");
            }
        }
    });
}

#[test]
fn a_bulk_is_queued_in_its_order_and_ids_name_their_day() {
    block_on(async {
        let work = Work::new().await;
        let args: Vec<String> = (0..2000).map(|n| format!("{{\"n\": {n}}}")).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ids =
            work.database.enqueue_many("plain", &args, None, &JobOptions::default()).await.expect("enqueued");
        assert_eq!(ids.len(), 2000);
        let (_, first) = work.claim(Lane::New, 1000).await;
        let (_, second) = work.claim(Lane::New, 1000).await;
        let claimed: Vec<_> = first.iter().chain(&second).map(|job| job.args.as_str()).collect();
        assert_eq!(claimed, args);
        let claimed: Vec<_> = first.iter().chain(&second).map(|job| Some(job.id)).collect();
        assert_eq!(claimed, ids);
        let today = work.server.value(
            "select count(*) from biplane.job where biplane.job_created_at(id) between now() - interval '1 minute' and clock_timestamp()",
        );
        assert_eq!(today, "2000");
    });
}

#[test]
fn an_idle_engine_is_notified_after_the_commit_and_only_while_its_queue_is_armed() {
    block_on(async {
        let work = Work::new().await;
        let mut listener = Listener::open(&work.database).await.expect("listening").expect("no pooler");
        work.put(1).await;
        work.database.arm(&[work.queue], Duration::from_secs(60)).await.expect("armed");
        work.put(1).await;
        work.put_one("plain", "{}").await;
        work.database.arm(&[work.queue], Duration::ZERO).await.expect("disarmed");
        work.put(1).await;
        work.server.execute("select pg_notify('biplane_ready', 'last')");
        let mut heard = Vec::new();
        while heard.last().is_none_or(|queue| queue != "last") {
            let next = tokio::time::timeout(Duration::from_secs(20), listener.next()).await;
            heard.extend(next.expect("within 20 s").expect("connected"));
        }
        assert_eq!(heard, ["work", "work", "last"]);
    });
}

#[test]
fn a_pool_without_a_free_connection_answers_in_time_that_it_is_busy() {
    block_on(async {
        let work = Work::new().await;
        let small = open(&work.server.url(), 1);
        let ids = small.enqueue("plain", "{}", None, &JobOptions::default()).await;
        assert!(ids.is_ok());
        small.close().await;
        let error = small.enqueue("plain", "{}", None, &JobOptions::default()).await.expect_err("closed");
        assert!(error.is_transient(), "{error}");
    });
}

#[test]
fn what_was_enqueued_for_a_place_is_not_enqueued_again_until_that_is_forgotten() {
    block_on(async {
        let work = Work::new().await;
        let held = work.put_one("unique", r#"{"key": 2}"#).await;
        let order = JobOrder {
            origin: Origin { source: 1, place: 2, part: 3 },
            kind: "unique",
            args: (1..=3).map(|key| format!(r#"{{"key": {key}}}"#)).collect(),
            unique_keys: None,
            run_at: None,
            delay: Some(Duration::from_secs(60)),
            expires: Some(Duration::from_secs(3_600)),
            priority: Some(2),
            max_attempts: None,
            trace: None,
            then: None,
        };
        let once = || async { work.database.enqueue_once(&order).await.expect("enqueued") };
        let first = once().await;
        assert_eq!(first.iter().map(|one| one.is_new).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(first[1].id, Some(held.0), "the one that holds the key");
        assert_eq!((work.count("job"), work.count("deferred")), (3, 2));
        let expires = "select extract(epoch from j.expires_at - d.run_at)::integer || ' ' || d.priority
            from biplane.job j join biplane.deferred d on d.job_id = j.id limit 1";
        assert_eq!(work.server.value(expires), "3600 2");
        let (again, at_once) = tokio::join!(once(), once());
        for again in [again, at_once] {
            assert!(
                again.iter().zip(&first).all(|(one, first)| one.id == first.id && !one.is_new),
                "{again:?}"
            );
        }
        assert_eq!(work.database.forget_enqueued(1).await, Ok(0));
        work.server.execute(
            "update biplane.enqueued set made_at = now() - interval '2 days'; truncate biplane.unique_claim",
        );
        assert_eq!(work.database.forget_enqueued(1).await, Ok(1));
        assert!(once().await.iter().all(|one| one.is_new));
        let unknown =
            JobOrder { origin: Origin { source: 2, ..order.origin }, kind: "unheard", ..order.clone() };
        let refused = work.database.enqueue_once(&unknown).await.expect_err("refused");
        assert!(matches!(refused, StoreError::Refused { code, .. } if code == "BP001"));
        assert_eq!(work.count("enqueued"), 1, "what is refused leaves nothing");
    });
}

#[test]
fn two_that_enqueue_for_one_place_at_one_time_enqueue_once() {
    block_on(async {
        let work = Work::new().await;
        let order = |kind: &'static str| JobOrder {
            origin: Origin { source: 1, place: 1, part: 0 },
            kind,
            args: vec!["{}".to_owned()],
            unique_keys: None,
            run_at: None,
            delay: None,
            expires: None,
            priority: None,
            max_attempts: None,
            trace: None,
            then: Some(("plain", "{}".to_owned())),
        };
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (database, order) = (work.database.clone(), order("plain"));
            all.spawn(async move { database.enqueue_once(&order).await.expect("enqueued") });
        }
        let all = all.join_all().await;
        assert_eq!(all.iter().filter(|enqueued| enqueued[0].is_new).count(), 1);
        assert!(all.iter().all(|enqueued| enqueued[0].id == all[0][0].id));
        assert_eq!((work.count("job"), work.count("job_group")), (1, 1));
    });
}
