//! Configuration of an adaptive limit.

use std::time::Duration;

use super::algorithm::{Adapt, Aimd, Gradient2, Vegas};
use crate::config::{ConfigError, Errors, Validate};

/// Configuration of an adaptive limit.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct AdaptiveConfig {
    /// What moves it; [`Algorithm::Gradient2`] by default, as in Netflix's [concurrency-limits], whence
    /// `initial` and `max` are too.
    ///
    /// [concurrency-limits]: https://github.com/Netflix/concurrency-limits
    pub algorithm: Algorithm,
    /// The limit to begin with, from [`min`](Self::min) to [`max`](Self::max); 20 by default.
    pub initial: u32,
    /// The least, 1 or more and at most [`initial`](Self::initial); 1 by default.
    pub min: u32,
    /// The most, [`initial`](Self::initial) or more; 200 by default.
    pub max: u32,
    /// How much slower answers may get before [`Algorithm::Gradient2`] takes it for load, 1 to 10;
    /// 1 by default, which leaves the headroom of √limit. On 20 simulated servers under more load
    /// than they can bear, 1 settles at a limit of 33 and 1.5 at one of 60.
    pub tolerance: f64,
    /// A call that was cut off after this long, above 0 s, tells how slow the service is; off by default,
    /// so that none does. Half the attempt timeout is a good value.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration::option"))]
    pub unanswered: Option<Duration>,
}

crate::setters! {
    AdaptiveConfig {
        algorithm: Algorithm,
        initial: u32,
        min: u32,
        max: u32,
        tolerance: f64,
        unanswered: Option<Duration>,
    }
}

/// What moves an adaptive limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Algorithm {
    /// Compares the latencies of a window with those of the last ten minutes or so, after [Netflix's
    /// Gradient2] with Envoy's headroom of √limit.
    ///
    /// [Netflix's Gradient2]: https://github.com/Netflix/concurrency-limits
    #[default]
    Gradient2,
    /// Grows by one per window and shrinks only when the service asks for fewer calls or times out.
    Aimd,
    /// Estimates from the fastest answer how many calls wait inside the service and keeps that number
    /// small, after [Netflix's Vegas].
    ///
    /// [Netflix's Vegas]: https://github.com/Netflix/concurrency-limits
    Vegas,
}

impl Algorithm {
    pub(super) fn build(self, settings: &AdaptiveConfig) -> Box<dyn Adapt> {
        match self {
            Self::Gradient2 => Box::new(Gradient2::new(settings.tolerance)),
            Self::Aimd => Box::new(Aimd),
            Self::Vegas => Box::new(Vegas::default()),
        }
    }
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            initial: 20,
            min: 1,
            max: 200,
            tolerance: 1.0,
            unanswered: None,
        }
    }
}

impl Validate for AdaptiveConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Errors::default()
            .at_least("min", self.min, 1)
            .not_above("min", self.min, "initial", self.initial)
            .not_above("initial", self.initial, "max", self.max)
            .within("tolerance", self.tolerance, 1.0, 10.0)
            .positive("unanswered", self.unanswered)
            .into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_setting_has_its_range() {
        check_ranges::<AdaptiveConfig>(
            &[
                |adaptive| (adaptive.min, adaptive.max) = (20, 20),
                |adaptive| adaptive.tolerance = 10.0,
                |adaptive| adaptive.unanswered = Some(Duration::from_nanos(1)),
            ],
            &[
                ("min", |adaptive| adaptive.min = 0),
                ("min", |adaptive| adaptive.min = 21),
                ("initial", |adaptive| adaptive.max = 19),
                ("tolerance", |adaptive| adaptive.tolerance = 0.9),
                ("tolerance", |adaptive| adaptive.tolerance = 10.1),
                ("tolerance", |adaptive| adaptive.tolerance = f64::NAN),
                ("unanswered", |adaptive| {
                    adaptive.unanswered = Some(Duration::ZERO)
                }),
            ],
        );
    }
}
