//! `biplane dlqs discard`: settles dead letters that nobody is going to send again.
//!
//! Counts first and asks. Nothing is deleted: the topic keeps the records, and the control topic says of
//! them that they are not offered any more. What is settled is exactly what was counted.

use std::collections::BTreeMap;

use serde_json::json;

use super::arguments::{Format, GlobalArguments};
use super::consent::{self, Consent};
use super::dlqs::dlq;
use super::exit::{CliError, CliResult, Exit, read_or_not};
use super::progress::Progress;
use super::scan::{self, Part, Seen};
use super::selecting::Choosing;
use super::{connect, output, root};
use crate::engine::control::{Settled, SettledState, SettledWriter};
use crate::events::letters::{Filters, Letter};
use crate::record::RawRecord;

/// What is discarded, and how the command goes about it.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) filters: Filters,
    pub(super) consent: Consent,
    pub(super) format: Format,
}

pub(super) fn run(global: &GlobalArguments, wanted: &Wanted<'_>) -> CliResult {
    let client = connect::client(global)?;
    let Some(catalog) = root::load_for(global, wanted.format)? else {
        return Ok(Exit::Findings);
    };
    let topic = &dlq(&catalog, wanted.name)?.topic.physical;
    let mut choosing = Choosing::new(wanted.filters.clone(), &catalog)?;
    let settled = Settled::load(&client, &global.namespace)?;
    let looker = scan::looker(&client, &format!("{}.dlqs", global.namespace))?;
    let parts = within(scan::parts(&looker, topic)?, &wanted.filters);
    let mut writer = SettledWriter::new(&client, &global.namespace, SettledState::Discarded, &consent::who());
    let mut progress = Progress::new(parts.iter().map(Part::span).sum(), "reading the DLQ");
    let mut groups: BTreeMap<(String, String), u64> = BTreeMap::new();
    scan::read(&looker, &parts, |raw: &RawRecord<'_>| {
        let letter = Letter::read(raw);
        let open = settled.is_settled(raw.topic, raw.partition, raw.offset).is_none();
        if open && choosing.takes(raw, &letter) {
            let says = |text: Option<&str>| text.unwrap_or("-").to_owned();
            *groups.entry((says(letter.stage), says(letter.code))).or_default() += 1;
            writer.add(raw.topic, raw.partition, raw.offset);
        }
        progress.step();
        Seen::More
    })?;
    progress.finish();
    choosing.tell();
    let count: u64 = groups.values().sum();
    let discarded = count > 0 && !wanted.consent.dry_run;
    if wanted.format == Format::Text {
        read_or_not(show(&groups))?;
    }
    if discarded {
        let letters = if count == 1 { "dead letter" } else { "dead letters" };
        if !consent::agreed(&wanted.consent, &format!("discard {count} {letters}?"))? {
            return Err(CliError::failed("nothing was discarded"));
        }
        writer.flush()?;
    }
    match wanted.format {
        Format::Json => {
            let groups = groups
                .iter()
                .map(|((stage, code), count)| json!({ "stage": stage, "code": code, "count": count }));
            let groups: Vec<_> = groups.collect();
            output::json(&json!({ "groups": groups, "count": count, "discarded": discarded }))?;
        }
        Format::Text if discarded => output::line(&format!("{count} discarded"))?,
        Format::Text => {}
    }
    Ok(Exit::Clean)
}

fn show(groups: &BTreeMap<(String, String), u64>) -> CliResult<()> {
    let rows = groups.iter().map(|((stage, code), count)| [stage.clone(), code.clone(), count.to_string()]);
    output::print_table(&["stage", "code", "count"], rows.collect(), "no dead letters")
}

/// The offsets that the filters leave.
fn within(parts: Vec<Part>, filters: &Filters) -> Vec<Part> {
    let cut = |part: Part| {
        let (from, end) = filters.range(part.partition.partition, part.from, part.end);
        Part { from, end, ..part }
    };
    parts.into_iter().map(cut).filter(|part| part.from < part.end).collect()
}
