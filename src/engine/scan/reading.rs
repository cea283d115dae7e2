//! The loop that reads: one assignment, each partition to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Part, ScanError, See, Seen};
use crate::broker::{ConsumeError, Consumer, Polled, StartAt};
use crate::record::RawRecord;

/// How long one look for records waits, and so how often whoever reads may see to other things.
const LOOK: Duration = Duration::from_millis(100);

/// Reads these parts of one topic, and gives up where nothing comes for as long as `patience`.
pub(super) fn read_within(
    consumer: &Consumer,
    parts: &[Part],
    patience: Duration,
    see: &mut impl See,
) -> Result<(), ScanError> {
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

    fn poll(mut self, consumer: &Consumer, patience: Duration, see: &mut impl See) -> Result<(), ScanError> {
        let mut last = Instant::now();
        while !self.open.is_empty() {
            match consumer.poll(LOOK) {
                Polled::Record(fetched) => {
                    let seen = self.take(&fetched.raw(), see);
                    // Whoever sees may take its time.
                    last = Instant::now();
                    if seen == Seen::Enough {
                        return Ok(());
                    }
                }
                Polled::End(partition) => {
                    last = Instant::now();
                    self.open.remove(&partition);
                }
                Polled::Error(error) if passes(&error) => self.trouble = Some(error),
                Polled::Error(error) => return Err(self.unfinished(Some(&error))),
                Polled::Nothing | Polled::Rebalance(_) => {
                    if see.nothing() == Seen::Enough {
                        return Ok(());
                    }
                }
            }
            if !self.open.is_empty() && last.elapsed() >= patience {
                return Err(self.unfinished(self.trouble.as_ref()));
            }
        }
        Ok(())
    }

    fn take(&mut self, raw: &RawRecord<'_>, see: &mut impl See) -> Seen {
        let Some(part) = self.open.get(&raw.partition) else { return Seen::More };
        let seen = if raw.offset < part.end { see.record(raw) } else { Seen::Partition };
        self.next.insert(raw.partition, raw.offset + 1);
        if seen == Seen::Partition || raw.offset + 1 >= part.end {
            self.open.remove(&raw.partition);
        }
        seen
    }

    fn unfinished(&self, why: Option<&ConsumeError>) -> ScanError {
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
        ScanError::Unfinished { left: left.join(", "), why }
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
