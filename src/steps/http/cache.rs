//! Answers kept for a while, bounded in bytes; of several records that ask for one key at one time
//! only one makes the request.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    flights: HashMap<Arc<str>, Arc<Flying>>,
}

/// Those who want one key at one time: one of them asks, the others wait for their turn.
#[derive(Default)]
struct Flying {
    /// How many requests have ended.
    ended: AtomicU64,
    /// What the last of them came to.
    turn: tokio::sync::Mutex<Option<Result<Arc<Answer>, Failure>>>,
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

    /// The answer under `key`: kept, made by `fetch`, or what a request came to that ended while this
    /// one waited for it. A failure is not kept for those who come later.
    pub(super) async fn get(
        &self,
        key: &str,
        fetch: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Arc<Answer>, Failure> {
        if let Some(answer) = self.kept(key) {
            return Ok(answer);
        }
        let flight = Flight::join(self, key);
        let flying = Arc::clone(&flight.flying);
        let mut turn = flying.turn.lock().await;
        if let Some(answer) = self.kept(key) {
            return Ok(answer);
        }
        if let Some(result) = turn.as_ref().filter(|_| flying.ended.load(Ordering::Acquire) > flight.joined) {
            return result.clone();
        }
        let result = fetch.await.map(Arc::new);
        if let Ok(answer) = &result {
            self.keep(key, answer);
        }
        *turn = Some(result.clone());
        flying.ended.fetch_add(1, Ordering::AcqRel);
        result
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
    flying: Arc<Flying>,
    /// How many requests had ended when it came.
    joined: u64,
}

impl<'a> Flight<'a> {
    fn join(cache: &'a Cache, key: &str) -> Self {
        let key: Arc<str> = Arc::from(key);
        let flying = Arc::clone(cache.state.lock().flights.entry(Arc::clone(&key)).or_default());
        let joined = flying.ended.load(Ordering::Acquire);
        Self { cache, key, flying, joined }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        // Nobody but the map and this one holds it: joining happens under the same lock.
        if Arc::strong_count(&self.flying) <= 2 {
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

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_request_share_what_it_comes_to() {
        let cache = Cache::new(Duration::from_secs(60), 0);
        let asked = AtomicU64::new(0);
        let get = |result: fn() -> Result<Answer, Failure>| {
            let asked = &asked;
            cache.get("key", async move {
                asked.fetch_add(1, Ordering::AcqRel);
                tokio::time::sleep(Duration::from_secs(5)).await;
                result()
            })
        };
        let began = Instant::now();
        let dead = || Err(Failure::transient("timeout", "no answer"));
        let failures = futures_util::future::join_all((0..16).map(|_| get(dead))).await;
        assert!(failures.iter().all(Result::is_err));
        assert_eq!((asked.load(Ordering::Acquire), began.elapsed()), (1, Duration::from_secs(5)));
        // Neither a failure nor an answer that is too large to keep is there for those who come later.
        let answers = futures_util::future::join_all((0..16).map(|_| get(|| Ok(Answer::null(200))))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Acquire), 2);
        assert!(cache.state.lock().flights.is_empty());
    }
}
