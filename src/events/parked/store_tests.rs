use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn bytes(spent: u32, value: &str) -> Packed {
    let head = Head { ordered: true, timed: true, spent, ..Head::default() };
    Packed::of(&RawRecord { topic: "t", value: Some(value.as_bytes()), ..RawRecord::NOTHING }, &head)
}

fn item(store: &mut Store, sequence: Sequence, spent: u32, due: Instant, value: &str) -> Item {
    let place = store.place(1, &RawRecord { topic: "t", ..RawRecord::NOTHING });
    Item::new(place, sequence, due, bytes(spent, value))
}

fn key(lane: LaneId, origin: i64, offset: i64) -> Key {
    Key { lane, origin, offset }
}

/// A copy of the record `origin` at `offset`, with its sequence the same as its offset.
fn put(store: &mut Store, (lane, origin, offset): (LaneId, i64, i64), spent: u32, due: Instant) -> Vec<u64> {
    let item = item(store, offset.unsigned_abs(), spent, due, &origin.to_string());
    store.insert(key(lane, origin, offset), item).into_iter().map(|(_, sequence)| sequence).collect()
}

#[test]
fn the_first_of_a_lane_waits_until_it_is_due_and_the_others_behind_it() {
    let (mut store, now) = (Store::default(), Instant::now());
    let later = now + Duration::from_secs(9);
    put(&mut store, (7, 10, 0), 1, later);
    put(&mut store, (7, 11, 1), 0, now);
    put(&mut store, (8, 20, 2), 1, later + Duration::from_secs(1));
    assert_eq!((store.next_due(), store.start_due(now)), (Some(later), None), "a follower waits");
    let first = store.start_due(later).unwrap();
    assert_eq!(first, key(7, 10, 0));
    assert_eq!(store.start_due(later), None, "one at a time");
    store.sent(first);
    assert_eq!(store.start_due(later), Some(key(7, 11, 1)), "what is sent holds up nobody");
    assert!(store.holds(7) && store.finish(first).is_some() && store.holds(7));
    store.sent(key(7, 11, 1));
    assert!(!store.holds(7) && store.holds(8) && store.len() == 2);
}

#[test]
fn a_record_that_is_parked_again_keeps_its_place_and_its_followers_wait_for_its_copy() {
    let (mut store, now) = (Store::default(), Instant::now());
    put(&mut store, (7, 10, 0), 1, now);
    put(&mut store, (7, 11, 1), 0, now);
    let first = store.start_due(now).unwrap();
    store.expect(7, 1, 10);
    store.sent(first);
    assert_eq!(store.start_due(now), None, "its next copy is on its way");
    assert!(store.finish(first).is_some());
    assert!(put(&mut store, (7, 10, 2), 2, now).is_empty());
    store.expect_no_more(7, 10);
    assert_eq!(store.start_due(now), Some(key(7, 10, 2)));
}

#[test]
fn of_two_copies_the_one_that_spent_more_attempts_stands() {
    let (mut store, now) = (Store::default(), Instant::now());
    put(&mut store, (7, 10, 0), 1, now);
    assert_eq!(put(&mut store, (7, 10, 4), 2, now), [0], "the first is finished");
    assert_eq!(put(&mut store, (7, 10, 5), 0, now), [5], "the input was read again");
    assert_eq!(put(&mut store, (7, 10, 6), 2, now), [4], "moved on");
    let other = item(&mut store, 7, 0, now, "other bytes");
    assert!(store.insert(key(7, 10, 7), other).is_empty(), "another record of that offset");
    assert_eq!((store.len(), store.of(1)), (2, 2));
    assert!(store.has(7, 10, || bytes(0, "10")) && !store.has(7, 11, || bytes(0, "11")));
}

#[test]
fn nothing_of_a_held_partition_or_an_occupied_lane_starts() {
    let (mut store, now) = (Store::default(), Instant::now());
    put(&mut store, (7, 10, 0), 1, now);
    store.hold(1, true);
    put(&mut store, (8, 20, 1), 1, now);
    assert_eq!((store.next_due(), store.start_due(now)), (None, None));
    store.occupy(8, true);
    store.hold(1, false);
    assert_eq!((store.start_due(now), store.start_due(now)), (Some(key(7, 10, 0)), None));
    store.occupy(8, false);
    assert_eq!(store.start_due(now), Some(key(8, 20, 1)));
}

