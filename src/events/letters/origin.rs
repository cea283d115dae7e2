//! Where a record that is sent again came from, as one header of the engine's own carries it.

use std::io::Write;

/// The header's name. A stage takes it off before anything else sees the record.
pub const ORIGIN_HEADER: &str = "biplane-origin";

/// A record's first place: what its scope, its id and its next dead letter name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The physical name of the topic.
    pub topic: &'a str,
    /// Its partition there.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, if it had a time.
    pub timestamp: Option<i64>,
    /// Whether the broker set that time.
    pub log_append: bool,
}

impl<'a> Origin<'a> {
    /// Appends the header's value: `topic/partition/offset/time`, the time with an `a` behind it where
    /// the broker set it. No topic's name holds a slash.
    pub fn write(&self, out: &mut Vec<u8>) {
        // Writing into memory cannot fail.
        let _ = write!(out, "{}/{}/{}/", self.topic, self.partition, self.offset);
        if let Some(timestamp) = self.timestamp {
            let _ = write!(out, "{timestamp}{}", if self.log_append { "a" } else { "" });
        }
    }

    /// Reads the header's value; `None` where something else wrote it.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(bytes).ok()?.split('/');
        let topic = parts.next().filter(|topic| !topic.is_empty())?;
        let partition = parts.next()?.parse().ok().filter(|number| *number >= 0)?;
        let offset = parts.next()?.parse().ok().filter(|number| *number >= 0)?;
        let time = parts.next()?;
        if parts.next().is_some() {
            return None;
        }
        let (millis, log_append) = match time.strip_suffix('a') {
            Some(millis) => (millis, true),
            None => (time, false),
        };
        let timestamp = if millis.is_empty() { None } else { Some(millis.parse().ok()?) };
        Some(Self { topic, partition, offset, timestamp, log_append })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            topic in "[a-zA-Z0-9._-]{1,249}",
            partition in 0..i32::MAX,
            offset in 0..i64::MAX,
            timestamp in proptest::option::of(any::<i64>()),
            append in any::<bool>(),
        ) {
            let log_append = append && timestamp.is_some();
            let origin = Origin { topic: &topic, partition, offset, timestamp, log_append };
            let mut bytes = Vec::new();
            origin.write(&mut bytes);
            prop_assert_eq!(Origin::read(&bytes), Some(origin));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Origin::read(&bytes);
        }
    }

    #[test]
    fn what_another_program_wrote_is_no_origin() {
        for text in ["", "t", "t/0/1", "t/0/1/2/3", "t/-1/0/", "t/0/x/", "/0/1/", "t/0/1/soon"] {
            assert_eq!(Origin::read(text.as_bytes()), None, "{text}");
        }
    }
}
