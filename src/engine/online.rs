//! What a check asks the broker and the databases: whether the topics are there as the files want them, whether the
//! engine's tables are current, and what the servers say of the statements of `sql` steps.
//!
//! Of topics it is the same comparison as `topics plan`, as findings at the places of the definitions. It changes
//! nothing.

use std::time::Duration;

use indexmap::IndexMap;

use super::topics::{ABSENT, TopicChange, plan};
use crate::base::{Class, Failure};
use crate::broker::{Admin, BrokerError};
use crate::catalog::Catalog;
use crate::diag::{Diagnostic, Span, codes};
use crate::steps::ports::Databases;
use crate::store::{self, DatabaseSettings, StoreResult};

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

/// The findings about the engine's own tables, where the catalog has jobs that need them.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn tables(
    catalog: &Catalog,
    places: &IndexMap<(String, String), Span>,
    settings: &DatabaseSettings,
) -> StoreResult<Vec<Diagnostic>> {
    let Some(first) = catalog.jobs().keys().next() else { return Ok(Vec::new()) };
    let Err(error) = store::standing(settings).await?.check() else { return Ok(Vec::new()) };
    let finding = Diagnostic::new(&codes::DATABASE_MIGRATIONS, error.to_string())
        .help("jobs do not run on such tables; `biplane databases check` tells more");
    let place = places.get(&("jobs".to_owned(), first.to_string()));
    Ok(vec![place.map_or(finding.clone(), |span| finding.at(*span, "the first that needs them"))])
}

/// The findings about statements: each is prepared where it would be carried out.
///
/// # Errors
/// Where a database cannot be asked.
pub async fn statements(catalog: &Catalog, databases: &dyn Databases) -> Result<Vec<Diagnostic>, Failure> {
    let mut findings = Vec::new();
    for (place, asked) in catalog.asked() {
        let refused = match databases.statement(asked.database.as_ref(), &asked.text) {
            Err(error) => error.message,
            Ok(statement) => match statement.prepare().await {
                Ok(()) => continue,
                Err(failure) if failure.class == Class::Transient => return Err(failure),
                Err(failure) => failure.message,
            },
        };
        findings.push(
            Diagnostic::new(&codes::SQL_REFUSED, format!("{place} cannot be carried out"))
                .at(asked.place, refused)
                .help("mend the statement, or what it names in the database and the rights of the role"),
        );
    }
    Ok(findings)
}

/// The findings about where stages stand that are exactly-once in a database: whether it can say so.
///
/// # Errors
/// Where a database cannot be asked.
pub async fn stage_offsets(catalog: &Catalog, databases: &dyn Databases) -> Result<Vec<Diagnostic>, Failure> {
    let mut findings = Vec::new();
    for stage in catalog.stages().values() {
        let Some((_, effect)) = stage.effects().next() else { continue };
        let database = effect.asked.database.as_ref();
        // Of no partition: nothing is changed, and the server judges the rights all the same.
        let refused = match databases.offsets(database, Vec::new()) {
            Err(error) => error.message,
            Ok(offsets) => match offsets.set(&[]).await {
                Ok(()) => continue,
                Err(failure) if failure.class == Class::Transient => return Err(failure),
                Err(failure) => failure.message,
            },
        };
        let message =
            format!("stage `{}` cannot keep where it stands in the database that it writes", stage.name);
        findings.push(Diagnostic::new(&codes::DATABASE_STAGE_OFFSET, message).at(effect.asked.place, refused).help(
            match database {
                None => "`biplane migrate` makes the table; docs/database.md has the grants".to_owned(),
                Some(database) => format!(
                    "`biplane migrate --database {}` makes the table; docs/database.md has it, and the grants",
                    database.name
                ),
            },
        ));
    }
    Ok(findings)
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
