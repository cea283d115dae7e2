//! Where the client's own log lines go: to `tracing`, target `kafka`, at most a few a minute a kind.
//!
//! The client repeats a line as long as a broker is away; here a kind that repeats is held back for
//! ten seconds and then told with the number of lines that were left out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel as Level;

const QUIET: Duration = Duration::from_secs(10);
/// Kinds are a fixed vocabulary of the client; the bound only guards against a surprise.
const MAX_KINDS: usize = 128;

/// The log of one client instance.
#[derive(Debug)]
pub(super) struct ClientLog {
    client: Cow<'static, str>,
    kinds: Mutex<HashMap<String, Kind>>,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    last: Instant,
    left_out: u64,
}

impl ClientLog {
    pub(super) fn new(client: impl Into<Cow<'static, str>>) -> Self {
        Self { client: client.into(), kinds: Mutex::new(HashMap::new()) }
    }

    /// One line of the client; `kind` is its facility.
    pub(super) fn line(&self, level: Level, kind: &str, message: &str) {
        let client = &*self.client;
        if matches!(level, Level::Debug) {
            // Somebody asked for it, and needs every line.
            return tracing::debug!(target: "kafka", client, kind, "{message}");
        }
        let Some(left_out) = self.admit(kind, Instant::now()) else { return };
        match level {
            Level::Emerg | Level::Alert | Level::Critical | Level::Error => {
                tracing::error!(target: "kafka", client, kind, left_out, "{message}");
            }
            Level::Warning => tracing::warn!(target: "kafka", client, kind, left_out, "{message}"),
            _ => tracing::info!(target: "kafka", client, kind, left_out, "{message}"),
        }
    }

    /// `None`: held back; else how many of the kind were held back before.
    fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock();
        match kinds.get_mut(kind) {
            Some(known) if now.duration_since(known.last) < QUIET => {
                known.left_out += 1;
                None
            }
            Some(known) => {
                let left_out = known.left_out;
                *known = Kind { last: now, left_out: 0 };
                Some(left_out)
            }
            None => {
                if kinds.len() < MAX_KINDS {
                    kinds.insert(kind.to_owned(), Kind { last: now, left_out: 0 });
                }
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_kind_is_held_back_and_counted() {
        let log = ClientLog::new("test");
        let start = Instant::now();
        assert_eq!(log.admit("FAIL", start), Some(0));
        assert_eq!(log.admit("FAIL", start), None);
        assert_eq!(log.admit("FAIL", start + Duration::from_secs(1)), None);
        assert_eq!(log.admit("OTHER", start), Some(0));
        assert_eq!(log.admit("FAIL", start + QUIET), Some(2));
        assert_eq!(log.admit("FAIL", start + QUIET * 2), Some(0));
    }
}
