//! Looking at replays, and ending one.

use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::told;
use crate::cli::arguments::{Format, GlobalArguments};
use crate::cli::exit::{CliResult, Exit};
use crate::cli::{connect, consent, output};
use crate::engine::replays::{Counts, Known, Outcome, Replays, Spec, Target};

/// One replay as it is shown.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    /// `running`, `done` or `cancelled`; one whose command has ended early is `running` and silent.
    state: &'static str,
    /// When it was last heard of, RFC 3339.
    heard: Option<String>,
    /// How many offsets were looked at, of how many.
    read: i64,
    total: i64,
    selected: u64,
    counts: Counts,
    ended_by: Option<String>,
    ended_at: Option<String>,
    #[serde(flatten)]
    spec: Spec,
}

pub(super) fn list(global: &GlobalArguments, format: Format) -> CliResult {
    let client = connect::client(global)?;
    let replays = Replays { client: &client, namespace: &global.namespace };
    let mut listed = Vec::new();
    for known in replays.all().map_err(told)? {
        listed.push(looked_up(&replays, known)?);
    }
    match format {
        Format::Json => output::json(&listed)?,
        Format::Text => {
            let header = ["replay", "state", "from", "to", "progress", "sent", "left-out", "by", "started"];
            output::print_table(&header, listed.iter().map(row).collect(), "no replays")?;
        }
    }
    Ok(Exit::Clean)
}

pub(super) fn show(global: &GlobalArguments, id: &str, format: Format) -> CliResult {
    let client = connect::client(global)?;
    let replays = Replays { client: &client, namespace: &global.namespace };
    let listed = looked_up(&replays, replays.find(id).map_err(told)?)?;
    match format {
        Format::Json => output::json(&listed)?,
        Format::Text => output::print(&details(&listed))?,
    }
    Ok(Exit::Clean)
}

pub(super) fn cancel(global: &GlobalArguments, id: &str) -> CliResult {
    let client = connect::client(global)?;
    let replays = Replays { client: &client, namespace: &global.namespace };
    match replays.cancel(id, &consent::who()).map_err(told)? {
        true => output::line(&format!("replay {id}: cancelled"))?,
        false => output::note(&format!("the replay {id} had ended before")),
    }
    Ok(Exit::Clean)
}

fn looked_up(replays: &Replays<'_>, Known { spec, end, .. }: Known) -> CliResult<Listed> {
    let cursor = replays.cursor(&spec).map_err(told)?;
    let kept = end.as_ref().and_then(|end| end.counts);
    let (read, total) = cursor.progress(&spec);
    let done = matches!(&end, Some(end) if end.outcome == Outcome::Done);
    let counts = kept.unwrap_or_else(|| cursor.counts());
    Ok(Listed {
        id: spec.id.clone(),
        state: match &end {
            None => "running",
            Some(end) if end.outcome == Outcome::Done => "done",
            Some(_) => "cancelled",
        },
        heard: Some(cursor.at).filter(|at| *at > 0).map(time),
        // The brokers forget the cursor of one that ended long ago.
        read: if done { total } else { read },
        total,
        selected: counts.selected(),
        counts,
        ended_by: end.as_ref().map(|end| end.by.clone()),
        ended_at: end.as_ref().map(|end| time(end.at)),
        spec,
    })
}

fn row(listed: &Listed) -> [String; 9] {
    [
        listed.id.clone(),
        listed.state.to_owned(),
        listed.spec.topic.clone(),
        to(&listed.spec),
        progress(listed),
        listed.counts.sent.to_string(),
        listed.counts.left().to_string(),
        listed.spec.by.clone(),
        time(listed.spec.at),
    ]
}

fn to(spec: &Spec) -> String {
    match &spec.target {
        Target::Origin => "their stages".to_owned(),
        Target::Stage(stage) => format!("stage {stage}"),
        Target::Topic(topic) => topic.clone(),
    }
}

fn progress(listed: &Listed) -> String {
    match listed.total {
        0 => "-".to_owned(),
        total => format!("{}%", listed.read * 100 / total),
    }
}

fn details(listed: &Listed) -> String {
    let spec = &listed.spec;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    line("replay", listed.id.clone());
    line("state", listed.state.to_owned());
    line("from", spec.topic.clone());
    line("to", to(spec));
    if !spec.filters.is_empty() {
        line("filters", serde_json::to_string(&spec.filters).unwrap_or_default());
    }
    line("max-replays", spec.max_replays.to_string());
    if let Some(rate) = spec.rate {
        line("rate", format!("{rate}/s"));
    }
    line("started", format!("{} by {}", time(spec.at), spec.by));
    if let (Some(by), Some(at)) = (&listed.ended_by, &listed.ended_at) {
        line("ended", format!("{at} by {by}"));
    }
    if let Some(heard) = &listed.heard {
        line("heard", heard.clone());
    }
    line("read", format!("{} of {} ({})", listed.read, listed.total, progress(listed)));
    let counts = &listed.counts;
    for (name, count) in [
        ("selected", listed.selected),
        ("sent", counts.sent),
        ("unselected", counts.unselected),
        ("settled", counts.settled),
        ("limit", counts.limit),
        ("truncated", counts.truncated),
        ("stage-gone", counts.stage_gone),
        ("too-large", counts.too_large),
        ("undecodable", counts.undecodable),
        ("undecided", counts.undecided),
    ] {
        if count > 0 || name == "selected" || name == "sent" {
            line(name, count.to_string());
        }
    }
    text
}

fn time(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}
