//! Which dead letters are settled: replayed or discarded, and so not offered again.
//!
//! One entry covers a block of [`BLOCK`] offsets of one partition, as far as one action settled them;
//! readers take all entries of a block together, so that nobody changes what another wrote. Sets are
//! Roaring bitmaps (Lemire et al., "Roaring bitmaps: implementation of an optimized software library",
//! 2018), which hold a million offsets in a row in a few hundred bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use roaring::{RoaringBitmap, RoaringTreemap};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::pauses::understood;
use super::topic::{ControlError, Writer, read, visit};
use crate::broker::{BrokerError, ClientSettings, TopicPartition};
use crate::engine::scan;

const KIND: &str = "settled/";
/// So many offsets share an entry.
const BLOCK: i64 = 4_096;
const ANSWER: Duration = Duration::from_secs(20);

/// What became of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettledState {
    /// It was sent again.
    Replayed,
    /// Nobody is going to send it again.
    Discarded,
}

impl SettledState {
    /// The word of listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Entry {
    state: SettledState,
    by: String,
    /// Roaring's portable format in Base64, counted from the block's first offset.
    offsets: String,
}

/// Which block of which partition an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    partition: TopicPartition,
    number: i64,
}

impl Block {
    fn key(&self, action: &str) -> String {
        let TopicPartition { topic, partition } = &self.partition;
        format!("{KIND}{topic}/{partition}/{}/{action}", self.number)
    }

    /// No topic's name holds a slash.
    fn of(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(KIND)?.split('/');
        let topic = parts.next()?;
        let partition = parts.next()?.parse().ok()?;
        let number =
            parts.next()?.parse().ok().filter(|number| (0..=i64::MAX / BLOCK - 1).contains(number))?;
        Some(Self { partition: TopicPartition::new(topic, partition), number })
    }

    fn first(&self) -> i64 {
        self.number * BLOCK
    }
}

fn decode(entry: &Json) -> Option<(SettledState, RoaringBitmap)> {
    let entry: Entry = understood(entry)?;
    let bytes = BASE64.decode(&entry.offsets).ok()?;
    Some((entry.state, RoaringBitmap::deserialize_from(&bytes[..]).ok()?))
}

fn encode(state: SettledState, by: &str, offsets: &RoaringBitmap) -> Json {
    let mut offsets = offsets.clone();
    offsets.optimize();
    let mut bytes = Vec::with_capacity(offsets.serialized_size());
    // Writing into memory cannot fail.
    let _ = offsets.serialize_into(&mut bytes);
    json!({ "version": 1, "state": state, "by": by, "offsets": BASE64.encode(bytes) })
}

/// Which are settled, as of when it was read.
#[derive(Debug, Default)]
pub struct Settled(BTreeMap<TopicPartition, Sets>);

#[derive(Debug, Default)]
struct Sets {
    replayed: RoaringTreemap,
    discarded: RoaringTreemap,
}

impl Settled {
    /// Reads them from the control topic.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn load(client: &ClientSettings, namespace: &str) -> Result<Self, ControlError> {
        Ok(Self::of(&read(client, namespace, KIND)?))
    }

    fn of(entries: &BTreeMap<String, Json>) -> Self {
        let mut settled = Self::default();
        for (key, entry) in entries {
            let (Some(block), Some((state, offsets))) = (Block::of(key), decode(entry)) else { continue };
            let first = block.first();
            let sets = settled.0.entry(block.partition).or_default();
            let set = match state {
                SettledState::Replayed => &mut sets.replayed,
                SettledState::Discarded => &mut sets.discarded,
            };
            let within = offsets.iter().map(i64::from).filter(|offset| *offset < BLOCK);
            set.extend(within.map(|offset| first.unsigned_abs() + offset.unsigned_abs()));
        }
        settled
    }

    /// What became of a dead letter, by its place in its DLQ's topic.
    pub fn is_settled(&self, topic: &str, partition: i32, offset: i64) -> Option<SettledState> {
        let offset = u64::try_from(offset).ok()?;
        let is = |name: &&TopicPartition| *name.topic == *topic && name.partition == partition;
        let (_, sets) = self.0.iter().find(|(name, _)| is(name))?;
        match (sets.replayed.contains(offset), sets.discarded.contains(offset)) {
            (true, _) => Some(SettledState::Replayed),
            (false, true) => Some(SettledState::Discarded),
            (false, false) => None,
        }
    }
}

/// Settles dead letters in the name of one action. What was added is there after a flush.
pub struct SettledWriter {
    client: ClientSettings,
    namespace: String,
    state: SettledState,
    by: String,
    action: String,
    /// How often it has been flushed: what comes later to the same block is an entry of its own.
    part: u32,
    blocks: BTreeMap<Block, RoaringBitmap>,
    writer: Option<Arc<Writer>>,
}

