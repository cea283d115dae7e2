//! One claim: which lane and priority have work, and jobs of the one whose turn it is.

use std::time::{Duration, Instant};

use super::choosing::Marks;
use super::polling::Polling;
use crate::store::{BatchId, ClaimRequest, Claimed, Claiming, Database, Lane, QueueId, StoreResult, Worker};

/// What a claim came to.
pub(super) struct Answer {
    pub(super) batch: BatchId,
    /// When it was asked for: the lease runs from later than that.
    pub(super) sent: Instant,
    pub(super) marks: Marks,
    pub(super) claimed: StoreResult<Vec<Claimed>>,
    /// What asking to be notified came to, where that was wanted and there was nothing to claim.
    pub(super) armed: Option<StoreResult<()>>,
    /// Where the queue has limits: what they are to whoever gets nothing.
    pub(super) limited: Option<Limited>,
}

/// A queue with limits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limited {
    /// Whether there is work that may not start yet.
    pub(super) held: bool,
    /// How many jobs start in a second.
    pub(super) rate: Option<f64>,
}

/// Claims at most `room` jobs; where there are none and `arm` says so, asks to be notified of some. Never cancelled:
/// what was claimed must be known.
pub(super) async fn claim(
    database: Database,
    worker: Worker,
    (queue, lease): (QueueId, Duration),
    marks: Marks,
    (room, idle): (usize, bool),
    arm: bool,
) -> Answer {
    let (batch, sent) = (BatchId::new(), Instant::now());
    let mut answer = Answer { batch, sent, marks, claimed: Ok(Vec::new()), armed: None, limited: None };
    answer.claimed = fill(&mut answer, &database, &worker, (queue, lease), (room, idle)).await;
    let held = answer.limited.is_some_and(|limited| limited.held);
    if arm && !held && answer.claimed.as_ref().is_ok_and(Vec::is_empty) {
        answer.armed = Some(database.arm(&[queue], Polling::ARM).await);
    }
    answer
}

async fn fill(
    answer: &mut Answer,
    database: &Database,
    worker: &Worker,
    (queue, lease): (QueueId, Duration),
    (room, idle): (usize, bool),
) -> StoreResult<Vec<Claimed>> {
    let looks = answer.marks.looks(Instant::now(), idle);
    let look = database.look(queue, &looks).await?;
    let has_work = look.keyed || !look.heads.is_empty();
    if look.claiming != Claiming::Free {
        answer.limited = Some(Limited { held: has_work && !look.paused, rate: look.rate });
    }
    if look.is_unsorted() {
        database.sort_queue(queue).await?;
    }
    answer.sent = Instant::now();
    let request = ClaimRequest {
        queue,
        claiming: look.claiming,
        lane: Lane::New,
        priority: 0,
        after: 0,
        limit: room,
        lease,
    };
    if look.claiming == Claiming::Turns {
        return match has_work {
            true => database.claim_surely(worker, answer.batch, &request).await,
            false => Ok(Vec::new()),
        };
    }
    let Some(((lane, priority), limit)) = answer.marks.choose(&look.heads, room) else {
        // A look from the beginning that found nothing is one all the same.
        answer.marks.found_nothing(answer.sent, idle);
        return Ok(Vec::new());
    };
    let low = answer.marks.of((lane, priority));
    let scan = low.begin(answer.sent, idle);
    let request = ClaimRequest { lane, priority, after: scan.after, limit, ..request };
    let claimed = database.claim_surely(worker, answer.batch, &request).await?;
    let highest = claimed.iter().map(|job| job.seq).max();
    // Where limits said how many, there may be more on either side of the mark.
    let limit = if look.claiming == Claiming::Limited { claimed.len() } else { limit };
    if limit > 0 {
        low.end(scan, Instant::now(), highest, claimed.len(), limit);
    }
    Ok(claimed)
}
