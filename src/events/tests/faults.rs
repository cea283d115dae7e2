//! Faults of the broker and of steps, on the in-process cluster, each once more without the guard that
//! it rests on: the same check must then come out bad.

use super::*;
use crate::base::guard::{Guard, without};
use crate::broker::{BrokerError, Commit, MockError, MockRequest};
use crate::events::delivery::{Answer, AtLeastOnce, Begin, Delivery, Standing};
use crate::events::stage::start_with;

/// How long a check waits for what may never come, where its guard is missing.
const LIMIT: Duration = Duration::from_secs(6);

impl World {
    /// What is in `out` once `wanted` values in it differ, or `LIMIT` has passed.
    fn out_within_limit(&self, wanted: usize) -> Vec<Got> {
        let deadline = Instant::now() + LIMIT;
        self.read_until("out", |got| distinct(got) >= wanted || Instant::now() > deadline)
    }
}

fn distinct(got: &[Got]) -> usize {
    got.iter().map(|record| &record.value).collect::<std::collections::HashSet<_>>().len()
}

/// A delivery that stands between a stage and its own: it counts commits, and gives up the epoch now
/// and then, as a producer does that is beyond repair.
struct Between {
    inner: AtLeastOnce,
    sends: u32,
    /// How many epochs are still to be given up.
    aborts: Arc<AtomicU32>,
    commits: Arc<AtomicU32>,
}

impl Delivery for Between {
    fn starts(
        &mut self,
        partitions: &[TopicPartition],
        deadline: Instant,
    ) -> Result<Vec<Begin>, BrokerError> {
        self.inner.starts(partitions, deadline)
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.sends += 1;
        if self.sends.is_multiple_of(37) && self.aborts.load(Ordering::Acquire) > 0 {
            return Err((SendError::Fatal("fenced".to_owned()), outgoing.headers));
        }
        self.inner.produce(outgoing, token)
    }

    fn produce_alone(&mut self, outgoing: Outgoing<'_>, token: u64) -> Result<(), (SendError, OutHeaders)> {
        self.inner.produce_alone(outgoing, token)
    }

    fn close_later(&mut self, commits: &[Commit], number: u64) -> Result<(), BrokerError> {
        self.commits.fetch_add(1, Ordering::AcqRel);
        self.inner.close_later(commits, number)
    }

    fn close_now(&mut self, commits: &[Commit], limit: Duration) -> Result<(), BrokerError> {
        self.inner.close_now(commits, limit)
    }

    fn take_closed(&mut self) -> Vec<Answer> {
        self.inner.take_closed()
    }

    fn rejoin(&mut self, consumer: Arc<Consumer>) {
        self.inner.rejoin(consumer);
    }

    fn abort(&mut self) -> Result<Standing, BrokerError> {
        self.aborts.fetch_sub(1, Ordering::AcqRel);
        self.inner.abort()
    }
}

impl World {
    /// Starts the stage with `aborts` epochs to give up; also counts its commits.
    fn start_between(&self, stage: Stage, aborts: u32) -> (StageHandle, Arc<AtomicU32>, Arc<AtomicU32>) {
        let (aborts, commits) = (Arc::new(AtomicU32::new(aborts)), Arc::new(AtomicU32::new(0)));
        let (left, counted) = (Arc::clone(&aborts), Arc::clone(&commits));
        let handle = start_with(Arc::new(stage), &self.stage_runtime(), move |inner| {
            Box::new(Between { inner, sends: 0, aborts: left, commits: counted })
        });
        (handle.unwrap(), aborts, commits)
    }
}

/// The producer is beyond repair again and again: its partitions are read again, and nothing is lost or
/// out of order. Without `rewind`, what it had not taken never comes.
#[test]
fn a_fatal_error_of_the_producer_loses_nothing_and_keeps_the_order() {
    fn check() -> usize {
        let world = World::new(|_, _| Ok(()));
        let sent = words(300, 11);
        world.produce(&borrowed(&sent));
        let (handle, aborts, _) = world.start_between(stage(&world.step), 5);
        let got = world.out_within_limit(300);
        stop(&handle);
        let distinct = distinct(&got);
        if distinct == 300 {
            assert_eq!(aborts.load(Ordering::Acquire), 0);
            for (key, values) in by_key(&got) {
                let mine = sent.iter().filter(|(sent, _)| *sent == key);
                assert_eq!(values, mine.map(|(_, value)| value.clone()).collect::<Vec<_>>(), "key {key}");
            }
        }
        distinct
    }
    assert_eq!(check(), 300);
    assert!(without(Guard::Rewind, check) < 300);
}

