//! The steps of a stage, open and in order.
//!
//! A chain of ready steps runs without a future. Failures carry the name of the step they came from.
//! A step's own retry policy tries only that step again; the stage's policy sees what is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::{Flow, ItemScope, OpenError, Pause, Ports, Runnable, StepContext, StepPlan, decode_for};
use crate::base::{Class, Failure, RetryPolicy};
use crate::expr::{Expression, RootSet};
use crate::record::Item;
use crate::telemetry::StepTimer;
use crate::telemetry::traces::Parent;

/// The most that one record may become, by the size of its text. Parts that are made and those that
/// are through are added up.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most parts that one record may become, over all its steps.
pub(super) const MAX_PARTS: usize = 100_000;

/// Of the records that pass a step which never waits, one in so many is timed.
const TIMED: i64 = 16;

/// What one record has become so far.
#[derive(Default)]
struct Spread {
    parts: usize,
    bytes: usize,
}

/// One run of a chain that waits.
struct Work<'r, 'w> {
    /// Items and the step that each goes on at, the next one on top.
    open: Vec<(usize, Item<'r>)>,
    out: &'w mut Vec<Item<'r>>,
    spread: Spread,
    pause: &'w dyn Pause,
}

/// Open steps; shared by all records of a stage.
pub struct Chain {
    steps: Vec<OpenStep>,
    env: Arc<Json>,
    waits: bool,
    ends_in_json: bool,
    owner: Arc<str>,
}

struct OpenStep {
    name: Arc<str>,
    when: Option<Expression>,
    timeout: Option<Duration>,
    retry: Option<Arc<RetryPolicy>>,
    reads: RootSet,
    timer: Option<StepTimer>,
    runnable: Runnable,
}

impl Chain {
    /// Opens `plans` in their order.
    ///
    /// # Errors
    /// The first step that cannot be opened.
    pub fn open(plans: &[StepPlan], env: Arc<Json>, ports: &Ports) -> Result<Self, OpenError> {
        let steps = plans.iter().map(|plan| open(plan, ports)).collect::<Result<Vec<_>, _>>()?;
        let waits = steps.iter().any(OpenStep::waits);
        Ok(Self { steps, env, waits, ends_in_json: false, owner: Arc::default() })
    }

    /// Says whose steps they are, as all engines call it.
    #[must_use]
    pub fn owned_by(self, owner: &Arc<str>) -> Self {
        Self { owner: Arc::clone(owner), ..self }
    }

    /// Says that what leaves the last step is written as JSON and not looked at.
    #[must_use]
    pub fn ending_in_json(self, ends_in_json: bool) -> Self {
        Self { ends_in_json, ..self }
    }

    /// Says where the time that each step takes is counted.
    #[must_use]
    pub fn timed(mut self, timer: impl Fn(&str) -> StepTimer) -> Self {
        for step in &mut self.steps {
            step.timer = Some(timer(&step.name));
        }
        self
    }

    /// Whether a run may wait; such a chain must be run with [`Chain::run`].
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// The names of its steps, of those that ask another system.
    pub fn asking(&self) -> impl Iterator<Item = Option<&Arc<str>>> {
        self.steps.iter().map(|step| step.asks().then_some(&step.name))
    }

    /// What expressions see as `env`.
    pub fn env(&self) -> &Arc<Json> {
        &self.env
    }

    /// Runs all steps without waiting and pushes what is left of `item` to `out`: nothing where it
    /// was filtered out. Only for chains that do not wait.
    ///
    /// # Errors
    /// The first failure, with its step's name; `out` is then as it was.
    pub fn run_now<'r>(&self, item: Item<'r>, out: &mut Vec<Item<'r>>) -> Result<(), Failure> {
        let before = out.len();
        self.run_now_from(0, item, out, &mut Spread::default()).inspect_err(|_| out.truncate(before))
    }

