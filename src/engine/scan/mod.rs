//! Reading from topics outside any group: up to where they end when it begins, or it is an error.
//!
//! Joins nothing and commits nothing. A partition is read once its last record was seen, or the broker
//! says that nothing more is there (what follows is markers or was compacted); one that cannot be read
//! that far is never passed over.

mod reading;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use self::reading::read_within;
use crate::broker::{BrokerError, ClientSettings, Consumer, ConsumerOptions, TopicPartition};
use crate::record::{OwnedRecord, RawRecord};

/// How long the brokers may take to answer one question, and how long nothing may come while
/// something is left to read.
pub const ANSWER: Duration = Duration::from_secs(10);

/// How much a consumer that only looks fetches ahead, in KiB.
const LOOK_AHEAD: u32 = 1024;

/// A consumer of `group` that only looks: it never joins.
///
/// # Errors
/// Where the brokers do not answer in time or refuse.
pub fn looker(client: &ClientSettings, group: &str) -> Result<Consumer, ScanError> {
    reader(client, group, LOOK_AHEAD)
}

/// One that fetches so many KiB ahead, for long reading.
///
/// # Errors
/// As [`looker`].
pub fn reader(client: &ClientSettings, group: &str, queued_kbytes: u32) -> Result<Consumer, ScanError> {
    let mut options = ConsumerOptions::new(group, Vec::new());
    options.queued_kbytes = queued_kbytes;
    Ok(Consumer::open(client, options, || {})?)
}

/// The partitions of `topic` by number.
///
/// # Errors
/// Where the brokers do not answer in time or refuse.
pub fn partitions(consumer: &Consumer, topic: &str) -> Result<Vec<TopicPartition>, ScanError> {
    let count = consumer.partition_count(topic, ANSWER)?;
    Ok((0..count).map(|partition| TopicPartition::new(topic, partition)).collect())
}

/// A topic was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A look-up failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Some records did not come.
    #[error("not all records could be read ({left} are missing): {why}")]
    Unfinished {
        /// Which.
        left: String,
        /// Why, and what to do.
        why: String,
    },
}

/// What shall be read of one partition.
#[derive(Debug, Clone)]
pub struct Part {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset.
    pub from: i64,
    /// The one behind the last.
    pub end: i64,
}

impl Part {
    /// At most this many records.
    pub fn span(&self) -> usize {
        usize::try_from(self.end - self.from).unwrap_or_default()
    }
}

/// All that `topic` holds now, without the partitions that are empty.
///
/// # Errors
/// Where the brokers do not answer in time or refuse.
pub fn parts(consumer: &Consumer, topic: &str) -> Result<Vec<Part>, ScanError> {
    let mut parts = Vec::new();
    for partition in partitions(consumer, topic)? {
        let (from, end) = consumer.watermarks(&partition, ANSWER)?;
        if from < end {
            parts.push(Part { partition, from, end });
        }
    }
    Ok(parts)
}

/// Whether the reader has seen enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Go on.
    More,
    /// Nothing else of this partition is wanted.
    Partition,
    /// Nothing else is wanted at all.
    Enough,
}

/// Whoever is shown what is read.
pub trait See {
    /// A record came.
    fn record(&mut self, raw: &RawRecord<'_>) -> Seen;

    /// Nothing came for a moment.
    fn nothing(&mut self) -> Seen {
        Seen::More
    }
}

impl<F: FnMut(&RawRecord<'_>) -> Seen> See for F {
    fn record(&mut self, raw: &RawRecord<'_>) -> Seen {
        self(raw)
    }
}

/// Gives every record of these parts of one topic to `see`, each partition in its order.
///
/// # Errors
/// Where a part is not read to its end.
pub fn read(consumer: &Consumer, parts: &[Part], mut see: impl See) -> Result<(), ScanError> {
    read_within(consumer, parts, ANSWER, &mut see)
}

/// The same, for one who keeps what it has seen and waits as long as `patience` where nothing comes.
///
/// # Errors
/// As [`read`].
pub fn read_into(
    consumer: &Consumer,
    parts: &[Part],
    patience: Duration,
    see: &mut impl See,
) -> Result<(), ScanError> {
    read_within(consumer, parts, patience, see)
}

/// The first record of each part, where there is one.
///
/// # Errors
/// Where a part is not read to its end.
pub fn firsts<T>(
    consumer: &Consumer,
    parts: &[Part],
    take: impl Fn(&RawRecord<'_>) -> T,
) -> Result<HashMap<TopicPartition, T>, ScanError> {
    let mut found = HashMap::new();
    let mut parts = parts.to_vec();
    parts.sort_by(|left, right| left.partition.cmp(&right.partition));
    for parts in parts.chunk_by(|left, right| left.partition.topic == right.partition.topic) {
        read(consumer, parts, |raw: &RawRecord<'_>| {
            found.entry(TopicPartition::new(raw.topic, raw.partition)).or_insert_with(|| take(raw));
            Seen::Partition
        })?;
    }
    Ok(found)
}

/// The last record of each part that is wanted, where there is one. Looks at the ends first, so that a
/// long topic costs no more than a short one.
///
/// # Errors
/// Where a part is not read to its end.
pub fn lasts(
    consumer: &Consumer,
    parts: &[Part],
    mut wanted: impl FnMut(&RawRecord<'_>) -> bool,
) -> Result<Vec<OwnedRecord>, ScanError> {
    let mut open = parts.to_vec();
    let mut found = HashMap::new();
    let mut back = 1;
    while !open.is_empty() {
        let tails: Vec<Part> =
            open.iter().map(|part| Part { from: part.from.max(part.end - back), ..part.clone() }).collect();
        read(consumer, &tails, |raw: &RawRecord<'_>| {
            if wanted(raw) {
                found.insert(raw.partition, raw.to_owned());
            }
            Seen::More
        })?;
        // Where markers or gaps are all that was there, the record lies further back.
        for (part, tail) in open.iter_mut().zip(tails) {
            part.end = tail.from;
        }
        open.retain(|part| part.from < part.end && !found.contains_key(&part.partition.partition));
        back *= 16;
    }
    Ok(found.into_values().collect())
}
