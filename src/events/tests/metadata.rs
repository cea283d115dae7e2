//! What a commit says beyond its offset: what fits reads back whole, the rest is cut and never wrong.

use proptest::prelude::*;

use super::*;

fn runs_of(offsets: &std::collections::BTreeSet<i64>) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for offset in offsets {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == *offset => run.1 = *offset,
            _ => runs.push((*offset, *offset)),
        }
    }
    runs
}

#[test]
fn nothing_to_say_is_an_empty_text() {
    assert_eq!(Beyond::default().encode(7), "");
    assert_eq!(Beyond::decode("", 7), None);
}

#[test]
fn metadata_of_another_offset_version_or_with_a_flipped_bit_is_ignored() {
    let parked = Some(Outstanding { records: 5, from: 3 });
    let attempts = BTreeMap::from([(8, 2)]);
    let beyond = Beyond { finished: vec![(9, 11)], attempts, founded: Some(300), parked };
    let text = beyond.encode(7);
    assert_eq!(Beyond::decode(&text, 7), Some(beyond));
    assert_eq!(Beyond::decode(&text, 8), None);
    assert_eq!(Beyond::decode(&text.replacen("b1", "b2", 1), 7), None);
    let flipped = format!("{}{}", &text[..10], if &text[10..11] == "A" { "B" } else { "A" }) + &text[11..];
    assert_eq!(Beyond::decode(&flipped, 7), None);
}

proptest! {
    #[test]
    fn what_fits_reads_back_whole(
        base in 0i64..1 << 50,
        finished in proptest::collection::btree_set(1i64..4_000, 0..600),
        attempts in proptest::collection::btree_map(0i64..4_000, 1u32..50, 0..50),
        founded in proptest::option::of(1i32..),
        parked in proptest::option::of((any::<u32>(), 0i64..)),
    ) {
        let beyond = Beyond {
            finished: runs_of(&finished.iter().map(|offset| base + offset).collect()),
            attempts: attempts.iter().map(|(offset, spent)| (base + offset, *spent)).collect(),
            founded,
            parked: parked.map(|(records, from)| Outstanding { records, from }),
        };
        let text = beyond.encode(base);
        prop_assert!(text.len() <= 4_096);
        prop_assert_eq!(Beyond::decode(&text, base).unwrap_or_default(), beyond);
    }

    #[test]
    fn what_does_not_fit_is_cut_but_never_wrong(
        finished in proptest::collection::btree_set(1i64..200_000, 5_000..20_000),
    ) {
        let beyond = Beyond { finished: runs_of(&finished), ..Beyond::default() };
        let text = beyond.encode(0);
        prop_assert!(text.len() <= 4_096);
        let read = Beyond::decode(&text, 0).unwrap();
        prop_assert!(!read.finished.is_empty());
        for (first, last) in read.finished {
            prop_assert!((first..=last).all(|offset| finished.contains(&offset)));
        }
    }

    #[test]
    fn attempts_take_the_room_that_the_set_leaves_and_the_lowest_offsets_stay(
        finished in proptest::collection::btree_set(1i64..100_000, 0..9_000),
        count in 0usize..4_000,
    ) {
        let attempts: BTreeMap<_, _> = (0..count as i64).map(|offset| (offset * 2, 2)).collect();
        let parked = Some(Outstanding { records: u32::MAX, from: i64::MAX });
        let beyond = Beyond { finished: runs_of(&finished), attempts, founded: Some(i32::MAX), parked };
        let text = beyond.encode(0);
        prop_assert!(text.len() <= 4_096);
        let read = Beyond::decode(&text, 0).unwrap_or_default();
        prop_assert!(read.attempts.len() >= count.min(ATTEMPTS / 2));
        prop_assert!(read.attempts.iter().eq(beyond.attempts.iter().take(read.attempts.len())));
        if finished.is_empty() {
            prop_assert!(read.attempts.len() >= count.min(1_500));
        }
    }

    #[test]
    fn no_text_panics(text in "(b1\\.)?[A-Za-z0-9_-]{0,80}", base in any::<i64>()) {
        let _ = Beyond::decode(&text, base);
    }
}
