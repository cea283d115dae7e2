//! Sends the events of jobs that are done, and forgets each once Kafka has it.
//!
//! One engine at a time has the turn, so that events go in their order. Whoever acknowledged a job is woken; the
//! others look now and then, so that nothing waits for an engine that died. What was sent and not yet forgotten then is
//! sent once more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Map, Value as Json};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::base::guard::{self, Guard};
use crate::broker::{BrokerError, DeliverySink, OutHeaders, Outgoing, Producer, SendError, Sink};
use crate::events::Producers;
use crate::store::{Database, StoreError, StoreResult, Turn, Waiting};
use crate::telemetry::OutboxMetrics;

/// How often it is looked whether an engine that died left something.
const LOOK: Duration = Duration::from_secs(5);
/// The least wait before it is looked again whether another engine has sent all.
const SOON: Duration = Duration::from_millis(50);
/// How long a turn lasts, and how often it is kept while answers are waited for.
const TURN: Duration = Duration::from_secs(10);
const KEEP: Duration = Duration::from_secs(3);
/// How long a stop waits for what is under way.
const LAST: Duration = Duration::from_secs(1);
/// How many events, and how many bytes of them, are under way at one time.
const AT_ONCE: (i64, i64) = (500, 8 << 20);
/// How long a topic is left alone that refused an event, from the first time to ever after.
const HOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

pub(super) struct Relay {
    database: Database,
    producers: Arc<Producers>,
    metrics: OutboxMetrics,
    /// Told of events that were written here.
    written: Arc<Notify>,
    id: Uuid,
    has_turn: bool,
    held: HashMap<String, Held>,
}

/// A topic that refused an event.
struct Held {
    until: Instant,
    wait: Duration,
}

/// What the brokers said of some events.
#[derive(Default)]
struct Answered {
    /// Those that they have.
    there: Vec<i64>,
    /// The topics that did not take one, and why.
    refused: HashMap<String, SendError>,
}

/// Why a round ended before its end.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("another engine took the turn")]
    Overtaken,
}

impl Relay {
    pub(super) fn new(
        database: Database,
        producers: Arc<Producers>,
        metrics: OutboxMetrics,
        written: Arc<Notify>,
    ) -> Self {
        let id = Uuid::now_v7();
        Self { database, producers, metrics, written, id, has_turn: false, held: HashMap::new() }
    }

