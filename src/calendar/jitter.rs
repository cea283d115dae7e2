//! How late a firing is on purpose, so that not everything that is due at midnight starts there.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Less than `most`, and the same for the same schedule and fire time (milliseconds since the Unix epoch), on
/// whatever engine and after whatever restart.
pub fn jitter(schedule: &str, fire_at: i64, most: Duration) -> Duration {
    let sum =
        Sha256::new().chain_update(schedule).chain_update([0]).chain_update(fire_at.to_le_bytes()).finalize();
    let share = sum.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    let late = (u128::from(share) * u128::from(most)) >> 64;
    Duration::from_millis(u64::try_from(late).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_each_time_below_its_bound_and_spread_over_all_of_it() {
        let most = Duration::from_secs(300);
        assert_eq!(jitter("retention", 5, most), jitter("retention", 5, most));
        assert_ne!(jitter("retention", 5, most), jitter("retention", 6, most));
        assert_ne!(jitter("retention", 5, most), jitter("report", 5, most));
        assert_eq!(jitter("retention", 5, Duration::ZERO), Duration::ZERO);
        let mut tenths = [0; 10];
        for fire_at in 0..10_000 {
            let late = jitter("retention", fire_at, most);
            assert!(late < most);
            tenths[(late.as_millis() * 10 / most.as_millis()) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (800..1_200).contains(count)), "{tenths:?}");
    }
}
