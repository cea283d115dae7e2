//! What a catalog's kinds and queues are to the database, so that SQL can enqueue.

use std::time::Duration;

use super::queues::Order;
use crate::catalog::{Catalog, Job, Queue, Unique};
use crate::spec::{KeyState, OnConflict, Workers};
use crate::store::{Conflict, KindDefinition, MAX_ARGS, Published, QueueId, QueueLimits, UniqueRule, states};

/// The most attempts that the database lets a job have.
const MOST_ATTEMPTS: u32 = 1000;

/// Every queue by its name, and by the one it had before: jobs may still wait there.
pub(super) fn queues(catalog: &Catalog) -> Vec<String> {
    named(catalog).map(|(name, _)| name.to_owned()).collect()
}

/// Those that engines work.
pub(super) fn run(catalog: &Catalog) -> Vec<String> {
    worked_by(catalog, Workers::Engine).map(|(name, _)| name.to_owned()).collect()
}

/// The same as they are to be worked.
pub(super) fn orders(catalog: &Catalog, published: &Published) -> Vec<Order> {
    let order = |(name, queue): (&str, &Queue)| {
        let number = *published.queues.get(name)?;
        Some(Order { name: name.to_owned(), queue: number, concurrency: queue.concurrency })
    };
    worked_by(catalog, Workers::Engine).filter_map(order).collect()
}

/// Those whose jobs pull workers do.
pub(super) fn pulled(catalog: &Catalog) -> Vec<String> {
    worked_by(catalog, Workers::Pull).map(|(name, _)| name.to_owned()).collect()
}

fn worked_by(catalog: &Catalog, workers: Workers) -> impl Iterator<Item = (&str, &Queue)> {
    named(catalog).filter(move |(_, queue)| queue.workers == workers)
}

/// What makes a queue behave as it does.
#[derive(Debug, PartialEq)]
pub(super) struct Tuning<'a>(Option<&'a str>, usize, Workers, QueueLimits);

impl<'a> Tuning<'a> {
    pub(super) fn of(queue: &'a Queue) -> Self {
        Self(queue.was.as_deref(), queue.concurrency, queue.workers, limits_of(queue))
    }
}

/// What all engines together keep of each queue.
pub(super) fn limits(catalog: &Catalog, published: &Published) -> Vec<(QueueId, QueueLimits)> {
    let known =
        named(catalog).filter_map(|(name, queue)| Some((*published.queues.get(name)?, limits_of(queue))));
    known.collect()
}

fn named(catalog: &Catalog) -> impl Iterator<Item = (&str, &Queue)> {
    catalog.queues().values().flat_map(|queue| {
        let names = [Some(&*queue.name), queue.was.as_deref()].into_iter().flatten();
        names.map(|name| (name, &**queue))
    })
}

fn limits_of(queue: &Queue) -> QueueLimits {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    QueueLimits {
        global_concurrency: queue.global_concurrency.map(count),
        per_key: queue.per_key.as_ref().map(|per_key| count(per_key.concurrency)),
        turns_by: queue.turns.as_ref().map(|path| path.names().to_vec()),
        rate: queue.rate.map(|rate| rate.per_second),
    }
}

/// The names under which jobs of this kind are enqueued: its own, and the one it had before.
pub(super) fn names(job: &Job) -> impl Iterator<Item = &str> {
    [Some(&*job.name), job.was.as_deref()].into_iter().flatten()
}

/// Every kind under each of its names.
pub(super) fn definitions(catalog: &Catalog) -> Vec<KindDefinition> {
    let jobs = catalog.jobs().values();
    jobs.flat_map(|job| names(job).map(|name| definition(job, name))).collect()
}

fn definition(job: &Job, name: &str) -> KindDefinition {
    let attempts = job.retry.max_attempts.clamp(1, MOST_ATTEMPTS);
    KindDefinition {
        name: name.to_owned(),
        queue: job.queue.name.to_string(),
        priority: i16::from(job.priority),
        max_attempts: i16::try_from(attempts).unwrap_or(i16::MAX),
        unique: job.unique.as_ref().map_or_else(UniqueRule::default, rule),
        max_args_bytes: i32::try_from(job.max_args.0).unwrap_or(MAX_ARGS).min(MAX_ARGS),
        exhausted_enqueues: job.exhausted_enqueues.as_deref().map(str::to_owned),
    }
}

fn rule(unique: &Unique) -> UniqueRule {
    UniqueRule {
        by: Some(unique.by.iter().map(|path| path.names().to_vec()).collect()),
        states: unique.states.iter().fold(0, |all, state| all | bit(*state)),
        seconds: unique.period.map(whole_seconds),
        on_conflict: match unique.on_conflict {
            OnConflict::Keep => Conflict::Keep,
            OnConflict::ReplaceArgs => Conflict::ReplaceArgs,
            OnConflict::PushBack => Conflict::PushBack,
        },
    }
}

/// At least as long as was said.
fn whole_seconds(period: Duration) -> i32 {
    let seconds = period.as_secs() + u64::from(period.subsec_nanos() > 0);
    i32::try_from(seconds.max(1)).unwrap_or(i32::MAX)
}

fn bit(state: KeyState) -> i16 {
    match state {
        KeyState::Scheduled => states::SCHEDULED,
        KeyState::Queued => states::QUEUED,
        KeyState::Running => states::RUNNING,
        KeyState::Retrying => states::RETRYING,
        KeyState::Waiting => states::WAITING,
        KeyState::Failed => states::FAILED,
    }
}
