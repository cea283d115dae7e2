//! A record's key, value and headers, and how it stands, in one piece of memory: a parking topic may hold
//! very many.

use crate::record::{OwnedRecord, RawRecord};

/// One record.
#[derive(Debug, Clone)]
pub(in crate::events) struct Packed(Box<[u8]>);

/// How a parked record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::events) struct Head {
    pub(in crate::events) timestamp: Option<i64>,
    pub(in crate::events) log_append: bool,
    /// Whether its lane orders anything; else it is alone in it.
    pub(in crate::events) ordered: bool,
    /// Whether it was told to wait until it is due; else it waits for those before it alone.
    pub(in crate::events) timed: bool,
    /// Attempts that it has spent.
    pub(in crate::events) spent: u32,
    /// When its first attempt began, and when the first failed, in milliseconds since the Unix epoch.
    pub(in crate::events) started: Option<i64>,
    pub(in crate::events) failed: Option<i64>,
}

/// Three flags, the attempts and three times.
const HEAD: usize = 1 + 4 + 3 * 8;
/// A time that is not known.
const NEVER: i64 = i64::MIN;
/// The length of a part that is null.
const NULL: u32 = u32::MAX;

impl Head {
    fn pack(&self) -> [u8; HEAD] {
        let mut packed = [0; HEAD];
        let flags = [self.log_append, self.ordered, self.timed].into_iter().enumerate();
        packed[0] = flags.fold(0, |all, (bit, flag)| all | u8::from(flag) << bit);
        packed[1..5].copy_from_slice(&self.spent.to_le_bytes());
        for (place, time) in packed[5..].chunks_exact_mut(8).zip([self.timestamp, self.started, self.failed])
        {
            place.copy_from_slice(&time.unwrap_or(NEVER).to_le_bytes());
        }
        packed
    }

    fn unpack(packed: &[u8; HEAD]) -> Self {
        let [flags, a, b, c, d, times @ ..] = packed;
        let mut times = times.chunks_exact(8).map(|time| {
            let time = time.try_into().map_or(NEVER, i64::from_le_bytes);
            (time != NEVER).then_some(time)
        });
        let mut time = || times.next().flatten();
        Self {
            log_append: flags & 1 != 0,
            ordered: flags & 2 != 0,
            timed: flags & 4 != 0,
            spent: u32::from_le_bytes([*a, *b, *c, *d]),
            timestamp: time(),
            started: time(),
            failed: time(),
        }
    }
}

impl Packed {
    pub(in crate::events) fn of(raw: &RawRecord<'_>, head: &Head) -> Self {
        let mut bytes = Vec::with_capacity(HEAD + raw.size() + 8 + raw.headers.len() * 8);
        bytes.extend_from_slice(&head.pack());
        let mut put = |part: Option<&[u8]>| {
            let length = part.map_or(NULL, |part| part.len() as u32);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(part.unwrap_or_default());
        };
        put(raw.key);
        put(raw.value);
        for index in 0..raw.headers.len() {
            let (name, value) = raw.headers.get(index);
            put(Some(name.as_bytes()));
            put(value);
        }
        Self(bytes.into_boxed_slice())
    }

    /// How many bytes it holds.
    pub(in crate::events) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::events) fn head(&self) -> Head {
        self.0.first_chunk().map(Head::unpack).unwrap_or_default()
    }

    pub(in crate::events) fn set_head(&mut self, head: &Head) {
        if let Some(packed) = self.0.first_chunk_mut() {
            *packed = head.pack();
        }
    }

    /// Whether both are the same record, however they stand.
    pub(in crate::events) fn is_same(&self, other: &Self) -> bool {
        self.0.get(HEAD..) == other.0.get(HEAD..)
    }

    /// The record that came from where `place` did.
    pub(in crate::events) fn unpack(&self, place: RawRecord<'_>) -> OwnedRecord {
        let mut rest = self.0.get(HEAD..).unwrap_or_default();
        let (key, value) = (take(&mut rest), take(&mut rest));
        let mut headers = Vec::new();
        while !rest.is_empty() {
            let name = std::str::from_utf8(take(&mut rest).unwrap_or_default()).unwrap_or_default();
            headers.push((name, take(&mut rest)));
        }
        RawRecord { key, value, headers: &headers, ..place }.to_owned()
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    let length = u32::from_le_bytes(*length);
    if length == NULL {
        return None;
    }
    let (part, tail) = rest.split_at_checked(length as usize)?;
    *rest = tail;
    Some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_comes_out_as_it_went_in(
            key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
            value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..99)),
            headers in proptest::collection::vec(
                ("[a-z]{0,5}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9))),
                0..4,
            ),
            (log_append, ordered, timed) in (any::<bool>(), any::<bool>(), any::<bool>()),
            (timestamp, spent, started, failed) in
                (any::<Option<i64>>(), any::<u32>(), any::<Option<i64>>(), any::<Option<i64>>()),
        ) {
            let given: Vec<(&str, Option<&[u8]>)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let raw = RawRecord {
                topic: "t",
                partition: 1,
                offset: 2,
                timestamp: Some(3),
                log_append: false,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &given,
            };
            let head = Head { timestamp, log_append, ordered, timed, spent, started, failed };
            let mut packed = Packed::of(&raw, &Head::default());
            prop_assert_eq!(packed.head(), Head::default());
            packed.set_head(&head);
            prop_assert_eq!(packed.head(), head);
            let place = RawRecord { key: None, value: None, headers: &(), ..raw };
            let owned = packed.unpack(place);
            let out = owned.as_raw();
            prop_assert_eq!((out.topic, out.partition, out.offset, out.timestamp), ("t", 1, 2, Some(3)));
            prop_assert_eq!((out.key, out.value), (raw.key, raw.value));
            let read: Vec<_> = (0..out.headers.len()).map(|index| out.headers.get(index)).collect();
            prop_assert_eq!(read, given);
            prop_assert!(packed.is_same(&Packed::of(&out, &Head::default())));
        }
    }
}