    fn run_now_from<'r>(
        &self,
        first: usize,
        mut item: Item<'r>,
        out: &mut Vec<Item<'r>>,
        spread: &mut Spread,
    ) -> Result<(), Failure> {
        for (index, step) in self.steps.iter().enumerate().skip(first) {
            match self.run_ready(step, &mut item).map_err(|failure| failure.in_step(&step.name))? {
                Flow::Next => {}
                Flow::Filtered => return Ok(()),
                Flow::Many(items) => {
                    spread.made(&items).map_err(|failure| failure.in_step(&step.name))?;
                    let mut items = items.into_iter();
                    return items.try_for_each(|item| self.run_now_from(index + 1, item, out, spread));
                }
            }
        }
        spread.through(&item)?;
        out.push(item);
        Ok(())
    }

    fn run_ready<'r>(&self, step: &OpenStep, item: &mut Item<'r>) -> Result<Flow<'r>, Failure> {
        if !step.applies(item, &self.env)? {
            return Ok(Flow::Next);
        }
        match &step.runnable {
            Runnable::Ready(ready) => step.timed(item, |item| ready.run(item, &self.context(step, None))),
            Runnable::Waiting(_) => {
                Err(Failure::fatal("internal", "a step that waits was run without waiting"))
            }
        }
    }

    /// Runs all steps and pushes what is left of `item` to `out`: nothing where it was filtered out.
    /// `pause` is how a step waits that tries itself again. Dropping the future abandons the run; what was asked of others may have happened.
    ///
    /// # Errors
    /// The first failure, with its step's name; `out` is then as it was.
    pub async fn run<'r>(
        &self,
        item: Item<'r>,
        out: &mut Vec<Item<'r>>,
        pause: &dyn Pause,
    ) -> Result<(), Failure> {
        let before = out.len();
        let mut work = Work { open: vec![(0, item)], out, spread: Spread::default(), pause };
        while let Some((first, item)) = work.open.pop() {
            if let Err(failure) = self.run_from(first, item, &mut work).await {
                work.out.truncate(before);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Runs one item from step `first` to its end; parts of it that go on are pushed to `work.open`, the
    /// first on top, so that everything comes out in order.
    async fn run_from<'r>(
        &self,
        first: usize,
        mut item: Item<'r>,
        work: &mut Work<'r, '_>,
    ) -> Result<(), Failure> {
        for (index, step) in self.steps.iter().enumerate().skip(first) {
            let flow = self.run_retried(index, step, &mut item, work.pause).await;
            match flow.map_err(|failure| failure.in_step(&step.name))? {
                Flow::Next => {}
                Flow::Filtered => return Ok(()),
                Flow::Many(items) => {
                    work.spread.made(&items).map_err(|failure| failure.in_step(&step.name))?;
                    work.open.extend(items.into_iter().rev().map(|item| (index + 1, item)));
                    return Ok(());
                }
            }
        }
        work.spread.through(&item)?;
        work.out.push(item);
        Ok(())
    }

    async fn run_retried<'r>(
        &self,
        index: usize,
        step: &OpenStep,
        item: &mut Item<'r>,
        pause: &dyn Pause,
    ) -> Result<Flow<'r>, Failure> {
        if !step.applies(item, &self.env)? {
            return Ok(Flow::Next);
        }
        let mut attempt = 1;
        loop {
            let result = self.run_once(step, item, pause.parent()).await;
            if step.asks() && !matches!(&result, Err(failure) if failure.class == Class::Transient) {
                pause.answered(index);
            }
            let failure = match result {
                Ok(flow) => return Ok(flow),
                Err(failure) => failure.in_step(&step.name),
            };
            let wait =
                step.retry.as_ref().and_then(|retry| retry.next_wait(attempt, &failure, rand::random()));
            match wait {
                Some(wait) if pause.pause(wait, &failure).await => attempt += 1,
                _ => return Err(failure),
            }
        }
    }

    async fn run_once<'r>(
        &self,
        step: &OpenStep,
        item: &mut Item<'r>,
        parent: Option<&Parent>,
    ) -> Result<Flow<'r>, Failure> {
        let context = self.context(step, parent);
        match &step.runnable {
            Runnable::Ready(ready) => step.timed(item, |item| ready.run(item, &context)),
            Runnable::Waiting(waiting) => {
                let began = Instant::now();
                let flow = match step.timeout {
                    None => waiting.run(item, context).await,
                    Some(limit) => {
                        let run = waiting.run(item, context);
                        tokio::time::timeout(limit, run)
                            .await
                            .unwrap_or_else(|_| Err(Failure::took_longer("the step", limit)))
                    }
                };
                step.timer.iter().for_each(|timer| timer.took(began.elapsed()));
                flow
            }
        }
    }

    fn context<'a>(&'a self, step: &'a OpenStep, parent: Option<&'a Parent>) -> StepContext<'a> {
        let last = self.ends_in_json && self.steps.last().is_some_and(|last| std::ptr::eq(last, step));
        StepContext { name: &step.name, env: &self.env, owner: &self.owner, last, parent }
    }
}