#[test]
fn what_is_put_back_waits_again_as_it_is_told() {
    let (mut store, now) = (Store::default(), Instant::now());
    let later = now + Duration::from_secs(1);
    put(&mut store, (7, 10, 0), 1, now);
    put(&mut store, (7, 11, 1), 0, now);
    let first = store.start_due(now).unwrap();
    store.sent(first);
    store.start_due(now).unwrap();
    assert!(store.put_back(1, |offset, item| (item.head().spent + offset as u32, later)).is_empty());
    assert_eq!((store.running(), store.next_due()), (0, Some(later)));
    let first = store.start_due(later).unwrap();
    assert_eq!((first, store.get(first).unwrap().head().spent), (key(7, 10, 0), 1));
    store.forget(1);
    assert!(store.is_empty() && store.bytes() == 0 && store.running() == 0 && store.next_due().is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Put { lane: LaneId, origin: i64, spent: u32, due: u64 },
    Expect { lane: LaneId, origin: i64 },
    Came { lane: LaneId, origin: i64 },
    Start { at: u64 },
    Sent,
    Finish,
    PutBack { due: u64 },
    Hold(bool),
    Occupy { lane: LaneId, occupied: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let (lane, origin) = (0u64..3, 0i64..6);
    prop_oneof![
        4 => (lane.clone(), origin.clone(), 0u32..3, 0u64..10)
            .prop_map(|(lane, origin, spent, due)| Step::Put { lane, origin, spent, due }),
        1 => (lane.clone(), origin.clone()).prop_map(|(lane, origin)| Step::Expect { lane, origin }),
        1 => (lane.clone(), origin).prop_map(|(lane, origin)| Step::Came { lane, origin }),
        4 => (0u64..12).prop_map(|at| Step::Start { at }),
        2 => Just(Step::Sent),
        2 => Just(Step::Finish),
        1 => (0u64..12).prop_map(|due| Step::PutBack { due }),
        1 => any::<bool>().prop_map(Step::Hold),
        1 => (lane, any::<bool>()).prop_map(|(lane, occupied)| Step::Occupy { lane, occupied }),
    ]
}

proptest! {
    /// Whatever happens: a record starts only when it is due, alone in its lane, before all that waits
    /// behind it; what is due is what a look at every lane would find; the counts are right.
    #[test]
    fn lanes_keep_their_order_and_nothing_that_is_due_is_forgotten(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut store = Store::default();
        let mut offset = 0;
        for step in steps {
            match step {
                Step::Put { lane, origin, spent, due } => {
                    offset += 1;
                    put(&mut store, (lane, origin, offset), spent, at(due));
                }
                Step::Expect { lane, origin } => store.expect(lane, 1, origin),
                Step::Came { lane, origin } => store.expect_no_more(lane, origin),
                Step::Start { at: seconds } => {
                    let running: BTreeSet<LaneId> = (0..3).filter(|lane| store.runs(*lane)).collect();
                    if let Some(key) = store.start_due(at(seconds)) {
                        prop_assert!(store.get(key).unwrap().due() <= at(seconds));
                        prop_assert!(!running.contains(&key.lane) && !store.occupied.contains(&key.lane));
                        prop_assert!(!store.held.contains(&1));
                        let waits = |(other, _): &(&Key, &Item)| !store.out.contains_key(other);
                        prop_assert!(store.lane(key.lane).filter(waits).all(|(other, _)| *other > key));
                        let expected = store.expected.get(&key.lane).into_iter().flatten();
                        prop_assert!(expected.into_iter().all(|(_, origin)| *origin > key.origin));
                    }
                }
                Step::Sent => {
                    let first = store.out.keys().next().copied();
                    first.into_iter().for_each(|key| store.sent(key));
                }
                Step::Finish => {
                    let first = store.out.keys().next().copied();
                    first.into_iter().for_each(|key| drop(store.finish(key)));
                }
                Step::PutBack { due } => drop(store.put_back(1, |_, item| (item.head().spent, at(due)))),
                Step::Hold(held) => store.hold(1, held),
                Step::Occupy { lane, occupied } => store.occupy(lane, occupied),
            }
            let due: BTreeSet<_> =
                (0..3).filter_map(|lane| store.startable(lane).map(|(_, due)| (due, lane))).collect();
            prop_assert_eq!(&store.due, &due);
            prop_assert_eq!(store.of(1), store.items.len());
            prop_assert_eq!(store.bytes(), store.items.values().map(|item| item.bytes.len()).sum::<usize>());
            let running = store.out.values().filter(|out| **out == Out::Running).count();
            prop_assert_eq!(store.running(), running);
            prop_assert_eq!(store.expecting, store.expected.values().map(Vec::len).sum::<usize>());
        }
    }
}
