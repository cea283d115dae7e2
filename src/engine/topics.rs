//! What the files want of topics against what the broker has.
//!
//! [`plan`] and [`plan_all`] only read; [`apply`] does what a plan says and nothing else. A topic is never shrunk or
//! deleted, settings that the files do not name are left alone, and another system's topic is only
//! verified. What cannot be done by itself is a refusal with its reason, never a silent pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use serde::Serialize;

use super::own_topics;
use crate::broker::{Admin, BrokerError, TopicRequest, TopicSettings, TopicShape};
use crate::catalog::{Catalog, Stage, Topic};

/// Why another system's topic is refused that is not there.
pub(super) const ABSENT: &str = "it belongs to another system and does not exist";

/// One difference between the files and the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum TopicChange {
    /// The topic does not exist.
    Create {
        /// Its physical name.
        topic: String,
        /// `None`: the broker's default.
        partitions: Option<u32>,
        /// `None`: the broker's default.
        replication: Option<u16>,
        /// What is set on it.
        settings: BTreeMap<String, String>,
    },
    /// It has fewer partitions than wanted. Keys move to other partitions when it grows.
    Grow {
        /// Its physical name.
        topic: String,
        /// The partitions it has.
        from: u32,
        /// The partitions it gets.
        to: u32,
    },
    /// A setting differs.
    Configure {
        /// Its physical name.
        topic: String,
        /// The setting's name.
        setting: String,
        /// The value in force, if the broker tells.
        from: Option<String>,
        /// The value it gets.
        to: String,
    },
    /// Something differs that is not changed here.
    Refused {
        /// Its physical name.
        topic: String,
        /// What differs, and what to do about it.
        reason: String,
    },
}

impl TopicChange {
    /// The topic's physical name.
    pub fn topic(&self) -> &str {
        match self {
            Self::Create { topic, .. }
            | Self::Grow { topic, .. }
            | Self::Configure { topic, .. }
            | Self::Refused { topic, .. } => topic,
        }
    }

    /// Whether [`apply`] leaves it to people.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for TopicChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { topic, partitions, replication, settings } => {
                write!(f, "create {topic}: ")?;
                count(f, *partitions, "partitions")?;
                f.write_str(", ")?;
                count(f, replication.map(u32::from), "replicas")?;
                settings.iter().try_for_each(|(name, value)| write!(f, ", {name} = {value}"))
            }
            Self::Grow { topic, from, to } => write!(f, "grow {topic}: {from} -> {to} partitions"),
            Self::Configure { topic, setting, from, to } => {
                write!(f, "configure {topic}: {setting} = {} -> {to}", from.as_deref().unwrap_or("(hidden)"))
            }
            Self::Refused { topic, reason } => write!(f, "refused {topic}: {reason}"),
        }
    }
}

fn count(f: &mut fmt::Formatter<'_>, count: Option<u32>, what: &str) -> fmt::Result {
    match count {
        Some(count) => write!(f, "{count} {what}"),
        None => write!(f, "the broker's default of {what}"),
    }
}

/// The topics that the catalog's stages read or write and that are not there.
///
/// # Errors
/// Where the brokers do not answer within `limit` or refuse.
pub fn missing(catalog: &Catalog, admin: &Admin, limit: Duration) -> Result<Vec<String>, BrokerError> {
    let there = admin.topics(limit)?;
    let of = |stage: &Stage| {
        let outputs = stage.outputs.iter().map(|output| &output.topic);
        let topics = stage.inputs.iter().chain(outputs).chain(stage.dlq.as_ref().map(|dlq| &dlq.topic));
        topics.map(|topic| topic.physical.to_string()).collect::<Vec<_>>()
    };
    let wanted: BTreeSet<String> = catalog.stages().values().flat_map(|stage| of(stage)).collect();
    Ok(wanted.into_iter().filter(|topic| !there.contains_key(topic)).collect())
}

/// Compares the catalog's topics and DLQs with the broker's.
///
/// # Errors
/// Where the brokers do not answer within `limit` (a request) or refuse.
pub fn plan(catalog: &Catalog, admin: &Admin, limit: Duration) -> Result<Vec<TopicChange>, BrokerError> {
    let wanted = wanted(catalog);
    let wanted: Vec<Wanted<'_>> = wanted.into_iter().map(Wanted::from).collect();
    compare_all(&wanted, &admin.topics(limit)?, admin, limit)
}

/// As [`plan`], and behind it the topics that the engine keeps for itself in `namespace`.
///
/// # Errors
/// As [`plan`].
pub fn plan_all(
    catalog: &Catalog,
    namespace: &str,
    admin: &Admin,
    limit: Duration,
) -> Result<Vec<TopicChange>, BrokerError> {
    let mut changes = plan(catalog, admin, limit)?;
    changes.extend(own_topics::plan(&own_topics::all(catalog, namespace), admin, limit)?);
    Ok(changes)
}

