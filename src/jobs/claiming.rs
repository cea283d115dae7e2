//! One claim: which lane and priority have work, and jobs of the one whose turn it is.

use std::time::Instant;

use super::choosing::Marks;
use super::queue::QueueOptions;
use crate::store::{BatchId, ClaimRequest, Claimed, Database, StoreResult, Worker};

/// What a claim came to.
pub(super) struct Answer {
    pub(super) batch: BatchId,
    /// When it was asked for: the lease runs from later than that.
    pub(super) sent: Instant,
    pub(super) marks: Marks,
    pub(super) claimed: StoreResult<Vec<Claimed>>,
}

/// Claims at most `room` jobs. Never cancelled: what was claimed must be known.
pub(super) async fn claim(
    database: Database,
    worker: Worker,
    options: QueueOptions,
    mut marks: Marks,
    (room, idle): (usize, bool),
) -> Answer {
    let batch = BatchId::new();
    let looks = marks.looks(Instant::now(), idle);
    let heads = match database.heads(options.queue, &looks).await {
        Ok(heads) => heads,
        Err(error) => return Answer { batch, sent: Instant::now(), marks, claimed: Err(error) },
    };
    let sent = Instant::now();
    let Some(((lane, priority), limit)) = marks.choose(&heads, room) else {
        // A look from the beginning that found nothing is one all the same.
        marks.found_nothing(sent, idle);
        return Answer { batch, sent, marks, claimed: Ok(Vec::new()) };
    };
    let low = marks.of((lane, priority));
    let scan = low.begin(sent, idle);
    let request =
        ClaimRequest { queue: options.queue, lane, priority, after: scan.after, limit, lease: options.lease };
    let claimed = database.claim_surely(&worker, batch, &request).await;
    if let Ok(claimed) = &claimed {
        let highest = claimed.iter().map(|job| job.seq).max();
        low.end(scan, Instant::now(), highest, claimed.len(), limit);
    }
    Answer { batch, sent, marks, claimed }
}
