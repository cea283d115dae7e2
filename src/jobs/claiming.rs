//! One claim: which lane and priority have work, and jobs of the one whose turn it is.

use std::time::Instant;

use super::choosing::Marks;
use super::polling::Polling;
use super::queue::QueueOptions;
use crate::store::{BatchId, ClaimRequest, Claimed, Database, StoreResult, Worker};

/// What a claim came to.
pub(super) struct Answer {
    pub(super) batch: BatchId,
    /// When it was asked for: the lease runs from later than that.
    pub(super) sent: Instant,
    pub(super) marks: Marks,
    pub(super) claimed: StoreResult<Vec<Claimed>>,
    /// What asking to be notified came to, where that was wanted and there was nothing to claim.
    pub(super) armed: Option<StoreResult<()>>,
}

/// Claims at most `room` jobs; where there are none and `arm` says so, asks to be notified of some. Never cancelled: what was claimed must be known.
pub(super) async fn claim(
    database: Database,
    worker: Worker,
    options: QueueOptions,
    mut marks: Marks,
    (room, idle): (usize, bool),
    arm: bool,
) -> Answer {
    let batch = BatchId::new();
    let looks = marks.looks(Instant::now(), idle);
    let heads = match database.heads(options.queue, &looks).await {
        Ok(heads) => heads,
        Err(error) => return Answer { batch, sent: Instant::now(), marks, claimed: Err(error), armed: None },
    };
    let sent = Instant::now();
    let Some(((lane, priority), limit)) = marks.choose(&heads, room) else {
        // A look from the beginning that found nothing is one all the same.
        marks.found_nothing(sent, idle);
        let armed = match arm {
            true => Some(database.arm(&[options.queue], Polling::ARM).await),
            false => None,
        };
        return Answer { batch, sent, marks, claimed: Ok(Vec::new()), armed };
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
    Answer { batch, sent, marks, claimed, armed: None }
}
