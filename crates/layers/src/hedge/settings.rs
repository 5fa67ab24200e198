//! After which delay, how often, and for what a call is hedged.

use std::time::Duration;

use crate::{
    policy::{InvalidPolicy, Problems, Settings, Valid},
    retry::{BudgetSettings, RetryOn},
};

/// After which delay, how often, and for what a call is hedged.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct HedgeSettings {
    /// How long an answer is waited for before the next attempt; the 95th percentile by default.
    pub delay: HedgeDelay,
    /// Attempts beside the first, 1 to 3; 1 by default.
    pub max_hedges: u8,
    /// The failures that are worth another attempt; every other end of an attempt ends the call.
    pub hedge_on: RetryOn,
    /// Treats every request as idempotent; not by default.
    pub idempotent: bool,
    /// The least time before the deadline with which an attempt is still made; 10 ms by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))]
    pub min_useful: Duration,
    /// The extra load that hedges may make; 5 % and 3 per second by default.
    pub budget: BudgetSettings,
}

impl Default for HedgeSettings {
    fn default() -> Self {
        Self {
            delay: HedgeDelay::Quantile(Quantile::default()),
            max_hedges: 1,
            hedge_on: RetryOn::default(),
            idempotent: false,
            min_useful: crate::timeout::MIN_USEFUL,
            budget: BudgetSettings {
                ratio: 0.05,
                ..BudgetSettings::default()
            },
        }
    }
}

impl Settings for HedgeSettings {
    fn problems(&self) -> Vec<InvalidPolicy> {
        let problems = Problems::default()
            .within("max_hedges", self.max_hedges, 1, 3)
            .nested("budget", &self.budget);
        match &self.delay {
            HedgeDelay::Quantile(quantile) => problems.nested("delay", quantile),
            HedgeDelay::Fixed(_) | HedgeDelay::Never => problems,
        }
        .into_vec()
    }
}

/// Checked [`HedgeSettings`].
pub type HedgePolicy = Valid<HedgeSettings>;

/// How long an answer is waited for before the next attempt.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// This long; with zero all attempts are made at once.
    Fixed(#[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))] Duration),
    /// As long as most answers take.
    Quantile(Quantile),
    /// For ever: the next attempt is made only when one has failed.
    Never,
}

/// As long as most answers took within the last minute. Until there are enough, nothing is hedged
/// by time.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct Quantile {
    /// The share of answers that came sooner, 0 to 1; 0.95 by default.
    pub q: f64,
    /// The fewest answers to learn from; 100 by default.
    pub min_samples: u32,
    /// The shortest delay; 1 ms by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))]
    pub floor: Duration,
    /// The longest delay; 2 s by default. It should be less than the attempt timeout.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))]
    pub cap: Duration,
}

impl Default for Quantile {
    fn default() -> Self {
        Self {
            q: 0.95,
            min_samples: 100,
            floor: Duration::from_millis(1),
            cap: Duration::from_secs(2),
        }
    }
}

impl Settings for Quantile {
    fn problems(&self) -> Vec<InvalidPolicy> {
        Problems::default()
            .share("q", self.q)
            .at_least("min_samples", self.min_samples, 1)
            .at_least("cap", self.cap, self.floor)
            .into_vec()
    }
}
