//! What becomes of records that fail, by a whole runner against the in-process cluster.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::delivery::Producers;
use super::stage::{StageHandle, start};
use super::status::StageStatus;
use super::tests::{World, stage, stop, topic};
use crate::base::{Backoff, Exhausted, Failure, RetryPolicy};
use crate::broker::{MockError, MockRequest, ProducerOptions};
use crate::catalog::{Output, Stage};
use crate::expr::{Expression, RootSet};
use crate::record::{Codec, Item, JsonCodec};
use crate::steps::{
    BoxedRun, Flow, OpenError, Ports, Runnable, StepBody, StepContext, StepPlan, WaitingStep,
};

/// How long the other side takes to refuse the word `slow`.
const SLOW: Duration = Duration::from_millis(700);

/// A step that waits on others: for ever at the word `hang`; it fails at `busy`, and late at `slow`.
#[derive(Debug, Clone, Default)]
struct Other {
    runs: Arc<AtomicU32>,
    /// The words that failed once, of those that begin with `twice`.
    failed: Arc<Mutex<HashSet<String>>>,
    inside: Arc<AtomicU32>,
    most_inside: Arc<AtomicU32>,
    /// Lets the word `gate` through.
    gate: Arc<Notify>,
}

impl StepBody for Other {
    fn kind(&self) -> &'static str {
        "other"
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

impl WaitingStep for Other {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, _: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let word = item.value()?.as_str().unwrap_or_default().to_owned();
            self.runs.fetch_add(1, Ordering::AcqRel);
            let inside = self.inside.fetch_add(1, Ordering::AcqRel) + 1;
            self.most_inside.fetch_max(inside, Ordering::AcqRel);
            tokio::task::yield_now().await;
            self.inside.fetch_sub(1, Ordering::AcqRel);
            match word.as_str() {
                twice if twice.starts_with("twice") && self.failed.lock().insert(word.clone()) => {
                    Err(Failure::transient("busy", "once"))
                }
                "later" => {
                    let asked = Some(Duration::from_secs(3_600));
                    Err(Failure::transient("busy", "in an hour").retry_after(asked))
                }
                "hang" => std::future::pending().await,
                "slow" => {
                    tokio::time::sleep(SLOW).await;
                    Err(Failure::transient("busy", "try later"))
                }
                "gate" => {
                    self.gate.notified().await;
                    Ok(Flow::Next)
                }
                "busy" => Err(Failure::transient("busy", "try later")),
                _ => Ok(Flow::Next),
            }
        })
    }
}

impl Other {
    fn plan(&self) -> StepPlan {
        let body: Arc<dyn StepBody> = Arc::new(self.clone());
        StepPlan { name: Arc::from("other"), kind: "other", when: None, timeout: None, retry: None, body }
    }

    /// The step, which tries itself again after `wait`.
    fn retried(&self, stage: &Stage, wait: Duration) -> StepPlan {
        let policy = RetryPolicy { backoff: Backoff::Delays(vec![wait]), ..(*stage.retry).clone() };
        StepPlan { retry: Some(Arc::new(policy)), ..self.plan() }
    }
}

fn start_as(world: &World, change: impl FnOnce(&mut Stage)) -> StageHandle {
    let mut stage = stage(&world.step);
    change(&mut stage);
    start(Arc::new(stage), &world.stage_runtime()).unwrap()
}

#[test]
fn a_dead_letter_keeps_the_id_that_its_record_came_with() {
    let world = World::new(|word, _| match word {
        "bad" => Err(Failure::permanent("bad", "as planned")),
        _ => Ok(()),
    });
    let before = [("biplane-id", &b"before/in/0/7/0"[..]), ("biplane-id", b"\xff"), ("mine", b"\x00")];
    world.produce_with(&[("a", "\"bad\"".to_owned()), ("a", "\"good\"".to_owned())], &before);
    let handle = world.start();
    let dead = world.read("dead", 1).remove(0);
    let out = world.read("out", 1).remove(0);
    stop(&handle);
    let bytes = |headers: &[(String, Vec<u8>)], wanted: &str| -> Vec<Vec<u8>> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(bytes(&dead.all, "biplane-id"), [b"before/in/0/7/0".to_vec(), b"\xff".to_vec()]);
    assert_eq!(bytes(&dead.all, "mine"), [b"\x00"]);
    assert!(dead.headers["biplane-dlq-id"].starts_with("s/in/"), "{dead:?}");
    assert_eq!(bytes(&out.all, "biplane-id").len(), 1);
    assert!(out.headers["biplane-id"].starts_with("s/in/"), "{out:?}");
}

