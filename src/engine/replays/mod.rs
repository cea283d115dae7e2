//! Sending records again, from a DLQ or any topic: run by the command that asks for it, without an engine
//! and without a database.
//!
//! What a replay is stands in the control topic and never changes; how far it is stands in the offsets of
//! a group of its own, so that any other command goes on where one was killed. Nothing here asks or shows.

mod board;
mod counts;
mod cursor;
mod judge;
mod ledger;
mod pacer;
mod preview;
mod run;
mod spec;
mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::board::Board;
pub use self::board::Stop;
pub use self::counts::{Counts, Fate};
pub use self::cursor::Cursor;
use self::judge::Judge;
pub use self::judge::codecs;
use self::ledger::{Ledger, Standing};
use self::pacer::Pacer;
pub use self::preview::{First, Group, Preview};
pub use self::run::Ended;
use self::run::{Answers, Clock, Run};
pub use self::spec::{End, Holder, Outcome, Range, Source, Spec, Target};
use self::targets::Targets;
use crate::base::now_millis;
use crate::broker::{
    BrokerError, ClientSettings, Consumer, Producer, ProducerOptions, SendError, TopicPartition, TopicRoute,
};
use crate::catalog::Catalog;
use crate::engine::control::{ControlError, Settled};
use crate::engine::scan::{self, Part, ScanError};
use crate::events::compression;
use crate::events::letters::{Again, Filters, FiltersError};

/// How much a replay fetches ahead, in KiB.
const AHEAD: u32 = 4 * 1024;
/// How long what is sent waits for company: nobody waits for it, and larger batches cost the brokers less.
const LINGER: Duration = Duration::from_millis(50);
/// How long nothing may come while something is left to read.
const PATIENCE: Duration = Duration::from_secs(60);
/// A command that works on a replay is heard of each second; one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(4);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Why a replay cannot be started, looked up or finished.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The brokers.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The records cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The filters mean nothing.
    #[error(transparent)]
    Filters(#[from] FiltersError),
    /// The control topic.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A record is not taken.
    #[error("a record cannot be sent: {0}")]
    Send(SendError),
    /// Sends are still open.
    #[error("{0} records were sent and are not acknowledged; go on with `biplane replays resume`")]
    Unanswered(usize),
    /// The stage is not in the files.
    #[error("there is no stage `{0}`")]
    NoStage(String),
    /// There is no such replay.
    #[error("there is no replay `{0}`: `biplane replays list` shows all")]
    Unknown(String),
    /// It has ended.
    #[error("the replay `{0}` has ended; start a new one")]
    Ended(String),
    /// Another command works on it.
    #[error("another command works on the replay `{0}` right now; `biplane replays cancel {0}` ends it")]
    Busy(String),
    /// Its offsets are gone.
    #[error(
        "the cursor of the replay `{0}` is gone (brokers forget the offsets of an idle group after a week, \
         unless `offsets.retention.minutes` says otherwise): start a new one, which leaves out the dead \
         letters that were replayed"
    )]
    CursorGone(String),
    /// An entry of the control topic is not what it should be.
    #[error("the entry of the replay `{id}` cannot be read: {why}")]
    Entry {
        /// Which.
        id: String,
        /// Why.
        why: String,
    },
}

/// One replay, as far as it is known.
#[derive(Debug, Clone)]
pub struct Known {
    /// What it is.
    pub spec: Spec,
    /// The command that works on it, or did last.
    pub holder: Option<Holder>,
    /// How it ended.
    pub end: Option<End>,
}

/// The replays of a namespace.
pub struct Replays<'a> {
    /// How Kafka is reached.
    pub client: &'a ClientSettings,
    /// The prefix of groups and topics.
    pub namespace: &'a str,
}

/// What lies in `topic` now and is looked at.
///
/// # Errors
/// Where the topic is not there, or the brokers do not answer.
pub fn ranges(consumer: &Consumer, topic: &str, filters: &Filters) -> Result<Vec<Range>, ReplayError> {
    let parts = scan::parts(consumer, topic)?.into_iter().map(|part| {
        let partition = part.partition.partition;
        let (from, end) = filters.range(partition, part.from, part.end);
        Range { partition, from, end }
    });
    Ok(parts.filter(|range| range.from < range.end).collect())
}

