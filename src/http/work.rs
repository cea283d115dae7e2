//! `/v1/work`: jobs for programs of the user's own, which claim them, keep them and say what became of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal, read};
use super::server::Api;
use crate::base::{Class, Failure, is_code};
use crate::engine::{Holding, LEASES, Lease, PullClaim, PullError, PulledJob, Pulls, Said};
use crate::jobs::{MAX_MESSAGE, MAX_RESULT};
use crate::record::weight;
use crate::store::JobId;

/// How many jobs one request claims or settles at most.
const MOST: usize = 100;

/// For how many seconds a claim waits at most.
const LONGEST_WAIT: u64 = 60;

/// How long a lease is unless it is said, in seconds.
const LEASE: u32 = 30;

/// The longest name and version of a worker.
const LONGEST_NAME: usize = 100;

/// What a job may tell of its progress at most, as JSON text, in bytes.
const MAX_PROGRESS: usize = 8 << 10;

/// For how long a job is snoozed at most, in seconds: a year.
const LONGEST_SNOOZE: u64 = 365 * 24 * 3_600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    worker: String,
    #[serde(default)]
    version: String,
    queue: String,
    count: Option<usize>,
    wait_seconds: Option<u64>,
    lease_seconds: Option<u32>,
}

#[derive(Serialize)]
struct Given {
    lease: Option<String>,
    lease_seconds: u32,
    jobs: Vec<GivenJob>,
}

#[derive(Serialize)]
struct GivenJob {
    id: JobId,
    kind: Arc<str>,
    args: Box<RawValue>,
    attempt: i16,
    max_attempts: i16,
    priority: i16,
    run_at: String,
    timeout_seconds: f64,
    trace: Option<String>,
    progress: Option<Box<RawValue>>,
}

/// Claims jobs; an empty list where there were none in time.
pub(super) async fn claim(State(api): State<Api>, body: Bytes) -> Answer {
    let wanted: Claim = read(&body)?;
    let named = |text: &str| text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    if wanted.worker.is_empty() || !named(&wanted.worker) || !named(&wanted.version) {
        return Err(Refusal::bad(format!(
            "`worker` is a name of 1 to {LONGEST_NAME} bytes; `version` has no more than that"
        )));
    }
    let count = wanted.count.unwrap_or(1);
    let wait = wanted.wait_seconds.unwrap_or(0);
    let lease_seconds = wanted.lease_seconds.unwrap_or(LEASE);
    if !(1..=MOST).contains(&count) {
        return Err(Refusal::bad(format!("`count` is from 1 to {MOST}")));
    }
    if wait > LONGEST_WAIT {
        return Err(Refusal::bad(format!("`wait_seconds` is from 0 to {LONGEST_WAIT}")));
    }
    if !LEASES.contains(&lease_seconds) {
        let message = format!("`lease_seconds` is from {} to {}", LEASES.start(), LEASES.end());
        return Err(Refusal::bad(message));
    }
    let claim = PullClaim {
        worker: wanted.worker,
        version: wanted.version,
        queue: wanted.queue,
        limit: count,
        wait: Duration::from_secs(wait),
        lease_seconds,
    };
    let pulled = pulls(&api)?.claim(claim).await?;
    let jobs: Vec<_> = pulled.jobs.into_iter().map(given).collect::<Answer<_>>()?;
    let lease = pulled.lease.map(|lease| lease.to_string());
    Ok(Json(Given { lease, lease_seconds, jobs }).into_response())
}

fn given(PulledJob { claimed, kind, timeout, progress }: PulledJob) -> Answer<GivenJob> {
    let run_at = DateTime::from_timestamp_millis(claimed.run_at).unwrap_or_default();
    Ok(GivenJob {
        id: claimed.id,
        kind,
        args: raw(claimed.args)?,
        attempt: claimed.attempt,
        max_attempts: claimed.max_attempts,
        priority: claimed.priority,
        run_at: run_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        timeout_seconds: timeout.as_secs_f64(),
        trace: claimed.trace,
        progress: progress.map(raw).transpose()?,
    })
}

