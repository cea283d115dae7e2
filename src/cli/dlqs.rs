//! `biplane dlqs list|show`: what lies in the DLQs, grouped by stage and code, and one dead letter in
//! full.
//!
//! Reads the topics themselves, outside any group. A record that another program wrote there is
//! listed under the stage and code `-`. What was replayed or discarded is left out unless it is asked for.

use std::collections::BTreeMap;

use serde::Serialize;

use super::arguments::{Format, GlobalArguments};
use super::exit::{CliError, CliResult, Exit};
use super::progress::Progress;
use super::scan::{self, Part, Seen};
use super::selecting::Choosing;
use super::shown::Shown;
use super::{connect, output, root};
use crate::broker::Consumer;
use crate::catalog::{Catalog, Dlq};
use crate::diag::nearest;
use crate::engine::control::Settled;
use crate::events::letters::{Filters, Letter};
use crate::record::{OwnedRecord, RawRecord};

/// What a dead letter is that nothing was done about.
const OPEN: &str = "open";

/// The dead letters of one stage and code in one DLQ.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Group {
    dlq: String,
    topic: String,
    stage: String,
    code: String,
    /// `open`, `replayed` or `discarded`.
    state: String,
    count: u64,
    /// RFC 3339, as the dead letters say.
    first_failed_at: Option<String>,
    last_failed_at: Option<String>,
}

/// Which dead letters a listing is about.
pub(super) struct Wanted {
    pub(super) filters: Filters,
    /// Those as well that were replayed or discarded.
    pub(super) all: bool,
    pub(super) format: Format,
}

pub(super) fn list(global: &GlobalArguments, wanted: &Wanted) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, wanted.format)? else {
        return Ok(Exit::Findings);
    };
    let mut choosing = Choosing::new(wanted.filters.clone(), &catalog)?;
    let settled = Settled::load(&client, &global.namespace)?;
    let looker = scan::looker(&client, &format!("{}.dlqs", global.namespace))?;
    let mut topics = Vec::new();
    for (name, dlq) in catalog.dlqs() {
        topics.push((name, dlq, scan::parts(&looker, &dlq.topic.physical)?));
    }
    let records = topics.iter().flat_map(|(_, _, parts)| parts).map(Part::span).sum();
    let mut progress = Progress::new(records, "reading the DLQs");
    let mut groups = Vec::new();
    for (name, dlq, parts) in topics {
        let mut found = BTreeMap::new();
        scan::read(&looker, &parts, |raw: &RawRecord<'_>| {
            let letter = Letter::read(raw);
            let state = state(&settled, raw);
            if (wanted.all || state == OPEN) && choosing.takes(raw, &letter) {
                count(&mut found, &letter, state);
            }
            progress.step();
            Seen::More
        })?;
        groups.extend(found.into_iter().map(|((stage, code, state), tally)| Group {
            dlq: name.to_string(),
            topic: dlq.topic.physical.to_string(),
            stage,
            code,
            state: state.to_owned(),
            count: tally.count,
            first_failed_at: tally.first,
            last_failed_at: tally.last,
        }));
    }
    progress.finish();
    choosing.tell();
    print(&groups, wanted)?;
    Ok(Exit::Clean)
}

fn print(groups: &[Group], wanted: &Wanted) -> CliResult<()> {
    if wanted.format == Format::Json {
        return output::json(&groups);
    }
    let mut header = vec!["dlq", "stage", "code", "count", "first-failed-at", "last-failed-at"];
    if wanted.all {
        header.push("state");
    }
    output::print_table(
        &header,
        groups.iter().map(|group| row(group, wanted.all)).collect(),
        "no dead letters",
    )
}

/// What was done about a dead letter.
pub(super) fn state(settled: &Settled, raw: &RawRecord<'_>) -> &'static str {
    settled.is_settled(raw.topic, raw.partition, raw.offset).map_or(OPEN, |state| state.as_str())
}

/// The DLQ of that name.
pub(super) fn dlq<'c>(catalog: &'c Catalog, name: &str) -> CliResult<&'c Dlq> {
    if let Some(dlq) = catalog.dlqs().get(name) {
        return Ok(dlq);
    }
    let near = nearest(name, catalog.dlqs().keys().map(|name| &**name));
    let help = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
    Err(CliError::usage(format!("there is no DLQ `{name}`{help}")))
}

/// Which dead letter is shown.
pub(super) struct Which<'a> {
    pub(super) name: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) offset: Option<i64>,
    pub(super) wanted: Wanted,
}

