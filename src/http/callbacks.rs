//! `POST /v1/callbacks/TOKEN`: brings a job the answer that it waits for. The token is the credential.

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::server::Api;
use crate::jobs::call_back;
use crate::store::CallBack;

/// The largest answer, in bytes.
const LARGEST: usize = 1 << 20;

pub(super) async fn take(State(api): State<Api>, Path(token): Path<String>, body: Body) -> Answer {
    let body = to_bytes(body, LARGEST).await.map_err(|_| {
        let message = format!("the answer cannot be read to its end; the largest has {LARGEST} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    })?;
    let answer = if body.is_empty() { "null" } else { std::str::from_utf8(&body).unwrap_or_default() };
    serde_json::from_str::<Value>(answer)
        .map_err(|error| Refusal::bad(format!("the answer is no JSON: {error}")))?;
    match call_back(api.database()?, &token, answer).await? {
        CallBack::Taken(job) => Ok(Json(json!({ "status": "taken", "job": job })).into_response()),
        CallBack::Double => {
            Err(Refusal::new(StatusCode::CONFLICT, "double", "this callback was answered before"))
        }
        CallBack::Late => {
            Err(Refusal::new(StatusCode::GONE, "late", "the job waits for this callback no more"))
        }
        CallBack::Unknown => Err(Refusal::unknown("no job waits for this callback")),
    }
}
