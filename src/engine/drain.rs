//! Stopping stages and waiting for them: all at one time, each within its own limits.
//!
//! A stage gives up what runs at its deadline, and only then commits and leaves its group; whoever waits
//! must grant it that, or the commit is lost and its group waits for a session to time out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::events::{LEAVE_LIMIT, StageHandle};

/// How long one look at a draining stage waits, so that a hurry is noticed.
const SLICE: Duration = Duration::from_millis(50);

/// What a stage's thread may need beyond its own limits on a busy machine, and where somebody is in a hurry.
const SLACK: Duration = Duration::from_secs(1);
const LITTLE_SLACK: Duration = Duration::from_millis(250);

/// How long the last commit and leaving the group may take, each, once somebody hurries.
const HURRIED: Duration = Duration::from_millis(200);

/// Stops `stages` and waits until all have left. What runs is given up after a stage's `drain`, or `limit`
/// where that is shorter, or at once when `hurry` says so; then there is a moment for the last commit and
/// for leaving the group. Blocks. True where all left in time.
pub(super) fn drain(stages: &[Arc<StageHandle>], limit: Option<Duration>, hurry: impl Fn() -> bool) -> bool {
    let mut latest = None;
    let mut all = true;
    for (stage, end) in stop(stages, limit) {
        all &= wait_for(stage, || {
            if latest.is_none() && hurry() {
                let now = Instant::now();
                stages.iter().for_each(|stage| stage.stop_by(now, HURRIED));
                latest = Some(now + 2 * HURRIED + LITTLE_SLACK);
            }
            latest.map_or(end, |latest| latest.min(end))
        });
    }
    all
}

/// As [`drain`], but once `leave_off` says so nobody waits any more; the stages go on draining.
pub(super) fn drain_unless(stages: &[Arc<StageHandle>], leave_off: impl Fn() -> bool) {
    for (stage, end) in stop(stages, None) {
        wait_for(stage, || if leave_off() { Instant::now() } else { end });
    }
}

/// Tells all to stop; each with when it must have left.
fn stop(stages: &[Arc<StageHandle>], limit: Option<Duration>) -> Vec<(&StageHandle, Instant)> {
    let leave = limit.map_or(LEAVE_LIMIT, |limit| LEAVE_LIMIT.min(limit / 2));
    let slack = limit.map_or(SLACK, |_| LITTLE_SLACK);
    let started = Instant::now();
    let stop = |stage: &Arc<StageHandle>| {
        let drain = stage.stage().drain;
        let by = started + limit.map_or(drain, |limit| limit.min(drain));
        stage.stop_by(by, leave);
        by + 2 * leave + slack
    };
    stages.iter().map(|stage| (&**stage, stop(stage))).collect()
}

/// Waits until a stage has left; `end` says until when, and is asked now and then.
fn wait_for(stage: &StageHandle, mut end: impl FnMut() -> Instant) -> bool {
    loop {
        let left = end().saturating_duration_since(Instant::now());
        if stage.join(left.min(SLICE)) {
            return true;
        }
        if left.is_zero() {
            warn!(
                stage = stage.name(),
                "it had not left its group when its time was up; what it held is redone"
            );
            return false;
        }
    }
}
