//! A system that steps ask is down: what its breaker spares, and what closes it.

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::base::Share;
use crate::catalog::{Breakers, Threshold, TransientBreaker};
use crate::events::StageStatus;
use crate::steps::{BoxedRun, WaitingStep};

/// A step that asks a system which may be down. The word `sick` fails always, and words that begin with
/// `once` fail the first time.
#[derive(Debug, Clone, Default)]
struct Ask {
    down: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    failed: Arc<Mutex<HashSet<String>>>,
}

impl StepBody for Ask {
    fn kind(&self) -> &'static str {
        "ask"
    }

    fn waits(&self) -> bool {
        true
    }

    fn reads(&self) -> RootSet {
        RootSet::EMPTY
    }

    fn open(&self, _: &Ports) -> Result<Runnable, OpenError> {
        Ok(Runnable::Waiting(Box::new(self.clone())))
    }
}

impl WaitingStep for Ask {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, _: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let word = item.value()?.as_str().unwrap_or_default().to_owned();
            self.asked.fetch_add(1, Ordering::AcqRel);
            let once = word.starts_with("once") && self.failed.lock().insert(word.clone());
            match self.down.load(Ordering::Acquire) || word == "sick" || once {
                true => Err(Failure::transient("down", "nobody there")),
                false => Ok(Flow::Next),
            }
        })
    }
}

impl Ask {
    fn down() -> Self {
        Self { down: Arc::new(AtomicBool::new(true)), ..Self::default() }
    }

    fn comes_up(&self) {
        self.down.store(false, Ordering::Release);
    }

    fn plan(&self, name: &str) -> StepPlan {
        let body: Arc<dyn StepBody> = Arc::new(self.clone());
        StepPlan { name: Arc::from(name), kind: "ask", when: None, timeout: None, retry: None, body }
    }

    /// The step, which tries itself again ever so often.
    fn retried(&self, name: &str, stage: &Stage) -> StepPlan {
        let backoff = Backoff::Delays(vec![Duration::from_millis(20)]);
        let policy = RetryPolicy { backoff, max_attempts: 1_000, ..(*stage.retry).clone() };
        StepPlan { retry: Some(Arc::new(policy)), ..self.plan(name) }
    }
}

/// A stage whose breakers open at two failures and ask ten times a second.
fn start_as(world: &World, change: impl FnOnce(&mut Stage)) -> StageHandle {
    let mut stage = stage(&world.step);
    let wait = Duration::from_millis(100);
    let threshold = Threshold { failures: Share::percent(50), of: 2, within: Duration::from_secs(60) };
    let transient = TransientBreaker { threshold, probe_after: wait, probe_up_to: wait };
    stage.breakers = Breakers { transient: Some(transient), permanent: None };
    change(&mut stage);
    start(Arc::new(stage), &world.stage_runtime()).unwrap()
}

fn until(handle: &StageHandle, fits: impl Fn(&StageStatus) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fits(&handle.status()) {
        assert!(Instant::now() < deadline, "{:?}", handle.status());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn open(status: &StageStatus) -> usize {
    status.breakers.iter().filter(|breaker| breaker.open).count()
}

/// Waits until so many more have asked.
fn asked_again(handle: &StageHandle, ask: &Ask, count: u32) {
    let before = ask.asked.load(Ordering::Acquire);
    until(handle, |_| ask.asked.load(Ordering::Acquire) >= before + count);
}

#[test]
fn the_deadline_does_not_count_what_a_breaker_held() {
    let world = World::new(|_, _| Ok(()));
    let ask = Ask::down();
    let records = words(8, 4);
    world.produce(&borrowed(&records));
    let deadline = Duration::from_millis(500);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![ask.plan("ask")];
        stage.deadline = deadline;
    });
    until(&handle, |status| open(status) == 1);
    let opened = Instant::now();
    until(&handle, |_| opened.elapsed() > deadline * 3);
    ask.comes_up();
    let out = world.read("out", 8);
    until(&handle, |status| open(status) == 0 && status.state == "running");
    stop(&handle);
    assert!(by_key(&out).values().all(|values| values.is_sorted()), "{out:?}");
    let status = handle.status();
    assert_eq!((status.counts.dead_lettered, status.failures.get("deadline")), (0, None), "{status:?}");
}

/// Its failures alone open the breaker again and again; whatever is read next closes it.
#[test]
fn a_record_that_always_fails_keeps_no_breaker_open_and_spends_its_attempts() {
    let world = World::new(|_, _| Ok(()));
    let ask = Ask::down();
    world.produce(&[("a", "\"sick\"".to_owned()), ("b", "\"well\"".to_owned())]);
    let handle = start_as(&world, |stage| stage.steps = vec![ask.plan("ask")]);
    until(&handle, |status| open(status) == 1);
    asked_again(&handle, &ask, 4);
    ask.comes_up();
    assert_eq!(world.read("out", 1)[0].value, b"\"well\"");
    for number in 0..10 {
        if handle.status().counts.dead_lettered > 0 {
            break;
        }
        until(&handle, |status| open(status) == 1 || status.counts.dead_lettered > 0);
        world.produce(&[(&format!("k{number}"), format!("\"w{number}\""))]);
        until(&handle, |status| status.counts.records_out == number + 2);
    }
    let dead = world.read("dead", 1);
    stop(&handle);
    assert_eq!(dead[0].headers["biplane-attempts"], "3", "{dead:?}");
    assert!(handle.status().breakers[0].opened > 1);
}

#[test]
fn attempts_that_a_step_repeats_itself_open_its_breaker_and_one_run_at_a_time_asks() {
    let world = World::new(|_, _| Ok(()));
    let ask = Ask::down();
    world.produce(&[("a", "\"one\"".to_owned()), ("b", "\"two\"".to_owned())]);
    let handle = start_as(&world, |stage| stage.steps = vec![ask.retried("ask", stage)]);
    until(&handle, |status| open(status) == 1);
    let (began, before) = (Instant::now(), ask.asked.load(Ordering::Acquire));
    asked_again(&handle, &ask, 5);
    let probes = began.elapsed().as_millis() / 100;
    let asked = ask.asked.load(Ordering::Acquire) - before;
    assert!(u128::from(asked) <= probes + 2, "{asked} in {probes} tenths of a second");
    ask.comes_up();
    assert_eq!(world.read("out", 2).len(), 2);
    stop(&handle);
    assert_eq!(handle.status().breakers[0].opened, 1);
}

/// The record that asks is answered and then rests, because another step tries itself again.
#[test]
fn a_run_that_asks_and_rests_for_another_step_goes_on() {
    let world = World::new(|_, _| Ok(()));
    let (ask, other) = (Ask::down(), Ask::default());
    world.produce(&[("a", "\"once-a\"".to_owned()), ("b", "\"once-b\"".to_owned())]);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![ask.plan("ask"), other.retried("other", stage)];
        if let Some(transient) = &mut stage.breakers.transient {
            transient.threshold.of = 3;
        }
    });
    until(&handle, |status| open(status) == 1);
    ask.comes_up();
    assert_eq!(world.read("out", 2).len(), 2);
    until(&handle, |status| open(status) == 0);
    stop(&handle);
    assert_eq!(handle.status().counts.dead_lettered, 0);
}
