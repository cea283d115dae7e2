//! Reading from topics outside any group: up to where they end when it begins, or it is an error.
//!
//! Joins nothing and commits nothing. A partition is read once its last record was seen, or the broker
//! says that nothing more is there (what follows is markers or was compacted); one that cannot be read
//! that far is never passed over.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::exit::{CliError, CliResult};
use crate::broker::{
    ClientSettings, ConsumeError, Consumer, ConsumerOptions, Polled, StartAt, TopicPartition,
};
use crate::record::{OwnedRecord, RawRecord};

/// How long the brokers may take to answer one question, and how long nothing may come while
/// something is left to read.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

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

/// What shall be read of one partition.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) partition: TopicPartition,
    /// The first offset.
    pub(super) from: i64,
    /// The one behind the last.
    pub(super) end: i64,
}

impl Part {
    /// At most this many records.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.end - self.from).unwrap_or_default()
    }
}

/// All that `topic` holds now, without the partitions that are empty.
pub(super) fn parts(consumer: &Consumer, topic: &str) -> CliResult<Vec<Part>> {
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
pub(super) enum Seen {
    /// Go on.
    More,
    /// Nothing else of this partition is wanted.
    Partition,
    /// Nothing else is wanted at all.
    Enough,
}

/// Gives every record of these parts of one topic to `see`, each partition in its order.
pub(super) fn read(
    consumer: &Consumer,
    parts: &[Part],
    see: impl FnMut(&RawRecord<'_>) -> Seen,
) -> CliResult<()> {
    read_within(consumer, parts, ANSWER, see)
}

/// The first record of each part, where there is one.
pub(super) fn firsts<T>(
    consumer: &Consumer,
    parts: &[Part],
    take: impl Fn(&RawRecord<'_>) -> T,
) -> CliResult<HashMap<TopicPartition, T>> {
    let mut found = HashMap::new();
    let mut parts = parts.to_vec();
    parts.sort_by(|left, right| left.partition.cmp(&right.partition));
    for parts in parts.chunk_by(|left, right| left.partition.topic == right.partition.topic) {
        read(consumer, parts, |raw| {
            found.entry(TopicPartition::new(raw.topic, raw.partition)).or_insert_with(|| take(raw));
            Seen::Partition
        })?;
    }
    Ok(found)
}

/// The last record of each part, where there is one. Looks at the ends first, so that a long topic costs
/// no more than a short one.
pub(super) fn lasts(consumer: &Consumer, parts: &[Part]) -> CliResult<Vec<OwnedRecord>> {
    let mut open = parts.to_vec();
    let mut found = HashMap::new();
    let mut back = 1;
    while !open.is_empty() {
        let tails: Vec<Part> =
            open.iter().map(|part| Part { from: part.from.max(part.end - back), ..part.clone() }).collect();
        read(consumer, &tails, |raw| {
            found.insert(raw.partition, raw.to_owned());
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

fn read_within(
    consumer: &Consumer,
    parts: &[Part],
    patience: Duration,
    see: impl FnMut(&RawRecord<'_>) -> Seen,
) -> CliResult<()> {
    if parts.is_empty() {
        return Ok(());
    }
    let starts: Vec<_> =
        parts.iter().map(|part| (part.partition.clone(), StartAt::Offset(part.from))).collect();
    consumer.assign(&starts)?;
    let read = Reading::new(parts).poll(consumer, patience, see);
    consumer.unassign();
    read
}

/// The partitions that are not read to their ends yet, by number.
struct Reading<'a> {
    open: BTreeMap<i32, &'a Part>,
    /// The offset behind the newest record that came of each.
    next: BTreeMap<i32, i64>,
    trouble: Option<ConsumeError>,
}

impl<'a> Reading<'a> {
    fn new(parts: &'a [Part]) -> Self {
        let open = parts.iter().map(|part| (part.partition.partition, part)).collect();
        Self { open, next: BTreeMap::new(), trouble: None }
    }

    fn poll(
        mut self,
        consumer: &Consumer,
        patience: Duration,
        mut see: impl FnMut(&RawRecord<'_>) -> Seen,
    ) -> CliResult<()> {
        let mut last = Instant::now();
        while !self.open.is_empty() {
            match consumer.poll(Duration::from_millis(100)) {
                Polled::Record(fetched) => {
                    last = Instant::now();
                    if self.take(&fetched.raw(), &mut see) == Seen::Enough {
                        return Ok(());
                    }
                }
                Polled::End(partition) => {
                    last = Instant::now();
                    self.open.remove(&partition);
                }
                Polled::Error(error) if passes(&error) => self.trouble = Some(error),
                Polled::Error(error) => return Err(self.unfinished(Some(&error))),
                Polled::Nothing | Polled::Rebalance(_) => {}
            }
            if !self.open.is_empty() && last.elapsed() >= patience {
                return Err(self.unfinished(self.trouble.as_ref()));
            }
        }
        Ok(())
    }

    fn take(&mut self, raw: &RawRecord<'_>, see: &mut impl FnMut(&RawRecord<'_>) -> Seen) -> Seen {
        let Some(part) = self.open.get(&raw.partition) else { return Seen::More };
        let seen = if raw.offset < part.end { see(raw) } else { Seen::Partition };
        self.next.insert(raw.partition, raw.offset + 1);
        if seen == Seen::Partition || raw.offset + 1 >= part.end {
            self.open.remove(&raw.partition);
        }
        seen
    }

    fn unfinished(&self, why: Option<&ConsumeError>) -> CliError {
        let left = self.open.iter().map(|(number, part)| {
            let next = self.next.get(number).copied().unwrap_or(part.from);
            format!("{} from {next} to {}", part.partition, part.end)
        });
        let left: Vec<_> = left.collect();
        let why = match why {
            Some(ConsumeError::OffsetOutOfRange(_)) => {
                "records were removed while they were read; try again".to_owned()
            }
            Some(error) => error.to_string(),
            None => "the broker gives nothing more; try again".to_owned(),
        };
        CliError::failed(format!("not all records could be read ({} are missing): {why}", left.join(", ")))
    }
}

/// Whether reading may go on by itself.
fn passes(error: &ConsumeError) -> bool {
    match error {
        ConsumeError::OffsetOutOfRange(_)
        | ConsumeError::UnknownTopic(_)
        | ConsumeError::Denied(_)
        | ConsumeError::Fatal(_) => false,
        ConsumeError::PollExceeded(_) | ConsumeError::Unreachable(_) | ConsumeError::Other(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::{
        DeliverySink, MockKafka, OutHeaders, Outgoing, Producer, ProducerOptions, SendError,
    };

    struct Unheard;

    impl DeliverySink for Unheard {
        fn delivered(&self, _: u64, result: Result<(), SendError>) {
            assert_eq!(result, Ok(()));
        }
    }

    /// Two brokers that lead a partition each of `t`, and five records in each.
    fn cluster() -> (MockKafka, Consumer) {
        let kafka = MockKafka::start(2).expect("started");
        kafka.create_topic("t", 2).expect("created");
        let producer = Producer::open(&kafka.settings("p"), ProducerOptions::default()).expect("opened");
        let sink = producer.register(Arc::new(Unheard));
        for n in 0..10 {
            let outgoing = Outgoing {
                topic: "t",
                partition: Some(n % 2),
                key: None,
                value: Some(b"v"),
                timestamp: None,
                headers: OutHeaders::new(0),
            };
            producer.send(outgoing, &sink, 0).expect("sent");
        }
        producer.flush(ANSWER).expect("acknowledged");
        let looker = looker(&kafka.settings("l"), "g").expect("opened");
        (kafka, looker)
    }

    #[test]
    fn every_record_is_read_and_what_comes_later_is_not_waited_for() {
        let (_kafka, looker) = cluster();
        let parts = parts(&looker, "t").expect("asked");
        assert_eq!(parts.iter().map(Part::len).sum::<usize>(), 10);
        let mut seen = 0;
        read(&looker, &parts, |_| {
            seen += 1;
            Seen::More
        })
        .expect("all of it");
        assert_eq!(seen, 10);
        let firsts = firsts(&looker, &parts, |raw| raw.offset).expect("all of it");
        assert_eq!((firsts.len(), firsts.values().sum::<i64>()), (2, 0));
    }

    #[test]
    fn the_last_record_of_each_part_is_found_from_its_end() {
        let (_kafka, looker) = cluster();
        let mut parts = parts(&looker, "t").expect("asked");
        let offsets = |parts: &[Part]| -> Vec<_> {
            let lasts = lasts(&looker, parts).expect("the ends");
            lasts.iter().map(|record| record.as_raw().offset).collect()
        };
        assert_eq!(offsets(&parts), [4, 4]);
        parts.truncate(1);
        parts[0].end = 3;
        assert_eq!(offsets(&parts), [2]);
    }

    #[test]
    fn an_offset_that_holds_no_record_ends_its_partition() {
        let (_kafka, looker) = cluster();
        let beyond = Part { partition: TopicPartition::new("t", 0), from: 5, end: 9 };
        read(&looker, &[beyond], |raw| panic!("there is no record at {}", raw.offset)).expect("the end");
    }

    #[test]
    fn a_partition_that_cannot_be_read_to_its_end_is_an_error_that_names_it() {
        let (kafka, looker) = cluster();
        let parts = parts(&looker, "t").expect("asked");
        kafka.broker_down(2).expect("down");
        let mut seen = 0;
        let error = read_within(&looker, &parts, Duration::from_secs(1), |_| {
            seen += 1;
            Seen::More
        })
        .expect_err("half of it is missing");
        assert_eq!(seen, 5);
        let CliError::Failed(error) = error else { panic!("{error:?}") };
        let error = error.to_string();
        assert!(error.contains("from 0 to 5") && !error.contains("], t["), "{error}");
    }
}
