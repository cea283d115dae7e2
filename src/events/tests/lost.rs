//! Offsets that are not on the broker: never a silent jump, never a silent stop.

use super::*;
use crate::broker::{Commit, MockError, MockRequest};

/// Far behind whatever a test produces.
const GONE: i64 = 4_000;

impl World {
    /// Starts the stage where its group has committed [`GONE`] for every partition.
    fn start_behind_the_end(&self, on_lost: OnLost) -> StageHandle {
        let group =
            Consumer::open(&self.kafka.settings("test"), ConsumerOptions::new("t.s", Vec::new()), || {});
        let group = group.unwrap();
        let commits: Vec<_> = (0..PARTITIONS)
            .map(|partition| Commit {
                partition: TopicPartition::new("in", partition as i32),
                offset: GONE,
                metadata: String::new(),
            })
            .collect();
        group.commit_now(&commits).unwrap();
        assert!(group.close(PATIENCE));
        let stage = Stage { on_lost, ..stage(&self.step) };
        start(Arc::new(stage), &self.stage_runtime()).unwrap()
    }
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_lost_offset_halts_the_stage_also_where_the_first_look_for_it_fails() {
    let world = World::new(|_, _| Ok(()));
    world.produce(&borrowed(&words(20, 7)));
    world.kafka.fail_next(MockRequest::ListOffsets, MockError::TopicDenied, 1).unwrap();
    let handle = world.start_behind_the_end(OnLost::Halt);
    wait_until("the stage halts", || handle.status().state == "halted");
    let reason = handle.status().reason.unwrap_or_default();
    assert!(reason.contains("offset 4000 is gone") && reason.contains("on_lost"), "{reason}");
    stop(&handle);
    assert!(world.step.calls.lock().is_empty(), "a silent jump");
}

#[test]
fn a_lost_offset_goes_on_at_the_oldest_record_where_the_files_say_so() {
    let world = World::new(|_, _| Ok(()));
    world.produce(&borrowed(&words(20, 7)));
    let handle = world.start_behind_the_end(OnLost::Earliest);
    world.read("out", 20);
    stop(&handle);
    assert_eq!(world.step.calls.lock().len(), 20);
}

/// The client has given the partitions up, though a second look finds every position: before anything was
/// read of them, and later with records read.
#[test]
fn an_offset_that_is_there_after_all_is_read_on_and_nothing_is_repeated() {
    let world = World::new(|_, _| Ok(()));
    world.kafka.fail_next(MockRequest::Fetch, MockError::OffsetOutOfRange, 1).unwrap();
    world.produce(&borrowed(&words(20, 7)));
    let handle = world.start();
    world.read("out", 20);
    world.kafka.fail_next(MockRequest::Fetch, MockError::OffsetOutOfRange, 1).unwrap();
    let more: Vec<_> = words(40, 7).split_off(20);
    world.produce(&borrowed(&more));
    wait_until("the rest is worked on", || world.step.calls.lock().len() == 40);
    stop(&handle);
    assert!(world.step.calls.lock().values().all(|calls| *calls == 1));
}
