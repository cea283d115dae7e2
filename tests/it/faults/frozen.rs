//! An engine that stands still for longer than its group waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Message, holds_within, wait_until};

/// The engine is stopped while work hangs in a step, until another has its partitions and does that work.
/// Once it runs again it gives up what it had begun, its commits change nothing, and it takes part again.
/// Without `lost` it waits for that work, which comes out a second time.
#[test]
fn an_engine_that_stood_still_for_too_long_gives_up_what_others_have_done_since() {
    /// How much came out twice.
    fn check(without: &'static str) -> i64 {
        const PARTITIONS: i32 = 4;
        let cluster = Cluster::shared();
        let released = Arc::new(AtomicBool::new(false));
        let release = Arc::clone(&released);
        // Who asks first waits; who asks again is another engine.
        let stub = Stub::counting(move |path, times, stream| {
            let (_keep, wait) = std::sync::mpsc::channel::<()>();
            while times == 1 && path.starts_with("/hang") && !released.load(Ordering::Acquire) {
                let _ = wait.recv_timeout(Duration::from_millis(20));
            }
            reply(stream, "200 OK", "{}");
        });
        let stage = format!(
            "[http_clients.stub]\nbase_url = \"{}\"\ntimeout = \"80s\"\n\n[STAGE]\nfrom = \"input\"\n\
             to = \"output\"\ndlq = \"dead\"\ncommit_interval = \"100ms\"\n\n[[STAGE.steps]]\n\
             http.client = \"stub\"\nhttp.path = \"/{{{{ value.name }}}}\"\n",
            stub.url()
        );
        let bed = Bed::new(&cluster, PARTITIONS, &stage, without);
        let produce = |name: &str| {
            let record = |partition: i32| {
                Message::json("k", &json!({ "name": format!("{name}-{partition}") })).at(partition)
            };
            cluster.produce(&bed.topic("input"), &(0..PARTITIONS).map(record).collect::<Vec<_>>());
        };
        produce("done");
        let first = bed.start(&cluster);
        let each = i64::from(PARTITIONS);
        wait_until("the first are committed", DEADLINE, || bed.committed(&cluster) == each);
        produce("hang");
        wait_until("each hangs in its step", DEADLINE, || stub.asked() == 2 * PARTITIONS as usize);
        let rebalances =
            |engine: &crate::support::Engine| engine.metric("biplane_stage_rebalances_total", &[]);
        let before = rebalances(&first);
        first.freeze();
        let second = bed.launch_at(cluster.brokers(), &[]);
        wait_until("another engine has done it", DEADLINE, || bed.committed(&cluster) == 2 * each);
        first.thaw();
        wait_until("it hears of its loss", DEADLINE, || rebalances(&first) > before);
        release.store(true, Ordering::Release);
        // Both have a share again.
        let joined = || first.log().matches("partitions assigned").count() >= 2;
        assert!(holds_within(Duration::from_secs(60), joined), "{}", first.log());
        produce("last");
        wait_until("all is committed", DEADLINE, || bed.committed(&cluster) == 3 * each);
        drop(second);
        cluster.count(&bed.topic("output")) - 3 * each
    }
    assert_eq!(check(INTACT), 0);
    #[cfg(debug_assertions)]
    assert!(check("lost") > 0);
}