/// What a topic shall be.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Its physical name.
    pub(super) topic: &'a str,
    /// `None`: as it is, or the broker's default.
    pub(super) partitions: Option<u32>,
    /// `None`: as it is, or the broker's default.
    pub(super) replication: Option<u16>,
    /// What is set on it.
    pub(super) settings: &'a IndexMap<String, String>,
    /// Whether it is another system's.
    pub(super) external: bool,
}

impl<'a> From<&'a Topic> for Wanted<'a> {
    fn from(topic: &'a Topic) -> Self {
        Self {
            topic: &topic.physical,
            partitions: topic.partitions,
            replication: topic.replication,
            settings: &topic.settings,
            external: topic.external,
        }
    }
}

/// Compares topics with those of these shapes.
///
/// # Errors
/// As [`plan`].
pub(super) fn compare_all(
    wanted: &[Wanted<'_>],
    shapes: &BTreeMap<String, TopicShape>,
    admin: &Admin,
    limit: Duration,
) -> Result<Vec<TopicChange>, BrokerError> {
    let existing: Vec<&str> =
        wanted.iter().map(|wanted| wanted.topic).filter(|name| shapes.contains_key(*name)).collect();
    let settings = admin.settings(&existing, limit)?;
    let settings: BTreeMap<&str, TopicSettings> = existing.into_iter().zip(settings).collect();
    let changes = wanted
        .iter()
        .flat_map(|wanted| compare(wanted, shapes.get(wanted.topic).zip(settings.get(wanted.topic))));
    Ok(changes.collect())
}

/// Carries out the changes in their order, past the refused ones; `done` hears of each before the
/// next is begun. Changes of one topic's settings go out together.
///
/// # Errors
/// The first change that fails ends it; what was done stays done, and a new plan shows the rest.
pub fn apply(
    changes: &[TopicChange],
    admin: &Admin,
    limit: Duration,
    mut done: impl FnMut(&TopicChange),
) -> Result<(), BrokerError> {
    let mut rest = changes;
    while let Some((change, behind)) = rest.split_first() {
        rest = behind;
        match change {
            TopicChange::Create { topic, partitions, replication, settings } => {
                let request = TopicRequest {
                    name: topic.clone(),
                    partitions: *partitions,
                    replication: *replication,
                    settings: settings.clone().into_iter().collect(),
                };
                admin.create(&request, limit)?;
                done(change);
            }
            TopicChange::Grow { topic, to, .. } => {
                admin.grow(topic, *to, limit)?;
                done(change);
            }
            TopicChange::Configure { topic, setting, to, .. } => {
                let mut settings = vec![(setting.clone(), to.clone())];
                let mut together = vec![change];
                while let Some((TopicChange::Configure { topic: next, setting, to, .. }, behind)) =
                    rest.split_first().filter(|(next, _)| next.topic() == topic)
                {
                    debug_assert_eq!(next, topic);
                    settings.push((setting.clone(), to.clone()));
                    together.push(&rest[0]);
                    rest = behind;
                }
                admin.configure(topic, &settings, limit)?;
                together.into_iter().for_each(&mut done);
            }
            TopicChange::Refused { .. } => {}
        }
    }
    Ok(())
}

/// Each physical topic once; where a DLQ is read as well, the declaration that owns it counts.
fn wanted(catalog: &Catalog) -> Vec<&Topic> {
    let dlqs = catalog.dlqs().values().map(|dlq| &dlq.topic);
    let all: Vec<&Topic> = catalog.topics().values().chain(dlqs).map(|topic| &**topic).collect();
    let owned: HashSet<&str> =
        all.iter().filter(|topic| !topic.external).map(|topic| &*topic.physical).collect();
    let mut seen = HashSet::new();
    all.into_iter()
        .filter(|topic| !topic.external || !owned.contains(&*topic.physical))
        .filter(|topic| seen.insert(&*topic.physical))
        .collect()
}

fn compare(wanted: &Wanted<'_>, found: Option<(&TopicShape, &TopicSettings)>) -> Vec<TopicChange> {
    match found {
        None if wanted.external => vec![refused(wanted, ABSENT)],
        None => vec![TopicChange::Create {
            topic: wanted.topic.to_owned(),
            partitions: wanted.partitions,
            replication: wanted.replication,
            settings: wanted.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        }],
        Some((shape, settings)) => {
            let shape = compare_shape(wanted, *shape);
            shape.into_iter().chain(compare_settings(wanted, settings)).collect()
        }
    }
}

fn compare_shape(wanted: &Wanted<'_>, shape: TopicShape) -> Vec<TopicChange> {
    let mut changes = Vec::new();
    match wanted.partitions {
        Some(count) if count == shape.partitions => {}
        Some(count) if wanted.external => {
            let reason =
                format!("it belongs to another system and has {} partitions, not {count}", shape.partitions);
            changes.push(refused(wanted, reason));
        }
        Some(count) if count > shape.partitions => changes.push(TopicChange::Grow {
            topic: wanted.topic.to_owned(),
            from: shape.partitions,
            to: count,
        }),
        Some(count) => {
            let reason = format!(
                "it has {} partitions and Kafka cannot shrink it to {count}; write {} or use a new topic",
                shape.partitions, shape.partitions
            );
            changes.push(refused(wanted, reason));
        }
        None => {}
    }
    if let Some(count) = wanted.replication.filter(|count| *count != shape.replication) {
        let noun = if shape.replication == 1 { "replica" } else { "replicas" };
        let reason = format!(
            "it has {} {noun}, not {count}; replicas are moved with the broker's own tools",
            shape.replication
        );
        changes.push(refused(wanted, reason));
    }
    changes
}

fn compare_settings(wanted: &Wanted<'_>, settings: &TopicSettings) -> Vec<TopicChange> {
    let mut changes = Vec::new();
    for (name, value) in wanted.settings {
        let Some(setting) = settings.get(name) else {
            changes.push(refused(wanted, format!("the broker knows no setting `{name}`")));
            continue;
        };
        let from = setting.value.clone();
        if from.as_deref().is_some_and(|from| same(from, value)) {
            continue;
        }
        changes.push(if wanted.external {
            let from = from.as_deref().unwrap_or("(hidden)");
            let reason = format!("it belongs to another system and has {name} = {from}, not {value}");
            refused(wanted, reason)
        } else {
            let (topic, setting) = (wanted.topic.to_owned(), name.clone());
            TopicChange::Configure { topic, setting, from, to: value.clone() }
        });
    }
    changes
}

/// Lists such as `cleanup.policy` have no order.
fn same(left: &str, right: &str) -> bool {
    let parts = |text: &str| {
        let mut parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
        parts.sort();
        parts
    };
    left == right || parts(left) == parts(right)
}

fn refused(wanted: &Wanted<'_>, reason: impl Into<String>) -> TopicChange {
    TopicChange::Refused { topic: wanted.topic.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::TopicSetting;
    use crate::catalog::{About, Compression};

    fn topic(partitions: Option<u32>, settings: &[(&str, &str)], external: bool) -> Topic {
        Topic {
            name: Arc::from("t"),
            physical: Arc::from("real.t"),
            about: About::default(),
            partitions,
            replication: None,
            settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            max_message_bytes: None,
            compression: Compression::None,
            linger: None,
            schema: None,
            external,
        }
    }

    fn found(settings: &[(&str, &str)]) -> (TopicShape, TopicSettings) {
        let setting = |value: &str| TopicSetting { value: Some(value.to_owned()), own: true };
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), setting(value))).collect();
        (TopicShape { partitions: 6, replication: 1 }, settings)
    }

    fn changes(topic: &Topic, settings: &[(&str, &str)]) -> Vec<String> {
        let (shape, settings) = found(settings);
        compare(&topic.into(), Some((&shape, &settings))).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_as_wanted_is_no_change() {
        let wanted = topic(Some(6), &[("cleanup.policy", "compact,delete")], false);
        let none: Vec<String> = Vec::new();
        assert_eq!(changes(&wanted, &[("cleanup.policy", "delete, compact"), ("other", "1")]), none);
        assert_eq!(changes(&topic(None, &[], false), &[]), none);
    }

    #[test]
    fn a_missing_topic_is_created_unless_it_is_another_systems() {
        let create = compare(&(&topic(Some(3), &[("retention.ms", "1")], false)).into(), None);
        assert_eq!(
            create[0].to_string(),
            "create real.t: 3 partitions, the broker's default of replicas, retention.ms = 1"
        );
        assert!(compare(&(&topic(Some(3), &[], true)).into(), None)[0].is_refused());
    }

    #[test]
    fn partitions_grow_and_never_shrink() {
        assert_eq!(changes(&topic(Some(9), &[], false), &[]), ["grow real.t: 6 -> 9 partitions"]);
        let shrink = changes(&topic(Some(2), &[], false), &[]);
        assert!(shrink[0].starts_with("refused real.t: it has 6 partitions"), "{shrink:?}");
    }

    #[test]
    fn settings_that_the_files_name_are_changed_and_others_left_alone() {
        let wanted = topic(None, &[("retention.ms", "5"), ("unheard.of", "1")], false);
        assert_eq!(
            changes(&wanted, &[("retention.ms", "9"), ("segment.ms", "1")]),
            [
                "configure real.t: retention.ms = 9 -> 5",
                "refused real.t: the broker knows no setting `unheard.of`"
            ]
        );
    }

    #[test]
    fn another_systems_topic_is_only_verified() {
        let wanted = topic(Some(9), &[("retention.ms", "5")], true);
        let (shape, settings) = found(&[("retention.ms", "9")]);
        let changes = compare(&(&wanted).into(), Some((&shape, &settings)));
        assert_eq!(changes.len(), 2);
        assert!(changes.iter().all(TopicChange::is_refused), "{changes:?}");
    }
}
