//! `/v1/queues`, `/v1/workers`, `/v1/audit`.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::access::Caller;
use super::answer::{Answer, Nothing, Pausing, Refusal, read};
use super::server::Api;
use crate::store::{AuditFilter, Held};

/// How many rows of the audit are answered, unless it says so, and at most.
const LISTED: i64 = 50;
const MOST_LISTED: i64 = 1_000;

pub(super) async fn list(State(api): State<Api>) -> Answer {
    let queues = api.database()?.queues().await?;
    Ok(Json(json!({ "queues": queues })).into_response())
}

/// Lets no engine start jobs of a queue until it is resumed.
pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let pausing: Pausing = read(&body)?;
    let held = api.database()?.pause_queue(&name, &caller.name, pausing.reason.as_deref()).await?;
    told(held, &name, "paused")
}

/// Lets engines start jobs of a queue again.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let Nothing {} = read(&body)?;
    let held = api.database()?.resume_queue(&name, &caller.name).await?;
    told(held, &name, "open")
}

fn told(held: Held, name: &str, state: &str) -> Answer<Response> {
    if held == Held::Unknown {
        return Err(Refusal::unknown(format!("no engine has made a queue `{name}` known")));
    }
    Ok(Json(json!({ "queue": name, "state": state, "changed": held == Held::Changed })).into_response())
}

pub(super) async fn workers(State(api): State<Api>) -> Answer {
    let workers = api.database()?.workers().await?;
    Ok(Json(json!({ "workers": workers })).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    action: Option<String>,
    actor: Option<String>,
    since_seconds: Option<i64>,
    before: Option<i64>,
    limit: Option<i64>,
}

/// What operators did, newest first. Filters may name args, so it is for those who may look at payloads.
pub(super) async fn audit(
    State(api): State<Api>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    let filter = AuditFilter {
        action: query.action,
        actor: query.actor,
        since_seconds: query.since_seconds,
        before: query.before,
        limit: query.limit.unwrap_or(LISTED).clamp(1, MOST_LISTED),
    };
    let rows = api.database()?.audit(&filter).await?;
    Ok(Json(json!({ "audit": rows })).into_response())
}
