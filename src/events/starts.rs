//! Where assigned partitions start: at the group's commit, else at that of the group which the stage had
//! under its name before, else where the stage's `start` says.
//!
//! `start` is for the partitions that a topic had when its group began. One that was added since starts at
//! its oldest record: what was written before it was noticed counts. Each commit bears how many there
//! were, so that engines which begin a group together judge alike, whoever commits first. All look-ups
//! share one deadline, since the group waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::delivery::Begin;
use super::metadata::Beyond;
use crate::broker::{BrokerError, Committed, Consumer, StartAt, TopicPartition};
use crate::catalog::Start;

/// One round of look-ups.
pub(super) struct Starts<'a> {
    pub(super) consumer: &'a Consumer,
    /// Reads the commits of the group that the stage had under its name before.
    pub(super) before: Option<&'a Consumer>,
    pub(super) start: Start,
    pub(super) deadline: Instant,
}

impl Starts<'_> {
    /// Where each of these starts.
    ///
    /// # Errors
    /// Where the brokers do not answer before the deadline or refuse.
    pub(super) fn of(&self, partitions: &[TopicPartition]) -> Result<Vec<Begin>, BrokerError> {
        let (mut begins, mut fresh) = (Vec::new(), Vec::new());
        for committed in self.consumer.committed(partitions, self.left())? {
            let beyond = beyond(&committed);
            match committed.offset {
                None => fresh.push(committed.partition),
                Some(offset) => begins.push(Begin {
                    partition: committed.partition,
                    at: StartAt::Offset(offset),
                    committed: Some(offset),
                    inherited: false,
                    beyond,
                }),
            }
        }
        let fresh = self.inherited(fresh, &mut begins)?;
        begins.extend(self.uncommitted(fresh)?);
        Ok(begins)
    }

    /// Takes over what the group before has committed, for the own group to commit; gives back those of
    /// which it knows nothing either.
    fn inherited(
        &self,
        fresh: Vec<TopicPartition>,
        begins: &mut Vec<Begin>,
    ) -> Result<Vec<TopicPartition>, BrokerError> {
        let Some(before) = self.before.filter(|_| !fresh.is_empty()) else { return Ok(fresh) };
        let mut left = Vec::new();
        for committed in before.committed(&fresh, self.left())? {
            let beyond = beyond(&committed);
            match committed.offset {
                None => left.push(committed.partition),
                Some(offset) => begins.push(Begin {
                    partition: committed.partition,
                    at: StartAt::Offset(offset),
                    committed: None,
                    inherited: true,
                    beyond,
                }),
            }
        }
        Ok(left)
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn uncommitted(&self, fresh: Vec<TopicPartition>) -> Result<Vec<Begin>, BrokerError> {
        let founded = match self.start {
            Start::Earliest => BTreeMap::new(),
            Start::Latest | Start::At(_) => self.founded(&fresh)?,
        };
        let new: Vec<_> = fresh
            .iter()
            .filter(|partition| {
                founded.get(&partition.topic).is_some_and(|count| partition.partition < *count)
            })
            .cloned()
            .collect();
        let starts = self.fixed(&new)?;
        let begin = |partition: TopicPartition| Begin {
            at: starts.get(&partition).map_or(StartAt::Earliest, |offset| StartAt::Offset(*offset)),
            committed: None,
            inherited: false,
            beyond: Beyond { founded: founded.get(&partition.topic).copied(), ..Beyond::default() },
            partition,
        };
        Ok(fresh.into_iter().map(begin).collect())
    }

    /// Where `start` lies, as an offset that is fixed now: a second look would skip what came in between.
    /// So the ends are taken before the look-up by time, which finds nothing where all is older.
    fn fixed(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, BrokerError> {
        let mut starts = self.consumer.ends(partitions, self.left())?;
        if let Start::At(millis) = self.start
            && !partitions.is_empty()
        {
            for (partition, at) in self.consumer.offsets_for_time(partitions, millis, self.left())? {
                if let StartAt::Offset(offset) = at {
                    starts.insert(partition, offset);
                }
            }
        }
        Ok(starts)
    }

    /// How many partitions each of these topics had when the group began: as its commits say; where they
    /// say nothing, as many as bear a commit; where none does, as many as there are.
    fn founded(&self, fresh: &[TopicPartition]) -> Result<BTreeMap<Arc<str>, i32>, BrokerError> {
        let mut founded: BTreeMap<Arc<str>, i32> = BTreeMap::new();
        for partition in fresh {
            if founded.contains_key(&partition.topic) {
                continue;
            }
            let count = self.consumer.partition_count(&partition.topic, self.left())?;
            let all: Vec<_> =
                (0..count).map(|number| TopicPartition::new(Arc::clone(&partition.topic), number)).collect();
            let mut committed = self.consumer.committed(&all, self.left())?;
            if let Some(before) = self.before {
                committed.extend(before.committed(&all, self.left())?);
            }
            let said = committed.iter().filter_map(|committed| beyond(committed).founded).min();
            let bearing = committed.iter().filter(|committed| committed.offset.is_some());
            let bearing = bearing.map(|committed| committed.partition.partition + 1).max();
            founded.insert(Arc::clone(&partition.topic), said.or(bearing).unwrap_or(count));
        }
        Ok(founded)
    }
}

fn beyond(committed: &Committed) -> Beyond {
    let known = committed.offset.and_then(|offset| Beyond::decode(&committed.metadata, offset));
    known.unwrap_or_default()
}
