//! Workers as they are listed, and how long the dead are.

use biplane::store::Lane;

use super::Work;
use crate::support::block_on;

#[test]
fn a_dead_worker_leaves_the_listing_once_it_holds_nothing_and_is_forgotten_later() {
    block_on(async {
        let work = Work::new().await;
        let lives = work.database.register("lives", "0").await.expect("registered");
        work.put(1).await;
        work.claim(Lane::New, 1).await;
        let silent = |time: &str| {
            let epoch = work.worker.epoch;
            work.server.execute(&format!(
                "update biplane.worker set heartbeat_at = now() - interval '{time}' where epoch = {epoch}"
            ));
        };
        let listed = || async {
            let workers = work.database.workers().await.expect("listed");
            workers.into_iter().map(|worker| worker.name).collect::<Vec<_>>()
        };
        silent("9 minutes");
        assert_eq!(listed().await, ["test", "lives"]);
        silent("31 days");
        assert_eq!(listed().await, ["test", "lives"], "it holds a job");
        assert_eq!(work.database.forget_workers(30).await.expect("asked"), 0);
        work.expire(&work.worker);
        work.database.rescue().await.expect("rescued");
        assert_eq!(listed().await, ["lives"]);
        assert_eq!(work.database.forget_workers(32).await.expect("asked"), 0);
        assert_eq!(work.database.forget_workers(30).await.expect("asked"), 1);
        work.database.leave(&lives).await.expect("left");
        assert_eq!(work.count("worker"), 0);
    });
}
