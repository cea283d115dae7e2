//! What a setting is where nobody wrote it, taken from what runs. A key that is read and has no answer
//! here fails a test, as does an answer that, once written down, would change what runs.

use serde_json::{Value as Json, json};

use super::breakers::{PERMANENT, TRANSIENT};
use super::dedupe;
use super::explain::Shown;
use super::jobs::STATES;
use super::rates::{MAX_KEYS, default_burst};
use super::{Catalog, Database, Dlq, Job, Queue, Stage, Topic};
use crate::base::{Backoff, ByteSize, RetryPolicy, format_duration};
use crate::spec::Workers;
use crate::steps::HttpClient;

/// The value of `key` (dotted) of a definition that does not say it; `None`: nobody reads such a key.
pub(super) fn built_in(catalog: &Catalog, section: &str, name: &str, key: &str) -> Option<Shown> {
    if matches!(key, "was" | "description" | "owner" | "runbook" | "labels") {
        return Some(NONE);
    }
    match section {
        "topics" => topic(catalog.topics.get(name)?, key),
        "dlqs" => dlq(catalog.dlqs.get(name)?, key),
        "retries" => retry(catalog.retries.get(name)?, key),
        "http_clients" => http_client(catalog.http_clients.get(name)?, key),
        "stages" => stage(catalog.stages.get(name)?, key),
        "queues" => queue(catalog.queues.get(name)?, key),
        "jobs" => job(catalog.jobs.get(name)?, key),
        "databases" => database(catalog.databases.get(name)?, key),
        _ => None,
    }
}

const NONE: Shown = Shown::Said("none");
const BROKERS: Shown = Shown::Said("the broker's");

fn value(value: impl Into<Json>) -> Option<Shown> {
    Some(Shown::Value(value.into()))
}

fn topic(topic: &Topic, key: &str) -> Option<Shown> {
    match key {
        "topic" => value(&*topic.physical),
        "partitions" | "replication" | "retention" | "cleanup" => Some(BROKERS),
        "max_message_bytes" => topic.max_message_bytes.map_or(Some(BROKERS), |size| value(size.to_string())),
        "compression" => value("none"),
        "linger" => Some(Shown::Said("the engine's, 5ms")),
        "schema" | "settings" => Some(NONE),
        "external" => value(topic.external),
        _ => None,
    }
}

fn dlq(dlq: &Dlq, key: &str) -> Option<Shown> {
    match key {
        "headers" => value(json!(["biplane"])),
        "schema" | "external" => None,
        key => topic(&dlq.topic, key),
    }
}

fn retry(policy: &RetryPolicy, key: &str) -> Option<Shown> {
    if let Some(key) = key.strip_prefix("backoff.") {
        return backoff(&policy.backoff, key);
    }
    match key {
        "delays" => Some(Shown::Said("none; `backoff` computes them")),
        "max_attempts" => value(policy.max_attempts),
        "on" => value(json!(["transient"])),
        "not_on" => Some(NONE),
        "in_place_up_to" => value(policy.in_place_up_to.map_or("unlimited".to_owned(), format_duration)),
        "on_exhausted" => value("dead-letter"),
        _ => None,
    }
}

fn backoff(backoff: &Backoff, key: &str) -> Option<Shown> {
    match (backoff, key) {
        (_, "delays") => Some(NONE),
        (Backoff::Delays(_), _) => Some(Shown::Said("none; `delays` says them")),
        (Backoff::Exponential { initial, .. }, "initial") => value(format_duration(*initial)),
        (Backoff::Exponential { factor, .. }, "factor") => value(*factor),
        (Backoff::Exponential { max, .. }, "max") => value(format_duration(*max)),
        (Backoff::Exponential { .. }, "jitter") => value("full"),
        _ => None,
    }
}

fn http_client(client: &HttpClient, key: &str) -> Option<Shown> {
    match key {
        "bearer" | "basic.user" | "basic.password" | "headers" => Some(NONE),
        "timeout" => value(format_duration(client.timeout)),
        "connect_timeout" => Some(Shown::Said("none; `timeout` covers it")),
        "max_response_bytes" => value(ByteSize(client.max_response_bytes as u64).to_string()),
        "max_connections" => value(client.max_connections),
        _ => None,
    }
}

fn stage(stage: &Stage, key: &str) -> Option<Shown> {
    match key {
        "to" | "outputs" | "steps" | "dlq" => Some(NONE),
        "match" => value("first"),
        "unmatched" | "tombstones" => value("dead-letter"),
        "order" => value("key"),
        "concurrency" => value(stage.concurrency),
        "window.records" => value(stage.window.records),
        "window.bytes" => value(stage.window.bytes.to_string()),
        "span.records" => value(stage.span.records),
        "span.bytes" => value(stage.span.bytes.to_string()),
        "max_parked.records" => value(stage.max_parked.records),
        "max_parked.bytes" => value(stage.max_parked.bytes.to_string()),
        "start" => value("earliest"),
        "on_lost" => value("halt"),
        "decode" => value("json"),
        "retry" => value(&*stage.retry.name),
        "deadline" => value(format_duration(stage.deadline)),
        "commit_interval" => value(format_duration(stage.commit_interval)),
        "drain" => value(format_duration(stage.drain)),
        "watchdog" => value(stage.watchdog.map_or_else(|| "off".to_owned(), format_duration)),
        "max_hops" => Some(Shown::Said("none; the stage may be part of no loop")),
        "delivery" => value("at-least-once"),
        key if key.starts_with("breaker.") => breaker(stage, key),
        key if key.starts_with("rate_limit.") => rate_limit(stage, key),
        key if key.starts_with("dedupe") => equal(stage, key),
        key => output(key),
    }
}

