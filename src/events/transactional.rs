//! Exactly-once, Kafka to Kafka: an epoch is a transaction of the stage's own producer, which holds all
//! that the stage writes and the group's offsets with their metadata.
//!
//! What is known to have failed is aborted, and the runner goes back to where the last epoch closed. Where
//! nobody knows (an answer was lost, the client is beyond repair), the producer is discarded and another
//! one opened under the same id, which settles on the broker what is left of it; then the group's commits
//! say where to go on. A stage whose id a newer producer has taken stops for good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivery::{Answer, Begin, Delivery, Producers, Standing, look_up};
use super::inbox::Inbox;
use crate::base::guard::{self, Guard};
use crate::broker::{
    BrokerError, Commit, Consumer, DeliverySink, OutHeaders, Outgoing, ProducerOptions, SendError, Sink,
    TopicPartition, TransactionOptions, TransactionState, Transactions,
};
use crate::catalog::{Stage, Start};

/// How long the broker lets an epoch stay open. Twice what closing one may take, and short, since what a
/// killed engine without an id of its own left open holds up readers for so long.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long an abort waits for answers to what was sent. An error that comes while the client aborts
/// leaves it waiting for ever.
const GRACE: Duration = Duration::from_secs(2);
/// The number of a close that is waited for; others count from 1.
const AT_ONCE: u64 = 0;

/// See the module's documentation.
pub(super) struct Transactional {
    consumer: Arc<Consumer>,
    producers: Arc<Producers>,
    options: ProducerOptions,
    inbox: Arc<Inbox>,
    transactions: Transactions,
    sink: Sink,
    start: Start,
    before: Option<String>,
    /// Since when the epoch holds something.
    since: Option<Instant>,
    /// The same of the one that is being closed.
    closing_since: Option<Instant>,
    /// Since when the runner wants the epoch given up, while that waits for answers.
    unwanted_since: Option<Instant>,
    /// Whether the abort that is under way was asked for by the runner.
    aborting: bool,
    /// Whether the producer was replaced, and the runner does not know yet.
    renewed: bool,
    /// Why the one before it was refused.
    refused: Option<String>,
    answers: Vec<Answer>,
}

impl Transactional {
    /// Opens the producer of `stage` under `id`. Unreachable brokers are no error.
    ///
    /// # Errors
    /// Where the client refuses its settings.
    pub(super) fn open(
        stage: &Stage,
        id: String,
        consumer: Arc<Consumer>,
        producers: Arc<Producers>,
        inbox: Arc<Inbox>,
        before: Option<String>,
    ) -> Result<Self, BrokerError> {
        let options = ProducerOptions {
            route: producers.common_way(stage),
            transactions: Some(TransactionOptions { id, timeout: TIMEOUT }),
            ..producers.options().clone()
        };
        let (transactions, sink) = begin(&producers, &options, &inbox)?;
        Ok(Self {
            consumer,
            producers,
            options,
            inbox,
            transactions,
            sink,
            start: stage.start,
            before,
            since: None,
            closing_since: None,
            unwanted_since: None,
            aborting: false,
            renewed: false,
            refused: None,
            answers: Vec::new(),
        })
    }

    /// Discards the producer, with all that is open or unknown of it, for another one of the same id.
    fn renew(&mut self, state: &TransactionState) -> Result<(), BrokerError> {
        if let TransactionState::Ended { reason, fenced: true } = state
            && !self.may_have_timed_out()
            && !guard::removed(Guard::Fence)
        {
            return Err(self.fenced(reason));
        }
        if let TransactionState::Ended { reason, .. } = state {
            tracing::warn!(id = self.id(), "the producer is replaced: {reason}");
        }
        let (transactions, sink) = begin(&self.producers, &self.options, &self.inbox)?;
        self.transactions.producer().deregister(&self.sink);
        self.refused = self.transactions.refusal().or(self.refused.take());
        (self.transactions, self.sink) = (transactions, sink);
        (self.since, self.closing_since, self.unwanted_since, self.aborting) = (None, None, None, false);
        self.renewed = true;
        Ok(())
    }

    /// The broker fences a producer also where it aborts a transaction that was open for too long.
    fn may_have_timed_out(&self) -> bool {
        let opened = [self.since, self.closing_since].into_iter().flatten().min();
        opened.is_some_and(|opened| opened.elapsed() >= TIMEOUT)
    }

    fn id(&self) -> &str {
        self.options.transactions.as_ref().map_or("", |transactions| &transactions.id)
    }

    fn fenced(&self, reason: &str) -> BrokerError {
        BrokerError::Fenced(format!(
            "another engine writes under the transactional id `{}` ({reason}); give each engine a \
             BIPLANE_ENGINE_ID of its own, then restart this one",
            self.id()
        ))
    }

