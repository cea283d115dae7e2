//! Loops that run while the database is away, full, or has stopped talking on one connection.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use biplane::base::guard::{Guard, without};
use biplane::store::{
    BatchId, ClaimRequest, Database, DatabaseSettings, Heartbeat, HeartbeatOptions, JobOptions, Lane, Schema,
};

use super::running::{Running, put, until};
use super::{Work, done, open};
use crate::support::{PrivatePostgres, Relay, TestDatabase, breathe, connect};

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a future with every task on this thread, which may be without a guard.
pub(super) fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

pub(super) async fn comes_within(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let waiting = async {
        while !condition() {
            breathe().await;
        }
    };
    tokio::time::timeout(limit, waiting).await.is_ok()
}

/// Whether jobs that run are cancelled before their lease can have ended at a server that stands still.
fn aborted_in_time() -> bool {
    let server = PrivatePostgres::start(&[]);
    on_this_thread(async {
        let lease = Duration::from_secs(4);
        let work = Work::on(TestDatabase::on(&server.url())).await;
        put(&work, "hang", 2).await;
        let url = work.server.url();
        let relay = Relay::before(&url);
        let running = Running::with(&work, open(&relay.url(&url), 8), work.worker, lease);
        until("both run", || running.script.ran.lock().len() == 2).await;
        // Neither the connections that there are answer nor any new one.
        server.freeze();
        relay.mute();
        let in_time = comes_within(lease, || running.script.cancelled.lock().len() == 2).await;
        server.thaw();
        running.kill().await;
        in_time
    })
}

#[test]
fn work_that_can_be_held_no_longer_aborts_itself_first() {
    assert!(aborted_in_time());
    assert!(!without(Guard::AbortLost, aborted_in_time));
}

/// How many leases are taken back of a worker whose pool has no connection to spare for longer than its lease.
fn rescued_while_exhausted() -> i64 {
    on_this_thread(async {
        let work = Work::new().await;
        work.put(1).await;
        let pool = open(&work.server.url(), 1);
        let lease = Duration::from_secs(3);
        let options = HeartbeatOptions { every: lease / 5, lease };
        let heartbeat = Heartbeat::start(&pool, work.worker, options).expect("a heartbeat");
        let (batch, claimed) = (BatchId::new(), Instant::now());
        let request = ClaimRequest { lease, ..work.request(1) };
        assert_eq!(pool.claim(&work.worker, batch, &request).await.expect("claimed").len(), 1);
        heartbeat.hold(batch, claimed);
        let mut lock = connect(&work.server.url()).await;
        let locked =
            sqlx::raw_sql("begin; lock table biplane.queue in access exclusive mode").execute(&mut lock);
        locked.await.expect("locked");
        let mut waits = tokio::task::JoinSet::new();
        waits.spawn(async move { pool.arm(&[], Duration::ZERO).await });
        assert!(comes_within(DEADLINE, || claimed.elapsed() > 2 * lease).await);
        let rescued = work.database.rescue().await.expect("rescued").batches;
        assert!(waits.try_join_next().is_none(), "the pool's only connection waits for the lock");
        rescued
    })
}

#[test]
fn a_pool_without_a_connection_to_spare_keeps_its_leases() {
    assert_eq!(rescued_while_exhausted(), 0);
    assert_eq!(without(Guard::HeartbeatThread, rescued_while_exhausted), 1);
}

/// Whether a new job is found though the connection that would tell of it has gone silent without breaking.
fn found_though_nobody_tells(limit: Duration) -> bool {
    on_this_thread(async {
        let work = Work::new().await;
        let url = work.server.url();
        let relay = Relay::before(&url);
        let settings = DatabaseSettings::new(&url, Some(&relay.url(&url)), Schema::default()).expect("URLs");
        let database = Database::new(settings, 8);
        let running = Running::with(&work, database, work.worker, DEADLINE);
        put(&work, "succeed", 1).await;
        until("it works", || work.count("done") == 1).await;
        until("its queue is armed", || {
            work.server.value("select coalesce(armed_until > now(), false) from biplane.queue") == "true"
        })
        .await;
        relay.mute();
        put(&work, "succeed", 1).await;
        let found = comes_within(limit, || work.count("done") == 2).await;
        running.kill().await;
        found
    })
}

