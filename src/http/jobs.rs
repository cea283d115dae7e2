//! `/v1/jobs`: jobs in, and where they stand.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, extract::rejection::QueryRejection};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::access::Caller;
use super::answer::{Answer, Refusal, read};
use super::server::Api;
use crate::jobs::state::State as JobState;
use crate::store::{JobFilter, JobId, JobOptions, KeyedRequest, Once, Scope};

/// The longest `Idempotency-Key`.
const LONGEST_KEY: usize = 255;

/// How many jobs one request may bring.
const MOST: usize = 1_000;

/// How many jobs a list has, unless it says so, and at most.
const LISTED: i64 = 50;
const MOST_LISTED: i64 = 10_000;

/// How far back outcomes are looked for, unless it says so; in seconds.
const SINCE: i64 = 3_600;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJob {
    kind: String,
    args: Option<Box<RawValue>>,
    unique_key: Option<String>,
    run_at: Option<String>,
    expires_at: Option<String>,
    priority: Option<i32>,
    max_attempts: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewJobs {
    kind: String,
    jobs: Vec<OneOfMany>,
    run_at: Option<String>,
    expires_at: Option<String>,
    priority: Option<i32>,
    max_attempts: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneOfMany {
    args: Option<Box<RawValue>>,
    unique_key: Option<String>,
}

/// What is asked for by whom, and the key under which it may be asked for again.
struct Asked<'a> {
    api: &'a Api,
    request: Option<KeyedRequest>,
    kind: &'a str,
    args: &'a [&'a str],
    unique_keys: Option<&'a [&'a str]>,
    options: JobOptions,
}

/// Enqueues one job; where another holds its unique key, that one's id is answered.
pub(super) async fn enqueue(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let wanted: NewJob = read(&body)?;
    let request = keyed(&caller, "/v1/jobs", &headers, &body)?;
    let args = [text(wanted.args.as_deref())];
    let options = JobOptions {
        run_at: moment("run_at", wanted.run_at.as_deref())?,
        expires_at: moment("expires_at", wanted.expires_at.as_deref())?,
        priority: wanted.priority,
        max_attempts: wanted.max_attempts,
        trace: trace(&headers),
    };
    let unique_keys = wanted.unique_key.as_deref().map(|key| [key]);
    let unique_keys = unique_keys.as_ref().map(|keys| &keys[..]);
    let asked = Asked { api: &api, request, kind: &wanted.kind, args: &args, unique_keys, options };
    let ids = asked.put(false, |refusal, _| refusal).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": ids.first() }))).into_response())
}

/// Enqueues many jobs of one kind, or none of them. `null` stands for those whose unique key another holds.
pub(super) async fn enqueue_many(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let wanted: NewJobs = read(&body)?;
    let request = keyed(&caller, "/v1/jobs/batch", &headers, &body)?;
    if wanted.jobs.is_empty() || wanted.jobs.len() > MOST {
        return Err(Refusal::bad(format!("`jobs` has 1 to {MOST} of them")));
    }
    let args: Vec<&str> = wanted.jobs.iter().map(|job| text(job.args.as_deref())).collect();
    let keys: Vec<&str> = wanted.jobs.iter().filter_map(|job| job.unique_key.as_deref()).collect();
    if !keys.is_empty() && keys.len() != args.len() {
        return Err(Refusal::bad("all of `jobs` have a `unique_key`, or none has"));
    }
    let options = JobOptions {
        run_at: moment("run_at", wanted.run_at.as_deref())?,
        expires_at: moment("expires_at", wanted.expires_at.as_deref())?,
        priority: wanted.priority,
        max_attempts: wanted.max_attempts,
        trace: trace(&headers),
    };
    let unique_keys = (!keys.is_empty()).then_some(&*keys);
    let asked = Asked { api: &api, request, kind: &wanted.kind, args: &args, unique_keys, options };
    let ids = asked.put(true, Refusal::at).await?;
    Ok((StatusCode::CREATED, Json(json!({ "ids": ids }))).into_response())
}