impl Spread {
    /// Parts were made of one item.
    fn made(&mut self, items: &[Item<'_>]) -> Result<(), Failure> {
        self.parts += items.len();
        if self.parts > MAX_PARTS {
            let message = format!("the record becomes {} parts, more than {MAX_PARTS}", self.parts);
            return Err(Failure::permanent("explode-too-many", message));
        }
        self.add(items.iter().map(Item::weight).sum())
    }

    /// A part has passed the last step, and may have grown on the way. A record that is still one is
    /// bounded by its steps.
    fn through(&mut self, item: &Item<'_>) -> Result<(), Failure> {
        if self.parts == 0 { Ok(()) } else { self.add(item.weight()) }
    }

    fn add(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            let message = format!("the record becomes parts of more than {MAX_BYTES} bytes together");
            return Err(Failure::permanent("explode-too-large", message));
        }
        Ok(())
    }
}

impl OpenStep {
    /// Runs a step that never waits; one in so many is timed, since most take less than the clock.
    fn timed<'r>(
        &self,
        item: &mut Item<'r>,
        run: impl FnOnce(&mut Item<'r>) -> Result<Flow<'r>, Failure>,
    ) -> Result<Flow<'r>, Failure> {
        let Some(timer) = self.timer.as_ref().filter(|_| item.raw.offset % TIMED == 0) else {
            return run(item);
        };
        let began = Instant::now();
        let flow = run(item);
        timer.took(began.elapsed());
        flow
    }

    /// Whether it asks another system.
    fn asks(&self) -> bool {
        matches!(self.runnable, Runnable::Waiting(_))
    }

    fn waits(&self) -> bool {
        self.asks() || self.retry.as_ref().is_some_and(|retry| retry.max_attempts > 1)
    }

    /// Whether the step is for this item; decodes it first where an expression will look at its value.
    fn applies(&self, item: &mut Item<'_>, env: &Json) -> Result<bool, Failure> {
        if let Some(when) = &self.when {
            decode_for(item, when.reads())?;
            if !when.truthy(&ItemScope::new(item, env))? {
                return Ok(false);
            }
        }
        decode_for(item, self.reads)?;
        Ok(true)
    }
}