    fn take(&mut self) {
        let taken = self.transactions.take();
        if taken.iter().any(|(_, closed)| closed.is_ok()) {
            self.closing_since = None;
        }
        self.answers.extend(taken.into_iter().filter(|(number, _)| *number != AT_ONCE));
    }

    fn close(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        let member = self.consumer.membership();
        let member = member.ok_or_else(|| BrokerError::Stale("no partitions were assigned".to_owned()))?;
        self.transactions.close(commits, member, number)?;
        // One that holds offsets alone is open on the broker from here on.
        self.closing_since = self.since.take().or_else(|| Some(Instant::now()));
        Ok(())
    }
}

fn begin(
    producers: &Producers,
    options: &ProducerOptions,
    inbox: &Arc<Inbox>,
) -> Result<(Transactions, Sink), BrokerError> {
    let waker = Arc::clone(inbox);
    let transactions = Transactions::open(producers.settings(), options.clone(), move || waker.wake())?;
    let sink: Arc<dyn DeliverySink> = Arc::clone(inbox) as _;
    let sink = transactions.producer().register(sink);
    Ok((transactions, sink))
}

impl Delivery for Transactional {
    fn starts(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Vec<Begin>, BrokerError> {
        // Before that, an earlier engine's epoch may still be closed.
        match self.transactions.settled(deadline) {
            TransactionState::Open | TransactionState::Spoiled(_) => {}
            TransactionState::Ended { reason, fenced } => {
                self.renew(&TransactionState::Ended { reason: reason.clone(), fenced })?;
                return Err(BrokerError::Unreachable(reason));
            }
            _ => {
                let what = "the coordinator of transactions has not answered yet";
                return Err(BrokerError::Unreachable(what.to_owned()));
            }
        }
        let before = (self.before.as_deref(), self.start);
        look_up(self.producers.settings(), &self.consumer, before, partitions, deadline)
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.transactions.send(outgoing, &self.sink, token)?;
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        Ok(())
    }

    /// With nothing else under way, a record is in a batch of its own.
    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.produce(outgoing, token)
    }

    fn closes_whole(&self) -> bool {
        true
    }

    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        self.close(commits, number)
    }

    fn close_now(&mut self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError> {
        let deadline = Instant::now() + limit;
        self.transactions.settled(deadline);
        self.take();
        self.close(commits, AT_ONCE)?;
        match self.transactions.settled(deadline) {
            TransactionState::Open => {
                self.closing_since = None;
                Ok(())
            }
            TransactionState::Spoiled(reason) | TransactionState::Ended { reason, .. } => {
                Err(BrokerError::Fatal(reason))
            }
            _ => Err(BrokerError::Unreachable(format!("a transaction: no answer within {limit:?}"))),
        }
    }

    fn take_closed(&mut self) -> Vec<Answer> {
        self.take();
        std::mem::take(&mut self.answers)
    }

    fn rejoin(&mut self, consumer: Arc<Consumer>) {
        self.consumer = consumer;
    }

    fn is_open(&self) -> bool {
        self.since.is_some() || self.transactions.state() != TransactionState::Open
    }

    fn refusal(&mut self) -> Option<String> {
        self.transactions.refusal().or(self.refused.take())
    }

    fn give_up(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.transactions.settled(deadline);
        let open = matches!(state, TransactionState::Open) && self.since.is_some();
        if (open || matches!(state, TransactionState::Spoiled(_))) && self.transactions.abort().is_ok() {
            state = self.transactions.settled(deadline);
        }
        (self.aborting, self.unwanted_since) = (false, None);
        if state == TransactionState::Open {
            self.since = None;
        } else if self.renew(&state).is_ok() {
            self.transactions.settled(deadline);
        }
    }

    fn abort(&mut self) -> Result<Standing, BrokerError> {
        match self.transactions.state() {
            TransactionState::Open if self.aborting || self.since.is_none() => {
                (self.since, self.closing_since, self.aborting) = (None, None, false);
                // Else what is known of the last epoch here is taken for what the broker knows.
                Ok(match std::mem::take(&mut self.renewed) && !guard::removed(Guard::ReadAnew) {
                    true => Standing::Unknown,
                    false => Standing::Nothing,
                })
            }
            TransactionState::Open | TransactionState::Spoiled(_) => {
                let since = *self.unwanted_since.get_or_insert_with(Instant::now);
                if self.sink.in_flight() > 0 && since.elapsed() < GRACE {
                    return Ok(Standing::Pending);
                }
                self.unwanted_since = None;
                self.transactions.abort()?;
                self.aborting = true;
                Ok(Standing::Pending)
            }
            state @ TransactionState::Ended { .. } => {
                self.renew(&state)?;
                Ok(Standing::Pending)
            }
            _ => Ok(Standing::Pending),
        }
    }
}

impl Drop for Transactional {
    fn drop(&mut self) {
        self.transactions.producer().deregister(&self.sink);
    }
}
