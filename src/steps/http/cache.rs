//! Answers kept for a while, bounded in bytes; of several records that ask for one key at one time
//! only one makes the request.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::answer::Answer;
use crate::base::Failure;

/// What one entry costs beside its key and answer.
const OVERHEAD: usize = 128;

/// A cache of one step.
pub(super) struct Cache {
    ttl: Duration,
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: HashMap<Arc<str>, Kept>,
    /// Keys in the order in which they were kept, with the number of that time.
    order: VecDeque<(Arc<str>, u64)>,
    next: u64,
    bytes: usize,
    flights: HashMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>,
}

struct Kept {
    answer: Arc<Answer>,
    expires_at: Instant,
    bytes: usize,
    number: u64,
}

impl Cache {
    pub(super) fn new(ttl: Duration, max_bytes: usize) -> Self {
        Self { ttl, max_bytes, state: Mutex::default() }
    }

    /// The answer under `key`: kept, or made by `fetch`. A failure is not kept; whoever waited for it
    /// tries again.
    pub(super) async fn get(
        &self,
        key: &str,
        fetch: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Arc<Answer>, Failure> {
        if let Some(answer) = self.kept(key) {
            return Ok(answer);
        }
        let flight = Flight::join(self, key);
        let turn = Arc::clone(&flight.turn);
        let _turn = turn.lock().await;
        if let Some(answer) = self.kept(key) {
            return Ok(answer);
        }
        let answer = Arc::new(fetch.await?);
        self.keep(key, &answer);
        Ok(answer)
    }

    fn kept(&self, key: &str) -> Option<Arc<Answer>> {
        let state = self.state.lock();
        let kept = state.kept.get(key)?;
        (kept.expires_at > Instant::now()).then(|| Arc::clone(&kept.answer))
    }

    fn keep(&self, key: &str, answer: &Arc<Answer>) {
        let bytes = 2 * key.len() + answer.size() + OVERHEAD;
        let mut state = self.state.lock();
        state.forget(key);
        if bytes > self.max_bytes {
            return;
        }
        while state.bytes + bytes > self.max_bytes {
            let Some((oldest, number)) = state.order.pop_front() else { break };
            if state.kept.get(&oldest).is_some_and(|kept| kept.number == number) {
                state.forget(&oldest);
            }
        }
        let (key, number): (Arc<str>, u64) = (Arc::from(key), state.next);
        state.next += 1;
        state.bytes += bytes;
        state.order.push_back((Arc::clone(&key), number));
        let expires_at = Instant::now() + self.ttl;
        state.kept.insert(key, Kept { answer: Arc::clone(answer), expires_at, bytes, number });
        state.compact();
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl State {
    fn forget(&mut self, key: &str) {
        if let Some(kept) = self.kept.remove(key) {
            self.bytes -= kept.bytes;
        }
    }

    /// Drops what stands in the order for keys that were kept again since.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.kept.len() + 16 {
            let kept = &self.kept;
            self.order.retain(|(key, number)| kept.get(key).is_some_and(|kept| kept.number == *number));
        }
    }
}

/// One of those who wait for a key; the last to leave clears it away, even when dropped mid-way.
struct Flight<'a> {
    cache: &'a Cache,
    key: Arc<str>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Flight<'a> {
    fn join(cache: &'a Cache, key: &str) -> Self {
        let key: Arc<str> = Arc::from(key);
        let turn = Arc::clone(cache.state.lock().flights.entry(Arc::clone(&key)).or_default());
        Self { cache, key, turn }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        // Nobody but the map and this one holds it: joining happens under the same lock.
        if Arc::strong_count(&self.turn) <= 2 {
            state.flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn put(cache: &Cache, key: &str) -> bool {
        let mut fetched = false;
        let fetch = async {
            fetched = true;
            Ok(Answer::null(200))
        };
        cache.get(key, fetch).await.unwrap();
        fetched
    }

    #[tokio::test]
    async fn bytes_stay_below_the_bound_and_the_oldest_goes_first() {
        let cache = Cache::new(Duration::from_secs(60), 2_000);
        for number in 0..500 {
            assert!(put(&cache, &format!("key-{number}")).await);
            assert!(cache.bytes() <= 2_000);
        }
        assert!(!put(&cache, "key-499").await);
        assert!(put(&cache, "key-0").await);
        let state = cache.state.lock();
        assert!(state.flights.is_empty() && state.order.len() <= 2 * state.kept.len() + 17);
    }

    #[tokio::test]
    async fn what_has_expired_is_asked_for_again() {
        let cache = Cache::new(Duration::ZERO, 2_000);
        assert!(put(&cache, "key").await && put(&cache, "key").await);
        assert!(cache.bytes() > 0);
    }

    #[tokio::test]
    async fn a_waiter_that_is_dropped_leaves_nothing_behind() {
        let cache = Cache::new(Duration::from_secs(60), 2_000);
        let endless = cache.get("key", std::future::pending());
        assert!(tokio::time::timeout(Duration::from_millis(1), endless).await.is_err());
        assert!(cache.state.lock().flights.is_empty());
        assert!(put(&cache, "key").await);
    }
}