/// JSON as the database has it, to the last digit.
fn raw(text: String) -> Answer<Box<RawValue>> {
    RawValue::from_string(text).map_err(|error| Refusal::bad(error.to_string()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    lease: String,
}

/// Keeps a batch for another while.
pub(super) async fn heartbeat(State(api): State<Api>, body: Bytes) -> Answer {
    let wanted: Beat = read(&body)?;
    Ok(held(&pulls(&api)?.beat(&lease(&wanted.lease)?).await?))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    lease: String,
    id: String,
    progress: Value,
}

/// The same, with how far a job is.
pub(super) async fn progress(State(api): State<Api>, body: Bytes) -> Answer {
    let wanted: Progress = read(&body)?;
    if wanted.progress.is_null() || weight(&wanted.progress) > MAX_PROGRESS {
        return Err(Refusal::bad(format!(
            "`progress` is JSON of at most {MAX_PROGRESS} bytes, and not null"
        )));
    }
    let (lease, id) = (lease(&wanted.lease)?, job(&wanted.id)?);
    Ok(held(&pulls(&api)?.tell(&lease, id, wanted.progress).await?))
}

fn held(holding: &Holding) -> Response {
    Json(json!({ "jobs": holding.jobs, "cancel": holding.cancel })).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Of<T> {
    lease: String,
    jobs: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    id: String,
    result: Option<Value>,
}

/// Jobs are done.
pub(super) async fn complete(State(api): State<Api>, body: Bytes) -> Answer {
    settle(&api, &body, |done: Done| {
        if done.result.as_ref().is_some_and(|result| weight(result) > MAX_RESULT) {
            let message = format!("the result of job {} has more than {MAX_RESULT} bytes", done.id);
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "result-too-large", message));
        }
        Ok((job(&done.id)?, Said::Done(done.result)))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failed {
    id: String,
    code: String,
    message: String,
    class: Option<String>,
    retry_after_seconds: Option<u64>,
}

/// Attempts failed.
pub(super) async fn fail(State(api): State<Api>, body: Bytes) -> Answer {
    settle(&api, &body, |failed: Failed| {
        let class = failed.class.as_deref().unwrap_or(Class::Transient.as_str());
        let class = Class::ALL.into_iter().find(|known| known.as_str() == class);
        let (Some(class), true) = (class, is_code(&failed.code)) else {
            let classes = Class::ALL.map(Class::as_str).join(", ");
            let message = format!(
                "`code` is small letters, digits and hyphens and begins with a letter, at most 64 of them; `class` is one of {classes}"
            );
            return Err(Refusal::bad(message));
        };
        let message: String = failed.message.chars().take(MAX_MESSAGE).collect();
        let wait = failed.retry_after_seconds.map(seconds).transpose()?;
        let failure = Failure::new(class, failed.code, message).retry_after(wait);
        Ok((job(&failed.id)?, Said::Failed(failure)))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snooze {
    id: String,
    seconds: u64,
}

/// Jobs are to be tried again later, with no attempt spent.
pub(super) async fn snooze(State(api): State<Api>, body: Bytes) -> Answer {
    settle(&api, &body, |snooze: Snooze| Ok((job(&snooze.id)?, Said::Snooze(seconds(snooze.seconds)?)))).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    id: String,
}

/// Jobs were not begun and go back to their queue.
pub(super) async fn release(State(api): State<Api>, body: Bytes) -> Answer {
    settle(&api, &body, |back: Back| Ok((job(&back.id)?, Said::Back))).await
}

/// Says of some of a lease's jobs what became of them.
async fn settle<T: for<'a> Deserialize<'a>>(
    api: &Api,
    body: &[u8],
    said: impl Fn(T) -> Answer<(JobId, Said)>,
) -> Answer {
    let wanted: Of<T> = read(body)?;
    if wanted.jobs.is_empty() || wanted.jobs.len() > MOST {
        return Err(Refusal::bad(format!("`jobs` has 1 to {MOST} of them")));
    }
    let lease = lease(&wanted.lease)?;
    let said = wanted.jobs.into_iter().map(said).collect::<Answer<Vec<_>>>()?;
    let settlement = pulls(api)?.settle(&lease, said).await?;
    Ok(Json(json!({ "written": settlement.written, "stale": settlement.stale })).into_response())
}

fn pulls(api: &Api) -> Answer<Arc<Pulls>> {
    api.view.pulls().ok_or_else(|| {
        let message = "durable jobs do not run here now: `/ready` says why";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no-jobs", message)
    })
}

fn lease(text: &str) -> Answer<Lease> {
    text.parse().map_err(|()| Refusal::bad("`lease` is what a claim gave, as it is"))
}

fn job(text: &str) -> Answer<JobId> {
    text.parse().map(JobId).map_err(|_| Refusal::bad("`id` is the id of a job, as text"))
}

fn seconds(seconds: u64) -> Answer<Duration> {
    match seconds {
        0..=LONGEST_SNOOZE => Ok(Duration::from_secs(seconds)),
        _ => Err(Refusal::bad(format!("a job waits for at most {LONGEST_SNOOZE} seconds"))),
    }
}

impl From<PullError> for Refusal {
    fn from(error: PullError) -> Self {
        let message = error.to_string();
        match error {
            PullError::Store(error) => error.into(),
            PullError::Queue(_) => Self::unknown(message),
            PullError::Stale => Self::new(StatusCode::CONFLICT, "stale-lease", message),
            PullError::Kind(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "kind-unknown", message),
            PullError::Stopping => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message),
        }
    }
}
