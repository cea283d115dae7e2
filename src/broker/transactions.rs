//! Transactions of one producer, whose calls block: they are made on a thread of their own, one at a
//! time and each within a limit.
//!
//! One transaction is open whenever nothing else is going on: it begins as soon as the one before it has
//! ended. [`Transactions::close`] and [`Transactions::abort`] only ask; meanwhile nothing can be sent.
//! Where it cannot be known whether a transaction was committed, or the client is beyond repair, it has
//! *ended* and nothing will ever be sent again: opening another one under the same id settles on the
//! broker what is left of it. It does not decide when to close, nor what to do about a failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::commit::{Commit, Outcome, to_client};
use super::consumer::TopicPartition;
use super::error::{BrokerError, SendError};
use super::message::{OutHeaders, Outgoing};
use super::producer::{Client, Producer, ProducerOptions, Sink};
use super::settings::ClientSettings;

/// Whose transactions they are.
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// The `transactional.id`. Of two producers with one id the older one is fenced for good.
    pub id: String,
    /// How long the broker lets a transaction stay open before it aborts it.
    pub timeout: Duration,
}

/// What a member of a group was when its partitions were assigned. Offsets that bear it are refused once
/// the group has moved on.
#[derive(Clone)]
pub struct Membership(pub(super) Arc<ConsumerGroupMetadata>);

/// What the transactions are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionState {
    /// The broker settles what an earlier producer of the same id has left.
    Opening,
    /// One is open and takes sends.
    Open,
    /// It is being committed.
    Closing,
    /// Something of it failed; it can only be aborted.
    Spoiled(String),
    /// It is being aborted.
    Aborting,
    /// Nothing can be sent any more, and it is not known whether the last one was committed.
    Ended {
        /// Why.
        reason: String,
        /// Whether a newer producer of the same id, or the broker's own time-out, ended it.
        fenced: bool,
    },
}

impl TransactionState {
    fn moves(&self) -> bool {
        matches!(self, Self::Opening | Self::Closing | Self::Aborting)
    }
}

/// See the module's documentation.
pub struct Transactions {
    producer: Arc<Producer>,
    shared: Arc<Shared>,
}

struct Shared {
    /// Whether sends are taken; apart from the rest, since it is asked for each record.
    open: AtomicBool,
    progress: Mutex<Progress>,
    changed: Condvar,
    /// How long one call may take.
    limit: Duration,
}

struct Progress {
    state: TransactionState,
    asked: Option<Ask>,
    outcomes: VecDeque<Outcome>,
    stopped: bool,
}

enum Ask {
    Close(u64, Vec<Commit>, Membership),
    Abort,
}

/// Outcomes that nobody took; past it the oldest go.
const MAX_OUTCOMES: usize = 64;
/// How long one attempt to settle what an earlier producer has left takes, between two looks at whether
/// it is still wanted.
const SETTLE_STEP: Duration = Duration::from_secs(2);
/// A call is not taken up again with less time than that. The client forgets which call it was at where
/// taking it up runs out of time, and ends the process when the broker's answer comes.
const LEAST: Duration = Duration::from_secs(1);
/// How soon a call that failed for a moment is repeated.
const AGAIN: Duration = Duration::from_millis(50);