impl Asked<'_> {
    /// Enqueues them, or says what they came to before. `at` says of which job a refusal is.
    async fn put(&self, many: bool, at: impl Fn(Refusal, usize) -> Refusal) -> Answer<Vec<Option<JobId>>> {
        let Self { api, request, kind, args, unique_keys, options } = self;
        let database = api.database()?;
        // What was carried out stays so, though the kind may take other args by now.
        if let Some(request) = request
            && let Some(before) = database.asked_before(request).await?
        {
            return known(before);
        }
        for (place, args) in args.iter().enumerate() {
            check(api, kind, args).map_err(|refusal| at(refusal, place))?;
        }
        match request {
            Some(request) => {
                known(database.enqueue_request(request, many, kind, args, *unique_keys, options).await?)
            }
            None if many => Ok(database.enqueue_many(kind, args, *unique_keys, options).await?),
            None => {
                let (args, key) =
                    (args.first().copied().unwrap_or("{}"), unique_keys.and_then(|keys| keys.first()));
                Ok(vec![Some(database.enqueue(kind, args, key.copied(), options).await?)])
            }
        }
    }
}

/// The key that a request bears, with what it is for.
fn keyed(caller: &Caller, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer<Option<KeyedRequest>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) if (1..=LONGEST_KEY).contains(&key.len()) => {
            Ok(Some(KeyedRequest::new(&caller.name, path, key, body)))
        }
        _ => Err(Refusal::bad(format!("`Idempotency-Key` is plain text of 1 to {LONGEST_KEY} characters"))),
    }
}

fn known(once: Once) -> Answer<Vec<Option<JobId>>> {
    match once {
        Once::Jobs(ids) => Ok(ids),
        Once::Other => {
            let message =
                "another request bore this `Idempotency-Key`: send that one again, or take a new key";
            Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key", message))
        }
    }
}

/// Args as they were written; those that were left out are empty.
fn text(args: Option<&RawValue>) -> &str {
    args.map_or("{}", RawValue::get)
}

/// Judges args by the kind's schema where this engine runs the kind; the database judges the rest.
fn check(api: &Api, kind: &str, args: &str) -> Answer<()> {
    let catalog = api.view.catalog();
    let Some(job) = catalog.job_called(kind) else { return Ok(()) };
    let args: Value = serde_json::from_str(args).map_err(|error| Refusal::bad(format!("`args`: {error}")))?;
    Ok(job.check_args(&args)?)
}

/// A point in time in a request, where it says one.
pub(super) fn moment(name: &str, text: Option<&str>) -> Answer<Option<DateTime<Utc>>> {
    let parse = |text: &str| DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    text.map(parse)
        .transpose()
        .map_err(|_| Refusal::bad(format!("`{name}` is a time such as 2026-05-01T12:00:00Z")))
}

fn trace(headers: &HeaderMap) -> Option<String> {
    headers.get("traceparent")?.to_str().ok().map(str::to_owned)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    state: Option<String>,
    queue: Option<String>,
    kind: Option<String>,
    key: Option<String>,
    args: Option<String>,
    limit: Option<i64>,
    since_seconds: Option<i64>,
}

/// Jobs in the order in which they come up.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|error| Refusal::bad(error.body_text()))?;
    if query.state.as_deref().is_some_and(|state| JobState::parse(state).is_none()) {
        return Err(Refusal::bad("`state` is none of a job's"));
    }
    // Whoever may ask which args there are may look at them.
    if query.args.is_some() {
        caller.needs_payload("args")?;
    }
    let filter = JobFilter {
        state: query.state,
        queue: query.queue,
        kind: query.kind,
        key: query.key,
        args: query.args,
        limit: query.limit.unwrap_or(LISTED).clamp(1, MOST_LISTED),
        since_seconds: query.since_seconds.unwrap_or(SINCE),
    };
    let jobs = api.database()?.list_jobs(&filter).await?;
    Ok(Json(json!({ "jobs": jobs })).into_response())
}

/// Where one job stands. Args, result and error are shown to those alone who may look at payloads.
pub(super) async fn show(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let id: i64 = id.parse().map_err(|_| Refusal::bad("the id of a job is a number"))?;
    let Some(mut job) = api.database()?.show_job(JobId(id)).await? else {
        return Err(Refusal::unknown(format!("there is no job {id}, or not any more")));
    };
    let shown = caller.scopes.have(Scope::Payload);
    if !shown {
        (job.args, job.detail, job.unique_key, job.progress) = (None, None, None, None);
    }
    let mut job = serde_json::to_value(&job).map_err(|error| Refusal::bad(error.to_string()))?;
    job["id"] = json!(JobId(id));
    job["payload_hidden"] = json!(!shown);
    Ok(Json(job).into_response())
}

impl Caller {
    /// Unless the caller may look at payloads, which `what` would tell of.
    pub(super) fn needs_payload(&self, what: &str) -> Answer<()> {
        if self.scopes.have(Scope::Payload) {
            return Ok(());
        }
        let message =
            format!("`{what}` tells of payloads: the token `{}` has not the scope `payload`", self.name);
        Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message))
    }
}