    /// Sends what there is, until cancelled.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let (mut soon, mut cut) = (SOON, false);
        loop {
            let ended = async {
                cancel.cancelled().await;
                tokio::time::sleep(LAST).await;
            };
            let round = tokio::select! {
                round = self.look() => round,
                () = ended => {
                    cut = true;
                    break;
                }
            };
            let wait = match round {
                Ok(Turn::Idle) => LOOK,
                Ok(Turn::Mine) => self.next_try(),
                Ok(Turn::Other) => {
                    soon = (soon * 2).min(LOOK);
                    soon
                }
                Err(error) => {
                    warn!(%error, "events of jobs that are done wait");
                    LOOK
                }
            };
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.written.notified() => soon = SOON,
                () = tokio::time::sleep(wait) => {}
            }
        }
        // What the last jobs left, as far as there is time for it; what is under way is not sent once more.
        if !cut {
            let _ = tokio::time::timeout(LAST, self.round()).await;
        }
        if let Err(error) = self.database.leave_outbox(self.id).await {
            warn!(%error, "the turn to send events is kept until its end");
        }
    }

    async fn look(&mut self) -> Result<Turn, Ended> {
        self.measure().await;
        let ended = self.round().await;
        // Whoever has the next events need not wait for the end of a turn that nobody uses.
        if self.has_turn {
            self.database.leave_outbox(self.id).await?;
            self.has_turn = false;
        }
        ended
    }

    /// Sends all that is not held; says whether anything is left, and with whom.
    async fn round(&mut self) -> Result<Turn, Ended> {
        let mut after = 0;
        loop {
            if guard::removed(Guard::Relay) {
                return Ok(Turn::Idle);
            }
            match self.turn().await? {
                Turn::Mine => self.has_turn = true,
                other => return Ok(other),
            }
            let now = Instant::now();
            let held = self.held.iter().filter(|(_, held)| held.until > now).map(|(topic, _)| topic.clone());
            let held: Vec<String> = held.collect();
            let events = self.database.take_events(after, &held, AT_ONCE).await?;
            match events.last() {
                Some(last) => after = last.id,
                // One that was written earlier may have been committed later.
                None if after > 0 => {
                    after = 0;
                    continue;
                }
                None => return Ok(Turn::Mine),
            }
            let (there, ended) = self.send(&events).await;
            self.forget(&there).await;
            ended?;
        }
    }

    async fn turn(&self) -> StoreResult<Turn> {
        self.database.outbox_turn(self.id, TURN).await
    }

    /// Sends events in their order and waits for the answers. Those that Kafka has are told in any case.
    async fn send(&mut self, events: &[Waiting]) -> (Vec<i64>, Result<(), Ended>) {
        let mut answered = Answered::default();
        let ended = self.send_all(events, &mut answered).await;
        for event in events.iter().filter(|event| !answered.refused.contains_key(&event.topic)) {
            self.held.remove(&event.topic);
        }
        for (topic, error) in answered.refused {
            self.hold(topic, &error);
        }
        (answered.there, ended)
    }

    async fn send_all(&self, events: &[Waiting], answered: &mut Answered) -> Result<(), Ended> {
        let mut sending = Sending::open(&self.producers)?;
        for (place, event) in events.iter().enumerate() {
            // What comes behind one that was refused waits with it.
            while !answered.refused.contains_key(&event.topic) {
                match sending.send(event, place as u64) {
                    Ok(()) => break,
                    Err(SendError::Full) => {
                        self.hear(&mut sending, events, answered).await?;
                    }
                    Err(error) => {
                        answered.refused.insert(event.topic.clone(), error);
                    }
                }
            }
        }
        while sending.open > 0 {
            self.hear(&mut sending, events, answered).await?;
        }
        Ok(())
    }

    /// Waits for answers, and keeps the turn meanwhile.
    async fn hear(
        &self,
        sending: &mut Sending,
        events: &[Waiting],
        answered: &mut Answered,
    ) -> Result<(), Ended> {
        let silent = tokio::time::timeout(KEEP, sending.answers.came.notified()).await.is_err();
        if silent || sending.kept.elapsed() >= KEEP {
            sending.kept = Instant::now();
            self.measure().await;
            match self.turn().await {
                Ok(Turn::Mine) => {}
                Ok(_) => return Err(Ended::Overtaken),
                // Nobody else can take it meanwhile.
                Err(error) => warn!(%error, "the turn to send events cannot be kept"),
            }
        }
        for (place, result) in sending.take() {
            let Some(event) = events.get(place) else { continue };
            match result {
                Ok(()) => answered.there.push(event.id),
                Err(error) => {
                    answered.refused.insert(event.topic.clone(), error);
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, topic: String, error: &SendError) {
        self.metrics.refused.inc();
        let before = self.held.get(&topic).map(|held| held.wait * 2);
        let wait = before.unwrap_or(HOLD.0).min(HOLD.1);
        warn!(topic, %error, ?wait, "a topic does not take the events of jobs; they wait, and nothing is lost");
        self.held.insert(topic, Held { until: Instant::now() + wait, wait });
    }

    /// When the first of the topics that are held is tried again.
    fn next_try(&self) -> Duration {
        let now = Instant::now();
        let waits = self.held.values().map(|held| held.until.saturating_duration_since(now));
        waits.min().unwrap_or(LOOK).min(LOOK)
    }

    /// Until the database has taken it: what is not forgotten is sent again.
    async fn forget(&self, ids: &[i64]) {
        if ids.is_empty() {
            return;
        }
        self.metrics.published.inc_by(ids.len() as u64);
        while let Err(error) = self.database.forget_events(ids).await {
            warn!(%error, events = ids.len(), "events that were sent cannot be forgotten yet");
            tokio::time::sleep(HOLD.0).await;
        }
    }

    async fn measure(&self) {
        match self.database.outbox_depth().await {
            Ok(depth) => {
                self.metrics.events.set(depth.events);
                self.metrics.oldest.set(depth.oldest);
            }
            Err(error) => info!(%error, "the events that wait cannot be counted"),
        }
    }
}

/// What is under way with one producer.
struct Sending {
    producer: Arc<Producer>,
    sink: Sink,
    answers: Arc<Answers>,
    /// How many have no answer yet.
    open: usize,
    /// When the turn was last taken or kept.
    kept: Instant,
}

/// Takes the answers on the producer's thread.
#[derive(Default)]
struct Answers {
    got: Mutex<Vec<(usize, Result<(), SendError>)>>,
    came: Notify,
}

impl DeliverySink for Answers {
    fn delivered(&self, token: u64, result: Result<(), SendError>) {
        self.got.lock().push((token as usize, result));
        self.came.notify_one();
    }
}

impl Sending {
    fn open(producers: &Producers) -> Result<Self, BrokerError> {
        let current = producers.current();
        let producer = if current.fatal().is_some() { producers.renew(&current)? } else { current };
        let answers = Arc::new(Answers::default());
        let sink = producer.register(Arc::clone(&answers) as Arc<dyn DeliverySink>);
        Ok(Self { producer, sink, answers, open: 0, kept: Instant::now() })
    }

    fn send(&mut self, event: &Waiting, token: u64) -> Result<(), SendError> {
        let texts: Map<String, Json> = serde_json::from_str(&event.headers).unwrap_or_default();
        let mut headers = OutHeaders::new(texts.len());
        for (name, text) in &texts {
            headers.push(name, text.as_str().map(str::as_bytes));
        }
        let outgoing = Outgoing {
            topic: &event.topic,
            partition: None,
            key: event.key.as_deref(),
            value: event.value.as_deref().map(str::as_bytes),
            timestamp: Some(event.made_at),
            headers,
        };
        self.producer.send(outgoing, &self.sink, token).map_err(|(error, _)| error)?;
        self.open += 1;
        Ok(())
    }

    fn take(&mut self) -> Vec<(usize, Result<(), SendError>)> {
        let got = std::mem::take(&mut *self.answers.got.lock());
        self.open -= got.len();
        got
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.producer.deregister(&self.sink);
    }
}
