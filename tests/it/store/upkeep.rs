//! Days of partitions: made ahead, dropped when old, and no payload lost that something still names.

use biplane::store::{DAYS_AHEAD, Lane, Verdict};

use super::{Work, done};
use crate::support::block_on;

/// Makes the payloads of these jobs, and what names them, thirty days older.
const OLDER: &str = "
    select biplane.upkeep_ahead(7);
    create temp table old as select *, id - (30::bigint * 86400000 << 20) as old_id from biplane.job;
    do $$ declare d date := (now() at time zone 'UTC')::date - 30; begin
        execute format('create table biplane.%I partition of biplane.job for values from (%s) to (%s)',
            'job_' || to_char(d, 'YYYYMMDD'), biplane.first_job_id(d::timestamp at time zone 'UTC'),
            biplane.first_job_id((d + 1)::timestamp at time zone 'UTC'));
    end $$;
    update biplane.job j set id = old_id from old where j.id = old.id;
    update biplane.ready r set job_id = old_id, seq = old_id from old where r.job_id = old.id;
    update biplane.deferred r set job_id = old_id from old where r.job_id = old.id;
    update biplane.failed r set job_id = old_id from old where r.job_id = old.id;
    update biplane.lease l set job_ids = array(select old_id from unnest(l.job_ids) n join old on old.id = n);";

#[test]
fn a_day_of_payloads_is_dropped_after_those_that_are_still_named_were_kept() {
    block_on(async {
        let work = Work::new().await;
        work.put(6).await;
        let (batch, claimed) = work.claim(Lane::New, 5).await;
        work.settle(batch, &claimed[..2], &done()).await;
        let failed = Verdict::Failed { code: "x".to_owned(), detail: "{}".to_owned() };
        work.settle(batch, &claimed[2..3], &failed).await;
        let later = Verdict::Snooze { delay: std::time::Duration::from_secs(3600) };
        work.settle(batch, &claimed[3..4], &later).await;
        work.server.execute(OLDER);
        assert_eq!(work.count("job"), 6);

        assert_eq!(work.database.drop_jobs(31).await.expect("asked"), None, "not old enough");
        assert!(work.database.drop_jobs(30).await.expect("dropped").is_some());
        assert_eq!(work.database.drop_jobs(30).await.expect("asked"), None);
        assert_eq!((work.count("job"), work.count("job_kept")), (4, 4));
        let asked = work.database.ask(&work.worker, batch, super::LONG).await.expect("asked");
        assert_eq!(asked.len(), 1, "what runs still has its payload");
        let (_, queued) = work.claim(Lane::New, 5).await;
        assert_eq!(queued.len(), 1, "and so has what is queued");
    });
}

#[test]
fn missing_days_lose_nothing_and_are_made_later() {
    block_on(async {
        let work = Work::new().await;
        assert_eq!(work.database.days_ahead().await.expect("asked"), DAYS_AHEAD);
        work.server.execute(
            "do $$ declare name text; begin
                for name in select inhrelid::regclass::text from pg_inherits
                    where inhparent in ('biplane.job'::regclass, 'biplane.done'::regclass) and inhrelid::regclass::text ~ '[0-9]{8}$'
                loop execute 'drop table ' || name; end loop;
            end $$",
        );
        assert_eq!(work.database.days_ahead().await.expect("asked"), 0);
        work.put(3).await;
        let (batch, claimed) = work.claim(Lane::New, 2).await;
        work.settle(batch, &claimed, &done()).await;
        assert_eq!((work.count("job_kept"), work.count("done_other")), (3, 2));
        let made = work.database.make_days().await.expect("made").expect("nobody else is at it");
        assert_eq!(made, 2 * (DAYS_AHEAD + 1));
        assert_eq!((work.count("job_kept"), work.count("done_other")), (0, 0));
        assert_eq!((work.count("job"), work.count("done")), (3, 2));
        assert_eq!(work.claim(Lane::New, 2).await.1.len(), 1);
    });
}

#[test]
fn old_days_of_outcomes_are_dropped_as_tables() {
    block_on(async {
        let work = Work::new().await;
        work.server.execute(
            "do $$ declare d date := (now() at time zone 'UTC')::date - 9; begin
                execute format('create table biplane.%I partition of biplane.done for values from (%L) to (%L)',
                    'done_' || to_char(d, 'YYYYMMDD'), d::timestamp at time zone 'UTC', (d + 1)::timestamp at time zone 'UTC');
            end $$;
            insert into biplane.done (job_id, done_at, queue_id, kind_id, duration_ms, attempt, outcome)
                select 1, ((now() at time zone 'UTC')::date - 9)::timestamp at time zone 'UTC', 1, 1, 0, 1, 's';",
        );
        assert_eq!(work.count("done"), 1);
        assert_eq!(work.database.drop_done(10).await.expect("asked"), Some(0));
        assert_eq!(work.database.drop_done(9).await.expect("dropped"), Some(1));
        assert_eq!(work.count("done"), 0);
    });
}
