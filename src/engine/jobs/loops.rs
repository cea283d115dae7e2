//! The loops of one worker: a runner a queue, what brings jobs back, the acker, and what sends the events of jobs that
//! it acknowledged, which ends last.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::execute::Executor;
use super::kinds;
use super::pulls::Pulls;
use super::queues::{Order, Queues};
use super::relay::Relay;
use crate::catalog::Catalog;
use crate::events::Producers;
use crate::jobs::{Acker, Ask, Retention, Shared, Wakes, fence, keep_days, listen, promote, pull, rescue};
use crate::store::{Database, Heartbeat, HeartbeatOptions, StoreError, StoreResult, Worker};
use crate::telemetry::{OutboxMetrics, OutcomeCounts};

/// Connections beside those of queues: the acker, rescue, promotion, days, the listener, the relay of events.
const SERVICES: u32 = 6;

/// What pull workers use beside: a claim, and what they say of their jobs.
const PULLS: u32 = 3;

/// The most that claims of queues use at one time.
const CLAIMS: usize = 8;

/// How many connections the jobs of a catalog share.
pub(super) fn connections(catalog: &Catalog) -> u32 {
    let run = kinds::run(catalog).len();
    let pulls = if run < kinds::queues(catalog).len() { PULLS } else { 0 };
    SERVICES + pulls + u32::try_from(run.clamp(1, CLAIMS)).unwrap_or(1)
}

/// Dropping it ends every loop at once, as a kill does.
pub(super) struct Loops {
    tasks: JoinSet<()>,
    queues: Queues,
    orders: watch::Receiver<Vec<Order>>,
    acking: JoinSet<()>,
    relaying: JoinSet<()>,
    acker: Acker,
    stop: CancellationToken,
    hurry: CancellationToken,
    /// Nothing is acknowledged any more.
    last: CancellationToken,
}

impl Loops {
    pub(super) fn start(
        database: &Database,
        worker: Worker,
        executor: Arc<Executor>,
        (pulls, asks): (Arc<Pulls>, mpsc::Receiver<Ask>),
        orders: watch::Receiver<Vec<Order>>,
        (retention, outcomes): (Retention, OutcomeCounts),
        (producers, outbox): (Arc<Producers>, OutboxMetrics),
    ) -> StoreResult<Self> {
        let options = HeartbeatOptions::default();
        let heartbeat = Arc::new(Heartbeat::start(database, worker, options)?);
        let (acker, acks) = Acker::new(database.clone(), worker, Arc::clone(&heartbeat), outcomes);
        let wakes = Arc::new(Wakes::default());
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let (mut tasks, mut acking) = (JoinSet::new(), JoinSet::new());
        acking.spawn(acks);
        let last = CancellationToken::new();
        let relay = Relay::new(database.clone(), producers, outbox, Arc::clone(acker.published()));
        let mut relaying = JoinSet::new();
        relaying.spawn(relay.run(last.clone()));
        tasks.spawn(listen(database.clone(), Arc::clone(&wakes), stop.clone()));
        tasks.spawn(rescue(database.clone(), Arc::clone(&wakes), stop.clone()));
        tasks.spawn(fence(database.clone(), stop.clone()));
        tasks.spawn(promote(database.clone(), Arc::clone(&wakes), stop.clone()));
        tasks.spawn(keep_days(database.clone(), retention, stop.clone()));
        let pulling = pull(database.clone(), Arc::clone(&wakes), Arc::clone(&executor), asks, stop.clone());
        tasks.spawn(pulling);
        tasks.spawn(pulls.end_overdue(stop.clone()));
        let (database, shared_acker) = (database.clone(), acker.clone());
        let shared = Shared { database, worker, execute: executor, acker: shared_acker, heartbeat, wakes };
        let mut queues = Queues::new(shared, options.lease, (stop.clone(), hurry.clone()));
        queues.work(orders.borrow().clone());
        Ok(Self { tasks, queues, orders, acking, relaying, acker, stop, hurry, last })
    }

    /// Works the queues that are ordered until `stop`, and then until all is handed in and written; `hurry` waits for
    /// nothing that runs, and neither does `cancel`.
    ///
    /// # Errors
    /// Where a loop ended before its time.
    pub(super) async fn run(
        mut self,
        stop: &CancellationToken,
        hurry: &CancellationToken,
        cancel: &CancellationToken,
    ) -> StoreResult<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = cancel.cancelled() => break self.hurry.cancel(),
                Some(_) = self.tasks.join_next() => return Err(early()),
                Some(_) = self.acking.join_next() => return Err(early()),
                Some(_) = self.relaying.join_next() => return Err(early()),
                Some(ended) = self.queues.ended() => ended.map_err(|_| early())?,
                Ok(()) = self.orders.changed() => {
                    let orders = self.orders.borrow_and_update().clone();
                    self.queues.work(orders);
                }
            }
        }
        self.stop.cancel();
        loop {
            tokio::select! {
                ended = self.queues.ended() => match ended {
                    Some(ended) => ended.map_err(|_| early())?,
                    None => break,
                },
                () = hurry.cancelled(), if !self.hurry.is_cancelled() => self.hurry.cancel(),
                () = cancel.cancelled(), if !self.hurry.is_cancelled() => self.hurry.cancel(),
            }
        }
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|_| early())?;
        }
        // The acker ends once nobody can hand in any more.
        drop((self.acker, self.queues));
        let acked = self.acking.join_next().await;
        self.last.cancel();
        match (acked, self.relaying.join_next().await) {
            (Some(Ok(())), Some(Ok(()))) => Ok(()),
            _ => Err(early()),
        }
    }
}

/// A panic; what it was about stands in the log.
fn early() -> StoreError {
    StoreError::Other {
        retriable: true,
        message: "a loop of the durable jobs ended before its time".to_owned(),
    }
}