fn open(plan: &StepPlan, ports: &Ports) -> Result<OpenStep, OpenError> {
    let runnable =
        plan.body.open(ports).map_err(|error| OpenError { step: plan.name.to_string(), ..error })?;
    Ok(OpenStep {
        name: Arc::clone(&plan.name),
        when: plan.when.clone(),
        timeout: plan.timeout,
        retry: plan.retry.clone(),
        reads: plan.body.reads(),
        timer: None,
        runnable,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::JsonCodec;
    use crate::steps::Sleep;
    use crate::steps::testing::{Bench, raw};

    #[test]
    fn a_chain_of_steps_runs_in_order_over_every_part() {
        let chain = Bench::chain_of(&[
            "explode = \"value.items\"",
            "filter = \"value > 1\"",
            "map.n = \"{{ value * 10 }}\"",
        ]);
        assert!(!chain.waits());
        let mut out = Vec::new();
        chain.run_now(Item::new(raw(br#"{"items":[1,2,3]}"#), &JsonCodec, 1), &mut out).unwrap();
        let values: Vec<_> = out.iter_mut().map(|item| item.value().unwrap().clone()).collect();
        assert_eq!(values, [json!({"n": 20}), json!({"n": 30})]);
    }

    #[tokio::test]
    async fn both_ways_to_run_give_the_same_and_a_failure_leaves_nothing() {
        let chain = Bench::chain_of(&["explode = \"value\"", "map.n = \"{{ value.a }}\"", "set.m = 1"]);
        for bytes in [&br#"[{"a":1},{"a":2}]"#[..], br#"[{"a":1},{}]"#, b"{", b"[]"] {
            let (mut now, mut waited) = (Vec::new(), Vec::new());
            let first = chain.run_now(Item::new(raw(bytes), &JsonCodec, 1), &mut now);
            let second = chain.run(Item::new(raw(bytes), &JsonCodec, 1), &mut waited, &Sleep).await;
            assert_eq!(first, second);
            assert!(first.is_ok() || (now.is_empty() && waited.is_empty()));
            let values = |items: &mut Vec<Item<'_>>| {
                items.iter_mut().map(|item| item.value().unwrap().clone()).collect::<Vec<_>>()
            };
            assert_eq!(values(&mut now), values(&mut waited));
        }
    }

    #[test]
    fn a_last_map_leaves_text_that_reads_as_the_value() {
        let steps = ["map.a = \"{{ value.x }}\"\nmap.b = [\"{{ value.y }}!\", 2]"];
        let chain = Bench::chain_of(&steps).ending_in_json(true);
        let mut out = Vec::new();
        chain.run_now(Item::new(raw(br#"{"x":1,"y":"z"}"#), &JsonCodec, 1), &mut out).unwrap();
        assert_eq!(out[0].encoded(), Some(&br#"{"a":1,"b":["z!",2]}"#[..]));
        assert_eq!(out[0].unchanged(), None);
        assert_eq!(out[0].value().unwrap(), &json!({"a": 1, "b": ["z!", 2]}));
    }

    #[test]
    fn a_failure_carries_the_name_of_its_step_and_when_passes_over() {
        let chain = Bench::chain_of(&[
            "name = \"skipped\"\nwhen = \"value.x == 2\"\nfail = { code = \"a\", message = \"m\" }",
            "name = \"hit\"\nfail = { code = \"b\", message = \"m\" }",
        ]);
        let failure =
            chain.run_now(Item::new(raw(br#"{"x":1}"#), &JsonCodec, 1), &mut Vec::new()).unwrap_err();
        assert_eq!((&*failure.code, failure.step.as_deref()), ("b", Some("hit")));
    }

    #[test]
    fn a_step_with_retries_makes_the_chain_wait() {
        assert!(Bench::chain_of(&["retry = \"quick\"\nfail = { code = \"a\", message = \"m\" }"]).waits());
    }

    #[test]
    fn a_record_that_no_step_looks_at_is_not_decoded() {
        let chain = Bench::chain_of(&["filter = \"key == 'k1'\"", "set.headers.a = \"{{ topic }}\""]);
        let mut out = Vec::new();
        chain.run_now(Item::new(raw(b"no json"), &JsonCodec, 1), &mut out).unwrap();
        assert!(out[0].peek().is_none());
    }

    #[tokio::test]
    async fn what_one_record_becomes_is_bounded_over_all_steps() {
        let many = Bench::chain_of(&[
            "explode.each = \"value.items\"\nexplode.as = \"one\"",
            "name = \"again\"\nexplode = \"value.items\"",
        ]);
        let large = format!("set.big = \"{}\"", "x".repeat(50_000));
        let grown = Bench::chain_of(&["explode = \"value.items\"", "map.n = 1", &large]);
        for (chain, parts, code) in [(many, 400, "explode-too-many"), (grown, 2_000, "explode-too-large")] {
            let list = json!({ "items": vec![7; parts] }).to_string();
            let (mut now, mut waited) = (Vec::new(), Vec::new());
            let item = || Item::new(raw(list.as_bytes()), &JsonCodec, 1);
            assert_eq!(chain.run_now(item(), &mut now).unwrap_err().code, code);
            assert_eq!(chain.run(item(), &mut waited, &Sleep).await.unwrap_err().code, code);
            assert!(now.is_empty() && waited.is_empty());
        }
    }
}
