//! The retry policy both planes share: which failures are tried again, how often, after which waits.

use std::sync::Arc;
use std::time::Duration;

use super::{Backoff, CodePattern, Failure, Remedy};

/// How often and how long a failed record is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Its identity in the files; `built-in` where none is named.
    pub name: Arc<str>,
    /// Attempts in all; counts the first.
    pub max_attempts: u32,
    /// The waits between them.
    pub backoff: Backoff,
    /// Which failures are worth another try; never empty.
    pub on: Vec<CodePattern>,
    /// Which are not, though `on` names them.
    pub not_on: Vec<CodePattern>,
    /// The longest wait kept in the lane; `None`: any.
    pub in_place_up_to: Option<Duration>,
    /// What becomes of a record that has used up its attempts.
    pub on_exhausted: Exhausted,
}

/// The fate of a record that has used up its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// To the stage's DLQ.
    DeadLetter,
    /// Counted and let go.
    Drop,
    /// The stage stops and says why; the record's offset is not committed.
    Halt,
}

impl RetryPolicy {
    /// Whether `failure` is worth another try at all, whatever the attempts spent.
    pub fn covers(&self, failure: &Failure) -> bool {
        failure.remedy == Remedy::Policy
            && self.on.iter().any(|pattern| pattern.matches(failure))
            && !self.not_on.iter().any(|pattern| pattern.matches(failure))
    }

    /// Whether any of its own waits is longer than it keeps in place.
    pub fn parks(&self) -> bool {
        self.in_place_up_to.is_some_and(|limit| self.backoff.longest(self.max_attempts) > limit)
    }

    /// The wait before the next attempt after `attempt` (from 1) failed; `None`: no further one.
    /// A wait that the other side asked for is kept when it is the longer one. `random` is uniform
    /// in `0.0..1.0`.
    pub fn next_wait(&self, attempt: u32, failure: &Failure, random: f64) -> Option<Duration> {
        self.next_wait_of(None, attempt, failure, random)
    }

    /// As [`RetryPolicy::next_wait`], with another number of attempts than the policy's own.
    pub fn next_wait_of(
        &self,
        max_attempts: Option<u32>,
        attempt: u32,
        failure: &Failure,
        random: f64,
    ) -> Option<Duration> {
        (attempt < max_attempts.unwrap_or(self.max_attempts) && self.covers(failure)).then(|| {
            let wait = self.backoff.delay(attempt, random);
            failure.retry_after.map_or(wait, |asked| asked.max(wait))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_bounded_and_not_on_wins_over_on() {
        let policy = RetryPolicy {
            name: Arc::from("p"),
            max_attempts: 3,
            backoff: Backoff::Delays(vec![Duration::from_secs(1)]),
            on: vec![CodePattern::parse("transient")],
            not_on: vec![CodePattern::parse("http-501")],
            in_place_up_to: None,
            on_exhausted: Exhausted::DeadLetter,
        };
        let busy = Failure::transient("http-503", "busy");
        assert_eq!(policy.next_wait(1, &busy, 0.0), Some(Duration::from_secs(1)));
        assert_eq!(policy.next_wait(3, &busy, 0.0), None);
        assert_eq!(policy.next_wait(1, &Failure::transient("http-501", ""), 0.0), None);
        assert_eq!(policy.next_wait(1, &Failure::permanent("schema", ""), 0.0), None);
        assert_eq!(policy.next_wait(1, &busy.clone().given_up(), 0.0), None);
        assert_eq!(policy.next_wait(1, &busy.clone().dead_lettered(), 0.0), None);
        let asked = busy.retry_after(Some(Duration::from_secs(9)));
        assert_eq!(policy.next_wait(1, &asked, 0.0), Some(Duration::from_secs(9)));
    }
}
