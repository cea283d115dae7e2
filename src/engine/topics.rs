//! What the files want of topics against what the broker has.
//!
//! [`plan`] only reads; [`apply`] does what a plan says and nothing else. A topic is never shrunk or
//! deleted, settings that the files do not name are left alone, and another system's topic is only
//! verified. What cannot be done by itself is a refusal with its reason, never a silent pass.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::broker::{Admin, BrokerError, TopicRequest, TopicSettings, TopicShape};
use crate::catalog::{Catalog, Topic};

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

/// Compares the catalog's topics and DLQs with the broker's.
///
/// # Errors
/// Where the brokers do not answer within `limit` (a request) or refuse.
pub fn plan(catalog: &Catalog, admin: &Admin, limit: Duration) -> Result<Vec<TopicChange>, BrokerError> {
    let wanted = wanted(catalog);
    let shapes = admin.topics(limit)?;
    let existing: Vec<&str> =
        wanted.iter().map(|topic| &*topic.physical).filter(|name| shapes.contains_key(*name)).collect();
    let settings = admin.settings(&existing, limit)?;
    let settings: BTreeMap<&str, TopicSettings> = existing.into_iter().zip(settings).collect();
    let changes = wanted.iter().flat_map(|topic| {
        let found = shapes.get(&*topic.physical).zip(settings.get(&*topic.physical));
        compare(topic, found)
    });
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

fn compare(topic: &Topic, found: Option<(&TopicShape, &TopicSettings)>) -> Vec<TopicChange> {
    match found {
        None if topic.external => vec![refused(topic, ABSENT)],
        None => vec![TopicChange::Create {
            topic: topic.physical.to_string(),
            partitions: topic.partitions,
            replication: topic.replication,
            settings: topic.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        }],
        Some((shape, settings)) => {
            let shape = compare_shape(topic, *shape);
            shape.into_iter().chain(compare_settings(topic, settings)).collect()
        }
    }
}

fn compare_shape(topic: &Topic, shape: TopicShape) -> Vec<TopicChange> {
    let mut changes = Vec::new();
    match topic.partitions {
        Some(wanted) if wanted == shape.partitions => {}
        Some(wanted) if topic.external => {
            let reason =
                format!("it belongs to another system and has {} partitions, not {wanted}", shape.partitions);
            changes.push(refused(topic, reason));
        }
        Some(wanted) if wanted > shape.partitions => changes.push(TopicChange::Grow {
            topic: topic.physical.to_string(),
            from: shape.partitions,
            to: wanted,
        }),
        Some(wanted) => {
            let reason = format!(
                "it has {} partitions and Kafka cannot shrink it to {wanted}; write {} or use a new topic",
                shape.partitions, shape.partitions
            );
            changes.push(refused(topic, reason));
        }
        None => {}
    }
    if let Some(wanted) = topic.replication.filter(|wanted| *wanted != shape.replication) {
        let noun = if shape.replication == 1 { "replica" } else { "replicas" };
        let reason = format!(
            "it has {} {noun}, not {wanted}; replicas are moved with the broker's own tools",
            shape.replication
        );
        changes.push(refused(topic, reason));
    }
    changes
}

fn compare_settings(topic: &Topic, settings: &TopicSettings) -> Vec<TopicChange> {
    let mut changes = Vec::new();
    for (name, wanted) in &topic.settings {
        let Some(setting) = settings.get(name) else {
            changes.push(refused(topic, format!("the broker knows no setting `{name}`")));
            continue;
        };
        let from = setting.value.clone();
        if from.as_deref().is_some_and(|value| same(value, wanted)) {
            continue;
        }
        changes.push(if topic.external {
            let value = from.as_deref().unwrap_or("(hidden)");
            let reason = format!("it belongs to another system and has {name} = {value}, not {wanted}");
            refused(topic, reason)
        } else {
            let (topic, setting) = (topic.physical.to_string(), name.clone());
            TopicChange::Configure { topic, setting, from, to: wanted.clone() }
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

fn refused(topic: &Topic, reason: impl Into<String>) -> TopicChange {
    TopicChange::Refused { topic: topic.physical.to_string(), reason: reason.into() }
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
        compare(topic, Some((&shape, &settings))).iter().map(ToString::to_string).collect()
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
        let create = compare(&topic(Some(3), &[("retention.ms", "1")], false), None);
        assert_eq!(
            create[0].to_string(),
            "create real.t: 3 partitions, the broker's default of replicas, retention.ms = 1"
        );
        assert!(compare(&topic(Some(3), &[], true), None)[0].is_refused());
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
        let changes = compare(&wanted, Some((&shape, &settings)));
        assert_eq!(changes.len(), 2);
        assert!(changes.iter().all(TopicChange::is_refused), "{changes:?}");
    }
}
