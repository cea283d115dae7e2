//! A record's key, value and headers in one piece of memory: a parking topic may hold very many.

use crate::record::{OwnedRecord, RawRecord};

/// The bytes of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::events) struct Packed(Box<[u8]>);

/// The length of a part that is null.
const NULL: u32 = u32::MAX;

impl Packed {
    pub(in crate::events) fn of(raw: &RawRecord<'_>) -> Self {
        let mut bytes = Vec::with_capacity(raw.size() + 8 + raw.headers.len() * 8);
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

    /// The record that came from where `place` did.
    pub(in crate::events) fn unpack(&self, place: RawRecord<'_>) -> OwnedRecord {
        let mut rest = &*self.0;
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
            let packed = Packed::of(&raw);
            let place = RawRecord { key: None, value: None, headers: &(), ..raw };
            let owned = packed.unpack(place);
            let out = owned.as_raw();
            prop_assert_eq!((out.topic, out.partition, out.offset, out.timestamp), ("t", 1, 2, Some(3)));
            prop_assert_eq!((out.key, out.value), (raw.key, raw.value));
            let read: Vec<_> = (0..out.headers.len()).map(|index| out.headers.get(index)).collect();
            prop_assert_eq!(read, given);
            prop_assert_eq!(packed, Packed::of(&out));
        }
    }
}
