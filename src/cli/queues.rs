//! `biplane queues list|pause|resume` and `biplane workers list`: the command plane as its database tells it.

use serde_json::json;

use super::arguments::{Format, GlobalArguments};
use super::consent::who;
use super::database::{failed, open, wait};
use super::exit::{CliError, CliResult, Exit};
use super::output;
use crate::store::{Held, QueueRow, WorkerRow};

/// All queues with how many jobs lie where.
pub(super) fn list(global: &GlobalArguments, format: Format) -> CliResult {
    let queues = wait(async { open(global)?.queues().await.map_err(failed) })??;
    match format {
        Format::Json => output::json(&queues)?,
        Format::Text => {
            let header = ["queue", "state", "queued", "deferred", "running", "failed", "limits"];
            output::print_table(
                &header,
                queues.iter().map(row).collect(),
                "no engine has made a queue known yet",
            )?;
        }
    }
    Ok(Exit::Clean)
}

fn row(queue: &QueueRow) -> [String; 7] {
    let state = match (&queue.paused_by, &queue.pause_reason) {
        (None, _) => "open".to_owned(),
        (Some(by), None) => format!("paused by {by}"),
        (Some(by), Some(reason)) => format!("paused by {by}: {reason}"),
    };
    let counts = [queue.queued, queue.deferred, queue.running, queue.failed].map(|count| count.to_string());
    let [queued, deferred, running, exhausted] = counts;
    [queue.name.clone(), state, queued, deferred, running, exhausted, limits(queue)]
}

/// Each limit with how much of it is in use.
fn limits(queue: &QueueRow) -> String {
    let limits = &queue.limits;
    let all = limits.global_concurrency.map(|most| format!("{} of {most} run", queue.running));
    let keys = limits.key.as_ref().map(|key| match limits.per_key {
        Some(most) => format!("{most} each {key}: {} of {} full", limits.keys_at_limit, limits.keys),
        None => format!("turns by {key}: {} run", limits.keys),
    });
    let rate = limits.rate.map(|rate| {
        let units = [("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) =
            units.into_iter().find(|(_, seconds)| rate * seconds >= 1.0).unwrap_or(units[2]);
        let count = (rate * seconds * 100.0).round() / 100.0;
        format!("{count}/{unit}: {} may start", limits.may_start.unwrap_or_default())
    });
    let said: Vec<String> = [all, keys, rate].into_iter().flatten().collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

/// Lets no engine start jobs of a queue until it is resumed.
pub(super) fn pause(global: &GlobalArguments, name: &str, reason: Option<&str>, format: Format) -> CliResult {
    let held = wait(async { open(global)?.pause_queue(name, &who(), reason).await.map_err(failed) })??;
    told(held, name, "paused", format)
}

/// Lets engines start jobs of a queue again.
pub(super) fn resume(global: &GlobalArguments, name: &str, format: Format) -> CliResult {
    let held = wait(async { open(global)?.resume_queue(name, &who()).await.map_err(failed) })??;
    told(held, name, "open", format)
}

fn told(held: Held, name: &str, state: &str, format: Format) -> CliResult {
    let changed = match held {
        Held::Changed => true,
        Held::Unchanged => false,
        Held::Unknown => {
            return Err(CliError::usage(format!(
                "no engine has made a queue `{name}` known; `biplane queues list` has all"
            )));
        }
    };
    match format {
        Format::Json => output::json(&json!({ "queue": name, "state": state, "changed": changed }))?,
        Format::Text => {
            let already = if changed { "" } else { " already" };
            output::line(&format!("queue `{name}` is{already} {state}"))?;
        }
    }
    Ok(Exit::Clean)
}

/// All engines and pull workers that claim jobs.
pub(super) fn workers(global: &GlobalArguments, format: Format) -> CliResult {
    let workers = wait(async { open(global)?.workers().await.map_err(failed) })??;
    match format {
        Format::Json => output::json(&workers)?,
        Format::Text => {
            let header = ["worker", "sort", "version", "up", "heartbeat", "batches", "jobs"];
            output::print_table(&header, workers.iter().map(worker).collect(), "no worker is registered")?;
        }
    }
    Ok(Exit::Clean)
}

fn worker(worker: &WorkerRow) -> [String; 7] {
    [
        worker.name.clone(),
        if worker.pull { "pull" } else { "engine" }.to_owned(),
        worker.version.clone(),
        format!("{:.0} s", worker.up_seconds),
        format!("{:.1} s ago", worker.silent_seconds),
        worker.batches.to_string(),
        worker.jobs.to_string(),
    ]
}
