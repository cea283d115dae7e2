//! Exactly-once, Kafka to Postgres: the database that a stage writes says where its partitions stand, and moves
//! them in the transactions in which the effects of their records happen ([`super::effects`]).
//!
//! What the group commits only mirrors that, for those who look at lag; it also bears the attempts that were
//! spent. Dead letters are sent and acknowledged before their records count as done, so at least once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::delivery::{Answer, AtLeastOnce, Begin, Delivery, Standing};
use super::metadata::Beyond;
use crate::base::Failure;
use crate::broker::{
    BrokerError, Commit, Consumer, OutHeaders, Outgoing, SendError, StartAt, TopicPartition,
};
use crate::steps::ports::{BoxedSql, Place, StageOffsets};

/// See the module's documentation.
pub(super) struct InDatabase {
    inner: AtLeastOnce,
    consumer: Arc<Consumer>,
    offsets: Arc<dyn StageOffsets>,
    runtime: Handle,
    group: Arc<str>,
    /// The group under the stage's name before, whose offsets count where its own has none.
    before: Option<Arc<str>>,
    /// The stage's inputs. What is in other topics that it reads is meant for it, from the oldest record on.
    inputs: Vec<Arc<str>>,
}

impl InDatabase {
    pub(super) fn new(
        inner: AtLeastOnce,
        consumer: Arc<Consumer>,
        offsets: Arc<dyn StageOffsets>,
        runtime: Handle,
        (group, before): (String, Option<String>),
        inputs: Vec<Arc<str>>,
    ) -> Self {
        Self {
            inner,
            consumer,
            offsets,
            runtime,
            group: group.into(),
            before: before.map(Into::into),
            inputs,
        }
    }

    fn ask<T>(&self, asking: BoxedSql<'_, T>, deadline: Instant) -> Result<T, BrokerError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let told = |failure: Failure| BrokerError::Unreachable(failure.message.clone());
        match self.runtime.block_on(async { tokio::time::timeout(left, asking).await }) {
            Ok(answer) => answer.map_err(told),
            Err(_) => {
                Err(BrokerError::Unreachable("the database that the stage writes does not answer".to_owned()))
            }
        }
    }

    fn places(group: &Arc<str>, begins: &[Begin]) -> Vec<Place> {
        let place = |begin: &Begin| Place {
            group: Arc::clone(group),
            topic: Arc::clone(&begin.partition.topic),
            partition: begin.partition.partition,
        };
        begins.iter().map(place).collect()
    }

    /// Where a partition begins of which the database knows nothing.
    fn first(&self, begin: &Begin, deadline: Instant) -> Result<i64, BrokerError> {
        let fresh = begin.committed.is_none() && !begin.inherited;
        match begin.at {
            StartAt::Offset(offset) if !fresh || self.inputs.contains(&begin.partition.topic) => Ok(offset),
            _ => {
                let left = deadline.saturating_duration_since(Instant::now());
                Ok(self.consumer.watermarks(&begin.partition, left)?.0)
            }
        }
    }
}

impl Delivery for InDatabase {
    fn starts(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Vec<Begin>, BrokerError> {
        let mut begins = self.inner.starts(partitions, deadline)?;
        let places = Self::places(&self.group, &begins);
        let mut stand = self.ask(self.offsets.standing(&places), deadline)?;
        let missing = |stand: &[Option<i64>]| stand.iter().any(Option::is_none);
        let mut before = vec![None; begins.len()];
        if let Some(group) = self.before.as_ref().filter(|_| missing(&stand)) {
            before = self.ask(self.offsets.standing(&Self::places(group, &begins)), deadline)?;
        }
        if missing(&stand) {
            let mut first = Vec::with_capacity(begins.len());
            for (((place, begin), known), before) in places.into_iter().zip(&begins).zip(&stand).zip(before) {
                let offset = match known.or(before) {
                    Some(offset) => offset,
                    None => self.first(begin, deadline)?,
                };
                first.push((place, offset));
            }
            stand = self.ask(self.offsets.begin(&first), deadline)?.into_iter().map(Some).collect();
        }
        for (begin, offset) in begins.iter_mut().zip(stand) {
            let Some(offset) = offset else { continue };
            if begin.at != StartAt::Offset(offset) || begin.committed.is_none() && !begin.inherited {
                // What a commit says beyond its offset is of no use for another one.
                begin.beyond = Beyond { founded: begin.beyond.founded, ..Beyond::default() };
            }
            (begin.at, begin.committed, begin.inherited) = (StartAt::Offset(offset), Some(offset), false);
        }
        Ok(begins)
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.inner.produce(outgoing, token)
    }

    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.inner.produce_alone(outgoing, token)
    }

    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        self.inner.close_later(commits, number)
    }

    fn close_now(&mut self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError> {
        self.inner.close_now(commits, limit)
    }

    fn take_closed(&mut self) -> Vec<Answer> {
        self.inner.take_closed()
    }

    fn rejoin(&mut self, consumer: Arc<Consumer>) {
        self.consumer = Arc::clone(&consumer);
        self.inner.rejoin(consumer);
    }

    fn abort(&mut self) -> Result<Standing, BrokerError> {
        self.inner.abort()
    }
}