fn breaker(stage: &Stage, key: &str) -> Option<Shown> {
    let (which, key) = key.strip_prefix("breaker.")?.split_once('.')?;
    let threshold = match which {
        "transient" => TRANSIENT.threshold,
        _ => PERMANENT,
    };
    match key {
        "enabled" => value(true),
        "failures" => value(threshold.failures.to_string()),
        "of" => value(threshold.of),
        "within" => value(format_duration(threshold.within)),
        "probe_after" => value(format_duration(TRANSIENT.probe_after)),
        "probe_up_to" => {
            let breaker = stage.breakers.transient.unwrap_or(TRANSIENT);
            value(format_duration(breaker.probe_up_to))
        }
        _ => None,
    }
}

fn rate_limit(stage: &Stage, key: &str) -> Option<Shown> {
    let limits = &stage.rate_limit;
    match key.strip_prefix("rate_limit.")? {
        "rate" => Some(Shown::Said("none; the stage takes what it can")),
        "burst" => match limits.stage {
            Some(pace) => value(default_burst(pace.rate)),
            None => Some(Shown::Said("none; there is no `rate`")),
        },
        "per_key" | "per_key.key" | "per_key.rate" => Some(Shown::Said("none; keys have no limit")),
        "per_key.burst" => match &limits.per_key {
            Some(limit) => value(default_burst(limit.pace.rate)),
            None => Some(Shown::Said("none; keys have no limit")),
        },
        "per_key.max_keys" => match &limits.per_key {
            Some(_) => value(MAX_KEYS),
            None => Some(Shown::Said("none; keys have no limit")),
        },
        "per_key.scope" => Some(NONE),
        _ => None,
    }
}

fn equal(stage: &Stage, key: &str) -> Option<Shown> {
    const OFF: Shown = Shown::Said("none; equal records are not told");
    match (key, &stage.dedupe) {
        ("dedupe" | "dedupe.key" | "dedupe.window", _) => Some(OFF),
        ("dedupe.max_keys" | "dedupe.memory", None) => Some(OFF),
        ("dedupe.max_keys", Some(_)) => value(dedupe::MAX_KEYS),
        ("dedupe.memory", Some(_)) => value(false),
        _ => None,
    }
}

fn database(database: &Database, key: &str) -> Option<Shown> {
    match key {
        "max_connections" => value(database.max_connections),
        _ => None,
    }
}

fn queue(queue: &Queue, key: &str) -> Option<Shown> {
    match key {
        "workers" => value("engine"),
        "concurrency" if queue.workers == Workers::Pull => {
            Some(Shown::Said("none; workers run what they claim"))
        }
        "concurrency" => value(queue.concurrency),
        "global_concurrency" => Some(Shown::Said("none; each engine runs its own")),
        "per_key.key" | "per_key.concurrency" => Some(Shown::Said("none; keys have no limit")),
        "fairness.key" => Some(match queue.turns {
            Some(_) => Shown::Said("that of `per_key`"),
            None => Shown::Said("none; the oldest goes first"),
        }),
        "rate" => Some(Shown::Said("none; jobs start as fast as they can")),
        _ => None,
    }
}

fn job(job: &Job, key: &str) -> Option<Shown> {
    match key {
        "timeout" => value(format_duration(job.timeout)),
        "retry" => value(&*job.retry.name),
        "priority" => value(job.priority),
        "unique.by" => Some(Shown::Said("none; no two jobs are the same")),
        "unique.while" => match job.unique {
            Some(_) => value(json!(STATES.map(|state| state.as_str()))),
            None => Some(NONE),
        },
        "unique.period" => Some(Shown::Said("none; a state that is left keeps nobody out")),
        "unique.on_conflict" => match job.unique {
            Some(_) => value("keep"),
            None => Some(NONE),
        },
        "args_schema" => Some(Shown::Said("none; any JSON")),
        "max_args_bytes" => value(job.max_args.to_string()),
        "on_exhausted.enqueue" => Some(Shown::Said("none; the job is kept for an operator")),
        "expires" => Some(Shown::Said("never")),
        "checkpoint" if job.is_pulled() => Some(Shown::Said("none; it has no steps")),
        "checkpoint" => value(job.checkpoint),
        _ => None,
    }
}

/// `outputs[0].when`.
fn output(key: &str) -> Option<Shown> {
    match key.strip_prefix("outputs[")?.split_once("].")?.1 {
        "when" => Some(Shown::Said("none; it takes every record")),
        "key" => Some(Shown::Said("none; the record keeps its key")),
        "headers" | "description" | "owner" | "runbook" | "labels" => Some(NONE),
        _ => None,
    }
}
