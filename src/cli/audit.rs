//! `biplane audit list`: what operators did.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::arguments::{Format, GlobalArguments, duration};
use super::database::{failed, open, wait};
use super::exit::{CliResult, Exit};
use super::{jobs, output};
use crate::store::{AuditFilter, AuditRow};

/// `biplane audit …`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Who did what to which jobs, queues and tokens, newest first
    List(AuditArguments),
}

/// Which rows are shown.
#[derive(Debug, Args)]
pub struct AuditArguments {
    /// Only this, such as `jobs.cancel`, or all of `jobs`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only by this operator
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// At most so long ago, such as `2h`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    since: Option<Duration>,
    /// At most this many
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(global: &GlobalArguments, command: &AuditCommand) -> CliResult {
    let AuditCommand::List(arguments) = command;
    let filter = AuditFilter {
        action: arguments.action.clone(),
        actor: arguments.actor.clone(),
        since_seconds: arguments.since.map(jobs::seconds),
        before: None,
        limit: arguments.limit,
    };
    let rows = wait(async { open(global)?.audit(&filter).await.map_err(failed) })??;
    match arguments.format {
        Format::Json => output::json(&rows)?,
        Format::Text => {
            let header = ["at", "actor", "action", "subject", "detail"];
            output::print_table(&header, rows.iter().map(line).collect(), "nothing was done")?;
        }
    }
    Ok(Exit::Clean)
}

fn line(row: &AuditRow) -> [String; 5] {
    let detail = if row.detail.is_null() { String::new() } else { row.detail.to_string() };
    [row.at.clone(), row.actor.clone(), row.action.clone(), row.subject.to_string(), detail]
}