impl Spec {
    fn parts(&self) -> Vec<Part> {
        let part = |range: &Range| Part {
            partition: TopicPartition::new(&*self.topic, range.partition),
            from: range.from,
            end: range.end,
        };
        self.ranges.iter().map(part).collect()
    }
}

impl Replays<'_> {
    /// All replays, oldest first.
    ///
    /// # Errors
    /// Where the control topic cannot be read.
    pub fn all(&self) -> Result<Vec<Known>, ReplayError> {
        Ok(board::all(self.client, self.namespace)?.into_values().collect())
    }

    /// One replay.
    ///
    /// # Errors
    /// [`ReplayError::Unknown`], or where the control topic cannot be read.
    pub fn find(&self, id: &str) -> Result<Known, ReplayError> {
        let mut all: BTreeMap<_, _> = board::all(self.client, self.namespace)?;
        all.remove(id).ok_or_else(|| ReplayError::Unknown(id.to_owned()))
    }

    /// How far a replay is.
    ///
    /// # Errors
    /// Where the coordinator of its group does not answer.
    pub fn cursor(&self, spec: &Spec) -> Result<Cursor, ReplayError> {
        let consumer = scan::looker(self.client, &Spec::group(self.namespace, &spec.id))?;
        cursor::read(&consumer, spec)
    }

    /// Ends a replay, whoever works on it; false where it has ended before.
    ///
    /// # Errors
    /// As [`Replays::find`], and where the control topic cannot be written.
    pub fn cancel(&self, id: &str, by: &str) -> Result<bool, ReplayError> {
        let known = self.find(id)?;
        if known.end.is_some() {
            return Ok(false);
        }
        let end = End { outcome: Outcome::Cancelled, by: by.to_owned(), at: now_millis(), counts: None };
        board::end(self.client, self.namespace, id, &end)?;
        Ok(true)
    }

    /// What a replay would send; calls `step` for each record that it looks at.
    ///
    /// # Errors
    /// Where the filters mean nothing, or the records cannot be read.
    pub fn preview(
        &self,
        spec: &Spec,
        catalog: &Catalog,
        step: impl FnMut(),
    ) -> Result<Preview, ReplayError> {
        let judge = Judge::new(spec, catalog, Settled::load(self.client, self.namespace)?)?;
        let consumer = scan::reader(self.client, &Spec::group(self.namespace, &spec.id), AHEAD)?;
        preview::read(&consumer, &spec.parts(), &judge, step)
    }

    /// Runs a new replay to its end; tells the counts so far now and then.
    ///
    /// # Errors
    /// See [`ReplayError`]. What was begun can be resumed.
    pub fn start(
        &self,
        spec: &Spec,
        catalog: &Catalog,
        tell: &mut dyn FnMut(Counts),
    ) -> Result<Ended, ReplayError> {
        let consumer = scan::reader(self.client, &Spec::group(self.namespace, &spec.id), AHEAD)?;
        let standings: Vec<_> = spec
            .ranges
            .iter()
            .map(|range| Standing {
                partition: range.partition,
                cursor: range.from,
                counts: Counts::default(),
            })
            .collect();
        let settled = Settled::load(self.client, self.namespace)?;
        let judge = Judge::new(spec, catalog, settled)?;
        // Nothing is written down of a replay that has nowhere to go.
        Targets::new(self.client, &consumer, catalog, self.namespace, &spec.target).prepare()?;
        // The cursor is there before the entry: one without the other is never taken for a beginning.
        cursor::commit(&consumer, &spec.topic, standings.iter().cloned(), now_millis())?;
        let board = Board::begin(self.client, self.namespace, spec, true)?;
        self.run(spec, catalog, &consumer, standings, (judge, board), tell)
    }

    /// Goes on with a replay whose command has ended.
    ///
    /// # Errors
    /// [`ReplayError::Busy`] where a command works on it; else as [`Replays::start`].
    pub fn resume(
        &self,
        id: &str,
        catalog: &Catalog,
        by: &str,
        tell: &mut dyn FnMut(Counts),
    ) -> Result<Ended, ReplayError> {
        let known = self.find(id)?;
        if known.end.is_some() {
            return Err(ReplayError::Ended(id.to_owned()));
        }
        let spec = Spec { by: by.to_owned(), ..known.spec };
        let consumer = scan::reader(self.client, &Spec::group(self.namespace, id), AHEAD)?;
        let cursor = self.wait_until_silent(&consumer, &spec)?;
        let found = cursor::by_partition(&cursor);
        if spec.ranges.iter().any(|range| !found.contains_key(&range.partition)) {
            return Err(ReplayError::CursorGone(id.to_owned()));
        }
        let settled = Settled::load(self.client, self.namespace)?;
        let judge = Judge::new(&spec, catalog, settled)?;
        let board = Board::begin(self.client, self.namespace, &spec, false)?;
        self.run(&spec, catalog, &consumer, found.into_values().collect(), (judge, board), tell)
    }

    /// A command that works on the replay moves its cursor's time each second.
    fn wait_until_silent(&self, consumer: &Consumer, spec: &Spec) -> Result<Cursor, ReplayError> {
        let first = cursor::read(consumer, spec)?;
        let since = Instant::now();
        loop {
            if since.elapsed() >= SILENCE {
                return Ok(first);
            }
            std::thread::park_timeout(LOOK_AGAIN);
            if cursor::read(consumer, spec)?.at != first.at {
                return Err(ReplayError::Busy(spec.id.clone()));
            }
        }
    }

    fn run(
        &self,
        spec: &Spec,
        catalog: &Catalog,
        consumer: &Consumer,
        standings: Vec<Standing>,
        (judge, board): (Judge, Board),
        tell: &mut dyn FnMut(Counts),
    ) -> Result<Ended, ReplayError> {
        let mut targets = Targets::new(self.client, consumer, catalog, self.namespace, &spec.target);
        targets.prepare()?;
        let parts = self.left(spec, consumer, &standings)?;
        let mut ledger = Ledger::default();
        standings.into_iter().for_each(|standing| ledger.begin(standing));
        let options = ProducerOptions { linger: LINGER, ..ProducerOptions::default() };
        let producer = Producer::open(self.client, options)?;
        route(&producer, catalog, &spec.target)?;
        let answers = Answers::here();
        let sink = producer.register(Arc::clone(&answers) as _);
        let writer = board.writer();
        let mut run = Run {
            spec,
            judge,
            again: again(catalog, &spec.source),
            targets,
            board,
            producer,
            sink,
            answers,
            ledger,
            pacer: spec.rate.map(Pacer::new),
            tell,
            clock: Clock::start(),
            taken: Vec::new(),
            halt: None,
        };
        let read = scan::read_into(consumer, &parts, PATIENCE, &mut run);
        let ended = run.finish()?;
        read?;
        if ended.stopped.is_none() {
            let end = End {
                outcome: Outcome::Done,
                by: spec.by.clone(),
                at: now_millis(),
                counts: Some(ended.counts),
            };
            board::end_through(&writer, &spec.id, &end)?;
        }
        Ok(ended)
    }

    /// What is left to read; what the topic has removed meanwhile is passed over.
    fn left(
        &self,
        spec: &Spec,
        consumer: &Consumer,
        standings: &[Standing],
    ) -> Result<Vec<Part>, ReplayError> {
        let mut parts = Vec::new();
        for mut part in spec.parts() {
            let standing = standings.iter().find(|standing| standing.partition == part.partition.partition);
            let (low, _) = consumer.watermarks(&part.partition, scan::ANSWER)?;
            part.from = standing.map_or(part.from, |standing| standing.cursor).max(low);
            if part.from < part.end {
                parts.push(part);
            }
        }
        Ok(parts)
    }
}

/// What is taken off a record before it is sent again.
fn again(catalog: &Catalog, source: &Source) -> Again {
    match source {
        Source::Dlq(name) => {
            Again::of_letters(catalog.dlqs().get(name.as_str()).map_or(&[], |dlq| &dlq.headers))
        }
        Source::Topic(_) => Again::of_records(),
    }
}

/// A topic of the files is written as its stages write it.
fn route(producer: &Producer, catalog: &Catalog, target: &Target) -> Result<(), ReplayError> {
    let Target::Topic(name) = target else { return Ok(()) };
    let Some(topic) = catalog.topics().values().find(|topic| *topic.physical == **name) else {
        return Ok(());
    };
    let route = TopicRoute {
        compression: compression(topic.compression),
        linger: topic.linger,
        max_message_bytes: topic.max_message_bytes.map(|size| size.as_usize()),
    };
    Ok(producer.route(name, route)?)
}
