//! Groups: one more job once the last member has ended, however it ends and whoever ends it.

use biplane::store::{Lane, Verdict};

use super::{Work, done, outcomes};
use crate::support::{block_on, connect};

/// Enqueues so many jobs, and one of kind `unique` behind the last of them.
fn group(work: &Work, members: usize) {
    work.server.execute(&format!(
        "select biplane.enqueue_group('plain', array(select jsonb_build_object('n', n) from
            generate_series(1, {members}) n), 'unique', '{{\"of\": {members}}}')"
    ));
}

/// How many jobs of kind `unique` there are.
fn last_ones(work: &Work) -> String {
    work.server.value(
        "select count(*) from biplane.job j join biplane.kind k on k.id = j.kind_id where k.name = 'unique'",
    )
}

#[test]
fn whoever_ends_the_last_member_enqueues_one_job_and_only_one() {
    block_on(async {
        let work = Work::new().await;
        group(&work, 40);
        let mut batches = Vec::new();
        for _ in 0..8 {
            batches.push(work.claim(Lane::New, 5).await);
        }
        let mut settling = tokio::task::JoinSet::new();
        for (round, (batch, claimed)) in batches.into_iter().enumerate() {
            let verdict = match round % 3 {
                0 => done(),
                1 => Verdict::Cancelled { code: "asked".to_owned() },
                _ => Verdict::Discarded { code: "asked".to_owned(), detail: None },
            };
            let (database, worker) = (work.database.clone(), work.worker);
            settling.spawn(async move {
                let outcomes = outcomes(&claimed, &verdict);
                // Sent again, as after a lost answer: what was settled is held no more.
                for expected in [5, 0] {
                    let settled = database.settle(&worker, &[batch], &outcomes).await.expect("settled");
                    assert_eq!(settled.written.len(), expected);
                }
            });
        }
        settling.join_all().await;
        assert_eq!((last_ones(&work), work.count("done")), ("1".to_owned(), 40));
        assert_eq!((work.count("job_group"), work.count("group_member")), (0, 0));
        let args = work.server.value(
            "select args from biplane.job j join biplane.kind k on k.id = j.kind_id where k.name = 'unique'",
        );
        assert_eq!(args, r#"{"of": 40}"#);
    });
}

#[test]
fn a_failed_member_is_waited_for_until_an_operator_decides() {
    block_on(async {
        let work = Work::new().await;
        group(&work, 2);
        let (batch, claimed) = work.claim(Lane::New, 2).await;
        let failed = Verdict::Failed { code: "x".to_owned(), detail: "{}".to_owned() };
        assert_eq!(work.settle(batch, &claimed[..1], &failed).await, 1);
        assert_eq!(work.settle(batch, &claimed[1..], &done()).await, 1);
        assert_eq!((last_ones(&work), work.count("group_member")), ("0".to_owned(), 1));
        work.server.execute(
            "with gone as (delete from biplane.failed returning *)
             insert into biplane.done (job_id, queue_id, kind_id, duration_ms, attempt, outcome, code)
             select job_id, queue_id, kind_id, 0, attempt, 'd', code from gone",
        );
        assert_eq!(last_ones(&work), "1");
    });
}

#[test]
fn a_group_is_all_or_nothing_and_one_without_members_has_ended() {
    block_on(async {
        let work = Work::new().await;
        let mut connection = connect(&work.server.url()).await;
        let refused = sqlx::raw_sql("select biplane.enqueue_group('plain', '{\"{}\"}', 'unheard-of')");
        let error = refused.execute(&mut connection).await.expect_err("refused");
        let code = error.as_database_error().and_then(|error| error.code()).expect("a code").into_owned();
        assert_eq!((&*code, work.count("job")), ("BP001", 0));
        group(&work, 0);
        assert_eq!((last_ones(&work), work.count("job_group")), ("1".to_owned(), 0));
        // The kind is lost before the last member ends: that ends all the same, and the group says why it stays.
        group(&work, 1);
        work.server.execute("update biplane.kind set retired_at = now() where name = 'unique'");
        // The one that came behind no member, and the member.
        let (batch, claimed) = work.claim(Lane::New, 2).await;
        assert_eq!(work.settle(batch, &claimed, &done()).await, 2);
        assert_eq!(work.count("done"), 2);
        assert!(work.server.value("select refused from biplane.job_group").contains("unique"));
    });
}
