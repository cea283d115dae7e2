//! `biplane topics plan|apply`: what the files want of topics against what the broker has.
//!
//! `plan` only reads. `apply` shows the plan, asks unless `--yes`, and leaves what is refused to
//! people. Nothing here deletes or shrinks a topic.

use std::time::Duration;

use serde_json::json;

use super::arguments::{Format, GlobalArguments};
use super::consent::{self, Consent};
use super::exit::{CliError, CliResult, Exit, read_or_not};
use super::progress::Progress;
use super::{connect, output, root};
use crate::broker::{Admin, ClientSettings};
use crate::catalog::Catalog;
use crate::engine::topics::{self, TopicChange};

/// How long the brokers may take to answer one request.
const ANSWER: Duration = Duration::from_secs(30);

/// Shows the differences; they are findings.
pub(super) fn plan(global: &GlobalArguments, format: Format) -> CliResult {
    let Some(catalog) = root::load_for(global, format)? else {
        return Ok(Exit::Findings);
    };
    let admin = Admin::open(&connect::client(global)?)?;
    let changes = topics::plan_all(&catalog, &global.namespace, &admin, ANSWER)?;
    read_or_not(show(&changes, format))?;
    Ok(if changes.is_empty() { Exit::Clean } else { Exit::Findings })
}

/// Makes the changes; those that are refused are findings.
pub(super) fn apply(global: &GlobalArguments, consent: &Consent, format: Format) -> CliResult {
    let Some(catalog) = root::load_for(global, format)? else {
        return Ok(Exit::Findings);
    };
    let admin = Admin::open(&connect::client(global)?)?;
    let changes = topics::plan_all(&catalog, &global.namespace, &admin, ANSWER)?;
    read_or_not(show(&changes, format))?;
    let open = changes.iter().filter(|change| !change.is_refused()).count();
    if open > 0 && !consent.dry_run {
        let word = if open == 1 { "change" } else { "changes" };
        if !consent::agreed(consent, &format!("make {open} {word}?"))? {
            return Err(CliError::failed("nothing was changed"));
        }
        make(&changes, open, &admin)?;
    }
    Ok(if open < changes.len() { Exit::Findings } else { Exit::Clean })
}

/// Makes the topics that are missing without asking, as `dev` does. What exists may be somebody else's as
/// well: how it differs is only said.
pub(super) fn bring_up(client: &ClientSettings, catalog: &Catalog) -> CliResult<()> {
    let admin = Admin::open(client)?;
    let changes = topics::plan(catalog, &admin, ANSWER)?;
    let (missing, others): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|change| matches!(change, TopicChange::Create { .. }));
    make(&missing, missing.len(), &admin)?;
    for change in &others {
        output::note(&format!("left alone: {change}"));
    }
    if others.iter().any(|change| !change.is_refused()) {
        output::note("`biplane topics apply` changes topics that exist");
    }
    Ok(())
}

fn make(changes: &[TopicChange], open: usize, admin: &Admin) -> CliResult<()> {
    let mut progress = Progress::new(open, "changing topics");
    let end = topics::apply(changes, admin, ANSWER, |change| {
        progress.step();
        progress.say(&format!("done: {change}"));
    });
    progress.finish();
    Ok(end?)
}

fn show(changes: &[TopicChange], format: Format) -> CliResult<()> {
    let counts = Counts::of(changes);
    match format {
        Format::Json => output::json(&json!({
            "changes": changes,
            "counts": {
                "create": counts.create,
                "grow": counts.grow,
                "configure": counts.configure,
                "refused": counts.refused,
            },
        })),
        Format::Text if changes.is_empty() => output::line("the topics are as the files want them"),
        Format::Text => {
            for change in changes {
                output::line(&change.to_string())?;
            }
            output::line(&format!(
                "{} to create, {} to grow, {} settings to change, {} refused",
                counts.create, counts.grow, counts.configure, counts.refused
            ))
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    create: usize,
    grow: usize,
    configure: usize,
    refused: usize,
}

impl Counts {
    fn of(changes: &[TopicChange]) -> Self {
        let mut counts = Self::default();
        for change in changes {
            *match change {
                TopicChange::Create { .. } => &mut counts.create,
                TopicChange::Grow { .. } => &mut counts.grow,
                TopicChange::Configure { .. } => &mut counts.configure,
                TopicChange::Refused { .. } => &mut counts.refused,
            } += 1;
        }
        counts
    }
}
