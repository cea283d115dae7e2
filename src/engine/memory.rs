//! Warns before the in-memory Kafka lets records go: it keeps so many bytes of a partition and then
//! deletes the oldest, whoever has read them or not.
//!
//! Anybody may write to it, so what the engine itself produces says too little, and the cluster tells
//! no sizes: the partitions are read, by offset and outside any group. As nothing leaves a partition
//! before it is full, all that was ever written counts, and a partition is read no further than up to
//! its warning. Records are counted uncompressed and as if each was sent alone, so the warning comes
//! rather early than late; that records were deleted is seen for certain, by offsets that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::running::Engine;
use super::supervisor::TaskError;
use crate::broker::{
    BrokerError, ConsumeError, Consumer, ConsumerOptions, MOCK_PARTITION_BYTES, Polled, StartAt,
    TopicPartition,
};
use crate::catalog::Catalog;

/// How often the partitions are looked at, and for how long at most.
const EVERY: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(500);
/// What a poll waits for a record.
const WAIT: Duration = Duration::from_millis(20);
const ANSWER: Duration = Duration::from_secs(3);
/// A partition is near its limit from here on.
const NEAR_BYTES: u64 = MOCK_PARTITION_BYTES / 10 * 8;
/// What a batch adds to the one record that it holds at least.
const BATCH_BYTES: u64 = 73;
/// So many partitions are named in one warning.
const NAMED: usize = 4;
const MIB: f64 = 1_048_576.0;

/// Hears of each warning.
pub type Warn = Arc<dyn Fn(&str) + Send + Sync>;

impl Engine {
    /// Watches how full the partitions of the in-memory Kafka are, until `cancel`. Each partition is
    /// warned of once when it comes near the limit and once when its oldest records are gone; the
    /// log and `warn` hear of it.
    ///
    /// # Errors
    /// Where the client that reads does not open, or a look panicked.
    pub async fn watch_memory(
        self: Arc<Self>,
        hear: Warn,
        cancel: CancellationToken,
    ) -> Result<(), TaskError> {
        let mut options = ConsumerOptions::new(format!("{}.memory", self.shared.namespace), Vec::new());
        options.queued_kbytes = 1024;
        let consumer = Consumer::open(&self.shared.client, options, || {})?;
        let mut meter = Meter { consumer, fills: BTreeMap::new() };
        loop {
            let catalog = self.catalog();
            let look = tokio::task::spawn_blocking(move || {
                let found = meter.look(&catalog);
                (meter, found)
            });
            let Some(looked) = cancel.run_until_cancelled(look).await else { return Ok(()) };
            let (back, found) = looked?;
            meter = back;
            match found {
                Ok(found) => warnings(&found).iter().for_each(|text| {
                    warn!("{text}");
                    hear(text);
                }),
                Err(error) => warn!(%error, "how full the in-memory Kafka is cannot be seen"),
            }
            if cancel.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return Ok(());
            }
        }
    }
}

/// How full a partition is, as far as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Level {
    /// There is room.
    #[default]
    Room,
    /// It holds most of what it can.
    Near,
    /// Its oldest records are gone.
    Lost,
}

#[derive(Debug, Default)]
struct Fill {
    level: Level,
    bytes: u64,
    next: i64,
}

impl Fill {
    fn read(&mut self, offset: i64, bytes: u64) {
        self.bytes += bytes + BATCH_BYTES;
        // Nothing of this cluster is compacted: what is missing was deleted.
        if offset > self.next {
            self.level = Level::Lost;
        } else if self.bytes >= NEAR_BYTES {
            self.level = self.level.max(Level::Near);
        }
        self.next = offset + 1;
    }
}

struct Meter {
    consumer: Consumer,
    fills: BTreeMap<TopicPartition, Fill>,
}

impl Meter {
    /// Reads on for a while; the partitions that are fuller than before.
    fn look(&mut self, catalog: &Catalog) -> Result<Vec<(TopicPartition, Level)>, BrokerError> {
        let before: BTreeMap<_, _> = self.levels().collect();
        if self.add_topics(catalog)? {
            self.assign()?;
        }
        self.read()?;
        for (name, fill) in self.fills.iter_mut().filter(|(_, fill)| fill.level == Level::Near) {
            if self.consumer.watermarks(name, ANSWER)?.0 > 0 {
                fill.level = Level::Lost;
            }
        }
        let known = |name: &TopicPartition| before.get(name).copied().unwrap_or_default();
        let fuller: Vec<_> = self.levels().filter(|(name, level)| known(name) < *level).collect();
        if !fuller.is_empty() {
            self.assign()?;
        }
        Ok(fuller)
    }

    fn levels(&self) -> impl Iterator<Item = (TopicPartition, Level)> {
        self.fills.iter().map(|(name, fill)| (name.clone(), fill.level))
    }

