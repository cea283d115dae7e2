//! `biplane jobs retry|cancel|snooze|discard|prioritise`: jobs by their ids, or all that a filter means.
//!
//! By filter it counts first and asks; what is done is done in small transactions, so that neither engines nor
//! applications wait for it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use super::arguments::{Format, GlobalArguments, STATES, duration};
use super::consent::{self, Consent};
use super::database::{failed, open, wait};
use super::exit::{CliError, CliResult, Exit};
use super::progress::Progress;
use super::{jobs, output};
use crate::jobs::{Action, CANCEL_WITHIN, Operated};
use crate::store::{Change, Database, JobId, Selected, Selection};

/// Which jobs, and how to go about it.
#[derive(Debug, Args)]
pub struct OperateArguments {
    /// Jobs by their ids
    #[arg(value_name = "ID", conflicts_with_all = ["state", "queue", "kind", "key", "where_args", "since"])]
    ids: Vec<i64>,
    #[command(flatten)]
    which: WhichArguments,
    /// Count what is meant, do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Filters over jobs; all that are given must hold.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which")]
struct WhichArguments {
    /// In this state; may be given several times
    #[arg(long, value_parser = STATES)]
    state: Vec<String>,
    /// Of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Of this kind
    #[arg(long, value_name = "NAME")]
    kind: Option<String>,
    /// With this unique key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Whose args contain these, such as `{"tenant_id": 7}`
    #[arg(long, value_name = "JSON", value_parser = json_text)]
    where_args: Option<String>,
    /// Enqueued, failed or ended at most so long ago, such as `2h`; of those that are over, the last hour
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
}

/// When a snoozed job is due.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SnoozeArguments {
    /// That long from now, such as `2h`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// At that time, such as `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = jobs::time)]
    until: Option<DateTime<Utc>>,
}

impl SnoozeArguments {
    pub(super) fn change(&self) -> Change {
        match self.until {
            Some(at) => Change::SnoozeUntil(at),
            None => Change::SnoozeFor(self.wait.unwrap_or_default()),
        }
    }
}

/// Cancels, with the time that those who run a job have.
pub(super) const CANCEL: Change = Change::Cancel(CANCEL_WITHIN);

/// JSON as it was written, once it is known to be JSON.
pub(super) fn json_text(text: &str) -> Result<String, String> {
    let parsed = serde_json::from_str::<serde_json::Value>(text);
    parsed.map(|_| text.to_owned()).map_err(|error| format!("it is no JSON: {error}"))
}

/// Does `change` to the jobs that are meant.
pub(super) fn run(global: &GlobalArguments, change: Change, arguments: &OperateArguments) -> CliResult {
    let action = Action::new(change);
    wait(async {
        let database = open(global)?;
        match arguments.ids.as_slice() {
            [] => by_filter(&database, action, arguments).await,
            ids => by_ids(&database, action, ids, change, arguments).await,
        }
    })?
}

/// Jobs that cannot take it are told with where they stand, and are a finding.
async fn by_ids(
    database: &Database,
    action: Action,
    ids: &[i64],
    change: Change,
    arguments: &OperateArguments,
) -> CliResult {
    let ids: Vec<JobId> = ids.iter().copied().map(JobId).collect();
    let mut fit = Vec::new();
    let mut refused = Vec::new();
    for id in ids {
        match database.show_job(id).await.map_err(failed)?.map(|job| job.state) {
            Some(state) if action.takes().iter().any(|takes| takes.as_str() == state) => fit.push(id),
            state => refused.push((id, state.unwrap_or_else(|| "not known".to_owned()))),
        }
    }
    for (id, state) in &refused {
        output::note(&format!("job {id} is {state}: {} does nothing to it", action.verb()));
    }
    let asks = matches!(change, Change::Cancel(_) | Change::Discard) && !fit.is_empty() && !arguments.dry_run;
    if asks && !consent::agreed(&arguments.consent(), &question(action, fit.len() as u64))? {
        return Err(CliError::failed("nothing was done"));
    }
    let operated = match arguments.dry_run || fit.is_empty() {
        true => Operated::default(),
        false => action.to_jobs(database, &fit, &consent::who()).await.map_err(failed)?,
    };
    tell(action, arguments, fit.len() as u64, operated, json!({}))?;
    Ok(if refused.is_empty() { Exit::Clean } else { Exit::Findings })
}

