//! The topics that the engine keeps for itself: their names, shapes and who makes them.
//!
//! A topic beside a stage's inputs has as many partitions as the largest of them, so that its partition
//! `p` belongs to whoever owns partition `p` of the inputs. It grows with them and never shrinks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::control;
use super::topics::{TopicChange, Wanted, apply, compare_all};
use crate::broker::{Admin, BrokerError, ClientSettings, TopicShape};
use crate::catalog::{Catalog, Stage, Topic};
use crate::events::{marks_topic, parking_topic, replay_topic};

const LARGEST: &str = "max.message.bytes";
/// What a record may gain on its way here: headers with its origin and its fate.
const ROOM: u64 = 64 * 1024;
/// The broker's own bound on a record.
const LEAST: u64 = 1 << 20;

/// For so long a stage may stand still, and its marks are there.
const STANDSTILL: Duration = Duration::from_secs(24 * 3_600);
const SHORTEST_SEGMENT: Duration = Duration::from_secs(600);
const LONGEST_SEGMENT: Duration = Duration::from_secs(24 * 3_600);
/// In bytes.
const SEGMENT: u64 = 64 << 20;

/// Who makes a topic, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// The first command that writes to it, or `topics apply` before that.
    ByWriter,
    /// The first replay to its stage; nothing is wrong while it is not there.
    ByReplay,
    /// Every engine that finds it missing.
    ByEngine,
}

