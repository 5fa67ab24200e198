//! How long to pause before the next attempt. Pure: the randomness is an argument.

use std::time::Duration;

use super::config::RetryConfig;

/// How a pause is spread, so that clients that failed together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Jitter {
    /// Anywhere up to the pause: (0, *d*].
    #[default]
    Full,
    /// In its upper half: (*d*/2, *d*].
    Equal,
    /// Exactly the pause.
    None,
}

/// The pause after attempt `attempt` (from 1) failed; `random` is in [0, 1).
pub(super) fn pause(settings: &RetryConfig, attempt: u32, random: f64) -> Duration {
    let growth = settings
        .multiplier
        .powf(f64::from(attempt.saturating_sub(1)));
    let full = (settings.base.as_nanos() as f64 * growth).min(settings.cap.as_nanos() as f64);
    let share = 1.0 - random;
    let nanos = match settings.jitter {
        Jitter::Full => full * share,
        Jitter::Equal => full / 2.0 + full / 2.0 * share,
        Jitter::None => full,
    };
    Duration::from_nanos(nanos.ceil() as u64)
}

/// The pause when the service asked to be left alone for `retry_after`: never shorter than that,
/// and spread beyond it by up to the base.
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

    fn settings(base: Duration, cap: Duration, jitter: Jitter) -> RetryConfig {
        RetryConfig {
            base,
            cap,
            jitter,
            ..RetryConfig::default()
        }
    }

    #[test]
    fn rt_01_pauses_double_up_to_the_cap() {
        let settings = settings(Duration::from_millis(50), SECOND, Jitter::None);
        let pauses: Vec<_> = (1..=7)
            .map(|n| pause(&settings, n, 0.3).as_millis())
            .collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn rt_02_full_jitter_spreads_a_base_of_whole_seconds() {
        let settings = settings(SECOND, SECOND, Jitter::Full);
        let mut random = fastrand::Rng::with_seed(7);
        let draws: HashSet<_> = (0..1000)
            .map(|_| pause(&settings, 1, random.f64()))
            .collect();
        assert!(draws.len() > 900, "{} distinct", draws.len());
        assert!(draws.iter().all(|draw| *draw <= SECOND && !draw.is_zero()));
    }

    #[test]
    fn rt_04_attempt_2049_stays_at_the_cap() {
        let settings = settings(
            Duration::from_secs(3600),
            Duration::from_secs(7200),
            Jitter::None,
        );
        assert_eq!(pause(&settings, 2049, 0.0), settings.cap);
        assert_eq!(pause(&settings, u32::MAX, 0.0), settings.cap);
    }

    #[test]
    fn equal_jitter_keeps_half_of_the_pause() {
        let settings = settings(SECOND, SECOND, Jitter::Equal);
        assert_eq!(pause(&settings, 1, 0.0), SECOND);
        assert!(pause(&settings, 1, 0.999) > SECOND / 2);
    }

    proptest! {
        #[test]
        fn fault_f27_a_pause_grows_up_to_the_cap_and_is_spread_below_it(
            base in 1u64..10_000_000_000,
            cap in 1u64..100_000_000_000,
            multiplier in 1.0f64..10.0,
            attempt in 1u32..3_000,
            random in 0.0f64..1.0,
        ) {
            let pause = |jitter, attempt| {
                let (base, cap) = (Duration::from_nanos(base), Duration::from_nanos(cap));
                let settings = RetryConfig { multiplier, ..settings(base, cap, jitter) };
                pause(&settings, attempt, random)
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
