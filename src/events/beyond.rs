//! What a commit's metadata says to those who look at a stage from outside.

use std::ops::Range;

use super::metadata::Beyond;

/// How many offsets of `range` are finished beyond a commit at `base`; 0 where the text cannot be trusted.
pub fn finished(metadata: &str, base: i64, range: Range<i64>) -> i64 {
    let beyond = Beyond::decode(metadata, base).unwrap_or_default();
    let within = |(first, last): &(i64, i64)| ((*last + 1).min(range.end) - (*first).max(range.start)).max(0);
    beyond.finished.iter().map(within).sum()
}

/// The text for a commit at `to` in place of one at `base`: what was finished beyond, and what attempts
/// were spent, means nothing there; how many partitions the topic had when the group began is kept, and what
/// is parked still is.
pub fn cleared(metadata: &str, base: i64, to: i64) -> String {
    let mut beyond = Beyond::decode(metadata, base).unwrap_or_default();
    beyond.forget();
    beyond.encode(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::metadata::Outstanding;

    #[test]
    fn finished_offsets_are_counted_and_cleared_and_what_is_not_of_them_is_kept() {
        let (founded, parked) = (Some(4), Some(Outstanding { records: 2, from: 7 }));
        let beyond =
            Beyond { finished: vec![(12, 14), (20, 20)], attempts: [(11, 3)].into(), founded, parked };
        let text = beyond.encode(10);
        assert_eq!(finished(&text, 10, 0..100), 4);
        assert_eq!((finished(&text, 10, 13..20), finished(&text, 10, 15..20)), (2, 0));
        assert_eq!(finished(&text, 11, 0..100), 0, "of another commit");
        assert_eq!(finished("whatever", 10, 0..100), 0);
        let left = Beyond::decode(&cleared(&text, 10, 3), 3).unwrap();
        assert_eq!(left, Beyond { founded, parked, ..Beyond::default() });
        assert_eq!(cleared("", 10, 3), "");
    }
}