impl Transactions {
    /// Opens a producer that writes in transactions alone. `wake` is called whenever something has ended.
    ///
    /// # Errors
    /// [`BrokerError::Settings`] where the client refuses its configuration. Unreachable brokers are no
    /// error: [`TransactionState::Opening`] lasts until they answer.
    pub fn open(
        settings: &ClientSettings,
        options: ProducerOptions,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Self, BrokerError> {
        let timeout = options.transactions.as_ref().map(|transactions| transactions.timeout);
        let Some(timeout) = timeout else {
            return Err(BrokerError::Settings("a producer without a transactional id".to_owned()));
        };
        let producer = Producer::open(settings, options)?;
        let Some(client) = producer.client() else {
            return Err(BrokerError::Fatal("the producer is closed".to_owned()));
        };
        let shared = Arc::new(Shared {
            open: AtomicBool::new(false),
            progress: Mutex::new(Progress {
                state: TransactionState::Opening,
                asked: None,
                outcomes: VecDeque::new(),
                stopped: false,
            }),
            changed: Condvar::new(),
            limit: timeout / 2,
        });
        let served = Arc::clone(&shared);
        thread::Builder::new()
            .name("kafka-transaction".to_owned())
            .spawn(move || served.serve(client, wake))
            .map_err(|error| BrokerError::Other { retriable: true, message: error.to_string() })?;
        Ok(Self { producer, shared })
    }

    /// The producer, to register sinks at.
    pub fn producer(&self) -> &Arc<Producer> {
        &self.producer
    }

    /// Adds a record to the open transaction.
    ///
    /// # Errors
    /// [`SendError::Full`] while one is opened, closed or aborted; [`SendError::Fatal`] where it can only
    /// be aborted; else as [`Producer::send`].
    pub fn send(&self, out: Outgoing<'_>, sink: &Sink, token: u64) -> Result<(), (SendError, OutHeaders)> {
        if self.shared.open.load(Ordering::Acquire) {
            return self.producer.send(out, sink, token);
        }
        let error = match &self.shared.progress.lock().state {
            TransactionState::Spoiled(reason) | TransactionState::Ended { reason, .. } => {
                SendError::Fatal(reason.clone())
            }
            _ => SendError::Full,
        };
        Err((error, out.headers))
    }

    /// What is going on.
    pub fn state(&self) -> TransactionState {
        self.shared.progress.lock().state.clone()
    }

    /// Waits until nothing is being opened, closed or aborted, at most until `deadline`; the state then.
    pub fn settled(&self, deadline: Instant) -> TransactionState {
        let mut progress = self.shared.progress.lock();
        while progress.state.moves() && !self.shared.changed.wait_until(&mut progress, deadline).timed_out() {
        }
        progress.state.clone()
    }

    /// Commits the open transaction with these offsets of the group. All that was sent must have been
    /// acknowledged. The outcome comes by [`Transactions::take`] under `number`.
    ///
    /// # Errors
    /// Where none is open.
    pub fn close(&self, commits: &[Commit], member: Membership, number: u64) -> Result<(), BrokerError> {
        self.ask(Ask::Close(number, commits.to_vec(), member), TransactionState::Closing)
    }

    /// Aborts the open transaction; then another is open.
    ///
    /// # Errors
    /// Where none is.
    pub fn abort(&self) -> Result<(), BrokerError> {
        self.ask(Ask::Abort, TransactionState::Aborting)
    }

    fn ask(&self, ask: Ask, next: TransactionState) -> Result<(), BrokerError> {
        let mut progress = self.shared.progress.lock();
        match (&progress.state, &ask) {
            (TransactionState::Open, _) | (TransactionState::Spoiled(_), Ask::Abort) => {}
            (TransactionState::Spoiled(reason) | TransactionState::Ended { reason, .. }, _) => {
                return Err(BrokerError::Fatal(reason.clone()));
            }
            (state, _) => {
                let message = format!("no transaction is open ({state:?})");
                return Err(BrokerError::Other { retriable: true, message });
            }
        }
        self.shared.open.store(false, Ordering::Release);
        progress.state = next;
        progress.asked = Some(ask);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Which topic the broker lets no transaction write, in the client's words, where it said so since the last
    /// time.
    pub fn refusal(&self) -> Option<String> {
        self.producer.refusal()
    }

    /// What became of the calls of [`Transactions::close`] since the last look, oldest first.
    pub fn take(&self) -> Vec<Outcome> {
        self.shared.progress.lock().outcomes.drain(..).collect()
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.shared.progress.lock().stopped = true;
        self.shared.changed.notify_all();
    }
}

/// What is known after a call failed.
enum Failed {
    /// Nothing was committed, and the transaction can be aborted.
    Spoiled(BrokerError),
    /// Nobody knows, or the client is beyond repair.
    Ended(BrokerError, bool),
}

impl Shared {
    fn serve(&self, client: Arc<Client>, wake: impl Fn()) {
        let opened = self.settle(&client);
        self.passed(opened);
        wake();
        while let Some(ask) = self.next() {
            let result = match ask {
                Ask::Abort => self.carry_out_abort(&client),
                Ask::Close(number, commits, member) => {
                    let result = self.carry_out_close(&client, &commits, &member);
                    self.closed(number, commits, &result);
                    result
                }
            };
            self.passed(result);
            wake();
        }
    }

    fn next(&self) -> Option<Ask> {
        let mut progress = self.progress.lock();
        loop {
            if progress.stopped || matches!(progress.state, TransactionState::Ended { .. }) {
                return None;
            }
            if let Some(ask) = progress.asked.take() {
                return Some(ask);
            }
            self.changed.wait(&mut progress);
        }
    }

    /// Goes on to the state that follows.
    fn passed(&self, result: Result<(), Failed>) {
        let mut progress = self.progress.lock();
        progress.state = match result {
            Ok(()) => TransactionState::Open,
            Err(Failed::Spoiled(error)) => TransactionState::Spoiled(error.to_string()),
            Err(Failed::Ended(error, fenced)) => {
                TransactionState::Ended { reason: error.to_string(), fenced }
            }
        };
        self.open.store(progress.state == TransactionState::Open, Ordering::Release);
        self.changed.notify_all();
    }

    fn closed(&self, number: u64, commits: Vec<Commit>, result: &Result<(), Failed>) {
        let outcome = match result {
            Ok(()) => Ok(commits.into_iter().map(|commit| commit.partition).collect::<Vec<TopicPartition>>()),
            Err(Failed::Spoiled(error) | Failed::Ended(error, _)) => Err(error.clone()),
        };
        let mut progress = self.progress.lock();
        if progress.outcomes.len() == MAX_OUTCOMES {
            progress.outcomes.pop_front();
        }
        progress.outcomes.push_back((number, outcome));
    }

    /// Fences the producers of the same id before this one, waits until what they left is settled, and
    /// begins.
    fn settle(&self, client: &Client) -> Result<(), Failed> {
        loop {
            let error = match client.init_transactions(SETTLE_STEP) {
                Ok(()) => return begin(client),
                Err(error) => error,
            };
            let stopped = self.progress.lock().stopped;
            if stopped || !is_retriable(&error) {
                return Err(ended(client, "open a transaction", &error));
            }
            thread::park_timeout(AGAIN);
        }
    }

    fn carry_out_close(
        &self,
        client: &Client,
        commits: &[Commit],
        member: &Membership,
    ) -> Result<(), Failed> {
        let list = to_client(commits).map_err(Failed::Spoiled)?;
        if !commits.is_empty() {
            let left = within(self.limit / 2);
            while let Err(error) = client.send_offsets_to_transaction(&list, &member.0, left()) {
                match is_retriable(&error) {
                    true if left() > LEAST => thread::park_timeout(AGAIN),
                    // The client is still at it and takes no other call.
                    true => return Err(ended(client, "add offsets to a transaction", &error)),
                    // Nothing is committed before the transaction is.
                    false => return Err(spoiled(client, "add offsets to a transaction", &error)),
                }
            }
        }
        let left = within(self.limit / 2);
        while let Err(error) = client.commit_transaction(left()) {
            match &error {
                KafkaError::Transaction(known) if known.txn_requires_abort() => {
                    return Err(spoiled(client, "commit a transaction", &error));
                }
                // The call goes on where it stood.
                error if is_retriable(error) && left() > LEAST => thread::park_timeout(AGAIN),
                error => return Err(ended(client, "commit a transaction", error)),
            }
        }
        begin(client)
    }

    fn carry_out_abort(&self, client: &Client) -> Result<(), Failed> {
        let left = within(self.limit);
        while let Err(error) = client.abort_transaction(left()) {
            match is_retriable(&error) && left() > LEAST {
                true => thread::park_timeout(AGAIN),
                false => return Err(ended(client, "abort a transaction", &error)),
            }
        }
        begin(client)
    }
}

/// What is left of `limit` from now on.
fn within(limit: Duration) -> impl Fn() -> Duration {
    let deadline = Instant::now() + limit;
    move || deadline.saturating_duration_since(Instant::now())
}

/// Only this client's own business: the broker hears of it with the first record.
fn begin(client: &Client) -> Result<(), Failed> {
    client.begin_transaction().map_err(|error| ended(client, "begin a transaction", &error))
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(error) => error.is_retriable(),
        KafkaError::Flush(code) => *code == Code::OperationTimedOut,
        _ => false,
    }
}

fn spoiled(client: &Client, doing: &str, error: &KafkaError) -> Failed {
    match client.client().fatal_error() {
        Some(_) => ended(client, doing, error),
        None => Failed::Spoiled(BrokerError::from_client(doing, error)),
    }
}

fn ended(client: &Client, doing: &str, error: &KafkaError) -> Failed {
    let fatal = client.client().fatal_error();
    let code = fatal.as_ref().map(|(code, _)| *code).or(error.rdkafka_error_code());
    let fenced = matches!(code, Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch));
    let error = match fatal {
        Some((_, reason)) => BrokerError::Fatal(format!("{doing}: {reason}")),
        None => BrokerError::from_client(doing, error),
    };
    Failed::Ended(error, fenced)
}
