//! Records as bytes: borrowed while they are only looked at, owned when they must wait.

use std::sync::Arc;

/// The headers of a record, wherever they lie. Names repeat and order is kept, as in Kafka.
pub trait HeaderSource: Sync {
    /// How many headers there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `index < len()`: its name and its value, which may be null.
    fn get(&self, index: usize) -> (&str, Option<&[u8]>);

    /// The last value under `name`: the outer `None` means no such header, the inner a null value.
    fn last(&self, name: &str) -> Option<Option<&[u8]>> {
        (0..self.len())
            .rev()
            .map(|index| self.get(index))
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

impl HeaderSource for () {
    fn len(&self) -> usize {
        0
    }

    fn get(&self, _: usize) -> (&str, Option<&[u8]>) {
        ("", None)
    }
}

/// Headers that were put together anew.
impl HeaderSource for Vec<(&str, Option<&[u8]>)> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
        self[index]
    }
}

/// Headers as tests write them down.
#[cfg(test)]
impl<const N: usize> HeaderSource for [(&str, Option<&[u8]>); N] {
    fn len(&self) -> usize {
        N
    }

    fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
        self[index]
    }
}

/// A record whose bytes lie elsewhere.
#[derive(Clone, Copy)]
pub struct RawRecord<'a> {
    /// The physical name of the topic it was read from.
    pub topic: &'a str,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, if the broker gave a time.
    pub timestamp: Option<i64>,
    /// Whether that time is when the broker appended it; else its producer set it.
    pub log_append: bool,
    /// The key's bytes; `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers in their order.
    pub headers: &'a dyn HeaderSource,
}

impl RawRecord<'_> {
    /// No record at all: what stands for one where a job's steps run.
    pub const NOTHING: Self = Self {
        topic: "",
        partition: 0,
        offset: 0,
        timestamp: None,
        log_append: false,
        key: None,
        value: None,
        headers: &(),
    };

    /// The bytes this record holds while in flight: key, value and headers.
    pub fn size(&self) -> usize {
        let headers: usize = (0..self.headers.len())
            .map(|index| {
                let (name, value) = self.headers.get(index);
                name.len() + value.map_or(0, <[u8]>::len)
            })
            .sum();
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + headers
    }

    /// A copy that can wait in a lane or move to another thread.
    pub fn to_owned(&self) -> OwnedRecord {
        let mut bytes = Vec::with_capacity(self.size());
        let key = self.key.map(|key| append(&mut bytes, key));
        let value = self.value.map(|value| append(&mut bytes, value));
        let headers = (0..self.headers.len())
            .map(|index| {
                let (name, value) = self.headers.get(index);
                (append(&mut bytes, name.as_bytes()), value.map(|value| append(&mut bytes, value)))
            })
            .collect();
        OwnedRecord {
            topic: Arc::from(self.topic),
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            log_append: self.log_append,
            key,
            value,
            headers: Headers { bytes: bytes.into_boxed_slice(), ranges: headers },
        }
    }
}

type Range = (u32, u32);

fn append(bytes: &mut Vec<u8>, part: &[u8]) -> Range {
    let start = bytes.len() as u32;
    bytes.extend_from_slice(part);
    (start, bytes.len() as u32)
}

/// A record that owns its bytes, in one allocation.
#[derive(Debug, Clone)]
pub struct OwnedRecord {
    topic: Arc<str>,
    partition: i32,
    offset: i64,
    timestamp: Option<i64>,
    log_append: bool,
    key: Option<Range>,
    value: Option<Range>,
    headers: Headers,
}

#[derive(Debug, Clone)]
struct Headers {
    bytes: Box<[u8]>,
    ranges: Box<[(Range, Option<Range>)]>,
}

impl Headers {
    fn slice(&self, (start, end): Range) -> &[u8] {
        &self.bytes[start as usize..end as usize]
    }
}

impl HeaderSource for Headers {
    fn len(&self) -> usize {
        self.ranges.len()
    }

    fn get(&self, index: usize) -> (&str, Option<&[u8]>) {
        let (name, value) = self.ranges[index];
        (std::str::from_utf8(self.slice(name)).unwrap_or_default(), value.map(|range| self.slice(range)))
    }
}

impl OwnedRecord {
    /// The record, borrowed.
    pub fn as_raw(&self) -> RawRecord<'_> {
        RawRecord {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            log_append: self.log_append,
            key: self.key.map(|range| self.headers.slice(range)),
            value: self.value.map(|range| self.headers.slice(range)),
            headers: &self.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_copy_equals_its_source_to_the_byte() {
        let owned = RawRecord {
            topic: "t",
            partition: 3,
            offset: 9,
            timestamp: Some(5),
            log_append: true,
            key: Some(b"\xff\x00"),
            value: None,
            headers: &(),
        }
        .to_owned();
        let raw = owned.as_raw();
        assert_eq!((raw.topic, raw.partition, raw.offset, raw.timestamp), ("t", 3, 9, Some(5)));
        assert!(raw.log_append);
        assert_eq!((raw.key, raw.value, raw.headers.len()), (Some(&b"\xff\x00"[..]), None, 0));
    }
}