pub(super) fn show(global: &GlobalArguments, which: &Which<'_>) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, which.wanted.format)? else {
        return Ok(Exit::Findings);
    };
    let dlq = dlq(&catalog, which.name)?;
    let mut choosing = Choosing::new(which.wanted.filters.clone(), &catalog)?;
    let settled = Settled::load(&client, &global.namespace)?;
    let looker = scan::looker(&client, &format!("{}.dlqs", global.namespace))?;
    let mut parts = scan::parts(&looker, &dlq.topic.physical)?;
    parts.retain(|part| which.partition.is_none_or(|number| number == part.partition.partition));
    let found = match which.offset {
        Some(offset) => at(&looker, &parts, offset)?,
        None => newest(&looker, &parts, |raw| {
            (which.wanted.all || state(&settled, raw) == OPEN) && choosing.takes(raw, &Letter::read(raw))
        })?,
    };
    choosing.tell();
    let Some(record) = found else {
        return Err(CliError::failed(format!("there is no dead letter {}", place(dlq, which))));
    };
    let raw = record.as_raw();
    let state = Some(state(&settled, &raw)).filter(|state| *state != OPEN);
    let shown = Shown::from(&raw, state.map(str::to_owned));
    match which.wanted.format {
        Format::Json => output::json(&shown)?,
        Format::Text => output::print(&shown.text())?,
    }
    Ok(Exit::Clean)
}

fn place(dlq: &Dlq, which: &Which<'_>) -> String {
    let topic = &dlq.topic.physical;
    let place = match (which.partition, which.offset) {
        (Some(partition), Some(offset)) => return format!("at {topic}[{partition}]@{offset}"),
        (Some(partition), None) => format!("in {topic}[{partition}]"),
        _ => format!("in {topic}"),
    };
    match which.wanted.filters.is_empty() && which.wanted.all {
        true => place,
        false => format!("{place} that is open and as the filters say; `--all` shows settled ones as well"),
    }
}

/// The record at one offset of these partitions.
fn at(looker: &Consumer, parts: &[Part], offset: i64) -> CliResult<Option<OwnedRecord>> {
    let holds = |part: &&Part| (part.from..part.end).contains(&offset);
    let exact = parts.iter().filter(holds).map(|part| Part { from: offset, end: offset + 1, ..part.clone() });
    let found = scan::firsts(looker, &exact.collect::<Vec<_>>(), |raw| raw.to_owned())?;
    Ok(found.into_values().next())
}

/// The newest record of these partitions that is wanted.
fn newest(
    looker: &Consumer,
    parts: &[Part],
    wanted: impl FnMut(&RawRecord<'_>) -> bool,
) -> CliResult<Option<OwnedRecord>> {
    let lasts = scan::lasts(looker, parts, wanted)?;
    Ok(lasts.into_iter().max_by_key(|record| record.as_raw().timestamp))
}

#[derive(Debug, Default)]
struct Tally {
    count: u64,
    first: Option<String>,
    last: Option<String>,
}

type Groups = BTreeMap<(String, String, &'static str), Tally>;

fn count(groups: &mut Groups, letter: &Letter<'_>, state: &'static str) {
    let says = |text: Option<&str>| text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned();
    let tally = groups.entry((says(letter.stage), says(letter.code), state)).or_default();
    tally.count += 1;
    // RFC 3339 in UTC sorts as text.
    if let Some(at) = letter.failed_at {
        if tally.first.as_ref().is_none_or(|first| at < first.as_str()) {
            tally.first = Some(at.to_owned());
        }
        if tally.last.as_ref().is_none_or(|last| at > last.as_str()) {
            tally.last = Some(at.to_owned());
        }
    }
}

fn row(group: &Group, all: bool) -> Vec<String> {
    let time = |at: &Option<String>| at.clone().unwrap_or_else(|| "-".to_owned());
    let mut row = vec![
        group.dlq.clone(),
        group.stage.clone(),
        group.code.clone(),
        group.count.to_string(),
        time(&group.first_failed_at),
        time(&group.last_failed_at),
    ];
    if all {
        row.push(group.state.clone());
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_counted_by_stage_and_code_with_their_first_and_last_time() {
        let mut groups = Groups::new();
        for at in ["2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"] {
            let (stage, code, failed_at) = (Some("s"), Some("schema"), Some(at));
            count(&mut groups, &Letter { stage, code, failed_at, ..Letter::default() }, OPEN);
        }
        count(&mut groups, &Letter::default(), OPEN);
        let tally = &groups[&("s".to_owned(), "schema".to_owned(), OPEN)];
        assert_eq!(tally.count, 3);
        assert_eq!(tally.first.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(tally.last.as_deref(), Some("2026-01-03T00:00:00Z"));
        assert_eq!(groups[&("-".to_owned(), "-".to_owned(), OPEN)].count, 1);
    }
}