#[test]
fn the_deadline_runs_from_the_first_attempt_and_is_not_tried_again() {
    let world = World::new(|_, _| Ok(()));
    let other = Other::default();
    world.produce(&[("a", "\"hang\"".to_owned()), ("b", "\"slow\"".to_owned())]);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![other.plan()];
        // The wait for a second attempt fits behind the failure, but not behind the start.
        stage.deadline = Duration::from_secs(3);
        let wait = stage.deadline - SLOW / 2;
        stage.retry =
            Arc::new(RetryPolicy { backoff: Backoff::Delays(vec![wait]), ..(*stage.retry).clone() });
    });
    let dead = world.read("dead", 2);
    stop(&handle);
    let mut codes: Vec<_> = dead.iter().map(|dead| dead.headers["biplane-error-code"].as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["busy", "deadline"]);
    assert!(dead.iter().all(|dead| dead.headers["biplane-attempts"] == "1"), "{dead:#?}");
    assert_eq!(other.runs.load(Ordering::Acquire), 2);
}

/// Waits until the stage's status fits.
fn until(handle: &StageHandle, fits: impl Fn(&StageStatus) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fits(&handle.status()) {
        assert!(Instant::now() < deadline, "{:?}", handle.status());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn exhausted(stage: &mut Stage, on_exhausted: Exhausted) {
    stage.retry = Arc::new(RetryPolicy { on_exhausted, ..(*stage.retry).clone() });
    if on_exhausted != Exhausted::DeadLetter {
        stage.dlq = None;
    }
}

/// As `start_as`, with a client that takes no record past 2,000 bytes.
fn start_bounded(world: &World, change: impl FnOnce(&mut Stage)) -> StageHandle {
    let mut runtime = world.stage_runtime();
    let options = ProducerOptions { max_record_bytes: 2_000, ..ProducerOptions::default() };
    runtime.producers = Arc::new(Producers::open(runtime.client.clone(), options).unwrap());
    let mut stage = stage(&world.step);
    change(&mut stage);
    start(Arc::new(stage), &runtime).unwrap()
}

/// A word of so many bytes.
fn word(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes))
}

#[test]
fn an_output_too_large_for_its_topic_follows_the_policy() {
    let world = World::new(|_, _| Ok(()));
    world.produce(&[("a", word(5_000)), ("a", "\"next\"".to_owned())]);
    let handle = start_bounded(&world, |stage| exhausted(stage, Exhausted::Drop));
    assert!(world.read("out", 1)[0].value == b"\"next\"");
    until(&handle, |status| status.counts.dropped == 1);
    stop(&handle);
    let status = handle.status();
    assert_eq!((status.failures["record-too-large"], status.reason), (1, None));
}

#[test]
fn an_output_that_the_broker_finds_too_large_follows_the_policy() {
    let world = World::new(|_, _| Ok(()));
    let handle = start_as(&world, |stage| exhausted(stage, Exhausted::Drop));
    until(&handle, |status| status.state == "running");
    // The input is written with the same request.
    world.produce(&[("a", "\"before\"".to_owned())]);
    world.read("out", 1);
    // Once for its batch, once for the record by itself.
    world.kafka.fail_next(MockRequest::Produce, MockError::TooLarge, 2).unwrap();
    let refused = start_as(&world, |stage| {
        stage.name = Arc::from("other");
        exhausted(stage, Exhausted::Drop);
    });
    until(&refused, |status| status.counts.dropped == 1);
    stop(&handle);
    stop(&refused);
}

/// The answer to what was sent of a record must not finish what the stage halted on.
#[test]
fn a_stage_that_halts_on_one_output_does_not_finish_the_record_by_another() {
    let world = World::new(|_, _| Ok(()));
    world.produce(&[("a", word(800))]);
    let both = |stage: &mut Stage| {
        let key = Expression::compile("value ~ value ~ value", RootSet::RECORD).unwrap();
        let codec: Arc<dyn Codec> = Arc::new(JsonCodec);
        let second = Output { topic: topic("dead"), when: None, key: Some(key), headers: Vec::new(), codec };
        stage.outputs.push(second);
        stage.match_all = true;
        exhausted(stage, Exhausted::Halt);
    };
    let handle = start_bounded(&world, both);
    until(&handle, |status| status.state == "halted");
    world.read("out", 1);
    stop(&handle);
    let handle = start_as(&world, both);
    assert!(world.read("dead", 1)[0].value == word(800).as_bytes());
    stop(&handle);
}

#[test]
fn what_a_setting_dead_letters_is_not_tried_again_nor_dropped_by_the_policy() {
    let world = World::new(|word, _| match word {
        "mine" => Err(Failure::permanent("unmatched", "a code of the user's own")),
        "settled" => Err(Failure::transient("busy", "try later").dead_lettered()),
        _ => Ok(()),
    });
    world.produce(&[("a", "\"mine\"".to_owned()), ("b", "\"settled\"".to_owned())]);
    let handle = start_as(&world, |stage| {
        let drop = RetryPolicy { on_exhausted: Exhausted::Drop, ..(*stage.retry).clone() };
        stage.retry = Arc::new(drop);
    });
    let dead = world.read("dead", 1).remove(0);
    assert_eq!((&*dead.value, dead.headers["biplane-attempts"].as_str()), (&b"\"settled\""[..], "1"));
    until(&handle, |status| status.counts.dropped == 1 && status.counts.dead_lettered == 1);
    stop(&handle);
}

