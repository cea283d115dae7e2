//! The runners of queues: one for each that is ordered, as many jobs at once as is said last.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::execute::Executor;
use crate::jobs::{QueueOptions, QueueRunner, Shared};
use crate::store::QueueId;

/// A runner waits as long as it is let: whoever stops the jobs hurries them when their time is over.
const UNTIL_HURRIED: Duration = Duration::from_secs(24 * 3600);

/// A queue that is to be worked.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) name: String,
    pub(super) queue: QueueId,
    pub(super) concurrency: usize,
}

/// Dropping it ends every runner at once, as a kill does.
pub(super) struct Queues {
    shared: Shared<Executor>,
    lease: Duration,
    stop: CancellationToken,
    hurry: CancellationToken,
    orders: Vec<Order>,
    /// How many jobs each runner runs at once; 0: it ends once none runs.
    concurrency: HashMap<String, watch::Sender<usize>>,
    tasks: JoinSet<String>,
}

impl Queues {
    pub(super) fn new(
        shared: Shared<Executor>,
        lease: Duration,
        (stop, hurry): (CancellationToken, CancellationToken),
    ) -> Self {
        let (orders, concurrency, tasks) = (Vec::new(), HashMap::new(), JoinSet::new());
        Self { shared, lease, stop, hurry, orders, concurrency, tasks }
    }

    /// Works these from now on and no others. What runs of those ends by itself.
    pub(super) fn work(&mut self, orders: Vec<Order>) {
        for (name, concurrency) in &self.concurrency {
            let ordered = orders.iter().find(|order| order.name == *name);
            let wanted = ordered.map_or(0, |order| order.concurrency);
            concurrency.send_if_modified(|now| std::mem::replace(now, wanted) != wanted);
        }
        self.orders = orders;
        for order in &self.orders {
            if !self.concurrency.contains_key(&order.name) {
                let (said, concurrency) = watch::channel(order.concurrency);
                self.concurrency.insert(order.name.clone(), said);
                self.tasks.spawn(self.runner(order, concurrency));
            }
        }
    }

    /// Waits for the next runner that ends, and starts another where its queue was ordered meanwhile; `None`: none is
    /// left. Cancel-safe.
    ///
    /// # Errors
    /// Where it panicked.
    pub(super) async fn ended(&mut self) -> Option<Result<(), JoinError>> {
        match self.tasks.join_next().await? {
            Ok(name) => self.concurrency.remove(&name),
            Err(error) => return Some(Err(error)),
        };
        if !self.stop.is_cancelled() {
            self.work(self.orders.clone());
        }
        Some(Ok(()))
    }

    fn runner(
        &self,
        order: &Order,
        concurrency: watch::Receiver<usize>,
    ) -> impl Future<Output = String> + use<> {
        let Order { name, queue, .. } = order.clone();
        let options =
            QueueOptions { name: name.clone(), queue, concurrency, lease: self.lease, drain: UNTIL_HURRIED };
        let runner = QueueRunner::new(self.shared.clone(), options);
        let (stop, hurry) = (self.stop.clone(), self.hurry.clone());
        async move {
            runner.run(stop, hurry).await;
            name
        }
    }
}