impl SettledWriter {
    /// A writer of what `by` does to dead letters.
    pub fn new(client: &ClientSettings, namespace: &str, state: SettledState, by: &str) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            state,
            by: by.to_owned(),
            action: uuid::Uuid::now_v7().to_string(),
            part: 0,
            blocks: BTreeMap::new(),
            writer: None,
        }
    }

    /// With a writer that is open already.
    pub fn through(mut self, writer: Arc<Writer>) -> Self {
        self.writer = Some(writer);
        self
    }

    /// One more, by its place in its DLQ's topic.
    pub fn add(&mut self, topic: &str, partition: i32, offset: i64) {
        let block = Block { partition: TopicPartition::new(topic, partition), number: offset.max(0) / BLOCK };
        let within = u32::try_from(offset.max(0) % BLOCK).unwrap_or_default();
        self.blocks.entry(block).or_default().insert(within);
    }

    /// Writes what was added since the last time, and waits until it is there.
    ///
    /// # Errors
    /// Where the control topic cannot be written; what was added is kept.
    pub fn flush(&mut self) -> Result<(), ControlError> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        if self.writer.is_none() {
            self.writer = Some(Arc::new(Writer::open(&self.client, &self.namespace)?));
        }
        let Some(writer) = &self.writer else { return Ok(()) };
        let action = format!("{}-{}", self.action, self.part);
        for (block, offsets) in &self.blocks {
            writer.put(&block.key(&action), Some(&encode(self.state, &self.by, offsets)))?;
        }
        writer.flush()?;
        self.blocks.clear();
        self.part += 1;
        Ok(())
    }
}

/// Ends the entries of blocks that lie wholly behind the start of their DLQ's topic, whose records are
/// gone; how many.
///
/// # Errors
/// Where the control topic or the starts of the DLQs' topics cannot be read or written.
pub fn forget_behind(client: &ClientSettings, namespace: &str) -> Result<usize, ControlError> {
    let mut keys = BTreeMap::new();
    visit(client, namespace, |key, value| match (Block::of(key), value) {
        (Some(block), Some(_)) => drop(keys.insert(key.to_owned(), block)),
        _ => drop(keys.remove(key)),
    })?;
    let looker = scan::looker(client, &format!("{namespace}.dlqs"))?;
    let mut starts: BTreeMap<TopicPartition, Option<i64>> = BTreeMap::new();
    let mut gone = Vec::new();
    for (key, block) in keys {
        if !starts.contains_key(&block.partition) {
            let start = match looker.watermarks(&block.partition, ANSWER) {
                Ok((low, _)) => Some(low),
                // A topic that is gone may come back under its name; its entries do no harm till then.
                Err(BrokerError::UnknownTopic(_)) => None,
                Err(error) => return Err(error.into()),
            };
            starts.insert(block.partition.clone(), start);
        }
        if starts[&block.partition].is_some_and(|start| block.first() + BLOCK <= start) {
            gone.push(key);
        }
    }
    if gone.is_empty() {
        return Ok(0);
    }
    let writer = Writer::open(client, namespace)?;
    for key in &gone {
        writer.put(key, None)?;
    }
    writer.flush()?;
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_of_several_actions_are_read_together(
            one in proptest::collection::btree_set(0i64..20_000, 0..200),
            two in proptest::collection::btree_set(0i64..20_000, 0..200),
        ) {
            let mut entries = BTreeMap::new();
            for (action, state, offsets) in
                [("a", SettledState::Replayed, &one), ("b", SettledState::Discarded, &two)]
            {
                let mut blocks: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
                for offset in offsets {
                    blocks.entry(offset / BLOCK).or_default().insert((offset % BLOCK) as u32);
                }
                for (number, set) in blocks {
                    let block = Block { partition: TopicPartition::new("t.dlq", 3), number };
                    entries.insert(block.key(action), encode(state, "me", &set));
                }
            }
            let settled = Settled::of(&entries);
            let of = |state| -> BTreeSet<i64> {
                (0..20_000).filter(|offset| settled.is_settled("t.dlq", 3, *offset) == Some(state)).collect()
            };
            prop_assert_eq!(of(SettledState::Replayed), one.clone());
            prop_assert_eq!(of(SettledState::Discarded), two.difference(&one).copied().collect());
            prop_assert_eq!(settled.is_settled("t.dlq", 2, 0), None);
        }
    }

    #[test]
    fn a_million_in_a_row_are_small_and_what_is_no_entry_is_left_alone() {
        let mut set = RoaringBitmap::new();
        set.insert_range(0..BLOCK as u32);
        let entry = encode(SettledState::Replayed, "me", &set);
        assert!(entry.to_string().len() < 200, "{entry}");
        let key = Block { partition: TopicPartition::new("t", 0), number: 7 }.key("a");
        let mut entries = BTreeMap::from([(key.clone(), entry.clone())]);
        let mut later = entry;
        later["version"] = json!(2);
        entries.insert("settled/t/0/8/a".to_owned(), later);
        for odd in [
            "settled/",
            "settled/t",
            "settled/t/x/1/a",
            "settled/t/0/-1/a",
            "settled/t/0/9223372036854775807/a",
        ] {
            entries.insert(odd.to_owned(), json!({ "version": 1, "offsets": "??" }));
        }
        let settled = Settled::of(&entries);
        assert_eq!(settled.is_settled("t", 0, 7 * BLOCK), Some(SettledState::Replayed));
        assert_eq!((settled.is_settled("t", 0, 8 * BLOCK), settled.is_settled("t", 0, -1)), (None, None));
    }
}