#[test]
fn a_run_that_waits_to_try_its_step_again_holds_no_place() {
    let world = World::new(|_, _| Ok(()));
    let other = Other::default();
    world.produce(&[
        ("a", "\"busy\"".to_owned()),
        ("a", "\"behind\"".to_owned()),
        ("b", "\"ok\"".to_owned()),
    ]);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![other.retried(stage, Duration::from_secs(50))];
        stage.concurrency = 1;
    });
    assert_eq!(world.read("out", 1)[0].value, b"\"ok\"");
    until(&handle, |status| status.waiting == 1 && status.counts.retried == 1);
    assert_eq!(handle.status().failures["busy"], 1);
    stop(&handle);
}

#[test]
fn runs_that_have_waited_take_a_place_again_and_never_more_than_there_are() {
    let world = World::new(|_, _| Ok(()));
    let other = Other::default();
    let sent: Vec<_> = (0..30).map(|n| (format!("k{n}"), format!("\"twice{n}\""))).collect();
    let sent: Vec<_> = sent.iter().map(|(key, word)| (key.as_str(), word.clone())).collect();
    world.produce(&sent);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![other.retried(stage, Duration::from_millis(50))];
        stage.concurrency = 1;
    });
    world.read("out", 30);
    until(&handle, |status| status.counts.retried == 30 && status.waiting == 0 && status.in_flight == 0);
    stop(&handle);
    assert_eq!(other.most_inside.load(Ordering::Acquire), 1);
    assert_eq!(other.runs.load(Ordering::Acquire), 60);
}

#[test]
fn a_wait_that_does_not_fit_the_deadline_is_not_begun() {
    let world = World::new(|_, _| Ok(()));
    let other = Other::default();
    world.produce(&[("a", "\"later\"".to_owned())]);
    let handle = start_as(&world, |stage| {
        stage.steps = vec![other.retried(stage, Duration::from_millis(50))];
    });
    let dead = world.read("dead", 1).remove(0);
    stop(&handle);
    let headers = ["biplane-error-code", "biplane-attempts"].map(|name| dead.headers[name].as_str());
    assert_eq!(headers, ["busy", "1"]);
}

#[test]
fn a_stage_under_a_new_name_goes_on_where_the_old_one_stood() {
    let world = World::new(|word, attempt| match word {
        "busy" if attempt < 2 => Err(Failure::transient("busy", "try later")),
        _ => Ok(()),
    });
    // The record that waits holds its partition's offset back; what is finished beyond it is remembered.
    let mut sent = vec![("k0".to_owned(), "\"busy\"".to_owned())];
    sent.extend((1..40).map(|n| (format!("k{n}"), format!("\"w{n}\""))));
    let sent: Vec<_> = sent.iter().map(|(key, word)| (key.as_str(), word.clone())).collect();
    world.produce(&sent);
    let slow = |stage: &mut Stage| {
        let backoff = Backoff::Delays(vec![Duration::from_secs(50)]);
        stage.retry = Arc::new(RetryPolicy { backoff, ..(*stage.retry).clone() });
    };
    let handle = start_as(&world, slow);
    world.read("out", 39);
    stop(&handle);
    let handle = start_as(&world, |stage| {
        slow(stage);
        (stage.name, stage.was) = (Arc::from("new"), Some(Arc::clone(&stage.name)));
    });
    let out = world.read("out", 40);
    stop(&handle);
    let again = out.last().unwrap();
    assert!(again.headers["biplane-id"].starts_with("new/in/"), "{again:?}");
    {
        let calls = world.step.calls.lock();
        assert_eq!((calls["busy"], calls.len(), calls.values().sum::<u32>()), (2, 40, 41));
    }
    // What was taken over is the new group's own by now.
    let handle = start_as(&world, |stage| stage.name = Arc::from("new"));
    world.produce(&[("k0", "\"last\"".to_owned())]);
    world.read("out", 41);
    stop(&handle);
    assert_eq!(world.step.calls.lock().values().sum::<u32>(), 42);
}

