//! A schema that grows under engines that do not know the next one, and an engine that goes back to them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use biplane::base::guard::{Guard, without};
use biplane::store::{Compatibility, LATEST, MIGRATIONS, Migration, migrate_to, standing};
use parking_lot::Mutex;
use sqlx::Connection;
use tokio::task::JoinSet;

use super::Work;
use super::away::on_this_thread;
use super::killed::keep_putting;
use super::running::{Running, put, until};
use crate::support::{breathe, connect};

const LEASE: Duration = Duration::from_secs(20);

/// What a version may bring that has only grown: columns, rules, tables, indexes and functions of another text.
const NEXT: &str = "
-- oldest-engine: 1
alter table biplane.job add column next text;
alter table biplane.ready add column next integer not null default 1, add constraint ready_next check (next > 0);
alter table biplane.deferred add column next integer not null default 1;
alter table biplane.lease add column next text;
alter table biplane.done add column next text;
alter table biplane.failed add column next text;
alter table biplane.queue add column next text not null default 'plain';
alter table biplane.kind add column next text;
alter table biplane.worker add column next text;
create table biplane.next (job_id bigint primary key);
create index on biplane.done (code) where code is not null;
do $$
declare
    made text;
begin
    for made in
        select pg_get_functiondef(oid) from pg_proc where pronamespace = 'biplane'::regnamespace
    loop
        execute made;
    end loop;
end
$$;
";

/// Whether jobs come in and end within `limit` while a migration waits for somebody who reads a table for long.
fn goes_on_beside_a_migration(limit: Duration) -> bool {
    on_this_thread(async {
        let work = Work::new().await;
        let ids = Arc::new(Mutex::new(HashSet::new()));
        let mut putting = JoinSet::new();
        putting.spawn(keep_putting(work.database.clone(), Arc::clone(&ids)));
        let engines = [Running::start(&work, LEASE).await, Running::start(&work, LEASE).await];
        until("they work", || work.count("done") >= 100).await;
        let mut reader = connect(&work.server.url()).await;
        let read = sqlx::raw_sql("begin; select count(*) from biplane.done").execute(&mut reader);
        read.await.expect("read");

        let settings = work.database.settings().clone();
        let next = Migration::new(LATEST + 1, "next", NEXT);
        let migrations: Vec<_> = MIGRATIONS.iter().copied().chain([next]).collect();
        let mut migrating = JoinSet::new();
        migrating.spawn(async move { migrate_to(&settings, &migrations, false, |_| ()).await });
        let waiting = "select exists (select from pg_locks
            where not granted and relation = 'biplane.done'::regclass and mode = 'AccessExclusiveLock')";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut reader).await.expect("asked") {
            breathe().await;
        }
        let one = put(&work, "succeed", 1);
        let in_time = tokio::time::timeout(limit, async {
            let id = one.await[0];
            let ended = |engine: &Running| engine.script.ran.lock().contains_key(&id);
            until("it runs", || engines.iter().any(ended)).await;
        });
        let in_time = in_time.await.is_ok();
        reader.close().await.expect("closed");
        let migrated = migrating.join_next().await.expect("a task").expect("no panic").expect("migrated");
        assert_eq!(migrated.applied, [LATEST + 1]);

        // One that does not know the next version starts on it, as after a roll-back.
        let found = standing(work.database.settings()).await.expect("asked");
        assert_eq!((found.compatibility(), found.check()), (Compatibility::Newer, Ok(())));
        let back = Running::start(&work, LEASE).await;
        let [one, other] = engines;
        let mut ran: Vec<_> = [one.stop().await, other.stop().await].into();
        let given = ids.lock().len();
        until("what came since is done by the new one", || ids.lock().len() > given + 100).await;
        putting.shutdown().await;
        until("nothing is left", || work.count("ready") + work.count("lease") == 0).await;
        ran.push(back.stop().await);
        let ran: usize = ran.iter().map(|script| script.ran.lock().values().sum::<u32>() as usize).sum();
        let jobs = work.count("job");
        assert_eq!((ran, work.count("done")), (jobs, jobs), "each ran once and ended");
        in_time
    })
}

#[test]
fn a_schema_grows_under_engines_that_do_not_know_it_and_holds_nobody_up_for_long() {
    assert!(goes_on_beside_a_migration(LEASE));
    assert!(!without(Guard::LockTimeout, || goes_on_beside_a_migration(Duration::from_secs(4))));
}
