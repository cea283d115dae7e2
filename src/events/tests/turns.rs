//! What a record waits for once it is the first of its lane.

use super::bench::Bench;
use super::*;
use crate::record::RawRecord;

fn accept(bench: &mut Bench, offset: i64, word: &str) {
    bench.runner.accept(RawRecord {
        topic: "in",
        partition: 0,
        offset,
        timestamp: None,
        log_append: false,
        key: Some(b"k"),
        value: Some(format!("\"{word}\"").as_bytes()),
        headers: &(),
    });
}

/// A rewind finds a record waiting whose attempt is not committed; it comes again behind another that
/// fails, too.
#[test]
fn a_record_that_comes_again_behind_another_keeps_its_wait_and_its_gate() {
    let failing: Script = |word, _| match word {
        "bad" => Err(Failure::transient("bad", "no")),
        _ => Ok(()),
    };
    let mut bench = Bench::with(failing);
    bench.assign(&[0]);
    // No commit is answered.
    bench.book.lock().away = true;
    accept(&mut bench, 0, "good");
    let first = *bench.book.lock().sent.last().unwrap();
    accept(&mut bench, 1, "bad");
    bench.runner.acknowledged(first, Err(SendError::UnknownTopic));
    accept(&mut bench, 0, "bad");
    accept(&mut bench, 1, "bad");

    let lane = {
        let raw = RawRecord {
            topic: "in",
            partition: 0,
            offset: 1,
            timestamp: None,
            log_append: false,
            key: Some(b"k"),
            value: None,
            headers: &(),
        };
        bench.runner.lane(0, &raw).unwrap()
    };
    let second = bench.runner.lanes.advance(lane).expect("it waits in the lane");
    let due = bench.runner.in_flight.get(second).unwrap().due.expect("it waits for its time, too");
    bench.runner.take_turn(second);
    assert_eq!(bench.runner.ready, [], "it is not due");
    bench.runner.now = due;
    bench.runner.take_turn(second);
    assert_eq!(bench.runner.ready, [], "its attempt is not committed");
    bench.book.lock().away = false;
    // Asked for, and answered.
    bench.pass(Duration::from_secs(1));
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.runner.ready, [second]);
}