#[test]
fn a_dead_letter_is_as_old_as_its_failure_and_tells_its_records_time() {
    let world = World::new(|word, _| match word {
        "bad" => Err(Failure::permanent("bad", "as planned")),
        _ => Ok(()),
    });
    let old = 1_000_000_000_000;
    world.produce_at(Some(old), &[("a", "\"bad\"".to_owned()), ("a", "\"good\"".to_owned())], &[]);
    let handle = world.start();
    let (dead, out) = (world.read("dead", 1).remove(0), world.read("out", 1).remove(0));
    stop(&handle);
    assert_eq!(out.timestamp, Some(old));
    assert!(dead.timestamp.is_some_and(|at| at > old + 86_400_000), "{dead:?}");
    assert_eq!(dead.headers["biplane-timestamp"], "2001-09-09T01:46:40.000Z");
}

#[test]
fn what_an_old_generation_prepared_goes_where_that_one_says() {
    let world = World::new(|_, _| Ok(()));
    let other = Other::default();
    world.produce(&[("a", "\"gate\"".to_owned())]);
    let to = |name: &str| {
        let mut stage = stage(&world.step);
        stage.steps = vec![other.plan()];
        stage.outputs[0].topic = topic(name);
        Arc::new(stage)
    };
    let runtime = world.stage_runtime();
    let handle = start(to("out"), &runtime).unwrap();
    until(&handle, |_| other.runs.load(Ordering::Acquire) == 1);
    handle.replace(to("dead"), &runtime).unwrap();
    world.produce(&[("b", "\"ok\"".to_owned())]);
    assert_eq!(world.read("dead", 1)[0].value, b"\"ok\"");
    other.gate.notify_one();
    assert_eq!(world.read("out", 1)[0].value, b"\"gate\"");
    stop(&handle);
}

#[test]
fn a_rewind_forgets_neither_waits_nor_what_was_decided() {
    let world = World::new(|word, _| match word {
        "wrong" => Err(Failure::permanent("wrong", "no use")),
        busy if busy.starts_with("busy") => Err(Failure::transient("busy", "try later")),
        _ => Ok(()),
    });
    // On both partitions, so that some wait on the one that is read again.
    let mut sent: Vec<_> = (0..8).map(|n| (format!("k{n}"), format!("\"busy{n}\""))).collect();
    sent.push(("b".to_owned(), "\"wrong\"".to_owned()));
    world.produce(&sent.iter().map(|(key, word)| (key.as_str(), word.clone())).collect::<Vec<_>>());
    // The dead letter is refused again and again, each time for a reason that is not its record's.
    world.kafka.fail_next(MockRequest::Produce, MockError::TopicDenied, 4).unwrap();
    let handle = start_as(&world, |stage| {
        let backoff = Backoff::Delays(vec![Duration::from_secs(50)]);
        stage.retry = Arc::new(RetryPolicy { backoff, ..(*stage.retry).clone() });
    });
    let dead = world.read("dead", 1).remove(0);
    assert_eq!((&*dead.value, dead.headers["biplane-attempts"].as_str()), (&b"\"wrong\""[..], "1"));
    until(&handle, |status| status.in_flight == 8 && status.waiting == 8);
    stop(&handle);
    let calls = world.step.calls.lock();
    assert!(calls.len() == 9 && calls.values().all(|count| *count == 1), "{calls:?}");
}

#[test]
fn a_dead_letter_is_cut_until_the_dlq_takes_it() {
    let world = World::new(|_, _| Err(Failure::permanent("bad", "as planned")));
    let (key, large) = ("k".repeat(3_000), vec![b'h'; 4_000]);
    world.produce_with(&[(&key, word(40_000))], &[("large", &large), ("biplane-step", b"mine")]);
    let handle = start_bounded(&world, |_| {});
    let dead = world.read("dead", 1).remove(0);
    stop(&handle);
    assert_eq!((dead.value.len(), dead.key.len()), (512, 512));
    let headers = ["biplane-truncated", "biplane-truncated-headers", "biplane-truncated-key"];
    assert_eq!(headers.map(|name| dead.headers[name].as_str()), ["40002", "2", "3000"]);
    assert_eq!((dead.headers.get("large"), dead.headers["biplane-step"].as_str()), (None, "scripted"));
    assert_eq!(handle.status().counts.dead_lettered, 1);
}

#[test]
fn an_output_counts_once_it_is_acknowledged_and_steps_count_their_time() {
    let world = World::new(|_, _| Ok(()));
    world.produce(&[("a", "\"once\"".to_owned())]);
    world.kafka.fail_next(MockRequest::Produce, MockError::TopicDenied, 2).unwrap();
    let runtime = world.stage_runtime();
    let handle = start(Arc::new(stage(&world.step)), &runtime).unwrap();
    world.read("out", 1);
    stop(&handle);
    assert_eq!(handle.status().counts.records_out, 1);
    let text = runtime.telemetry.render();
    assert!(text.contains("biplane_stage_bytes_out_total{stage=\"s\"} 7\n"), "{text}");
    assert!(text.contains("biplane_step_seconds_count{stage=\"s\",step=\"scripted\"} 3\n"), "{text}");
}
