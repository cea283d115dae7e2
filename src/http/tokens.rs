//! `/v1/tokens`: who may ask.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::access::Caller;
use super::answer::{Answer, Nothing, Refusal, read};
use super::server::Api;
use crate::store::{Scope, StoreError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    name: String,
    scopes: Vec<String>,
    expires_in_seconds: Option<u32>,
}

/// All tokens, without their secrets.
pub(super) async fn list(State(api): State<Api>) -> Answer {
    let tokens = api.database()?.tokens().await?;
    Ok(Json(json!({ "tokens": tokens })).into_response())
}

/// Makes a token, whose text is nowhere but in the answer.
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Answer {
    let wanted: NewToken = read(&body)?;
    let scopes: Result<Vec<Scope>, _> = wanted.scopes.iter().map(|word| word.parse()).collect();
    let scopes = scopes.map_err(|error| Refusal::bad(format!("`scopes`: {error}")))?;
    let seconds = wanted.expires_in_seconds.map(i64::from);
    let made = api.database()?.create_token(&wanted.name, &scopes, seconds, &caller.name).await;
    let made = made.map_err(|error| match error {
        StoreError::Refused { code, .. } if code == "23505" => {
            let message = format!("there is a token `{}` already", wanted.name);
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, &code, message)
        }
        StoreError::Refused { code, .. } if code == "23514" => {
            let message = "`name` begins with a small letter and goes on with those, digits and `.`, `_`, `-`; \
                           `scopes` has one at least";
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, &code, message)
        }
        other => other.into(),
    })?;
    let made = json!({ "id": made.id.to_string(), "name": wanted.name, "token": made.text });
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Lets a token open nothing any more.
pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let Nothing {} = read(&body)?;
    if !api.database()?.revoke_token(&name, &caller.name).await? {
        return Err(Refusal::unknown(format!("there is no token `{name}` to revoke")));
    }
    Ok(Json(json!({ "token": name, "revoked": true })).into_response())
}
