//! Everything through PgBouncer in transaction mode, with fewer connections to the server than to the pooler.

use std::time::Duration;

use biplane::store::DatabaseSettings;

use super::running::{Running, put, until};
use super::{Work, open};
use crate::support::{PgBouncer, block_on, breathe, database_url};

/// What an older PgBouncer, which keeps no prepared statements, needs at the end of a URL.
const UNPREPARED: &str = "?statement-cache-capacity=0";

#[test]
fn jobs_run_through_a_pooler_in_transaction_mode_and_are_found_by_polling() {
    match PgBouncer::before(&database_url(), 3) {
        Some(pooler) => jobs_run_through(&pooler, UNPREPARED),
        None => eprintln!("skipped: there is no pgbouncer; `apt-get install pgbouncer` brings it"),
    }
}

#[test]
fn jobs_run_through_a_pooler_that_keeps_prepared_statements() {
    match PgBouncer::that_keeps_statements(&database_url(), 3) {
        Some(pooler) => jobs_run_through(&pooler, ""),
        None => {
            eprintln!("skipped: there is no pgbouncer 1.21 or newer; BIPLANE_TEST_PGBOUNCER may name one")
        }
    }
}

/// `end` is what the URL of such a pooler ends with.
fn jobs_run_through(pooler: &PgBouncer, end: &str) {
    block_on(async {
        let work = Work::new().await;
        let url = pooler.url(&work.server.url()) + end;
        let lease = Duration::from_secs(2);
        let mut engines = Vec::new();
        for name in ["one", "two", "three"] {
            let database = open(&url, 4);
            let worker = database.register(name, "0").await.expect("registered");
            engines.push(Running::with(&work, database, worker, lease));
        }
        let hangs = put(&work, "hang", 1).await[0];
        put(&work, "succeed", 1_000).await;
        put(&work, "retry", 20).await;
        until("all but one have ended", || work.count("done") == 1_020).await;
        let ran =
            |id| engines.iter().filter_map(|engine| engine.script.ran.lock().get(&id).copied()).sum::<u32>();
        // Three leases long.
        let began = std::time::Instant::now();
        while began.elapsed() < 3 * lease {
            breathe().await;
        }
        assert_eq!(
            (ran(hangs), work.count("lease")),
            (1, 1),
            "its lease is extended through the pooler as well"
        );
        let late = put(&work, "succeed", 1).await[0];
        until("what comes when all are idle is found", || work.count("done") == 1_021).await;
        assert_eq!(ran(late), 1);
        assert!(engines.iter().all(|engine| !engine.hears()), "nobody is told of it");
        for engine in engines {
            engine.hurry.cancel();
            engine.stop().await;
        }
        assert_eq!(work.server.value("select count(distinct job_id) from biplane.done"), "1021");
        assert_eq!((work.count("lease"), work.count("ready")), (0, 1));
    });
}

#[test]
fn a_pooler_is_told_from_a_server_and_the_schema_is_read_through_it() {
    let Some(pooler) = PgBouncer::before(&database_url(), 1) else {
        eprintln!("skipped: there is no pgbouncer; `apt-get install pgbouncer` brings it");
        return;
    };
    block_on(async {
        let work = Work::new().await;
        let url = pooler.url(&work.server.url()) + UNPREPARED;
        let through = DatabaseSettings::new(&url, None, biplane::store::Schema::default()).expect("a URL");
        for _ in 0..3 {
            let standing = biplane::store::standing(&through).await.expect("read");
            assert!(standing.check().is_ok(), "{standing:?}");
        }
        let found = biplane::store::inspect(&through).await.expect("inspected");
        assert_eq!(found.route, biplane::store::Route::Pooler);
        assert!(found.missing_rights.is_empty(), "{:?}", found.missing_rights);
        let refused =
            biplane::store::migrate(&through, false, |_| ()).await.expect_err("it needs the server");
        assert!(refused.to_string().contains("BIPLANE_DATABASE_DIRECT_URL"), "{refused}");
    });
}
