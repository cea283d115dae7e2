//! `/v1/stages/NAME/pause` and `resume`: said in the control topic, heeded by every engine within a second.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::access::Caller;
use super::answer::{Answer, Nothing, Pausing, Refusal, read};
use super::server::Api;
use crate::base::now_millis;
use crate::engine::control::{Pause, Resume};

/// Lets no engine take records of a stage until it is resumed.
pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let Pausing { reason } = read(&body)?;
    say(&api, name, Hold::Pause(Pause { by: caller.name, at: now_millis(), reason })).await
}

/// Lets engines go on with a stage; one that has halted, too.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let Nothing {} = read(&body)?;
    say(&api, name, Hold::Resume(Resume { by: caller.name, at: now_millis() })).await
}

enum Hold {
    Pause(Pause),
    Resume(Resume),
}

async fn say(api: &Api, stage: String, hold: Hold) -> Answer {
    if !api.view.catalog().stages().contains_key(stage.as_str()) {
        return Err(Refusal::unknown(format!("the config has no stage `{stage}`")));
    }
    let (view, named) = (Arc::clone(&api.view), stage.clone());
    let paused = matches!(hold, Hold::Pause(_));
    // The client waits for the broker on the thread it is called on.
    let said = spawn_blocking(move || match hold {
        Hold::Pause(pause) => view.pause_stage(&named, &pause),
        Hold::Resume(resume) => view.resume_stage(&named, &resume),
    });
    let away = |message: String| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "brokers", message);
    let said = said.await.map_err(|error| away(error.to_string()))?;
    said.map_err(|error| away(error.to_string()))?;
    Ok(Json(json!({ "stage": stage, "paused": paused })).into_response())
}
