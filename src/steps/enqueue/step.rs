//! The step: what it puts into which queue, and how the database knows that it did.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::base::Failure;
use crate::base::guard::{self, Guard};
use crate::expr::{Expression, Found, Root, RootSet, Scope, Template, TemplateTree};
use crate::record::Item;
use crate::steps::ports::{Enqueued, JobKind, JobOrder, Jobs, Origin};
use crate::steps::scope::EachScope;
use crate::steps::{
    BoxedRun, Flow, ItemScope, OpenError, Ports, Runnable, StepBody, StepContext, WaitingStep,
};
use crate::telemetry::traces::{TRACEPARENT, is_traceparent};

/// How long the database may take where the step does not say.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// The most jobs that one run enqueues, and the most bytes that their args have together.
const MAX_JOBS: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// The step as planned.
#[derive(Debug, Clone)]
pub(super) struct Enqueue {
    pub(super) timeout: Duration,
    pub(super) wanted: Wanted,
    /// Gives a list: one job for each of its items.
    pub(super) each: Option<Expression>,
    /// The key by which jobs are the same.
    pub(super) unique: Option<Template>,
    pub(super) run_at: Option<Template>,
    pub(super) delay: Option<Duration>,
    pub(super) expires: Option<Duration>,
    pub(super) priority: Option<i32>,
    pub(super) max_attempts: Option<i32>,
    /// What comes once all of them have ended.
    pub(super) then: Option<Wanted>,
}

/// A kind and the args for it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) kind: Arc<JobKind>,
    /// `None`: the item, where there is one.
    pub(super) args: Option<TemplateTree>,
}

/// The step, open.
struct OpenEnqueue {
    plan: Enqueue,
    jobs: Arc<dyn Jobs>,
}

impl StepBody for Enqueue {
    fn kind(&self) -> &'static str {
        "enqueue"
    }

    fn waits(&self) -> bool {
        true
    }

    fn reads(&self) -> RootSet {
        let trees = [&self.wanted].into_iter().chain(&self.then).filter_map(|wanted| wanted.args.as_ref());
        let templates = self.unique.iter().chain(&self.run_at).map(Template::reads);
        let lists = self.each.iter().map(Expression::reads);
        trees.map(TemplateTree::reads).chain(templates).chain(lists).fold(RootSet::EMPTY, RootSet::union)
    }

    fn open(&self, ports: &Ports) -> Result<Runnable, OpenError> {
        let jobs = ports
            .jobs
            .clone()
            .ok_or_else(|| OpenError::new("there is no database to enqueue jobs in: set DATABASE_URL"))?;
        Ok(Runnable::Waiting(Box::new(OpenEnqueue { plan: self.clone(), jobs })))
    }
}

impl WaitingStep for OpenEnqueue {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, context: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let plan = &self.plan;
            let order = plan.order(item, &context)?;
            let enqueued = tokio::time::timeout(plan.timeout, self.jobs.enqueue(&order)).await;
            let enqueued =
                enqueued.unwrap_or_else(|_| Err(Failure::took_longer("the database", plan.timeout)))?;
            item.set_result(context.name, plan.result(&enqueued));
            Ok(Flow::Next)
        })
    }
}

