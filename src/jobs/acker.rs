//! Writes outcomes in batches, under the leases that hold them.
//!
//! One loop; whatever ends while it waits for the database goes into its next statement. An outcome is sent
//! until the database has answered, or until the lease may have ended: then it does not count any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{error, warn};

use crate::base::guard::{self, Guard};
use crate::store::{BatchId, Database, Heartbeat, Outcome, Settlement, StoreError, Worker};
use crate::telemetry::OutcomeCounts;

/// How many outcomes are worth a statement of their own.
const ENOUGH: usize = 128;

/// How long fewer than that wait for more.
const LINGER: Duration = Duration::from_millis(3);

/// How many outcomes one statement takes.
const MOST: usize = 1_000;

/// Where outcomes are handed in. Cheap to clone; the loop ends once every clone is gone.
#[derive(Debug, Clone)]
pub struct Acker {
    sender: mpsc::Sender<Message>,
    counts: OutcomeCounts,
    published: Arc<Notify>,
}

#[derive(Debug)]
enum Message {
    Opened(BatchId, usize),
    /// With what tells that it was written, or never will be.
    Ended(BatchId, Outcome, Option<oneshot::Sender<()>>),
}

impl Acker {
    /// An acker, and the loop that whoever starts it runs to its end.
    pub fn new(
        database: Database,
        worker: Worker,
        heartbeat: Arc<Heartbeat>,
        counts: OutcomeCounts,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, receiver) = mpsc::channel(4 * MOST);
        let published = Arc::new(Notify::new());
        let writer = Writer {
            database,
            worker,
            heartbeat,
            open: HashMap::new(),
            counts: counts.clone(),
            published: Arc::clone(&published),
        };
        (Self { sender, counts, published }, writer.run(receiver))
    }

    /// What was written so far.
    pub fn counts(&self) -> &OutcomeCounts {
        &self.counts
    }

    /// Told each time that events were written with outcomes.
    pub fn published(&self) -> &Arc<Notify> {
        &self.published
    }

    /// A batch of that many jobs was claimed; its lease is extended until all have ended.
    pub async fn opened(&self, batch: BatchId, jobs: usize) {
        let _ = self.sender.send(Message::Opened(batch, jobs)).await;
    }

    /// One of its jobs has ended.
    pub async fn ended(&self, batch: BatchId, outcome: Outcome) {
        let _ = self.sender.send(Message::Ended(batch, outcome, None)).await;
    }

    /// As [`Acker::ended`], and waits until the outcome is written or never will be.
    pub async fn written(&self, batch: BatchId, outcome: Outcome) {
        let (written, told) = oneshot::channel::<()>();
        let _ = self.sender.send(Message::Ended(batch, outcome, Some(written))).await;
        let _ = told.await;
    }
}

struct Writer {
    database: Database,
    worker: Worker,
    heartbeat: Arc<Heartbeat>,
    /// How many jobs of each batch have not ended.
    open: HashMap<BatchId, usize>,
    counts: OutcomeCounts,
    published: Arc<Notify>,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Message>) {
        let mut messages = Vec::new();
        while receiver.recv_many(&mut messages, MOST).await > 0 {
            if messages.len() < ENOUGH {
                let room = MOST - messages.len();
                let _ = tokio::time::timeout(LINGER, receiver.recv_many(&mut messages, room)).await;
            }
            self.write(&mut messages).await;
        }
    }

    async fn write(&mut self, messages: &mut Vec<Message>) {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut ended: HashMap<BatchId, usize> = HashMap::new();
        let mut waiting = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Opened(batch, jobs) => *self.open.entry(batch).or_default() += jobs,
                Message::Ended(batch, outcome, written) => {
                    waiting.extend(written);
                    *ended.entry(batch).or_default() += 1;
                    outcomes.push(outcome);
                }
            }
        }
        if outcomes.is_empty() {
            return;
        }
        let batches: Vec<BatchId> = ended.keys().copied().collect();
        self.count(self.settle(&batches, &outcomes).await, outcomes.len());
        if outcomes.iter().any(|outcome| !outcome.beside.events.is_empty()) {
            self.published.notify_one();
        }
        // Who waits is told by the end of its channel, written or not.
        drop(waiting);
        for (batch, count) in ended {
            let left = self.open.entry(batch).or_default();
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.open.remove(&batch);
                self.heartbeat.release(batch);
            }
        }
    }

    /// Sends until the database answers or no lease can hold any more. `true`: sent more than once.
    async fn settle(
        &self,
        batches: &[BatchId],
        outcomes: &[Outcome],
    ) -> Result<(Settlement, bool), StoreError> {
        let (mut wait, mut again) = (Duration::from_millis(10), false);
        loop {
            match self.database.settle(&self.worker, batches, outcomes).await {
                Ok(settlement) => return Ok((settlement, again)),
                Err(error) if !error.is_transient() || guard::removed(Guard::AckAgain) => return Err(error),
                Err(error) if batches.iter().all(|batch| self.heartbeat.remaining(*batch).is_zero()) => {
                    return Err(error);
                }
                Err(error) => {
                    again |= error.is_uncertain();
                    warn!(%error, jobs = outcomes.len(), "outcomes are sent again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(500));
                }
            }
        }
    }

    fn count(&self, settled: Result<(Settlement, bool), StoreError>, sent: usize) {
        match settled {
            Ok((settlement, again)) => {
                self.counts.written.inc_by(settlement.written.len() as u64);
                let stale = settlement.stale.len() as u64;
                // What was sent before may have been written then.
                if again {
                    self.counts.written.inc_by(stale);
                } else if stale > 0 {
                    self.counts.stale.inc_by(stale);
                    warn!(jobs = stale, "outcomes came too late: their leases had been taken back");
                }
            }
            Err(error) => {
                self.counts.dropped.inc_by(sent as u64);
                error!(%error, jobs = sent, "outcomes were not written; the jobs run again after their leases");
            }
        }
    }
}
