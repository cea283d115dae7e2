//! What a stage reads: its inputs, and the topics that the engine keeps beside them.
//!
//! Partition `p` of such a topic belongs to partition `p` of the inputs: the `range` assignor gives both
//! to one member, so that one generation fences both. Who makes the topics is not decided here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::runner::Runner;
use crate::broker::{BrokerError, Consumer};
use crate::catalog::Stage;

/// How long the brokers may take to say how many partitions a topic has.
const ANSWER: Duration = Duration::from_secs(1);
/// How soon a topic is asked for again that the client did not know; doubles each time.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// So often, as each time the group hands out anew.
const MOST_AGAIN: u8 = 5;
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// What a topic is to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The stage's records come from it.
    Input,
    /// Records that were sent again, to this stage alone.
    Replay,
    /// Records that wait for a later attempt.
    Parked,
}

/// The topic through which records are sent again to one stage alone.
pub fn replay_topic(namespace: &str, stage: &str) -> String {
    format!("{namespace}.{stage}.replay")
}

/// The topic in which a stage parks records of one of its inputs. One an input, so that it has the same
/// partitions and each goes where the input's goes.
pub fn parking_topic(namespace: &str, stage: &str, input: &str) -> String {
    format!("{namespace}.{stage}.parked.{input}")
}

/// All that one stage may read.
#[derive(Debug)]
pub(super) struct Sources {
    inputs: Vec<Arc<str>>,
    replay: Arc<str>,
    /// Whether the replay topic is on the broker, as far as it was told.
    replayed: bool,
    parking: Vec<ParkingTopic>,
    /// Whether the brokers were asked for parking topics.
    looked: bool,
    /// When to ask again for topics that the client did not know, and how often that was done.
    again: Option<(Instant, u8)>,
}

#[derive(Debug)]
struct ParkingTopic {
    name: Arc<str>,
    input: Arc<str>,
    /// Whether it is on the broker, as far as is known: then it is read.
    there: bool,
    /// Whether records are parked there; else only what lies there is read, as of a stage that had
    /// another name before.
    written: bool,
}

impl Sources {
    pub(super) fn new(namespace: &str, stage: &Stage) -> Self {
        Self {
            inputs: stage.inputs.iter().map(|topic| Arc::clone(&topic.physical)).collect(),
            replay: replay_topic(namespace, &stage.name).into(),
            replayed: false,
            parking: Vec::new(),
            looked: false,
            again: None,
        }
    }

    /// Its records may be parked, or may have been.
    #[must_use]
    pub(super) fn with_parking(mut self, namespace: &str, stage: &Stage) -> Self {
        let names = std::iter::once((&stage.name, true)).chain(stage.was.iter().map(|was| (was, false)));
        self.parking = names
            .flat_map(|(name, written)| {
                self.inputs.iter().map(move |input| ParkingTopic {
                    name: parking_topic(namespace, name, input).into(),
                    input: Arc::clone(input),
                    there: false,
                    written,
                })
            })
            .collect();
        self
    }

    /// Where records of that input are parked, if anywhere.
    pub(super) fn parking(&self, input: &str) -> Option<&Arc<str>> {
        let of = |topic: &&ParkingTopic| topic.there && topic.written && *topic.input == *input;
        self.parking.iter().find(of).map(|topic| &topic.name)
    }

    /// All topics in which records of that input may be parked, those that are not there yet among them.
    pub(super) fn beside(&self, input: &str) -> impl Iterator<Item = &Arc<str>> {
        self.parking.iter().filter(move |topic| *topic.input == *input).map(|topic| &topic.name)
    }

    /// The input whose records are parked there.
    pub(super) fn parked_of(&self, parking: &str) -> Option<&Arc<str>> {
        self.parking.iter().find(|topic| *topic.name == *parking).map(|topic| &topic.input)
    }

