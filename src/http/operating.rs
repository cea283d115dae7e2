//! `/v1/jobs/VERB`: what operators do to jobs, by ids or by a filter.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::json;

use super::access::Caller;
use super::answer::{Answer, Refusal, read};
use super::jobs::moment;
use super::server::Api;
use crate::jobs::{Action, CANCEL_WITHIN, Operated};
use crate::store::{Change, JobId, Selection};

/// How many ids one request may name.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    ids: Option<Vec<String>>,
    filter: Option<Filter>,
    #[serde(default)]
    dry_run: bool,
    /// When a snoozed job is due: so long from now, or then.
    seconds: Option<u64>,
    until: Option<String>,
    priority: Option<i16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    #[serde(default)]
    states: Vec<String>,
    queue: Option<String>,
    kind: Option<String>,
    key: Option<String>,
    args: Option<serde_json::Value>,
    since_seconds: Option<i64>,
}

pub(super) async fn retry(api: State<Api>, caller: Extension<Caller>, body: Bytes) -> Answer {
    operate(api, caller, &body, |_| Ok(Change::Retry)).await
}

pub(super) async fn cancel(api: State<Api>, caller: Extension<Caller>, body: Bytes) -> Answer {
    operate(api, caller, &body, |_| Ok(Change::Cancel(CANCEL_WITHIN))).await
}

pub(super) async fn discard(api: State<Api>, caller: Extension<Caller>, body: Bytes) -> Answer {
    operate(api, caller, &body, |_| Ok(Change::Discard)).await
}

pub(super) async fn snooze(api: State<Api>, caller: Extension<Caller>, body: Bytes) -> Answer {
    operate(api, caller, &body, |wanted| match (wanted.seconds, moment("until", wanted.until.as_deref())?) {
        (Some(seconds), None) => Ok(Change::SnoozeFor(Duration::from_secs(seconds))),
        (None, Some(until)) => Ok(Change::SnoozeUntil(until)),
        _ => Err(Refusal::bad("either `seconds` or `until` says when the jobs are due")),
    })
    .await
}

pub(super) async fn prioritise(api: State<Api>, caller: Extension<Caller>, body: Bytes) -> Answer {
    operate(api, caller, &body, |wanted| match wanted.priority {
        Some(priority @ 1..=9) => Ok(Change::Prioritise(priority)),
        _ => Err(Refusal::bad("`priority` is a number from 1, which goes first, to 9")),
    })
    .await
}

async fn operate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: &[u8],
    change: impl FnOnce(&Wanted) -> Answer<Change>,
) -> Answer {
    let wanted: Wanted = read(body)?;
    let action = Action::new(change(&wanted)?);
    match (wanted.ids, wanted.filter) {
        (Some(ids), None) => by_ids(&api, &caller, action, &ids, wanted.dry_run).await,
        (None, Some(filter)) => by_filter(&api, &caller, action, filter, wanted.dry_run).await,
        _ => Err(Refusal::bad("either `ids` or `filter` says which jobs are meant")),
    }
}

async fn by_ids(api: &Api, caller: &Caller, action: Action, ids: &[String], dry_run: bool) -> Answer {
    let parsed: Result<Vec<JobId>, _> = ids.iter().map(|id| id.parse().map(JobId)).collect();
    let ids = parsed.map_err(|_| Refusal::bad("`ids` are ids of jobs, as texts"))?;
    if ids.len() > MOST {
        return Err(Refusal::bad(format!("`ids` has at most {MOST} of them")));
    }
    let operated = match dry_run || ids.is_empty() {
        true => Operated::default(),
        false => action.to_jobs(api.database()?, &ids, &caller.name).await?,
    };
    Ok(told(action, ids.len() as u64, json!({}), operated, dry_run))
}

async fn by_filter(api: &Api, caller: &Caller, action: Action, filter: Filter, dry_run: bool) -> Answer {
    if filter.args.is_some() {
        caller.needs_payload("filter.args")?;
    }
    let takes = action.takes();
    if let Some(state) = filter.states.iter().find(|word| !takes.iter().any(|state| state.as_str() == *word))
    {
        return Err(Refusal::bad(format!("{} does nothing to `{state}` jobs", action.verb())));
    }
    let named = !filter.states.is_empty();
    let usual = || action.usual().iter().map(|state| state.as_str().to_owned()).collect();
    let selection = Selection {
        states: if named { filter.states } else { usual() },
        queue: filter.queue,
        kind: filter.kind,
        key: filter.key,
        args: filter.args.map(|args| args.to_string()),
        since_seconds: filter.since_seconds,
    };
    if selection.is_all() && !named {
        return Err(Refusal::bad("`filter` says nothing: name states to mean all jobs in them"));
    }
    let subject = json!({ "filter": selection }).to_string();
    let database = api.database()?;
    let selected = database.select_jobs(selection).await?;
    let counts = database.count_selected(&selected).await?;
    let count = counts.iter().map(|(_, count)| count.unsigned_abs()).sum();
    let counts: serde_json::Map<_, _> =
        counts.into_iter().map(|(state, count)| (state, json!(count))).collect();
    let operated = match dry_run || count == 0 {
        true => Operated::default(),
        false => action.to_selected(database, &selected, &subject, &caller.name, |_| ()).await?,
    };
    Ok(told(action, count, json!(counts), operated, dry_run))
}

fn told(
    action: Action,
    count: u64,
    counts: serde_json::Value,
    operated: Operated,
    dry_run: bool,
) -> Response {
    Json(json!({
        "action": action.verb(), "dry_run": dry_run, "count": count, "counts": counts,
        "done": operated.done, "asked": operated.asked,
    }))
    .into_response()
}
