//! Equal records that are in flight together, through a whole runner. Marks are kept in memory here.

use super::*;
use crate::catalog::Dedupe;
use crate::expr::Expression;

fn start_deduping(world: &World, order: Order) -> StageHandle {
    let mut stage = stage(&world.step);
    stage.order = order;
    stage.dedupe = Some(Dedupe {
        key: Expression::compile("headers.id", RootSet::RECORD).unwrap(),
        window: Duration::from_secs(3_600),
        max_keys: 1_000,
        memory: true,
    });
    start(Arc::new(stage), &world.stage_runtime()).unwrap()
}

fn produce(world: &World, id: &str, key: &str, word: &str) {
    world.produce_with(&[(key, format!("\"{word}\""))], &[("id", id.as_bytes())]);
}

/// Nothing is in flight, and no lane is held.
fn end(world: &World, handle: &StageHandle, out: usize) -> Vec<Got> {
    world.read_until("out", |got| {
        let status = handle.status();
        got.len() >= out && (status.in_flight, status.lanes, status.waiting) == (0, 0, 0)
    });
    stop(handle);
    world.read("out", out)
}

#[test]
fn a_record_waits_for_its_equal_and_ends_with_it_or_goes_on_where_that_is_given_up() {
    let world = World::new(|word, attempt| match word {
        "twice" if attempt < 3 => Err(Failure::transient("busy", "try later")),
        "wrong" if attempt < 2 => Err(Failure::transient("busy", "try later")),
        "wrong" => Err(Failure::permanent("wrong", "no use")),
        _ => Ok(()),
    });
    for (id, word) in
        [("x", "twice"), ("y", "wrong"), ("x", "never"), ("y", "better"), ("y", "late"), ("z", "z")]
    {
        produce(&world, id, "same", word);
    }
    let handle = start_deduping(&world, Order::None);
    let mut out: Vec<_> = end(&world, &handle, 3).into_iter().map(|got| got.value).collect();
    out.sort();
    assert_eq!(out, [&b"\"better\""[..], b"\"twice\"", b"\"z\""]);
    assert_eq!(world.read("dead", 1)[0].value, b"\"wrong\"");
    let calls = world.step.calls.lock();
    assert!(!calls.contains_key("never") && !calls.contains_key("late"), "{calls:?}");
    let dedupe = handle.status().dedupe.unwrap();
    assert_eq!((dedupe.duplicates, dedupe.marks, dedupe.waiting), (2, 3, 0));
}

/// Those that wait hold up their lanes, and what is behind them comes after them or in their place.
#[test]
fn lanes_of_records_that_end_as_duplicates_go_on() {
    const KEYS: usize = 10;
    let world = World::new(|word, attempt| match word {
        word if word.starts_with("equal") && attempt < 2 => Err(Failure::transient("busy", "try later")),
        _ => Ok(()),
    });
    for number in 0..KEYS {
        produce(&world, "x", &format!("k{number}"), &format!("equal{number}"));
    }
    for number in 0..KEYS {
        produce(&world, &format!("id{number}"), &format!("k{number}"), &format!("behind{number}"));
    }
    let handle = start_deduping(&world, Order::Key);
    // One of each partition passes.
    let passed = PARTITIONS as usize;
    let all = end(&world, &handle, KEYS + passed);
    let duplicates = handle.status().dedupe.unwrap().duplicates as usize;
    assert_eq!((all.len(), duplicates), (KEYS + passed, KEYS - passed));
    for (key, words) in by_key(&all) {
        let number = key.trim_start_matches('k');
        let (equal, behind) = (format!("\"equal{number}\""), format!("\"behind{number}\""));
        assert!(words == [equal, behind.clone()] || words == [behind], "{key}: {words:?}");
    }
}

#[test]
fn a_key_that_cannot_be_told_fails_its_record_and_null_is_equal_to_none() {
    let world = World::new(|_, _| Ok(()));
    let mut stage = stage(&world.step);
    stage.dedupe = Some(Dedupe {
        key: Expression::compile("value if value != 'bad' else [value]", RootSet::RECORD).unwrap(),
        window: Duration::from_secs(3_600),
        max_keys: 1_000,
        memory: true,
    });
    world.produce(
        &["null", "null", "\"a\"", "\"bad\"", "\"a\"", "no json"].map(|value| ("k", value.to_owned())),
    );
    let handle = start(Arc::new(stage), &world.stage_runtime()).unwrap();
    let dead = world.read("dead", 2);
    assert_eq!(end(&world, &handle, 3).len(), 3);
    let messages: Vec<_> =
        dead.iter().map(|letter| letter.headers["biplane-error-message"].clone()).collect();
    assert!(messages.iter().all(|message| message.starts_with("`dedupe.key`: ")), "{messages:?}");
}