    /// Asks once which parking topics are on the broker, before anything is read; whether any is.
    ///
    /// # Errors
    /// Where the brokers do not answer before `deadline`.
    fn look(&mut self, consumer: &Consumer, deadline: Instant) -> Result<bool, BrokerError> {
        if self.looked {
            return Ok(false);
        }
        for topic in self.parking.iter_mut().filter(|topic| !topic.there) {
            match consumer.partition_count(&topic.name, deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => topic.there = true,
                Err(BrokerError::UnknownTopic(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.looked = true;
        Ok(self.parking.iter().any(|topic| topic.there))
    }

    /// What to subscribe to. The replay topic of a stage that nothing was ever sent to again costs it
    /// nothing.
    pub(super) fn subscription(&self) -> Vec<Arc<str>> {
        let replay = self.replayed.then(|| Arc::clone(&self.replay));
        let parking = self.parking.iter().filter(|topic| topic.there).map(|topic| Arc::clone(&topic.name));
        self.inputs.iter().cloned().chain(replay).chain(parking).collect()
    }

    /// What a topic is to the stage.
    pub(super) fn role(&self, topic: &str) -> Role {
        match topic {
            _ if *self.replay == *topic => Role::Replay,
            _ if self.parking.iter().any(|parking| *parking.name == *topic) => Role::Parked,
            _ => Role::Input,
        }
    }

    /// Which of the topics beside its inputs are on the broker, as far as it was told; whether this is news.
    /// A parking topic counts once the stage's own client knows it, or the group would be asked for nothing,
    /// and it is not given up: something may be parked there.
    fn hear(&mut self, there: &[Arc<str>], consumer: &Consumer) -> bool {
        let is_there = |name: &Arc<str>| there.contains(name);
        let replayed = is_there(&self.replay);
        let mut news = std::mem::replace(&mut self.replayed, replayed) != replayed;
        for topic in self.parking.iter_mut().filter(|topic| !topic.there && is_there(&topic.name)) {
            topic.there = consumer.partition_count(&topic.name, ANSWER).is_ok();
            news |= topic.there;
        }
        if news {
            self.again = None;
        }
        news
    }

    /// The client says that it does not know a topic. Where that is one of those beside the inputs, which
    /// were seen on a broker, it is asked for again soon, a few times.
    pub(super) fn unknown(&mut self, what: &str, now: Instant) {
        let is_meant = |topic: &ParkingTopic| topic.there && what.contains(&*topic.name);
        let meant = self.parking.iter().any(is_meant) || self.replayed && what.contains(&*self.replay);
        let (_, times) = self.again.unwrap_or((now, 0));
        if meant && times < MOST_AGAIN {
            self.again = Some((now + ASK_AGAIN * 2u32.pow(times.into()), times + 1));
        }
    }
}

impl Runner {
    /// These topics beside the inputs are on the broker: the group looks anew where that is news.
    pub(super) fn topics_are_there(&mut self, there: &[Arc<str>]) {
        if self.sources.hear(there, &self.consumer) {
            self.subscribe();
        }
    }

    /// Asks for topics again that the client did not know when it was asked first.
    pub(super) fn subscribe_again(&mut self) {
        if let Some((due, times)) = self.sources.again
            && due <= self.now
            && times <= MOST_AGAIN
        {
            // Not before it says so again.
            self.sources.again = Some((self.now + FOREVER, times));
            self.subscribe();
        }
    }

    fn subscribe(&self) {
        if let Err(error) = self.consumer.subscribe(&self.sources.subscription()) {
            self.shared.trouble(&error.to_string());
        }
    }

    /// Whether there are parking topics that are not read yet. Then nothing of this assignment begins: the
    /// group is asked for another one, which holds them, too.
    ///
    /// # Errors
    /// Where the brokers do not answer in time.
    pub(super) fn finds_parking(&mut self) -> Result<bool, BrokerError> {
        let deadline = Instant::now() + self.look_up_limit();
        let found = self.sources.look(&self.consumer, deadline)?;
        if found {
            // The client heeds what it is asked for once it has its answer to what it was given.
            if let Err(error) = self.consumer.assign(&[]) {
                self.shared.trouble(&error.to_string());
            }
            self.subscribe();
        }
        Ok(found)
    }
}
