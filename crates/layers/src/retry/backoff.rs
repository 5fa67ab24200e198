//! The pause before the next attempt. Pure: the random number is an argument.

use std::time::Duration;

use super::config::RetryConfig;

/// Distribution of a pause, so that clients that failed together do not retry together.
///
/// In a file: `full`, `equal` or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Jitter {
    /// Evenly distributed over (0, *d*], where *d* is the full pause. The default.
    #[default]
    Full,
    /// Evenly distributed over the upper half, (*d*/2, *d*].
    Equal,
    /// Exactly the full pause *d*.
    None,
}

/// Returns the pause after attempt number `attempt` (from 1) failed. `random` is within [0, 1).
///
/// The growth is computed in `f64`, which saturates at the cap instead of overflowing.
pub(super) fn pause(config: &RetryConfig, attempt: u32, random: f64) -> Duration {
    let growth = config.multiplier.powf(f64::from(attempt.saturating_sub(1)));
    let full = (config.base.as_nanos() as f64 * growth).min(config.cap.as_nanos() as f64);
    // `1 - random` is within (0, 1], so that a spread pause is never zero.
    let share = 1.0 - random;
    let nanos = match config.jitter {
        Jitter::Full => full * share,
        Jitter::Equal => full / 2.0 + full / 2.0 * share,
        Jitter::None => full,
    };
    Duration::from_nanos(nanos.ceil() as u64)
}

/// Returns the pause after a response with a `Retry-After`.
///
/// The pause is the longer of `retry_after` and `pause`, plus a random part of `base`. Clients that got the
/// same `Retry-After` are spread, and none retries too early.
pub(super) fn pause_at_least(
    retry_after: Duration,
    pause: Duration,
    base: Duration,
    random: f64,
) -> Duration {
    pause.max(retry_after).saturating_add(base.mul_f64(random))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(base: Duration, cap: Duration, jitter: Jitter) -> RetryConfig {
        RetryConfig {
            base,
            cap,
            jitter,
            ..RetryConfig::default()
        }
    }

    #[test]
    fn rt_01_pauses_double_up_to_the_cap() {
        let config = config(Duration::from_millis(50), SECOND, Jitter::None);
        let pauses: Vec<_> = (1..=7)
            .map(|n| pause(&config, n, 0.3).as_millis())
            .collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn rt_02_full_jitter_spreads_a_base_of_whole_seconds() {
        let config = config(SECOND, SECOND, Jitter::Full);
        let mut random = fastrand::Rng::with_seed(7);
        let pauses: HashSet<_> = (0..1000).map(|_| pause(&config, 1, random.f64())).collect();
        assert!(pauses.len() > 900, "{} distinct", pauses.len());
        assert!(
            pauses
                .iter()
                .all(|pause| *pause <= SECOND && !pause.is_zero())
        );
    }

    #[test]
    fn rt_04_attempt_2049_stays_at_the_cap() {
        let config = config(
            Duration::from_secs(3600),
            Duration::from_secs(7200),
            Jitter::None,
        );
        assert_eq!(pause(&config, 2049, 0.0), config.cap);
        assert_eq!(pause(&config, u32::MAX, 0.0), config.cap);
    }

    #[test]
    fn equal_jitter_keeps_at_least_half_of_the_pause() {
        let config = config(SECOND, SECOND, Jitter::Equal);
        assert_eq!(pause(&config, 1, 0.0), SECOND);
        assert!(pause(&config, 1, 0.999) > SECOND / 2);
    }

    proptest! {
        #[test]
        fn fault_f27_a_pause_grows_up_to_the_cap_and_jitter_shortens_it(
            base in 1u64..10_000_000_000,
            cap in 1u64..100_000_000_000,
            multiplier in 1.0f64..10.0,
            attempt in 1u32..3_000,
            random in 0.0f64..1.0,
        ) {
            let pause = |jitter, attempt| {
                let (base, cap) = (Duration::from_nanos(base), Duration::from_nanos(cap));
                let config = RetryConfig { multiplier, ..config(base, cap, jitter) };
                pause(&config, attempt, random)
            };
            let full = pause(Jitter::None, attempt);
            let growth = multiplier.powi(attempt as i32 - 1);
            let plain = (base as f64 * growth).min(cap as f64) / 1e9;
            prop_assert!((full.as_secs_f64() - plain).abs() <= plain * 1e-9 + 2e-9);
            prop_assert!(full <= pause(Jitter::None, attempt + 1));
            let (spread, upper) = (pause(Jitter::Full, attempt), pause(Jitter::Equal, attempt));
            prop_assert!(!spread.is_zero() && spread <= full);
            prop_assert!(full / 2 <= upper && upper <= full);
        }
    }
}
