//! Records that come, wait and end, as the stage's loop tells of them.

use super::*;
use crate::expr::{Expression, RootSet};

const WINDOW: i64 = 60_000;

fn dedupe(max_keys: usize, homes: u32) -> Dedupe {
    let plan = catalog::Dedupe {
        key: Expression::compile("key", RootSet::RECORD).unwrap(),
        window: std::time::Duration::from_millis(WINDOW as u64),
        max_keys,
        memory: true,
    };
    let mut dedupe = Dedupe::new(&plan, None);
    for slot in 0..homes {
        dedupe.homes.insert(slot, Home { place: None, window: Some(Window::new(WINDOW)) });
    }
    dedupe
}

fn id(number: u64) -> EntryId {
    EntryId::from_token(number)
}

impl Dedupe {
    fn comes(&mut self, number: u64, home: u32, key: &str) -> Meeting {
        let seen = Seen { offset: number as i64, timestamp: Some(now_millis()) };
        self.meet(id(number), home, self.keys.digest(key), seen)
    }

    fn passes_and_ends(&mut self, number: u64, home: u32, key: &str) {
        assert_eq!(self.comes(number, home, key), Meeting::Passes);
        self.claims.get_mut(id(number)).unwrap().marked = true;
        assert_eq!(self.ended(id(number)), Outcome::default());
    }
}

#[test]
fn a_duplicate_is_told_once_its_equal_is_finished_and_in_its_partition_alone() {
    let mut dedupe = dedupe(100, 2);
    dedupe.passes_and_ends(1, 0, "a");
    assert_eq!(dedupe.comes(2, 0, "a"), Meeting::Duplicate);
    assert_eq!(dedupe.comes(1, 0, "a"), Meeting::Passes, "read again, it does not meet its own mark");
    assert_eq!(dedupe.comes(3, 1, "a"), Meeting::Passes, "marks are a partition's own");
    assert_eq!((dedupe.duplicates, dedupe.marks), (1, 1));
}

#[test]
fn those_that_wait_end_with_the_one_they_wait_for_or_take_its_place() {
    let mut dedupe = dedupe(100, 1);
    assert_eq!(dedupe.comes(1, 0, "a"), Meeting::Passes);
    for number in 2..5 {
        assert_eq!(dedupe.comes(number, 0, "a"), Meeting::Waits);
    }
    assert!(dedupe.claims.stops(id(2)) && dedupe.claims.stops(id(4)));
    // The first is dead-lettered: it has no mark, and the next is worked on.
    assert_eq!(dedupe.ended(id(1)), Outcome { duplicates: Vec::new(), ready: Some(id(2)) });
    dedupe.claims.get_mut(id(2)).unwrap().marked = true;
    let duplicates = vec![(id(3), false), (id(4), true)];
    assert_eq!(dedupe.ended(id(2)), Outcome { duplicates, ready: None });
    assert_eq!((dedupe.claims.waiting(), dedupe.duplicates, dedupe.marks), (0, 2, 1));
    assert_eq!(dedupe.ended(id(3)), Outcome::default());
}

#[test]
fn one_that_waits_and_ends_otherwise_leaves_the_others_waiting() {
    let mut dedupe = dedupe(100, 1);
    assert_eq!(dedupe.comes(1, 0, "a"), Meeting::Passes);
    assert_eq!((dedupe.comes(2, 0, "a"), dedupe.comes(3, 0, "a")), (Meeting::Waits, Meeting::Waits));
    assert_eq!(dedupe.ended(id(2)), Outcome::default());
    assert!(dedupe.claims.stops(id(3)));
    assert_eq!(dedupe.ended(id(1)), Outcome { duplicates: Vec::new(), ready: Some(id(3)) });
}

#[test]
fn a_record_that_fails_for_good_after_all_leaves_no_mark_of_its_own_and_keeps_another() {
    let mut dedupe = dedupe(100, 1);
    dedupe.passes_and_ends(1, 0, "a");
    assert_eq!(dedupe.comes(1, 0, "a"), Meeting::Passes);
    assert_eq!(dedupe.ended(id(1)), Outcome::default());
    assert_eq!((dedupe.marks, dedupe.comes(2, 0, "a")), (0, Meeting::Passes));
}

#[test]
fn at_the_bound_the_fullest_partition_forgets_and_that_is_counted() {
    let mut dedupe = dedupe(5, 2);
    dedupe.passes_and_ends(100, 1, "few");
    for number in 0..6 {
        dedupe.passes_and_ends(number, 0, &number.to_string());
    }
    assert_eq!((dedupe.marks, dedupe.forgotten), (5, 2));
    assert_eq!(dedupe.comes(101, 1, "few"), Meeting::Duplicate);
    assert_eq!(dedupe.comes(9, 0, "0"), Meeting::Passes, "the first is forgotten");
    dedupe.remove(0);
    assert_eq!(dedupe.marks, 1);
}

#[test]
fn marks_count_once_they_are_read_for_the_owner_there_is_now() {
    let mut dedupe = dedupe(100, 0);
    let (now, before) = (Owner::new(), Owner::new());
    let name = TopicPartition::new("in", 0);
    let place = Place { marks: name.clone(), home: name, owner: now, end: 0, alive: Arc::default() };
    dedupe.homes.insert(0, Home { place: Some(place), window: None });
    assert!(dedupe.holds(0, Role::Input) && dedupe.holds(7, Role::Replay) && !dedupe.holds(7, Role::Input));
    let window = || {
        let mut window = Window::new(WINDOW);
        let seen = Seen { offset: 1, timestamp: Some(now_millis()) };
        window.put(Keys::of("key").digest("a"), seen, now_millis());
        window
    };
    assert!(!dedupe.install(0, before, window()), "read under a claim that is an old one by now");
    assert!(dedupe.install(0, now, window()) && !dedupe.is_loading());
    assert!(!dedupe.install(0, now, window()), "once is enough");
    assert_eq!((dedupe.marks, dedupe.comes(2, 0, "a")), (1, Meeting::Duplicate));
}
