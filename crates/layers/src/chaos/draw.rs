//! The random choice of faults for one attempt.

use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use super::{
    config::{ChaosConfig, Injection, Rule},
    matching::Match,
};
use crate::sync::{Mutex, lock};

/// State that all clones of a layer share: the rules and the random numbers.
pub(super) struct Shared {
    enabled: AtomicBool,
    /// The rules with their rates, which can change. A rate is stored as the bits of an `f64`.
    rules: Box<[(AtomicU64, Rule)]>,
    random: Mutex<fastrand::Rng>,
}

impl Shared {
    pub(super) fn new(config: &ChaosConfig) -> Self {
        let random = config
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let rules = config.rules.iter();
        Self {
            enabled: AtomicBool::new(config.enabled),
            rules: rules
                .map(|rule| (AtomicU64::new(bits(rule.rate)), rule.clone()))
                .collect(),
            random: Mutex::new(random),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Relaxed)
    }

    pub(super) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    pub(super) fn set_rate(&self, index: usize, rate: f64) {
        if let Some((current, _)) = self.rules.get(index) {
            current.store(bits(rate), Relaxed);
        }
    }

    /// Draws the faults of one attempt. `is_for` returns `true` if the request matches.
    ///
    /// The shared generator is advanced once per attempt, and each rule draws from a fork of it. So the
    /// values of an attempt do not depend on the number of values that other attempts have used.
    pub(super) fn draw(&self, is_for: impl Fn(&Match) -> bool) -> Drawn {
        let mut random = lock(&self.random).fork();
        let mut drawn = Drawn::default();
        for (rate, rule) in &self.rules {
            // Both numbers are drawn for every rule, so that a changed rate shifts no later draw.
            let rate = f64::from_bits(rate.load(Relaxed));
            let (hit, spread) = (random.f64() < rate, random.f64());
            if hit && (rule.matching.is_any() || is_for(&rule.matching)) {
                drawn.add(rule.inject, spread);
            }
        }
        drawn
    }
}

/// Returns the bits of `rate`, clamped to 0 to 1. NaN counts as 0.
fn bits(rate: f64) -> u64 {
    let rate = if rate.is_nan() { 0.0 } else { rate };
    rate.clamp(0.0, 1.0).to_bits()
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("enabled", &self.is_enabled())
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// The faults of one attempt: the latency comes first, then the outcome.
#[derive(Default)]
pub(super) struct Drawn {
    pub(super) latency: Duration,
    /// The fault that replaces or breaks the call. Never a latency.
    pub(super) outcome: Option<Injection>,
}

impl Drawn {
    pub(super) fn is_nothing(&self) -> bool {
        self.latency.is_zero() && self.outcome.is_none()
    }

    fn add(&mut self, inject: Injection, spread: f64) {
        if let Injection::Latency(latency) = inject {
            self.latency = self.latency.saturating_add(latency.at(spread));
        } else {
            // `min_by_key` returns the first of equal ranks, so the earlier rule applies.
            let outcomes = [self.outcome, Some(inject)].into_iter().flatten();
            self.outcome = outcomes.min_by_key(rank);
        }
        if let Some(Injection::Error(_)) = self.outcome {
            // An error ends the attempt at once.
            self.latency = Duration::ZERO;
        }
    }
}

/// Returns the precedence among several outcomes. The lowest rank applies.
fn rank(outcome: &Injection) -> u8 {
    match outcome {
        Injection::Error(_) => 0,
        Injection::Hang => 1,
        Injection::Status(_) => 2,
        Injection::ResetBody => 3,
        Injection::Truncate(_) | Injection::Latency(_) => 4,
    }
}
