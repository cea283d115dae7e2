//! A record that was sent again to this stage alone, as its steps see it: where it came from first, and
//! without the header that says so.

use super::letters::{ORIGIN_HEADER, Origin};
use crate::record::{HeaderSource, RawRecord};

/// The headers of a record but for one.
pub(super) struct Without<'a> {
    all: &'a dyn HeaderSource,
    left_out: usize,
}

impl HeaderSource for Without<'_> {
    fn len(&self) -> usize {
        self.all.len() - 1
    }

    fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
        self.all.get(index + usize::from(index >= self.left_out))
    }
}

/// Where a record came from, and its own headers; `None` where it says nothing of that, and so is taken
/// as it is.
pub(super) fn origin<'a>(raw: &RawRecord<'a>) -> Option<(Origin<'a>, Without<'a>)> {
    let left_out = (0..raw.headers.len()).rev().find(|index| raw.headers.get(*index).0 == ORIGIN_HEADER)?;
    let origin = Origin::read(raw.headers.get(left_out).1?)?;
    Some((origin, Without { all: raw.headers, left_out }))
}

/// The record as it was read from there.
pub(super) fn as_from<'a>(
    raw: RawRecord<'a>,
    (origin, headers): &'a (Origin<'a>, Without<'a>),
) -> RawRecord<'a> {
    RawRecord {
        topic: origin.topic,
        partition: origin.partition,
        offset: origin.offset,
        timestamp: origin.timestamp,
        log_append: origin.log_append,
        headers,
        ..raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_seen_where_it_came_from_and_its_own_headers_in_their_order() {
        let headers: [(&str, Option<&[u8]>); 3] =
            [("a", Some(b"1")), (ORIGIN_HEADER, Some(b"in/2/7/5a")), ("b", Some(b"2"))];
        let raw = RawRecord {
            topic: "biplane.s.replay",
            partition: 2,
            offset: 0,
            timestamp: Some(9),
            log_append: false,
            key: None,
            value: Some(b"v"),
            headers: &headers,
        };
        let found = origin(&raw).unwrap();
        let seen = as_from(raw, &found);
        assert_eq!((seen.topic, seen.partition, seen.offset), ("in", 2, 7));
        assert_eq!((seen.timestamp, seen.log_append, seen.value), (Some(5), true, Some(&b"v"[..])));
        let names: Vec<_> = (0..seen.headers.len()).map(|index| seen.headers.get(index).0).collect();
        assert_eq!(names, ["a", "b"]);
        let plain: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), (ORIGIN_HEADER, Some(b"?"))];
        assert!(origin(&RawRecord { headers: &plain, ..raw }).is_none());
    }
}