#[test]
fn work_is_found_by_polling_though_the_connection_that_tells_of_it_is_half_open() {
    assert!(found_though_nobody_tells(DEADLINE));
    assert!(!without(Guard::PollAnyway, || found_though_nobody_tells(Duration::from_secs(5))));
}

/// A small disk, unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn mount(folder: &Path) -> Option<Self> {
        fs::create_dir(folder).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs"]).arg(folder);
        mount.status().is_ok_and(|status| status.success()).then(|| Self(folder.to_owned()))
    }

    fn fill(&self) {
        let full = fs::write(self.0.join("filler"), vec![0; 64 << 20]).expect_err("it is smaller");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// How many outcomes of jobs that ended while the disk was full were given up; `None`: no disk can be mounted here.
fn given_up_on_a_full_disk() -> Option<u64> {
    let folder = tempfile::Builder::new().prefix("biplane-disk-").tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("its rights");
    let server = PrivatePostgres::start(&[]);
    let disk = SmallDisk::mount(&folder.path().join("disk"))?;
    let place = disk.0.join("data");
    server.give(&place);
    on_this_thread(async {
        let work = Work::on(TestDatabase::on(&server.url())).await;
        work.database.close().await;
        work.server.on_server(&format!("create tablespace small location '{}'", place.display()));
        work.server.move_to("small");
        let work = Work { database: open(&work.server.url(), 16), ..work };
        // A lease finds room where one was before; outcomes need more and more of it.
        work.put(1).await;
        let (batch, claimed) = work.claim(Lane::New, 1).await;
        work.settle(batch, &claimed, &done()).await;
        put(&work, "succeed", 3_000).await;
        disk.fill();
        let running = Running::start(&work, DEADLINE).await;
        let counts = running.acker.as_ref().expect("an acker").counts().clone();
        until("some ran and are not written", || {
            counts.dropped.get() > 0 || running.script.ran.lock().len() > work.count("done") + 50
        })
        .await;
        let refused = work.database.enqueue_many("plain", &["{}"; 1000], None, &JobOptions::default()).await;
        assert!(refused.is_err_and(|error| error.is_transient()), "the disk is full");
        disk.free();
        if counts.dropped.get() > 0 {
            running.kill().await;
            return Some(counts.dropped.get());
        }
        until("all have ended", || work.count("done") == 3_001).await;
        let script = running.stop().await;
        assert!(script.ran.lock().values().all(|times| *times == 1), "each ran once");
        assert_eq!(work.server.value("select count(distinct job_id) from biplane.done"), "3001");
        Some(counts.dropped.get())
    })
}

#[test]
fn a_full_disk_holds_jobs_up_and_loses_and_repeats_none() {
    let Some(given_up) = given_up_on_a_full_disk() else {
        eprintln!("skipped: this process may not mount a small disk");
        return;
    };
    assert_eq!(given_up, 0);
    assert!(without(Guard::AckAgain, given_up_on_a_full_disk).is_some_and(|given_up| given_up > 0));
}

/// How many outcomes were given up of jobs that ran while one answer after the other was lost.
fn given_up_with_answers_lost() -> u64 {
    on_this_thread(async {
        let work = Work::new().await;
        let url = work.server.url();
        let relay = Relay::before(&url);
        put(&work, "succeed", 4_000).await;
        let running = Running::with(&work, open(&relay.url(&url), 8), work.worker, DEADLINE);
        let counts = running.acker.as_ref().expect("an acker").counts().clone();
        // Of so many some are sure to be answers to outcomes.
        for lost in 1..=60 {
            until("more is written", || counts.written.get() + counts.dropped.get() >= lost * 50).await;
            if counts.dropped.get() > 0 {
                break;
            }
            relay.lose_next_answer();
            until("an answer is lost", || !relay.waits()).await;
        }
        if counts.dropped.get() > 0 {
            running.kill().await;
            return counts.dropped.get();
        }
        until("all have ended", || work.count("done") == 4_000).await;
        let script = running.stop().await;
        assert!(script.ran.lock().values().all(|times| *times == 1), "each ran once");
        assert_eq!((work.count("lease"), work.count("ready")), (0, 0));
        counts.dropped.get()
    })
}

#[test]
fn jobs_whose_answers_are_lost_on_the_way_run_and_end_once() {
    assert_eq!(given_up_with_answers_lost(), 0);
    assert!(without(Guard::AckAgain, given_up_with_answers_lost) > 0);
}
