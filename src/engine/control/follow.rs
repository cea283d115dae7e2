//! How an engine follows the control topic while it runs.
//!
//! One reader an engine, outside any group. Stages take nothing before all that the topic holds is
//! known. Where it is not there, nobody has said anything yet; where it may not be read, the engine says
//! so and runs without it.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pauses::{PAUSE, Pause, RESUME, understood};
use super::topic::{entry, topic};
use super::{ControlError, Writer, forget_behind, resets};
use crate::broker::{BrokerError, ConsumeError, Consumer, Polled, StartAt, TopicPartition};
use crate::engine::running::Engine;
use crate::engine::scan;
use crate::engine::supervisor::TaskError;
use crate::events::WasReset;

/// How long one look for entries waits, and so how soon an engine that stops is heard.
const LOOK: Duration = Duration::from_millis(200);
/// How often a topic that is not there is looked for.
const LOOK_FOR: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(3);
/// How often entries about dead letters that are gone are ended.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);

/// What stages did because somebody said so, on its way to the control topic.
struct Answers {
    said: Sender<WasReset>,
    done: Receiver<WasReset>,
    writer: Option<Writer>,
}

impl Answers {
    fn new() -> Self {
        let (said, done) = mpsc::channel();
        Self { said, done, writer: None }
    }

    /// Writes down what there is.
    fn write(&mut self, engine: &Engine) {
        for done in self.done.try_iter() {
            if self.writer.is_none() {
                let (client, namespace) = engine.reach();
                self.writer = Writer::open(&client, &namespace).ok();
            }
            let Some(writer) = &self.writer else { return };
            if let Err(error) = resets::answer(writer, engine.id(), &done) {
                warn!(%error, "it is not told that {} goes on at {}", done.partition, done.to);
            }
        }
    }
}

impl Engine {
    /// Follows the control topic until `cancel`.
    ///
    /// # Errors
    /// Where the client that reads it does not open.
    pub async fn follow_control(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        tokio::task::spawn_blocking(move || self.follow(&cancel)).await?
    }

    /// Ends entries about dead letters that are gone, now and each hour, until `cancel`.
    ///
    /// # Errors
    /// None; what goes wrong is tried again an hour later.
    pub async fn tidy_control(self: Arc<Self>, cancel: CancellationToken) -> Result<(), TaskError> {
        loop {
            let engine = Arc::clone(&self);
            let (client, namespace) = engine.reach();
            let tidied = tokio::task::spawn_blocking(move || forget_behind(&client, &namespace));
            match cancel.run_until_cancelled(tidied).await {
                None => return Ok(()),
                Some(Ok(Ok(0))) => {}
                Some(Ok(Ok(ended))) => info!(ended, "entries about dead letters that are gone were ended"),
                Some(Ok(Err(error))) => info!(%error, "entries about dead letters were not looked at"),
                Some(Err(error)) => return Err(error.into()),
            }
            if cancel.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_none() {
                return Ok(());
            }
        }
    }

    fn follow(&self, cancel: &CancellationToken) -> Result<(), TaskError> {
        let (client, namespace) = self.reach();
        let control = TopicPartition::new(topic(&namespace), 0);
        let reader = scan::looker(&client, &control.topic)?;
        let mut answers = Answers::new();
        while !cancel.is_cancelled() {
            match self.read_control(&reader, &control, &mut answers, cancel) {
                Ok(()) => {}
                // Nobody has said anything; whatever comes is said to this engine, too.
                Err(ControlError::Broker(BrokerError::UnknownTopic(_))) => {
                    *self.control_next.lock() = Some(0);
                    self.heard_control();
                }
                Err(ControlError::Broker(BrokerError::Denied(why))) => {
                    warn!("the control topic may not be read, and pauses are not heeded: {why}");
                    self.heard_control();
                    return Err(why.into());
                }
                // The brokers are away; that is told elsewhere.
                Err(_) => {}
            }
            thread::park_timeout(LOOK_FOR);
        }
        Ok(())
    }

    /// Reads until something is wrong or `cancel`.
    fn read_control(
        &self,
        reader: &Consumer,
        control: &TopicPartition,
        answers: &mut Answers,
        cancel: &CancellationToken,
    ) -> Result<(), ControlError> {
        reader.partition_count(&control.topic, ANSWER)?;
        let (low, end) = reader.watermarks(control, ANSWER)?;
        // What was said before this engine ran lets nothing go on that has halted since.
        let next = self.control_next.lock().filter(|next| (low..=end).contains(next));
        let live_from = next.unwrap_or(end);
        reader.assign(&[(control.clone(), StartAt::Offset(next.unwrap_or(low)))])?;
        if next.unwrap_or(low) >= end {
            self.heard_control();
        }
        while !cancel.is_cancelled() {
            answers.write(self);
            match reader.poll(LOOK) {
                Polled::Record(fetched) => {
                    let raw = fetched.raw();
                    if let Some((key, value)) = entry(&raw) {
                        self.heed(key, value.as_ref(), raw.offset >= live_from, &answers.said);
                    }
                    *self.control_next.lock() = Some(raw.offset + 1);
                    if raw.offset + 1 >= end {
                        self.heard_control();
                    }
                }
                Polled::End(_) => self.heard_control(),
                Polled::Error(ConsumeError::UnknownTopic(topic)) => {
                    return Err(BrokerError::UnknownTopic(topic.to_string()).into());
                }
                Polled::Error(ConsumeError::OffsetOutOfRange(_) | ConsumeError::Fatal(_)) => return Ok(()),
                Polled::Error(_) | Polled::Nothing | Polled::Rebalance(_) => {}
            }
        }
        Ok(())
    }

    /// One entry. A pause counts whenever it was said, all else only while this engine runs.
    fn heed(&self, key: &str, value: Option<&serde_json::Value>, live: bool, answers: &Sender<WasReset>) {
        if let Some(stage) = key.strip_prefix(PAUSE) {
            let pause = value.and_then(understood::<Pause>);
            if value.is_some() && pause.is_none() {
                return;
            }
            self.shared.holds.set(stage, pause.map(|pause| pause.text()));
            self.tell_holds(Some(stage));
        } else if let Some(stage) = key.strip_prefix(RESUME).filter(|_| live && value.is_some()) {
            let stages = self.running.read().stages.clone();
            stages.iter().filter(|handle| handle.name() == stage).for_each(|handle| handle.go_on());
        } else if let Some(value) = value.filter(|_| live)
            && let Some((stage, reset)) = resets::read(key, value, answers)
        {
            let stages = self.running.read().stages.clone();
            let meant = stages.iter().find(|handle| handle.name() == stage);
            meant.into_iter().for_each(|handle| handle.reset(reset.clone()));
        }
    }

    /// All that was said so far is known.
    fn heard_control(&self) {
        if !self.shared.holds.is_known() {
            self.shared.holds.known();
            self.tell_holds(None);
        }
    }

    /// Tells one stage, or all, what the holds say.
    pub(in crate::engine) fn tell_holds(&self, only: Option<&str>) {
        let stages = self.running.read().stages.clone();
        let meant = stages.iter().filter(|handle| only.is_none_or(|only| handle.name() == only));
        meant.for_each(|handle| handle.heed(&self.shared.holds));
    }
}
