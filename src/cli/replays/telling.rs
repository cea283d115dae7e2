//! What a replay would do, does and did, in words.

use serde_json::json;

use crate::cli::arguments::Format;
use crate::cli::exit::{CliError, CliResult, Exit};
use crate::cli::output;
use crate::cli::selecting::tell_unjudged;
use crate::engine::replays::{Counts, Ended, Preview, Spec, Stop};

/// `1 record`, `2 records`.
pub(super) fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

/// Writes a preview.
pub(super) fn preview(preview: &Preview, format: Format) -> CliResult<()> {
    if format == Format::Json {
        return output::json(preview);
    }
    let rows = preview.groups.iter();
    let rows = rows.map(|group| [group.stage.clone(), group.code.clone(), group.count.to_string()]);
    output::print_table(&["stage", "code", "count"], rows.collect(), "nothing would be sent")?;
    if !preview.first.is_empty() {
        let rows = preview.first.iter().map(|first| {
            let key = first.key.as_deref().unwrap_or("null").escape_debug().to_string();
            let code = first.code.clone().unwrap_or_else(|| "-".to_owned());
            [first.partition.to_string(), first.offset.to_string(), code, key]
        });
        output::line("")?;
        output::print_table(&["partition", "offset", "code", "key"], rows.collect(), "")?;
    }
    left_out(&preview.counts);
    if preview.counts.sent > 0 {
        output::line(&format!("\n{} to send", records(preview.counts.sent)))?;
    }
    Ok(())
}

/// Says what became of a run. What was meant and could not be sent is a finding.
pub(super) fn ended(spec: &Spec, ended: &Ended, format: Format) -> CliResult {
    let (counts, id) = (&ended.counts, &spec.id);
    let state = match &ended.stopped {
        None => "done",
        Some(Stop::Cancelled { .. }) => "cancelled",
        Some(Stop::TakenOver { .. }) => "running",
    };
    match format {
        Format::Json => output::json(&json!({
            "id": id, "state": state, "selected": counts.selected(), "counts": counts, "gone": ended.gone,
        }))?,
        Format::Text => output::line(&format!("replay {id}: {} sent, {state}", records(counts.sent)))?,
    }
    left_out(counts);
    if !ended.gone.is_empty() {
        let stages = ended.gone.iter().map(|stage| format!("`{stage}`")).collect::<Vec<_>>().join(", ");
        output::note(&format!(
            "not in the files: {stages}; name where they go with --to-stage or --to-topic, or leave them \
             out with --stage"
        ));
    }
    match &ended.stopped {
        Some(Stop::Cancelled { by }) => Err(CliError::failed(format!("the replay was cancelled by {by}"))),
        Some(Stop::TakenOver { by }) => {
            Err(CliError::failed(format!("another command goes on with the replay, started by {by}")))
        }
        None if counts.left() > 0 => Ok(Exit::Findings),
        None => Ok(Exit::Clean),
    }
}

/// Says what was not sent, and why.
fn left_out(counts: &Counts) {
    tell_unjudged(counts.undecodable, counts.undecided);
    for (count, why) in [
        (counts.settled, "replayed or discarded before; `--all` takes them as well"),
        (counts.limit, "sent again as often as `--max-replays` allows"),
        (
            counts.truncated,
            "cut when they were dead-lettered; their originals may still lie where they came from",
        ),
        (counts.stage_gone, "of stages that are not in the files"),
        (counts.too_large, "larger than the target takes"),
    ] {
        if count > 0 {
            output::note(&format!("left out: {} {why}", records(count)));
        }
    }
}