/// One topic of the engine's own.
#[derive(Debug)]
pub struct OwnTopic {
    /// Its physical name.
    pub name: String,
    /// Who makes it.
    pub made: Made,
    /// The inputs that it stands beside; none: it has one partition.
    beside: Vec<Arc<Topic>>,
    /// Whether the inputs' records lie in it whole.
    carries: bool,
    settings: Vec<(&'static str, String)>,
}

/// All that a catalog's stages may need.
pub fn all(catalog: &Catalog, namespace: &str) -> Vec<OwnTopic> {
    let replays = catalog.stages().values().map(|stage| replay(stage, namespace));
    let marks = catalog.stages().values().flat_map(|stage| marks(stage, namespace));
    let parks = catalog.stages().values().filter(|stage| stage.parks());
    let parked = parks.flat_map(|stage| parking(stage, namespace));
    std::iter::once(control(namespace)).chain(replays).chain(marks).chain(parked).collect()
}

/// What operators say.
pub fn control(namespace: &str) -> OwnTopic {
    OwnTopic {
        name: control::topic(namespace),
        made: Made::ByWriter,
        beside: Vec::new(),
        carries: false,
        settings: vec![("cleanup.policy", "compact".to_owned())],
    }
}

/// What is sent to one stage alone again.
pub fn replay(stage: &Stage, namespace: &str) -> OwnTopic {
    OwnTopic {
        name: replay_topic(namespace, &stage.name),
        made: Made::ByReplay,
        beside: stage.inputs.clone(),
        carries: true,
        settings: vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", "-1".to_owned())],
    }
}

/// Which records of a stage were finished, a topic for each of its inputs; none where it does not tell equal
/// records or keeps them in memory.
///
/// A mark is kept for the window and a day from when it was written, so that a stage which stood still for
/// less than a day misses none.
pub fn marks(stage: &Stage, namespace: &str) -> Vec<OwnTopic> {
    match stage.dedupe.as_ref().filter(|dedupe| !dedupe.memory) {
        Some(dedupe) => marks_beside(namespace, &stage.name, &stage.inputs, dedupe.window),
        None => Vec::new(),
    }
}

fn marks_beside(namespace: &str, stage: &str, inputs: &[Arc<Topic>], window: Duration) -> Vec<OwnTopic> {
    // Whole segments are deleted, so that they are short where the window is.
    let segment = (window / 4).clamp(SHORTEST_SEGMENT, LONGEST_SEGMENT);
    let retention = i64::try_from(window.saturating_add(STANDSTILL).as_millis()).unwrap_or(i64::MAX);
    let settings = [
        ("cleanup.policy", "compact,delete".to_owned()),
        ("retention.ms", retention.to_string()),
        ("segment.ms", segment.as_millis().to_string()),
        ("segment.bytes", SEGMENT.to_string()),
    ];
    let beside = |input: &Arc<Topic>| OwnTopic {
        name: marks_topic(namespace, stage, &input.physical),
        made: Made::ByEngine,
        beside: vec![Arc::clone(input)],
        carries: false,
        settings: settings.to_vec(),
    };
    inputs.iter().map(beside).collect()
}

/// What a stage parks, a topic an input. The engine itself deletes nothing there.
fn parking(stage: &Stage, namespace: &str) -> impl Iterator<Item = OwnTopic> {
    stage.inputs.iter().map(move |input| OwnTopic {
        name: parking_topic(namespace, &stage.name, &input.physical),
        made: Made::ByEngine,
        beside: vec![Arc::clone(input)],
        carries: true,
        settings: vec![("cleanup.policy", "delete".to_owned()), ("retention.ms", "-1".to_owned())],
    })
}

/// Compares them with what the broker has; those that only a replay makes are left out until there are.
///
/// # Errors
/// Where the brokers do not answer within `limit` (a request) or refuse.
pub fn plan(own: &[OwnTopic], admin: &Admin, limit: Duration) -> Result<Vec<TopicChange>, BrokerError> {
    let shapes = admin.topics(limit)?;
    let wanted = own.iter().filter(|own| own.made != Made::ByReplay || shapes.contains_key(&own.name));
    changes(wanted, &shapes, admin, limit)
}

/// Makes a topic, or grows it, where that is needed. Somebody else may do the same at this moment.
///
/// # Errors
/// Where the brokers do not answer within `limit` (a request) or refuse.
pub fn make(own: &OwnTopic, admin: &Admin, limit: Duration) -> Result<(), BrokerError> {
    let changes = |shapes: &BTreeMap<_, _>| changes([own].into_iter(), shapes, admin, limit);
    let needed = changes(&admin.topics(limit)?)?;
    match apply(&needed, admin, limit, |_| ()) {
        Ok(()) => Ok(()),
        Err(_) if changes(&admin.topics(limit)?)?.is_empty() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes or grows those that are an engine's to make and whose inputs are there.
///
/// # Errors
/// The first that cannot be made; the others are tried all the same.
pub fn keep(
    catalog: &Catalog,
    namespace: &str,
    client: &ClientSettings,
    limit: Duration,
) -> Result<(), BrokerError> {
    let mut own = all(catalog, namespace);
    own.retain(|own| own.made == Made::ByEngine);
    // The cluster in this process makes no topics for an admin.
    if own.is_empty() || client.mock {
        return Ok(());
    }
    let admin = Admin::open(client)?;
    let shapes = admin.topics(limit)?;
    let made = own.iter().filter(|own| own.is_wanting(&shapes)).map(|own| make(own, &admin, limit));
    made.fold(Ok(()), Result::and)
}

fn changes<'a>(
    own: impl Iterator<Item = &'a OwnTopic>,
    shapes: &BTreeMap<String, TopicShape>,
    admin: &Admin,
    limit: Duration,
) -> Result<Vec<TopicChange>, BrokerError> {
    let own: Vec<&OwnTopic> = own.collect();
    let largest = largest(&own, shapes, admin, limit)?;
    let settings: Vec<_> = own.iter().map(|own| own.settings(&largest, shapes)).collect();
    let wanted: Vec<_> =
        own.iter().zip(&settings).map(|(own, settings)| own.wanted(shapes, settings)).collect();
    compare_all(&wanted, shapes, admin, limit)
}

/// The largest record in bytes of each input that is there and whose records are carried whole.
fn largest(
    own: &[&OwnTopic],
    shapes: &BTreeMap<String, TopicShape>,
    admin: &Admin,
    limit: Duration,
) -> Result<BTreeMap<String, u64>, BrokerError> {
    let inputs = own.iter().filter(|own| own.carries && !shapes.contains_key(&own.name));
    let inputs: BTreeSet<&str> = inputs.flat_map(|own| &own.beside).map(|input| &*input.physical).collect();
    let there: Vec<&str> = inputs.into_iter().filter(|name| shapes.contains_key(*name)).collect();
    let settings = admin.settings(&there, limit)?;
    let bytes = there.iter().zip(&settings).filter_map(|(name, settings)| {
        let bytes = settings.get(LARGEST)?.value.as_ref()?.parse().ok()?;
        Some(((*name).to_owned(), bytes))
    });
    Ok(bytes.collect())
}

impl OwnTopic {
    /// Whether its inputs are there and it is not, or has not as many partitions.
    fn is_wanting(&self, shapes: &BTreeMap<String, TopicShape>) -> bool {
        let settings = IndexMap::new();
        self.beside.iter().all(|input| shapes.contains_key(&*input.physical))
            && (!shapes.contains_key(&self.name) || self.wanted(shapes, &settings).partitions.is_some())
    }

    /// What is set on it. The size of a record is set once, where the topic is made.
    fn settings(
        &self,
        largest: &BTreeMap<String, u64>,
        shapes: &BTreeMap<String, TopicShape>,
    ) -> IndexMap<String, String> {
        let mut all: IndexMap<String, String> =
            self.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if self.carries && !shapes.contains_key(&self.name) {
            let said = |input: &Topic| {
                largest.get(&*input.physical).copied().or(input.max_message_bytes.map(|bytes| bytes.0))
            };
            let bytes = self.beside.iter().filter_map(|input| said(input)).max();
            // Smaller ones would not take the batches that the engine writes.
            let bytes = bytes.map(|bytes| bytes.max(LEAST) + ROOM);
            all.extend(bytes.map(|bytes| (LARGEST.to_owned(), bytes.to_string())));
        }
        all
    }

    fn wanted<'a>(
        &'a self,
        shapes: &BTreeMap<String, TopicShape>,
        settings: &'a IndexMap<String, String>,
    ) -> Wanted<'a> {
        let there = shapes.get(&self.name);
        let of = |input: &Topic| {
            let has = shapes.get(&*input.physical).map(|shape| shape.partitions);
            has.max(input.partitions.filter(|_| !input.external))
        };
        let partitions = match self.beside.is_empty() {
            true => Some(1).filter(|_| there.is_none()),
            false => self.beside.iter().filter_map(|input| of(input)).max(),
        };
        let replicas = self.beside.iter().filter_map(|input| {
            shapes.get(&*input.physical).map(|shape| shape.replication).or(input.replication)
        });
        Wanted {
            topic: &self.name,
            // More partitions than the inputs have do no harm.
            partitions: partitions.filter(|count| there.is_none_or(|shape| shape.partitions < *count)),
            replication: replicas.max().filter(|_| there.is_none()),
            settings,
            external: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{About, Compression};

    fn input(name: &str, partitions: Option<u32>, external: bool) -> Arc<Topic> {
        Arc::new(Topic {
            name: name.into(),
            physical: name.into(),
            about: About::default(),
            partitions,
            replication: None,
            settings: IndexMap::new(),
            max_message_bytes: None,
            compression: Compression::None,
            linger: None,
            schema: None,
            external,
        })
    }

    fn own(beside: Vec<Arc<Topic>>) -> OwnTopic {
        OwnTopic { name: "own".into(), made: Made::ByReplay, beside, carries: true, settings: Vec::new() }
    }

    fn shapes(all: &[(&str, u32, u16)]) -> BTreeMap<String, TopicShape> {
        let shape = |(name, partitions, replication): &(&str, u32, u16)| {
            ((*name).to_owned(), TopicShape { partitions: *partitions, replication: *replication })
        };
        all.iter().map(shape).collect()
    }

    #[test]
    fn it_has_the_partitions_and_replicas_of_the_largest_input() {
        let own = own(vec![input("a", Some(9), false), input("b", Some(9), true), input("c", None, false)]);
        let settings = IndexMap::new();
        let there = shapes(&[("b", 12, 3), ("c", 4, 2)]);
        let wanted = own.wanted(&there, &settings);
        assert_eq!((wanted.partitions, wanted.replication), (Some(12), Some(3)));
        // An input that is another system's says nothing before it is there.
        assert_eq!(own.wanted(&shapes(&[]), &settings).partitions, Some(9));
    }

    #[test]
    fn it_grows_and_never_shrinks() {
        let own = own(vec![input("a", Some(3), false)]);
        let settings = IndexMap::new();
        assert_eq!(own.wanted(&shapes(&[("own", 2, 1)]), &settings).partitions, Some(3));
        let wanted = own.wanted(&shapes(&[("own", 4, 1), ("a", 3, 3)]), &settings);
        assert_eq!((wanted.partitions, wanted.replication), (None, None));
    }

    #[test]
    fn an_engine_makes_what_is_missing_once_the_inputs_are_there() {
        let own = own(vec![input("a", Some(3), false)]);
        assert!(!own.is_wanting(&shapes(&[])), "nobody knows how many partitions the input will have");
        assert!(own.is_wanting(&shapes(&[("a", 3, 1)])));
        assert!(own.is_wanting(&shapes(&[("a", 3, 1), ("own", 2, 1)])));
        assert!(!own.is_wanting(&shapes(&[("a", 3, 1), ("own", 3, 1)])));
    }

    #[test]
    fn marks_outlive_their_window_by_the_longest_standstill_beside_each_input() {
        let topics = marks_of(Duration::from_secs(2 * 3_600), &["a", "b.c"]);
        let names: Vec<_> = topics.iter().map(|topic| &*topic.name).collect();
        assert_eq!(names, ["ns.s.marks.a", "ns.s.marks.b.c"]);
        let settings = topics[0].settings(&BTreeMap::new(), &shapes(&[]));
        assert_eq!(settings["retention.ms"], (26 * 3_600_000).to_string());
        assert_eq!(settings["segment.ms"], 1_800_000.to_string());
        assert_eq!((topics[0].made, &*settings["cleanup.policy"]), (Made::ByEngine, "compact,delete"));
        let long = marks_of(Duration::MAX, &["a"]);
        let settings = long[0].settings(&BTreeMap::new(), &shapes(&[]));
        assert_eq!(settings["retention.ms"], i64::MAX.to_string(), "the broker takes no more");
    }

    fn marks_of(window: Duration, inputs: &[&str]) -> Vec<OwnTopic> {
        let inputs: Vec<_> = inputs.iter().map(|name| input(name, Some(3), false)).collect();
        marks_beside("ns", "s", &inputs, window)
    }

    #[test]
    fn whole_records_have_room_for_what_is_written_beside_them() {
        let own = own(vec![input("a", None, false), input("b", None, false)]);
        let largest = [("a".to_owned(), 1_000), ("b".to_owned(), 2_000_000)].into();
        assert_eq!(own.settings(&largest, &shapes(&[]))[LARGEST], (2_000_000 + ROOM).to_string());
        let small = [("a".to_owned(), 1_000)].into();
        assert_eq!(own.settings(&small, &shapes(&[]))[LARGEST], (LEAST + ROOM).to_string());
        assert!(own.settings(&largest, &shapes(&[("own", 1, 1)])).is_empty(), "it stays as it was made");
    }
}
