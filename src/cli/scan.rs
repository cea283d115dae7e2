//! Reading from topics outside any group: whole topics, or the first record at given offsets.
//!
//! Joins nothing and commits nothing. Ends at the offsets that were the ends when it began, or where
//! the broker has nothing more to give for a few seconds (what follows is markers or was compacted).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::exit::CliResult;
use crate::broker::{ClientSettings, Consumer, ConsumerOptions, Polled, StartAt, TopicPartition};
use crate::record::RawRecord;

/// How long the brokers may take to answer one question.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// How long nothing may come before the end is taken for reached.
const QUIET: Duration = Duration::from_secs(4);

/// A consumer of `group` that only looks: it never joins.
pub(super) fn looker(client: &ClientSettings, group: &str) -> CliResult<Consumer> {
    let mut options = ConsumerOptions::new(group, Vec::new());
    options.queued_kbytes = 1024;
    Ok(Consumer::open(client, options, || {})?)
}

/// The partitions of `topic` by number.
pub(super) fn partitions(consumer: &Consumer, topic: &str) -> CliResult<Vec<TopicPartition>> {
    let count = consumer.partition_count(topic, ANSWER)?;
    Ok((0..count).map(|partition| TopicPartition::new(topic, partition)).collect())
}

/// Gives every record of `topic` that is there now to `see`, each partition in its order; those of
/// one partition from an offset where `only` names one.
pub(super) fn topic(
    consumer: &Consumer,
    topic: &str,
    only: Option<(i32, i64)>,
    mut see: impl FnMut(&RawRecord<'_>) -> Seen,
) -> CliResult<()> {
    let mut ends = HashMap::new();
    let mut starts = Vec::new();
    for partition in partitions(consumer, topic)? {
        let (low, high) = consumer.watermarks(&partition, ANSWER)?;
        let from = match only {
            Some((number, _)) if number != partition.partition => continue,
            Some((_, offset)) => offset.max(low),
            None => low,
        };
        if from < high {
            ends.insert(partition.partition, high);
            starts.push((partition, StartAt::Offset(from)));
        }
    }
    read(consumer, &starts, |raw| {
        let Some(end) = ends.get(&raw.partition).copied() else { return ends.is_empty() };
        let seen = if raw.offset < end { see(raw) } else { Seen::More };
        if raw.offset + 1 >= end {
            ends.remove(&raw.partition);
        }
        matches!(seen, Seen::Enough) || ends.is_empty()
    })
}

/// Whether the reader has seen enough.
pub(super) enum Seen {
    /// Go on.
    More,
    /// Stop here.
    Enough,
}

/// The timestamps of the first records at or behind these offsets, where there are any.
pub(super) fn timestamps(
    consumer: &Consumer,
    starts: &[(TopicPartition, StartAt)],
) -> CliResult<HashMap<TopicPartition, i64>> {
    let mut found = HashMap::new();
    read(consumer, starts, |raw| {
        let partition = TopicPartition::new(raw.topic, raw.partition);
        found.entry(partition).or_insert(raw.timestamp.unwrap_or_default());
        found.len() >= starts.len()
    })?;
    Ok(found)
}

/// Polls until `done` says so or nothing comes for a while.
fn read(
    consumer: &Consumer,
    starts: &[(TopicPartition, StartAt)],
    mut done: impl FnMut(&RawRecord<'_>) -> bool,
) -> CliResult<()> {
    if starts.is_empty() {
        return Ok(());
    }
    consumer.assign(starts)?;
    let mut last = Instant::now();
    while last.elapsed() < QUIET {
        if let Polled::Record(fetched) = consumer.poll(Duration::from_millis(100)) {
            last = Instant::now();
            if done(&fetched.raw()) {
                break;
            }
        }
    }
    consumer.unassign();
    Ok(())
}
