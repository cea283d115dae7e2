//! What a check asks the broker: whether the topics are there as the files want them.
//!
//! The same comparison as `topics plan`, as findings at the places of the definitions. It changes nothing.

use std::time::Duration;

use indexmap::IndexMap;

use super::topics::{ABSENT, TopicChange, plan};
use crate::broker::{Admin, BrokerError};
use crate::catalog::Catalog;
use crate::diag::{Diagnostic, Span, codes};

/// The findings about topics and DLQs; `places` says where each is defined, by section and name.
///
/// # Errors
/// Where the brokers do not answer within `limit` (a request) or refuse.
pub fn findings(
    catalog: &Catalog,
    places: &IndexMap<(String, String), Span>,
    admin: &Admin,
    limit: Duration,
) -> Result<Vec<Diagnostic>, BrokerError> {
    let changes = plan(catalog, admin, limit)?;
    Ok(changes.iter().map(|change| placed(finding(change, catalog), change, catalog, places)).collect())
}

fn finding(change: &TopicChange, catalog: &Catalog) -> Diagnostic {
    let what = match definition(change.topic(), catalog) {
        ("dlqs", name) => format!("DLQ `{name}`"),
        (_, name) => format!("topic `{name}`"),
    };
    match change {
        TopicChange::Create { .. } => {
            Diagnostic::new(&codes::BROKER_TOPIC_MISSING, format!("{what} does not exist on the broker"))
                .help("`biplane topics apply` creates it")
        }
        TopicChange::Refused { reason, .. } if reason == ABSENT => {
            Diagnostic::new(&codes::BROKER_TOPIC_MISSING, format!("{what} does not exist on the broker"))
                .help("it is another system's, which has to create it")
        }
        TopicChange::Grow { from, to, .. } => {
            let message = format!("{what} has {from} partitions on the broker, not {to}");
            Diagnostic::new(&codes::BROKER_TOPIC_DIFFERS, message)
                .help("`biplane topics apply` adds them; keys move to other partitions then")
        }
        TopicChange::Configure { setting, from, to, .. } => {
            let from = from.as_deref().unwrap_or("(hidden)");
            let message = format!("{what} has {setting} = {from} on the broker, not {to}");
            Diagnostic::new(&codes::BROKER_TOPIC_DIFFERS, message).help("`biplane topics apply` changes it")
        }
        TopicChange::Refused { reason, .. } => {
            Diagnostic::new(&codes::BROKER_TOPIC_CONFLICT, format!("{what} differs on the broker: {reason}"))
        }
    }
}

fn placed(
    finding: Diagnostic,
    change: &TopicChange,
    catalog: &Catalog,
    places: &IndexMap<(String, String), Span>,
) -> Diagnostic {
    let (section, name) = definition(change.topic(), catalog);
    match places.get(&(section.to_owned(), name.to_owned())) {
        Some(span) => finding.at(*span, "defined here"),
        None => finding,
    }
}

/// Whose topic of the broker that is; where a DLQ is declared as another system's topic as well, the DLQ.
fn definition<'a>(physical: &'a str, catalog: &'a Catalog) -> (&'static str, &'a str) {
    let dlq = catalog.dlqs().values().find(|dlq| *dlq.topic.physical == *physical);
    let topic = catalog.topics().values().find(|topic| *topic.physical == *physical);
    match (topic, dlq) {
        (Some(topic), None) => ("topics", &topic.name),
        (Some(topic), Some(_)) if !topic.external => ("topics", &topic.name),
        (_, Some(dlq)) => ("dlqs", &dlq.name),
        (None, None) => ("topics", physical),
    }
}