impl Enqueue {
    fn order<'a>(&'a self, item: &Item<'_>, context: &StepContext<'_>) -> Result<JobOrder<'a>, Failure> {
        let scope = ItemScope::new(item, context.env);
        let mut order = JobOrder {
            origin: origin(item, context),
            kind: &self.wanted.kind.name,
            args: Vec::new(),
            unique_keys: self.unique.is_some().then(Vec::new),
            run_at: self.run_at(&scope)?,
            delay: self.delay,
            expires: self.expires,
            priority: self.priority,
            max_attempts: self.max_attempts,
            trace: trace(&scope, context),
            then: None,
        };
        match &self.each {
            None => self.add(&scope, None, &mut order)?,
            Some(each) => {
                let list = each.eval(&scope)?;
                let Json::Array(items) = &*list else {
                    return Err(Failure::permanent("not-a-list", format!("`{}` is no list", each.source())));
                };
                if items.len() > MAX_JOBS {
                    let message = format!("the list has {} items, more than {MAX_JOBS}", items.len());
                    return Err(Failure::permanent("enqueue-too-many", message));
                }
                let mut bytes = 0;
                for one in items {
                    self.add(&EachScope { outer: &scope, item: one }, Some(one), &mut order)?;
                    bytes += order.args.last().map_or(0, String::len);
                    if bytes > MAX_BYTES {
                        let message = format!("the args have more than {MAX_BYTES} bytes together");
                        return Err(Failure::permanent("enqueue-too-many", message));
                    }
                }
            }
        }
        if let Some(then) = &self.then {
            order.then = Some((&then.kind.name, then.args(&scope, None)?));
        }
        Ok(order)
    }

    fn add(&self, scope: &dyn Scope, item: Option<&Json>, order: &mut JobOrder<'_>) -> Result<(), Failure> {
        order.args.push(self.wanted.args(scope, item)?);
        if let (Some(unique), Some(keys)) = (&self.unique, &mut order.unique_keys) {
            keys.push(unique.text(scope)?.map(|key| key.into_owned()));
        }
        Ok(())
    }

    fn run_at(&self, scope: &dyn Scope) -> Result<Option<String>, Failure> {
        let Some(template) = &self.run_at else { return Ok(None) };
        let Some(text) = template.text(scope)? else { return Ok(None) };
        if DateTime::parse_from_rfc3339(&text).is_err() {
            let message = format!("`run_at` is no time of RFC 3339: `{}`", template.source());
            return Err(Failure::permanent("enqueue-run-at", message));
        }
        Ok(Some(text.into_owned()))
    }

    fn result(&self, enqueued: &[Enqueued]) -> Json {
        // An id does not fit into the numbers of many a JSON reader.
        let id = |one: &Enqueued| one.id.map_or(Json::Null, |id| Json::from(id.to_string()));
        if self.each.is_some() {
            let duplicates: Vec<_> = enqueued.iter().map(|one| !one.is_new).collect();
            return json!({ "ids": enqueued.iter().map(id).collect::<Vec<_>>(), "duplicates": duplicates });
        }
        let one = enqueued.first();
        json!({ "id": one.map_or(Json::Null, id), "duplicate": one.is_none_or(|one| !one.is_new) })
    }
}

impl Wanted {
    /// As JSON text.
    fn args(&self, scope: &dyn Scope, item: Option<&Json>) -> Result<String, Failure> {
        let args = match (&self.args, item) {
            (Some(tree), _) => tree.render(scope)?,
            (None, Some(item)) => item.clone(),
            (None, None) => json!({}),
        };
        self.kind.check(&args)?;
        Ok(args.to_string())
    }
}

/// What tells this run from the step's runs on any other record or job, and not from another run on the same one.
fn origin(item: &Item<'_>, context: &StepContext<'_>) -> Origin {
    if let Some(facts) = item.job {
        let id = facts.job.get("id").and_then(Json::as_str).and_then(|id| id.parse().ok());
        return Origin {
            source: digest(&[b"job", context.name.as_bytes()]),
            place: id.unwrap_or(0),
            part: 0,
        };
    }
    let raw = &item.raw;
    let (step, partition) = (context.name.as_bytes(), raw.partition.to_le_bytes());
    let source = digest(&[b"stage", context.owner.as_bytes(), step, raw.topic.as_bytes(), &partition]);
    // Offsets begin anew in a topic that was made anew; the time is another one then.
    let time = match guard::removed(Guard::EnqueueOnce) {
        false => digest(&[&raw.timestamp.unwrap_or_default().to_le_bytes()]),
        true => rand::random(),
    };
    Origin { source, place: raw.offset, part: time.wrapping_add_unsigned(item.part) }
}

fn digest(parts: &[&[u8]]) -> i64 {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update((part.len() as u64).to_le_bytes());
        sum.update(part);
    }
    let sum = sum.finalize();
    i64::from_le_bytes(std::array::from_fn(|index| sum[index]))
}

/// The trace to which the jobs belong: that of the run's own span where spans are made, else the record's.
fn trace(scope: &dyn Scope, context: &StepContext<'_>) -> Option<String> {
    if let Some(parent) = context.parent {
        return Some(parent.traceparent());
    }
    match scope.named(Root::Headers, TRACEPARENT) {
        Ok(Some(Found::Text(text))) if is_traceparent(text.as_bytes()) => Some(text.to_owned()),
        _ => None,
    }
}