    /// Adds the partitions of topics that are new; true where there were any.
    fn add_topics(&mut self, catalog: &Catalog) -> Result<bool, BrokerError> {
        let before = self.fills.len();
        let dlqs = catalog.dlqs().values().map(|dlq| &dlq.topic);
        for topic in catalog.topics().values().chain(dlqs) {
            let first = TopicPartition::new(Arc::clone(&topic.physical), 0);
            if !self.fills.contains_key(&first) {
                let count = self.consumer.partition_count(&topic.physical, ANSWER)?;
                let name = |number| TopicPartition::new(Arc::clone(&topic.physical), number);
                self.fills.extend((0..count).map(|number| (name(number), Fill::default())));
            }
        }
        Ok(self.fills.len() > before)
    }

    /// Reads the partitions that have room, each from where reading stood.
    fn assign(&self) -> Result<(), BrokerError> {
        let open = self.fills.iter().filter(|(_, fill)| fill.level == Level::Room);
        let starts: Vec<_> = open.map(|(name, fill)| (name.clone(), StartAt::Offset(fill.next))).collect();
        self.consumer.assign(&starts)
    }

    fn read(&mut self) -> Result<(), BrokerError> {
        let until = Instant::now() + LOOK;
        while Instant::now() < until {
            match self.consumer.poll(WAIT) {
                Polled::Record(fetched) => {
                    let raw = fetched.raw();
                    let name = TopicPartition::new(raw.topic, raw.partition);
                    if let Some(fill) = self.fills.get_mut(&name).filter(|fill| fill.level == Level::Room) {
                        fill.read(raw.offset, raw.size() as u64);
                    }
                }
                Polled::Error(ConsumeError::OffsetOutOfRange(_)) => self.find_lost()?,
                Polled::Nothing => return Ok(()),
                Polled::Error(_) | Polled::Rebalance(_) | Polled::End(_) => {}
            }
        }
        Ok(())
    }

    /// A partition was emptied before it was read.
    fn find_lost(&mut self) -> Result<(), BrokerError> {
        let open = self.fills.iter().filter(|(_, fill)| fill.level == Level::Room);
        let positions: Vec<_> = open.map(|(name, fill)| (name.clone(), fill.next)).collect();
        for (name, ..) in self.consumer.out_of_range(&positions, ANSWER)? {
            if let Some(fill) = self.fills.get_mut(&name) {
                fill.level = Level::Lost;
            }
        }
        Ok(())
    }
}

/// One line a level, whatever the number of partitions.
fn warnings(fuller: &[(TopicPartition, Level)]) -> Vec<String> {
    let names = |wanted: Level| {
        let all: Vec<_> = fuller.iter().filter(|(_, level)| *level == wanted).collect();
        let shown: Vec<_> = all.iter().take(NAMED).map(|(name, _)| format!("`{name}`")).collect();
        let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
        (!all.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
    };
    let near = names(Level::Near).map(|names| {
        format!(
            "{names}: more than {:.1} of the {:.0} MiB that the in-memory Kafka keeps of a partition; \
             past it the oldest records go; name a real broker with BIPLANE_KAFKA_BROKERS to keep them",
            NEAR_BYTES as f64 / MIB,
            MOCK_PARTITION_BYTES as f64 / MIB
        )
    });
    let lost = names(Level::Lost).map(|names| {
        format!(
            "{names}: full, the oldest records are gone and who has not read them never will; \
             name a real broker with BIPLANE_KAFKA_BROKERS to keep them"
        )
    });
    near.into_iter().chain(lost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_comes_near_by_bytes_and_has_lost_by_a_gap() {
        let mut fill = Fill::default();
        (0..4).for_each(|offset| fill.read(offset, 1_000_000));
        assert_eq!(fill.level, Level::Room);
        fill.read(4, NEAR_BYTES - 4_000_000);
        assert_eq!(fill.level, Level::Near);
        let mut late = Fill::default();
        late.read(7, 1);
        assert_eq!(late.level, Level::Lost);
    }

    #[test]
    fn a_warning_names_a_few_partitions_and_what_to_do() {
        let name = |number| TopicPartition::new("t", number);
        let mut fuller: Vec<_> = (0..6).map(|number| (name(number), Level::Near)).collect();
        fuller.push((name(9), Level::Lost));
        let warnings = warnings(&fuller);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].starts_with("`t[0]`, `t[1]`, `t[2]`, `t[3]` and 2 more: more than 4.0 of the 5 MiB")
        );
        assert!(warnings[1].starts_with("`t[9]`: full"), "{warnings:?}");
        assert!(warnings.iter().all(|text| text.contains("BIPLANE_KAFKA_BROKERS")));
        assert!(super::warnings(&[]).is_empty());
    }
}
