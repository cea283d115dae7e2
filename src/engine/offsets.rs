//! Where a stage stands in its inputs, and setting it elsewhere.
//!
//! A broker takes offsets from outside only for a group without members. Where engines run the stage, the
//! one that reads a partition moves it ([`super::control::reset`]). What the commits say beyond their
//! offsets is cleared, since it is of no use for another place.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::control::{self, ControlError, Done};
use super::scan::{self, ScanError};
use crate::broker::{Admin, BrokerError, ClientSettings, Commit, Consumer, StartAt, TopicPartition};
use crate::catalog::{Stage, Topic};
use crate::events::{beyond, parking_topic};
use crate::steps::ports::{Databases, Place};

/// How long the brokers may take to answer one question.
const ANSWER: Duration = Duration::from_secs(10);

/// Why offsets cannot be looked up or set.
#[derive(Debug, thiserror::Error)]
pub enum OffsetsError {
    /// The brokers.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A topic cannot be looked at.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Nothing is meant.
    #[error("the stage reads {read}, and no such partition was found among them")]
    Nothing {
        /// Its topics.
        read: String,
    },
    /// The offset is not in the topic.
    #[error("{partition} holds the offsets {begin} to {end}, not {offset}")]
    OutOfRange {
        /// Topic and partition.
        partition: String,
        /// The oldest offset.
        begin: i64,
        /// The one behind the newest record.
        end: i64,
        /// The one that was asked for.
        offset: i64,
    },
    /// An engine runs the stage.
    #[error("the group {group} has {members} by now (state {state}), and nothing was set: try again")]
    Running {
        /// The group.
        group: String,
        /// Kafka's word for its state.
        state: String,
        /// Who is in it.
        members: String,
    },
    /// The database that the stage writes.
    #[error("the database that the stage writes: {0}")]
    Database(String),
    /// The control topic.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Not every partition was moved.
    #[error(
        "{moved} of {all} partitions were moved by the engines that read them, and not {left}: those stay \
         where they are. A member that was killed holds its partitions for 10 s more; try again, or stop the \
         engines that run the stage"
    )]
    Unmoved {
        /// How many were.
        moved: usize,
        /// How many were to be.
        all: usize,
        /// The others.
        left: String,
    },
}

/// Where a stage's group stands in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The topic's physical name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read; `None`: the group has no commit there.
    pub committed: Option<i64>,
    /// The oldest offset that is there.
    pub begin: i64,
    /// The one behind the newest record.
    pub end: i64,
    /// How many offsets are left, the finished ones beyond the commit included.
    pub lag: i64,
    /// How many offsets beyond the commit are finished and will not be read again.
    pub finished_beyond: i64,
    #[serde(skip)]
    metadata: String,
}

/// Which partitions of a stage's inputs are meant.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// The topic by its name in the files, or by its physical name; `None`: all.
    pub topic: Option<String>,
    /// The partition; `None`: all.
    pub partition: Option<i32>,
}

/// Where a stage shall go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// At the first record that is not older, in milliseconds since the Unix epoch; behind the newest
    /// where there is none.
    Time(i64),
}

/// One partition's way from where it stands to where it shall go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// The topic's physical name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where it stands; `None`: nowhere yet.
    pub from: Option<i64>,
    /// Where it goes on.
    pub to: i64,
    /// How many finished offsets are read again; those of records that are gone are not counted.
    pub again: i64,
    /// How many offsets are passed over that the stage has not finished.
    pub skipped: i64,
    #[serde(skip)]
    metadata: String,
}

/// The group of a stage.
pub fn group(namespace: &str, stage: &Stage) -> String {
    format!("{namespace}.{}", stage.name)
}

/// Where the group of `looker` stands in the stage's inputs, without joining it.
///
/// # Errors
/// Where the brokers do not answer, or a topic is not there.
pub fn standings(looker: &Consumer, stage: &Stage, which: &Which) -> Result<Vec<Standing>, OffsetsError> {
    standings_in(looker, &partitions(looker, stage, which)?)
}

fn standings_in(looker: &Consumer, partitions: &[TopicPartition]) -> Result<Vec<Standing>, OffsetsError> {
    let mut standings = Vec::new();
    if partitions.is_empty() {
        return Ok(standings);
    }
    for found in looker.committed(partitions, ANSWER)? {
        let (begin, end) = looker.watermarks(&found.partition, ANSWER)?;
        let next = found.offset.unwrap_or(begin).max(begin);
        standings.push(Standing {
            topic: found.partition.topic.to_string(),
            partition: found.partition.partition,
            committed: found.offset,
            begin,
            end,
            lag: (end - next).max(0),
            finished_beyond: found
                .offset
                .map_or(0, |offset| beyond::finished(&found.metadata, offset, next..end)),
            metadata: found.metadata,
        });
    }
    standings.sort_by(|left, right| (&left.topic, left.partition).cmp(&(&right.topic, right.partition)));
    Ok(standings)
}

