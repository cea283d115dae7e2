//! What a parked record carries beside its own headers: where it came from, and how it stands.
//!
//! Both are the last headers of the record, so that taking them off leaves its own in their order,
//! whatever names these have.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::events::letters::{ORIGIN_HEADER, Origin};
use crate::record::{HeaderChange, HeaderSource, RawRecord};

/// The header that says how a parked record stands.
pub(in crate::events) const STANDING_HEADER: &str = "biplane-parked";

/// How a parked record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::events) struct Standing {
    /// Attempts that it has spent.
    pub(in crate::events) spent: u32,
    /// When its next one is due, in milliseconds since the Unix epoch by the clock of who wrote this.
    pub(in crate::events) due: i64,
    /// How long it was to wait then: no other clock makes it wait for longer.
    pub(in crate::events) wait: Duration,
    /// When its first attempt began, in milliseconds since the Unix epoch.
    pub(in crate::events) started: Option<i64>,
    /// When the first of them failed.
    pub(in crate::events) failed: Option<i64>,
}

impl Standing {
    /// How long it still waits, by a clock that says `now`.
    pub(in crate::events) fn left(&self, now: i64) -> Duration {
        let left = self.due.saturating_sub(now).max(0).unsigned_abs();
        Duration::from_millis(left).min(self.wait)
    }

    /// Appends the header's value: attempts spent, due time, wait, start and first failure, with slashes
    /// between, times in milliseconds, nothing where nothing is known.
    fn write(&self, out: &mut Vec<u8>) {
        // Writing into memory cannot fail.
        let _ = write!(out, "{}/{}/{}/", self.spent, self.due, self.wait.as_millis());
        if let Some(started) = self.started {
            let _ = write!(out, "{started}");
        }
        out.push(b'/');
        if let Some(failed) = self.failed {
            let _ = write!(out, "{failed}");
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('/');
        let spent = parts.next()?.parse().ok()?;
        let due = parts.next()?.parse().ok()?;
        let wait = Duration::from_millis(parts.next()?.parse().ok()?);
        let mut time = || match parts.next()? {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        };
        let (started, failed) = (time()?, time()?);
        parts.next().is_none().then_some(Self { spent, due, wait, started, failed })
    }
}

/// The headers to park `raw` with, behind its own.
pub(in crate::events) fn of(raw: &RawRecord<'_>, standing: &Standing) -> Vec<HeaderChange> {
    let (mut origin, mut how) = (Vec::new(), Vec::new());
    Origin {
        topic: raw.topic,
        partition: raw.partition,
        offset: raw.offset,
        timestamp: raw.timestamp,
        log_append: raw.log_append,
    }
    .write(&mut origin);
    standing.write(&mut how);
    vec![
        HeaderChange::Set(Arc::from(ORIGIN_HEADER), Some(origin)),
        HeaderChange::Set(Arc::from(STANDING_HEADER), Some(how)),
    ]
}

/// How a record stands that is finished, and lay at `offset`.
pub(in crate::events) fn done(offset: i64) -> Vec<u8> {
    format!("done/{offset}").into_bytes()
}

/// All headers but the last ones.
pub(in crate::events) struct Own<'a> {
    all: &'a dyn HeaderSource,
    count: usize,
}

impl HeaderSource for Own<'_> {
    fn len(&self) -> usize {
        self.count
    }

    fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
        self.all.get(index)
    }
}

/// What a record of a parking topic is.
pub(in crate::events) enum Found<'a> {
    /// A parked record: where it came from, its own headers, how it stands.
    Parked(Origin<'a>, Own<'a>, Standing),
    /// The one that came from there and lies at this offset is finished.
    Done(Origin<'a>, i64),
    /// Somebody else's, taken as it is.
    Foreign,
}

