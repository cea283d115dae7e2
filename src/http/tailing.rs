//! `GET /v1/jobs/tail`: jobs as they end, a JSON object a line.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures_util::stream;
use serde::Deserialize;
use tokio::time::Instant;

use super::answer::{Answer, Refusal};
use super::server::Api;
use crate::jobs::state::State as JobState;
use crate::jobs::{Tail, Tailed};

/// How many may follow at one time; each asks the database twice a second.
pub(super) const MOST_TAILS: usize = 16;

/// For how many seconds one is told, unless it says so, and at most.
const USUAL: u64 = 300;
const LONGEST: u64 = 3_600;

/// An empty line goes out after so long without another, so that one who has hung up is noticed.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TailQuery {
    state: Option<String>,
    queue: Option<String>,
    kind: Option<String>,
    for_seconds: Option<u64>,
}

/// Tells of jobs that end until the time is over, the database is away, or who asked hangs up.
pub(super) async fn tail(State(api): State<Api>, query: Result<Query<TailQuery>, QueryRejection>) -> Answer {
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    if query.state.as_deref().is_some_and(|state| JobState::parse(state).is_none()) {
        return Err(Refusal::bad("`state` is none of a job's"));
    }
    let seconds = query.for_seconds.unwrap_or(USUAL);
    if seconds > LONGEST {
        return Err(Refusal::bad(format!("`for_seconds` is from 0 to {LONGEST}")));
    }
    let permit = api.tails.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{MOST_TAILS} follow jobs already");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    })?;
    let tailed = Tailed { state: query.state, queue: query.queue, kind: query.kind };
    let tail = Tail::begin(api.database()?, tailed).await?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let lines = stream::unfold((tail, permit), move |(mut tail, permit)| async move {
        let lines = lines(&mut tail, until).await?;
        Some((Ok::<_, Infallible>(Bytes::from(lines)), (tail, permit)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The next lines; `None`: there are no more.
async fn lines(tail: &mut Tail, until: Instant) -> Option<String> {
    let quiet = Instant::now() + QUIET;
    while Instant::now() < until {
        let endings = tail.next().await.ok()?;
        let lines = endings.iter().filter_map(|ending| serde_json::to_string(ending).ok());
        let lines: String = lines.map(|line| line + "\n").collect();
        if !lines.is_empty() {
            return Some(lines);
        }
        if Instant::now() >= quiet {
            return Some("\n".to_owned());
        }
    }
    None
}