fn partitions(looker: &Consumer, stage: &Stage, which: &Which) -> Result<Vec<TopicPartition>, OffsetsError> {
    let mut partitions = Vec::new();
    for input in stage.inputs.iter().filter(|input| which.means(input)) {
        partitions.extend(scan::partitions(looker, &input.physical)?);
    }
    partitions.retain(|found| which.partition.is_none_or(|partition| partition == found.partition));
    if partitions.is_empty() {
        let read: Vec<_> = stage.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        return Err(OffsetsError::Nothing { read: read.join(", ") });
    }
    Ok(partitions)
}

/// Where the group stands in the parking topics beside these inputs; none where nothing was ever parked.
///
/// # Errors
/// Where the brokers do not answer.
pub fn parked(
    looker: &Consumer,
    namespace: &str,
    stage: &Stage,
    which: &Which,
) -> Result<Vec<Standing>, OffsetsError> {
    let mut partitions = Vec::new();
    for input in stage.inputs.iter().filter(|input| which.means(input)) {
        match scan::partitions(looker, &parking_topic(namespace, &stage.name, &input.physical)) {
            Ok(found) => partitions.extend(found),
            Err(ScanError::Broker(BrokerError::UnknownTopic(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    partitions.retain(|found| which.partition.is_none_or(|partition| partition == found.partition));
    standings_in(looker, &partitions)
}

/// What letting go of all that is parked there would do; changes nothing. Partitions in which nothing is
/// parked are left out.
///
/// # Errors
/// As [`parked`].
pub fn plan_drop(parked: &[Standing]) -> Result<Vec<Move>, OffsetsError> {
    let moves = parked.iter().map(|standing| standing.moved(standing.end));
    let mut moves = moves.collect::<Result<Vec<_>, _>>()?;
    moves.retain(|found| found.skipped > 0);
    Ok(moves)
}

/// What setting the offsets would do; changes nothing. Partitions that stand there already are left out.
///
/// # Errors
/// As [`standings`], and where an offset is not in its partition.
pub fn plan(looker: &Consumer, stage: &Stage, which: &Which, aim: Aim) -> Result<Vec<Move>, OffsetsError> {
    let standings = standings(looker, stage, which)?;
    let targets = match aim {
        Aim::Time(millis) => {
            let names: Vec<_> = standings
                .iter()
                .map(|standing| TopicPartition::new(&*standing.topic, standing.partition))
                .collect();
            looker.offsets_for_time(&names, millis, ANSWER)?
        }
        Aim::Earliest | Aim::Latest | Aim::Offset(_) => Vec::new(),
    };
    let target = |standing: &Standing| {
        let found = targets.iter().find(|(partition, _)| {
            *partition.topic == *standing.topic && partition.partition == standing.partition
        });
        match (aim, found) {
            (Aim::Earliest, _) => standing.begin,
            (Aim::Offset(offset), _) => offset,
            (Aim::Time(_), Some((_, StartAt::Offset(offset)))) => *offset,
            (Aim::Time(_), Some((_, StartAt::Earliest))) => standing.begin,
            (Aim::Time(_) | Aim::Latest, _) => standing.end,
        }
    };
    let moves = standings.iter().map(|standing| standing.moved(target(standing)));
    let mut moves = moves.collect::<Result<Vec<_>, _>>()?;
    moves.retain(|found| found.from != Some(found.to) || found.again > 0);
    Ok(moves)
}

impl Which {
    fn means(&self, input: &Topic) -> bool {
        self.topic.as_ref().is_none_or(|topic| **topic == *input.name || **topic == *input.physical)
    }
}

impl Standing {
    /// How many offsets are not finished.
    pub fn left(&self) -> i64 {
        self.lag - self.finished_beyond
    }

    fn moved(&self, to: i64) -> Result<Move, OffsetsError> {
        if !(self.begin..=self.end).contains(&to) {
            let partition = format!("{}/{}", self.topic, self.partition);
            return Err(OffsetsError::OutOfRange { partition, begin: self.begin, end: self.end, offset: to });
        }
        let from = self.committed.unwrap_or(self.begin).clamp(self.begin, self.end);
        let finished =
            |range| self.committed.map_or(0, |offset| beyond::finished(&self.metadata, offset, range));
        Ok(Move {
            topic: self.topic.clone(),
            partition: self.partition,
            from: self.committed,
            to,
            again: (from - to).max(0) + finished(from.max(to)..self.end),
            skipped: (to - from).max(0) - finished(from..to),
            metadata: beyond::cleared(&self.metadata, self.committed.unwrap_or_default(), to),
        })
    }
}

/// Sets the offsets as planned, all at once.
///
/// # Errors
/// [`OffsetsError::Running`] where the group has members, and where the brokers do not answer or refuse.
pub fn set(
    client: &ClientSettings,
    namespace: &str,
    stage: &Stage,
    moves: &[Move],
) -> Result<(), OffsetsError> {
    let name = group(namespace, stage);
    let commits: Vec<_> = moves
        .iter()
        .map(|found| Commit {
            partition: TopicPartition::new(&*found.topic, found.partition),
            offset: found.to,
            metadata: found.metadata.clone(),
        })
        .collect();
    match scan::looker(client, &name)?.commit_within(&commits, ANSWER) {
        // Somebody joined since.
        Err(error @ BrokerError::Stale(_)) => free(client, &name).and(Err(error.into())),
        other => Ok(other?),
    }
}

/// Says where a stage that is exactly-once in a database stands there, before its group mirrors it.
///
/// # Errors
/// [`OffsetsError::Database`].
pub async fn set_in_database(
    databases: &dyn Databases,
    namespace: &str,
    stage: &Stage,
    moves: &[Move],
) -> Result<(), OffsetsError> {
    let Some((_, effect)) = stage.effects().next() else { return Ok(()) };
    let group: Arc<str> = group(namespace, stage).into();
    let place = |found: &Move| Place {
        group: Arc::clone(&group),
        topic: found.topic.as_str().into(),
        partition: found.partition,
    };
    let places: Vec<_> = moves.iter().map(|found| (place(found), found.to)).collect();
    let offsets = databases.offsets(effect.asked.database.as_ref(), Vec::new());
    let offsets = offsets.map_err(|error| OffsetsError::Database(error.message))?;
    offsets.set(&places).await.map_err(|failure| OffsetsError::Database(failure.message))
}

/// Lets the engines that run the stage move its partitions, each of them its own; what they did.
///
/// # Errors
/// [`OffsetsError::Unmoved`] where not all were moved within 10 s; what was not is not moved later either.
pub fn set_by_owners(
    client: &ClientSettings,
    namespace: &str,
    stage: &Stage,
    by: &str,
    moves: &[Move],
) -> Result<Vec<Done>, OffsetsError> {
    let to: Vec<_> =
        moves.iter().map(|found| (TopicPartition::new(&*found.topic, found.partition), found.to)).collect();
    let done = control::reset(client, namespace, &stage.name, by, &to)?;
    let is_done = |name: &TopicPartition| {
        done.iter().any(|done| *done.topic == *name.topic && done.partition == name.partition)
    };
    let left: Vec<_> =
        to.iter().filter(|(name, _)| !is_done(name)).map(|(name, _)| name.to_string()).collect();
    match left.is_empty() {
        true => Ok(done),
        false => Err(OffsetsError::Unmoved { moved: done.len(), all: to.len(), left: left.join(", ") }),
    }
}

/// Whether the group is without members.
///
/// # Errors
/// [`OffsetsError::Running`] where it is not, and where the brokers do not answer.
pub fn free(client: &ClientSettings, name: &str) -> Result<(), OffsetsError> {
    let Some(found) = Admin::open(client)?.group(name, ANSWER)? else { return Ok(()) };
    if found.members.is_empty() && !found.state.ends_with("Rebalance") {
        return Ok(());
    }
    let hosts: Vec<_> =
        found.members.iter().map(|member| format!("{} at {}", member.client_id, member.host)).collect();
    let count = match hosts.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let members = if hosts.is_empty() { count } else { format!("{count}, {}", hosts.join(", ")) };
    Err(OffsetsError::Running { group: name.to_owned(), state: found.state, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(committed: Option<i64>) -> Standing {
        let (topic, metadata) = ("t".to_owned(), String::new());
        Standing { topic, partition: 0, committed, begin: 10, end: 50, lag: 0, finished_beyond: 0, metadata }
    }

    fn counts(committed: Option<i64>, to: i64) -> (i64, i64) {
        let found = standing(committed).moved(to).unwrap();
        (found.again, found.skipped)
    }

    #[test]
    fn what_is_gone_is_neither_read_again_nor_passed_over() {
        assert_eq!(counts(Some(30), 10), (20, 0));
        assert_eq!(counts(Some(30), 50), (0, 20));
        assert_eq!(counts(Some(3), 50), (0, 40), "retention took what lies before the begin");
        assert_eq!(counts(Some(70), 10), (40, 0), "the topic was made anew");
        assert_eq!(counts(None, 20), (0, 10), "nothing was read yet");
    }

    #[test]
    fn an_offset_lies_in_the_partition_or_behind_its_newest_record() {
        assert!(standing(None).moved(50).is_ok());
        let error = standing(None).moved(51).unwrap_err().to_string();
        assert_eq!(error, "t/0 holds the offsets 10 to 50, not 51");
        assert!(standing(None).moved(9).is_err());
    }
}
