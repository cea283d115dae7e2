//! The jobs that `dev --sample` enqueues, from `samples/jobs.json` of a config root: a list of
//! `{"kind": …, "args": …}`. Each waits for the one before it, and what becomes of it is told.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::live::Screen;
use crate::engine::TaskError;
use crate::jobs::state::State;
use crate::store::{Database, DatabaseSettings, JobId, JobOptions, JobRow, StoreError};

/// How often the database is asked what has become of a job, and whether it knows its kind by now.
const EVERY: Duration = Duration::from_millis(200);

/// How often it is asked which jobs have ended, and how far it looks back.
const FOLLOW: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(60);

/// What Postgres says of a kind that no engine has made known yet.
const UNKNOWN_KIND: &str = "BP001";

/// One job to enqueue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SampleJob {
    kind: String,
    args: Box<RawValue>,
}

/// The jobs below `root`, in their order; none where there is no file.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<SampleJob>> {
    let path = root.join("samples/jobs.json");
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no list of jobs", path.display()))
}

/// Enqueues one after the other and tells how each ends, and those that stages enqueue, until `cancel`.
pub(super) async fn feed(
    settings: DatabaseSettings,
    jobs: Arc<Vec<SampleJob>>,
    screen: Screen,
    cancel: CancellationToken,
) -> Result<(), TaskError> {
    let database = Database::new(settings, 1);
    let fed = cancel.run_until_cancelled(async {
        let mut seen = HashSet::new();
        for job in jobs.iter() {
            let id = enqueue(&database, job).await?;
            let ended = ended(&database, id).await?;
            screen.say(&told(&job.kind, &ended));
            seen.insert(id);
        }
        follow(&database, seen, &screen).await
    });
    fed.await.transpose()?;
    Ok(())
}

/// Tells of jobs that end, but for those that are known.
async fn follow(database: &Database, mut seen: HashSet<JobId>, screen: &Screen) -> Result<(), TaskError> {
    let window = i64::try_from(WINDOW.as_secs()).unwrap_or(i64::MAX);
    loop {
        match database.endings(window, None, None, None).await {
            Ok(endings) => {
                for ending in endings.iter().filter(|ending| !seen.contains(&ending.id)) {
                    let job = ended(database, ending.id).await?;
                    screen.say(&told(&ending.kind, &job));
                }
                seen = endings.into_iter().map(|ending| ending.id).collect();
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

async fn enqueue(database: &Database, job: &SampleJob) -> Result<JobId, StoreError> {
    loop {
        match database.enqueue(&job.kind, job.args.get(), None, &JobOptions::default()).await {
            // The engine that makes its kinds known is still starting.
            Err(StoreError::Refused { code, .. }) if code == UNKNOWN_KIND => {}
            Err(error) if error.is_transient() => {}
            other => return other,
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The job once it is over, or is left to an operator.
async fn ended(database: &Database, id: JobId) -> Result<JobRow, StoreError> {
    loop {
        match database.show_job(id).await {
            Ok(Some(job))
                if State::parse(&job.state)
                    .is_some_and(|state| state.is_ended() || state == State::Failed) =>
            {
                return Ok(job);
            }
            Err(error) if !error.is_transient() => return Err(error),
            _ => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn told(kind: &str, job: &JobRow) -> String {
    let detail = job.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("job {kind} {}{detail}\n", job.state)
}