/// Reads what a record of a parking topic is.
pub(in crate::events) fn read<'a>(raw: &RawRecord<'a>) -> Found<'a> {
    let Some(count) = raw.headers.len().checked_sub(1) else { return Found::Foreign };
    let (name, Some(value)) = raw.headers.get(count) else { return Found::Foreign };
    if name != STANDING_HEADER {
        return Found::Foreign;
    }
    let Some(count) = count.checked_sub(1) else { return Found::Foreign };
    let (name, Some(origin)) = raw.headers.get(count) else { return Found::Foreign };
    let Some(origin) = Origin::read(origin).filter(|_| name == ORIGIN_HEADER) else { return Found::Foreign };
    if let Some(offset) = value.strip_prefix(b"done/") {
        let offset = std::str::from_utf8(offset).ok().and_then(|text| text.parse().ok());
        return offset.map_or(Found::Foreign, |offset| Found::Done(origin, offset));
    }
    // A record whose standing cannot be read is due at once.
    let standing = Standing::read(value).unwrap_or_default();
    Found::Parked(origin, Own { all: raw.headers, count }, standing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAW: RawRecord<'static> = RawRecord {
        topic: "in",
        partition: 2,
        offset: 7,
        timestamp: Some(5),
        log_append: true,
        key: Some(b"k"),
        value: Some(b"v"),
        headers: &(),
    };

    /// `raw` as it is read from its parking topic with these headers before those of the engine.
    fn parked<T>(own: &[(&str, Option<&[u8]>)], standing: &Standing, look: impl FnOnce(Found<'_>) -> T) -> T {
        let written = of(&RAW, standing);
        let added = written.iter().map(|change| match change {
            HeaderChange::Set(name, value) => (&**name, value.as_deref()),
            HeaderChange::Remove(name) => panic!("{name} is removed"),
        });
        let all: Vec<(&str, Option<&[u8]>)> = own.iter().copied().chain(added).collect();
        look(read(&RawRecord { topic: "p", offset: 99, headers: &all, ..RAW }))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            spent in any::<u32>(),
            due in any::<i64>(),
            wait in 0u64..1 << 50,
            started in proptest::option::of(any::<i64>()),
            failed in proptest::option::of(any::<i64>()),
        ) {
            let standing = Standing { spent, due, wait: Duration::from_millis(wait), started, failed };
            parked(&[], &standing, |found| {
                let Found::Parked(origin, own, read) = found else { panic!("not parked") };
                assert_eq!((origin.topic, origin.partition, origin.offset), ("in", 2, 7));
                assert_eq!((origin.timestamp, origin.log_append), (Some(5), true));
                assert_eq!((own.len(), read), (0, standing));
            });
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let headers: [(&str, Option<&[u8]>); 2] =
                [(ORIGIN_HEADER, Some(&bytes)), (STANDING_HEADER, Some(&bytes))];
            let _ = read(&RawRecord { headers: &headers, ..RAW });
            let _ = Standing::read(&bytes);
        }
    }

    #[test]
    fn a_records_own_headers_stay_though_they_have_the_engines_names() {
        let own: [(&str, Option<&[u8]>); 3] =
            [(STANDING_HEADER, Some(b"9/9/9//")), ("a", None), (ORIGIN_HEADER, Some(b"other/0/1/"))];
        parked(&own, &Standing { spent: 3, ..Standing::default() }, |found| {
            let Found::Parked(origin, rest, standing) = found else { panic!("not parked") };
            assert_eq!((origin.topic, standing.spent), ("in", 3));
            let names: Vec<_> = (0..rest.len()).map(|index| rest.get(index)).collect();
            assert_eq!(names, own);
        });
    }

    #[test]
    fn no_clock_makes_a_record_wait_for_longer_than_it_was_told_to() {
        let standing = Standing { due: 100_000, wait: Duration::from_secs(60), ..Standing::default() };
        assert_eq!(standing.left(70_000), Duration::from_secs(30));
        assert_eq!(standing.left(200_000), Duration::ZERO);
        assert_eq!(standing.left(0), Duration::from_secs(60), "a clock an hour behind");
    }

    #[test]
    fn what_is_done_and_what_is_foreign_are_told_apart() {
        let done = done(17);
        let marker: [(&str, Option<&[u8]>); 2] =
            [(ORIGIN_HEADER, Some(b"in/2/7/")), (STANDING_HEADER, Some(&done))];
        assert!(
            matches!(read(&RawRecord { headers: &marker, ..RAW }), Found::Done(origin, 17) if origin.offset == 7)
        );
        assert!(matches!(read(&RAW), Found::Foreign));
        let half: [(&str, Option<&[u8]>); 1] = [(STANDING_HEADER, Some(b"1/2/3//"))];
        assert!(matches!(read(&RawRecord { headers: &half, ..RAW }), Found::Foreign));
    }
}
