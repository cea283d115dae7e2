//! `biplane jobs tail` and `jobs enqueue --wait`: what becomes of jobs, as it happens.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::arguments::{Format, GlobalArguments, STATES};
use super::database::{failed, open, wait};
use super::exit::{CliError, CliResult, Exit};
use super::output;
use crate::jobs::state::State;
use crate::jobs::{Tail, Tailed};
use crate::store::{Database, Ending, JobId, JobRow};

/// How often the database is asked.
const EVERY: Duration = Duration::from_millis(500);

/// What is followed.
#[derive(Debug, Args)]
pub struct TailArguments {
    /// One job, until it is over; without one, all that end
    #[arg(value_name = "ID", conflicts_with_all = ["state", "queue", "kind"])]
    id: Option<i64>,
    /// Only those that come to this state
    #[arg(long, value_parser = STATES)]
    state: Option<String>,
    /// Of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Of this kind
    #[arg(long, value_name = "NAME")]
    kind: Option<String>,
    /// How to write it: JSON comes as one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(global: &GlobalArguments, arguments: &TailArguments) -> CliResult {
    wait(async {
        let database = open(global)?;
        match arguments.id {
            Some(id) => follow(&database, JobId(id), None, |job| one(job, id, arguments.format)).await,
            None => all(&database, arguments).await,
        }
    })?
}

/// Follows one job until it is over or `limit` has passed; `changed` hears of each state it comes to. One that
/// did not succeed is a finding.
pub(super) async fn follow(
    database: &Database,
    id: JobId,
    limit: Option<Duration>,
    mut changed: impl FnMut(&JobRow) -> CliResult<()>,
) -> CliResult {
    let began = Instant::now();
    let mut last = None;
    loop {
        let Some(job) = database.show_job(id).await.map_err(failed)? else {
            output::note(&format!("there is no job {id}, or not any more"));
            return Ok(Exit::Findings);
        };
        let now = Some((job.state.clone(), job.attempt));
        if last != now {
            last = now;
            changed(&job)?;
        }
        match State::parse(&job.state) {
            Some(State::Succeeded) => return Ok(Exit::Clean),
            Some(state) if state.is_ended() || state == State::Failed => return Ok(Exit::Findings),
            _ => {}
        }
        if limit.is_some_and(|limit| began.elapsed() >= limit) {
            return Err(CliError::failed(format!("job {id} is {} still", job.state)));
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn one(job: &JobRow, id: i64, format: Format) -> CliResult<()> {
    if format == Format::Json {
        let line = json!({
            "id": id.to_string(), "state": job.state, "kind": job.kind, "queue": job.queue,
            "attempt": job.attempt, "code": job.code,
        });
        return output::line(&line.to_string());
    }
    let code = job.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
    output::line(&format!("{id} {} attempt {}{code}", job.state, job.attempt))
}

async fn all(database: &Database, arguments: &TailArguments) -> CliResult {
    let TailArguments { state, queue, kind, format, .. } = arguments;
    let tailed = Tailed { state: state.clone(), queue: queue.clone(), kind: kind.clone() };
    let mut tail = Tail::begin(database, tailed).await.map_err(failed)?;
    output::note("waiting for jobs to end");
    loop {
        for ending in tail.next().await.map_err(failed)? {
            ended(&ending, *format)?;
        }
    }
}

fn ended(ending: &Ending, format: Format) -> CliResult<()> {
    if format == Format::Json {
        return output::line(&serde_json::to_string(ending)?);
    }
    let code = ending.code.as_deref().map(|code| format!(" {code}")).unwrap_or_default();
    let took = ending.duration_ms.map(|millis| format!(" in {millis} ms")).unwrap_or_default();
    let Ending { at, id, state, kind, attempt, .. } = ending;
    output::line(&format!("{at} {id} {kind} {state} attempt {attempt}{took}{code}"))
}
