//! The cursor of a replay: the offsets of a group of its own, beside each what became of the records
//! below it. The group has no members; a command that works on the replay commits to it each second.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ReplayError;
use super::counts::Counts;
use super::ledger::Standing;
use super::spec::Spec;
use crate::broker::{BrokerError, Commit, Consumer, TopicPartition};

/// How long the group's coordinator may take to answer; a broker that comes back needs some seconds.
const ANSWER: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(200);

/// What is kept beside an offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Beside {
    /// When that was, in milliseconds since the Unix epoch.
    at: i64,
    #[serde(flatten)]
    counts: Counts,
}

/// How far a replay is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where each partition stands that has a commit.
    pub(super) standings: Vec<Standing>,
    /// When it was last heard of, in milliseconds since the Unix epoch; 0: never.
    pub at: i64,
}

impl Cursor {
    /// All counts together.
    pub fn counts(&self) -> Counts {
        self.standings.iter().fold(Counts::default(), |sum, standing| sum.plus(standing.counts))
    }

    /// How many offsets of `spec` lie below it, and how many there are.
    pub fn progress(&self, spec: &Spec) -> (i64, i64) {
        let total = spec.ranges.iter().map(|range| range.end - range.from).sum();
        let done = self.standings.iter().filter_map(|standing| {
            let range = spec.ranges.iter().find(|range| range.partition == standing.partition)?;
            Some(standing.cursor.min(range.end) - range.from)
        });
        (done.sum::<i64>().max(0), total)
    }
}

/// What the group of `consumer` has committed for the partitions of `spec`.
///
/// # Errors
/// Where the coordinator does not answer.
pub(super) fn read(consumer: &Consumer, spec: &Spec) -> Result<Cursor, ReplayError> {
    let names = spec.ranges.iter().map(|range| TopicPartition::new(&*spec.topic, range.partition));
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Ok(Cursor::default());
    }
    let mut cursor = Cursor::default();
    for commit in consumer.committed(&names, ANSWER)? {
        let Some(offset) = commit.offset else { continue };
        let beside: Beside = serde_json::from_str(&commit.metadata).unwrap_or_default();
        cursor.at = cursor.at.max(beside.at);
        let partition = commit.partition.partition;
        cursor.standings.push(Standing { partition, cursor: offset, counts: beside.counts });
    }
    Ok(cursor)
}

/// Commits these standings. A coordinator that is away for a moment is waited for.
///
/// # Errors
/// Where it does not answer, or refuses.
pub(super) fn commit(
    consumer: &Consumer,
    topic: &str,
    standings: impl Iterator<Item = Standing>,
    at: i64,
) -> Result<(), ReplayError> {
    let commits: Vec<_> = standings
        .map(|standing| Commit {
            partition: TopicPartition::new(topic, standing.partition),
            offset: standing.cursor,
            metadata: serde_json::to_string(&Beside { at, counts: standing.counts }).unwrap_or_default(),
        })
        .collect();
    let started = std::time::Instant::now();
    loop {
        match consumer.commit_now(&commits) {
            Ok(()) => return Ok(()),
            Err(BrokerError::Stale(why)) => {
                return Err(ReplayError::Broker(BrokerError::Stale(format!(
                    "{why}: the replay's group has members, which no command of Biplane joins"
                ))));
            }
            Err(error) if error.retriable() && started.elapsed() < ANSWER => {
                std::thread::park_timeout(AGAIN);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The standings by partition.
pub(super) fn by_partition(cursor: &Cursor) -> BTreeMap<i32, Standing> {
    cursor.standings.iter().map(|standing| (standing.partition, standing.clone())).collect()
}
