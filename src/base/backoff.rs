//! How long to wait before the next attempt.
//!
//! Pure: the caller brings the random number. Exponential backoff with full jitter follows
//! "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

use std::time::Duration;

/// How a computed wait is spread, so that many failures do not retry at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Jitter {
    /// The computed wait itself.
    None,
    /// Anything from nothing to the computed wait.
    #[default]
    Full,
    /// At least half of the computed wait.
    Equal,
}

/// The waits of a retry policy.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// `initial × factor^(n-1)`, never more than `max`, then jitter.
    Exponential {
        /// The wait before the second attempt.
        initial: Duration,
        /// What each wait is multiplied by; at least 1.
        factor: f64,
        /// The longest wait.
        max: Duration,
        /// How it is spread.
        jitter: Jitter,
    },
    /// The waits as listed; the last repeats.
    Delays(Vec<Duration>),
}

impl Backoff {
    /// The wait after attempt `attempt` (counted from 1) failed. `random` is uniform in `0.0..1.0`.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        match self {
            Self::Delays(delays) => {
                let index = (attempt.max(1) as usize - 1).min(delays.len().saturating_sub(1));
                delays.get(index).copied().unwrap_or_default()
            }
            Self::Exponential { initial, factor, max, jitter } => {
                let exponent = attempt.saturating_sub(1).min(1_000);
                let seconds = initial.as_secs_f64() * factor.powi(exponent.cast_signed());
                let capped = seconds.min(max.as_secs_f64());
                Duration::from_secs_f64(match jitter {
                    Jitter::None => capped,
                    Jitter::Full => capped * random,
                    Jitter::Equal => capped * (0.5 + random / 2.0),
                })
            }
        }
    }

    /// The longest wait this can ever give before `max_attempts` attempts are spent.
    pub fn longest(&self, max_attempts: u32) -> Duration {
        (1..max_attempts.clamp(1, 1_000)).map(|attempt| self.delay(attempt, 1.0)).max().unwrap_or_default()
    }

    /// The sum of the longest waits over `max_attempts` attempts.
    pub fn total(&self, max_attempts: u32) -> Duration {
        (1..max_attempts.clamp(1, 1_000))
            .map(|attempt| self.delay(attempt, 1.0))
            .fold(Duration::ZERO, Duration::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exponential(jitter: Jitter) -> Backoff {
        Backoff::Exponential {
            initial: Duration::from_millis(500),
            factor: 2.0,
            max: Duration::from_secs(60),
            jitter,
        }
    }

    #[test]
    fn exponential_waits_double_up_to_the_cap() {
        let waits: Vec<_> = (1..=9).map(|n| exponential(Jitter::None).delay(n, 0.3).as_millis()).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn the_last_listed_delay_repeats() {
        let delays = Backoff::Delays([1, 30].map(Duration::from_secs).to_vec());
        assert_eq!([1, 2, 3, 99].map(|n| delays.delay(n, 0.0).as_secs()), [1, 30, 30, 30]);
        assert_eq!(delays.total(4).as_secs(), 61);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds(attempt in 0u32..5_000, random in 0.0..1.0f64) {
            let whole = exponential(Jitter::None).delay(attempt, random);
            let full = exponential(Jitter::Full).delay(attempt, random);
            let equal = exponential(Jitter::Equal).delay(attempt, random);
            prop_assert!(full <= whole && whole <= Duration::from_secs(60));
            prop_assert!(equal <= whole && equal + Duration::from_nanos(2) >= whole / 2);
        }
    }
}
