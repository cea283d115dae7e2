//! Waiting for a condition with a deadline: the only place that lets time pass.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long between two looks at a condition.
const TICK: Duration = Duration::from_millis(25);

/// Waits until `condition` holds. Panics with `what` after `deadline`.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

/// Waits until `condition` holds, at most `limit`; whether it did.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    let (_never, tick) = mpsc::channel::<()>();
    while !condition() {
        if started.elapsed() >= limit {
            return false;
        }
        let _ = tick.recv_timeout(TICK);
    }
    true
}

/// Waits until `look` finds something and returns it. Panics with `what` after `deadline`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let (_never, tick) = mpsc::channel::<()>();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        let _ = tick.recv_timeout(TICK);
    }
}

/// Lets others run for one tick, in a loop that ends by itself or with its test.
pub async fn breathe() {
    tokio::time::sleep(TICK).await;
}