async fn by_filter(database: &Database, action: Action, arguments: &OperateArguments) -> CliResult {
    let selection = arguments.which.selection(action)?;
    if selection.is_all() && arguments.which.state.is_empty() {
        return Err(CliError::usage(format!(
            "which jobs? Name their ids, or say which with --state, --queue, --kind, --key, --where-args or \
             --since; {} all with --state {}",
            action.verb(),
            action.usual().iter().map(|state| state.as_str()).collect::<Vec<_>>().join(" --state ")
        )));
    }
    let subject = json!({ "filter": selection }).to_string();
    let selected = database.select_jobs(selection).await.map_err(failed)?;
    let counts = database.count_selected(&selected).await.map_err(failed)?;
    let count = counts.iter().map(|(_, count)| count.unsigned_abs()).sum();
    if arguments.format == Format::Text {
        let rows = counts.iter().map(|(state, count)| [state.clone(), count.to_string()]).collect();
        output::print_table(&["state", "count"], rows, "no jobs")?;
    }
    let mut operated = Operated::default();
    if count > 0 && !arguments.dry_run {
        if !consent::agreed(&arguments.consent(), &question(action, count))? {
            return Err(CliError::failed("nothing was done"));
        }
        operated = carry_out(database, action, &selected, &subject, count).await?;
    }
    let counts: serde_json::Map<_, _> =
        counts.into_iter().map(|(state, count)| (state, json!(count))).collect();
    tell(action, arguments, count, operated, json!(counts))?;
    Ok(Exit::Clean)
}

async fn carry_out(
    database: &Database,
    action: Action,
    selected: &Selected,
    subject: &str,
    count: u64,
) -> CliResult<Operated> {
    let mut progress = Progress::new(usize::try_from(count).unwrap_or(usize::MAX), action.verb());
    let reach = |so_far: Operated| progress.reach(so_far.done + so_far.asked);
    let operated = action.to_selected(database, selected, subject, &consent::who(), reach).await;
    progress.finish();
    operated.map_err(failed)
}

fn question(action: Action, count: u64) -> String {
    let jobs = if count == 1 { "job" } else { "jobs" };
    format!("{} {count} {jobs}?", action.verb())
}

fn tell(
    action: Action,
    arguments: &OperateArguments,
    count: u64,
    operated: Operated,
    counts: serde_json::Value,
) -> CliResult<()> {
    let Operated { done, asked } = operated;
    if arguments.format == Format::Json {
        return output::json(&json!({
            "action": action.verb(), "dry_run": arguments.dry_run, "count": count, "counts": counts,
            "done": done, "asked": asked,
        }));
    }
    if arguments.dry_run {
        return output::line(&format!("{count} would be: {}", action.verb()));
    }
    let running = if asked > 0 { format!(", {asked} that run are asked to end") } else { String::new() };
    output::line(&format!("{}: {done} done{running}", action.verb()))
}

impl OperateArguments {
    fn consent(&self) -> Consent {
        Consent { dry_run: self.dry_run, yes: self.yes }
    }
}

impl WhichArguments {
    fn selection(&self, action: Action) -> CliResult<Selection> {
        let words = |states: &[crate::jobs::state::State]| -> Vec<String> {
            states.iter().map(|state| state.as_str().to_owned()).collect()
        };
        let takes = words(action.takes());
        if let Some(state) = self.state.iter().find(|state| !takes.contains(state)) {
            return Err(CliError::usage(format!(
                "{} does nothing to {state} jobs, only to those that are {}",
                action.verb(),
                takes.join(", ")
            )));
        }
        let states = if self.state.is_empty() { words(action.usual()) } else { self.state.clone() };
        Ok(Selection {
            states,
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            key: self.key.clone(),
            args: self.where_args.clone(),
            since_seconds: self.since.map(jobs::seconds),
        })
    }
}