/// The coordinator refuses commits: what they said is said again, and a restart repeats nothing.
/// Without `commit-again` the second run starts at the last commit that went through.
#[test]
fn refused_commits_are_said_again_and_a_restart_repeats_nothing() {
    const ERRORS: [MockError; 3] =
        [MockError::NotCoordinator, MockError::RequestTimedOut, MockError::TopicDenied];
    fn check() -> Option<u32> {
        let world = World::new(|_, _| Ok(()));
        let (handle, _, commits) = world.start_between(stage(&world.step), 0);
        for (round, refused) in ERRORS.into_iter().enumerate() {
            // The client repeats some refusals itself, and only the last kind comes through at once.
            let times = if refused == MockError::TopicDenied { 1_000 } else { 3 };
            world.kafka.fail_next(MockRequest::OffsetCommit, refused, times).unwrap();
            let sent =
                words(50, 5).into_iter().map(|(key, word)| (key, word.replace('w', &format!("{round}-"))));
            world.produce(&borrowed(&sent.collect::<Vec<_>>()));
            world.read("out", (round + 1) * 50);
        }
        let until = |limit: Duration, done: &dyn Fn() -> bool| {
            let deadline = Instant::now() + limit;
            while !done() && Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        };
        until(PATIENCE, &|| handle.status().in_flight == 0);
        let before = commits.load(Ordering::Acquire);
        until(Duration::from_secs(2), &|| commits.load(Ordering::Acquire) >= before + 3);
        world.kafka.fail_no_more(MockRequest::OffsetCommit).unwrap();
        stop(&handle);
        let handle = world.start();
        world.produce(&[("k0", "\"last\"".to_owned())]);
        world.read_until("out", |got| got.iter().any(|record| record.value == b"\"last\""));
        stop(&handle);
        let calls = world.step.calls.lock();
        assert_eq!(calls.len(), 50 * ERRORS.len() + 1);
        calls.values().copied().max()
    }
    assert_eq!(check(), Some(1));
    assert!(without(Guard::CommitAgain, check) > Some(1));
}

/// A step panics: its record fails, everything else runs on. Without `catch-panic` the stage is gone.
#[test]
fn a_panic_fails_its_record_and_nothing_else() {
    fn check() -> Vec<String> {
        let world = World::new(|word, _| match word {
            "boom" => panic!("as planned"),
            _ => Ok(()),
        });
        world.produce(&[("a", "\"boom\"".to_owned()), ("a", "\"next\"".to_owned())]);
        let handle = world.start();
        let deadline = Instant::now() + PATIENCE;
        let gone = || handle.status().state == "stopped" || Instant::now() > deadline;
        let out = world.read_until("out", |got| !got.is_empty() || gone());
        let dead = world.read_until("dead", |got| !got.is_empty() || gone());
        stop(&handle);
        let reasons = dead.iter().map(|letter| {
            assert!(letter.headers["biplane-error-message"].contains("as planned"));
            letter.headers["biplane-error-code"].clone()
        });
        let values = out.iter().map(|record| String::from_utf8_lossy(&record.value).into_owned());
        values.chain(reasons).collect()
    }
    assert_eq!(check(), ["\"next\"", "panic"]);
    assert!(without(Guard::CatchPanic, check).is_empty());
}

/// A thousand records that wait a moment and try again share commits, and hold up nothing for long.
#[test]
fn records_that_try_again_share_few_commits() {
    let world = World::new(|_, attempt| match attempt {
        1..=3 => Err(Failure::transient("busy", "try later")),
        _ => Ok(()),
    });
    let mut quick = stage(&world.step);
    quick.retry = Arc::new(RetryPolicy {
        max_attempts: 4,
        backoff: Backoff::Delays(vec![Duration::from_millis(5)]),
        ..RetryPolicy::clone(&quick.retry)
    });
    world.produce(&borrowed(&words(1_000, 1_000)));
    let started = Instant::now();
    let (handle, _, commits) = world.start_between(quick, 0);
    world.read("out", 1_000);
    // 3,000 failed attempts; a commit at most every 20 ms.
    let most = started.elapsed().as_millis() / 20 + 2;
    let commits = commits.load(Ordering::Acquire);
    assert!(u128::from(commits) <= most && commits < 500, "{commits} commits in {:?}", started.elapsed());
    stop(&handle);
    assert_eq!(handle.status().failures["busy"], 3_000);
}

#[test]
fn a_batch_that_is_refused_for_its_size_costs_only_the_record_that_is_too_large() {
    let world = World::new(|_, _| Ok(()));
    let sent = words(60, 5);
    world.produce(&borrowed(&sent));
    // Once: a second refusal might hit a record that is sent by itself already.
    world.kafka.fail_next(MockRequest::Produce, MockError::TooLarge, 1).unwrap();
    let handle = world.start();
    let distinct =
        |got: &[Got]| got.iter().map(|record| &record.value).collect::<std::collections::HashSet<_>>().len();
    let got = world.read_until("out", |got| distinct(got) == 60);
    for (key, values) in by_key(&got) {
        let expected: Vec<_> =
            sent.iter().filter(|(sent, _)| *sent == key).map(|(_, value)| value.clone()).collect();
        assert_eq!(values, expected, "key {key}");
    }
    assert_eq!(handle.status().counts.dead_lettered, 0);

    // Refused in a batch and alone: this one it is.
    stop(&handle);
    world.produce(&[("k", "\"large\"".to_owned())]);
    world.kafka.fail_next(MockRequest::Produce, MockError::TooLarge, 2).unwrap();
    let handle = world.start();
    let dead = world.read("dead", 1);
    assert_eq!(dead[0].value, b"\"large\"");
    assert_eq!(dead[0].headers["biplane-error-code"], "record-too-large");
    stop(&handle);
}
