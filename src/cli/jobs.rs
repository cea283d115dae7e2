//! `biplane jobs enqueue|list|show`: one job in, and where jobs stand.

use std::io;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::arguments::{EnqueueArguments, Format, GlobalArguments, ListArguments};
use super::database::{failed, open, wait};
use super::exit::{CliError, CliResult, Exit};
use super::{output, tailing};
use crate::base::Failure;
use crate::catalog::{self, CheckOptions};
use crate::engine::{Process, load_tree};
use crate::store::{JobFilter, JobId, JobOptions, JobRow, ListedJob};

/// Puts one job in and says its id.
pub(super) fn enqueue(global: &GlobalArguments, wanted: &EnqueueArguments, format: Format) -> CliResult {
    let text = match wanted.args.as_str() {
        "-" => io::read_to_string(io::stdin().lock())?,
        text => text.to_owned(),
    };
    let args: Json = serde_json::from_str(&text)
        .map_err(|error| CliError::usage(format!("--args is no JSON: {error}")))?;
    check_args(global, &wanted.kind, &args)?;
    let options = JobOptions {
        run_at: wanted.run_at,
        priority: wanted.priority,
        max_attempts: wanted.max_attempts,
        expires_at: wanted.expires_at,
        trace: None,
    };
    let key = wanted.unique_key.as_deref();
    wait(async {
        let database = open(global)?;
        let enqueued = database.enqueue(&wanted.kind, &args.to_string(), key, &options).await;
        let id = enqueued.map_err(failed)?;
        let Some(limit) = wanted.wait else {
            told(id, None, format)?;
            return Ok(Exit::Clean);
        };
        let mut last = None;
        let exit = tailing::follow(&database, id, Some(limit), |job| {
            last = Some(job.clone());
            Ok(())
        });
        let exit = exit.await?;
        told(id, last.as_ref(), format)?;
        Ok(exit)
    })?
}

fn told(id: JobId, ended: Option<&JobRow>, format: Format) -> CliResult<()> {
    match (format, ended) {
        // A number of this size is not safe in every reader of JSON.
        (Format::Json, None) => output::json(&json!({ "id": id.to_string() })),
        (Format::Json, Some(job)) => output::json(&json!({
            "id": id.to_string(), "state": job.state, "code": job.code, "detail": job.detail,
        })),
        (Format::Text, None) => output::line(&id.to_string()),
        (Format::Text, Some(job)) => {
            let code = job.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
            output::line(&format!("{id} {}{code}", job.state))
        }
    }
}

/// Whole seconds, as filters take them.
pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Judges args by the kind's `args_schema` where the config root has that kind; whoever runs it judges them again.
fn check_args(global: &GlobalArguments, kind: &str, args: &Json) -> CliResult<()> {
    let Ok(tree) = load_tree(&global.config) else { return Ok(()) };
    let options = CheckOptions { environment: global.environment(), require_env: false, outside: &Process };
    let Some(catalog) = catalog::check(&tree, &options).catalog else { return Ok(()) };
    let Some(job) = catalog.job_called(kind) else { return Ok(()) };
    let refused =
        |failure: Failure| CliError::usage(format!("--args: {} [{}]", failure.message, failure.code));
    job.check_args(args).map_err(refused)
}

/// Lists jobs.
pub(super) fn list(global: &GlobalArguments, filter: &ListArguments, format: Format) -> CliResult {
    let filter = JobFilter {
        state: filter.state.clone(),
        queue: filter.queue.clone(),
        kind: filter.kind.clone(),
        limit: filter.limit,
        since_seconds: seconds(filter.since),
        key: filter.key.clone(),
        args: filter.where_args.clone(),
    };
    let jobs = wait(async { open(global)?.list_jobs(&filter).await.map_err(failed) })??;
    match format {
        Format::Json => output::json(&jobs)?,
        Format::Text => {
            let header = ["id", "state", "queue", "kind", "attempt", "age", "due", "code"];
            output::print_table(&header, jobs.iter().map(line).collect(), "no jobs")?;
        }
    }
    Ok(Exit::Clean)
}

fn line(job: &ListedJob) -> [String; 8] {
    let due = job.until_seconds.map(|seconds| format!("{seconds:+.0} s"));
    [
        job.id.to_string(),
        job.state.clone(),
        job.queue.clone(),
        job.kind.clone(),
        job.attempt.to_string(),
        format!("{:.0} s", job.age_seconds),
        due.unwrap_or_default(),
        job.code.clone().unwrap_or_default(),
    ]
}

/// Tells where one job stands; one that is not known is a finding.
pub(super) fn show(global: &GlobalArguments, id: i64, format: Format) -> CliResult {
    let job = wait(async { open(global)?.show_job(JobId(id)).await.map_err(failed) })??;
    let Some(job) = job else {
        output::note(&format!("there is no job {id}, or not any more"));
        return Ok(Exit::Findings);
    };
    match format {
        Format::Json => output::json(&job)?,
        Format::Text => output::print_table(&["what", "found"], rows(&job), "")?,
    }
    Ok(Exit::Clean)
}

fn rows(job: &JobRow) -> Vec<[String; 2]> {
    let number = |number: Option<i16>| number.map(|number| number.to_string());
    let facts = [
        ("state", Some(job.state.clone())),
        ("kind", job.kind.clone()),
        ("queue", job.queue.clone()),
        ("attempt", Some(job.attempt.to_string())),
        ("max_attempts", number(job.max_attempts)),
        ("priority", number(job.priority)),
        ("age", Some(format!("{:.1} s", job.age_seconds))),
        (until(job), job.until_seconds.map(|seconds| format!("{:.1} s", seconds.abs()))),
        ("code", job.code.clone()),
        ("detail", job.detail.clone()),
        ("unique_key", job.unique_key.clone()),
        ("trace", job.trace.clone()),
        ("progress", job.progress.clone()),
        ("batch", job.batch.map(|batch| batch.to_string())),
        ("args", job.args.clone()),
    ];
    facts.into_iter().filter_map(|(what, found)| Some([what.to_owned(), found?])).collect()
}

fn until(job: &JobRow) -> &'static str {
    match job.state.as_str() {
        "scheduled" | "retrying" => "due in",
        "running" => "lease ends in",
        "waiting" => "waits for",
        _ => "since",
    }
}

/// A time as RFC 3339 writes it.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text);
    parsed.map(|at| at.to_utc()).map_err(|_| "expected a time such as 2026-05-01T12:00:00Z".to_owned())
}
