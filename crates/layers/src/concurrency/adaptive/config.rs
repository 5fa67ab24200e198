//! Configuration of an adaptive limit.

use std::time::Duration;

use super::algorithm::{Aimd, Gradient2, LimitAlgorithm, Vegas};
use crate::config::{ConfigError, Validate};

crate::config! {
    serde
    /// Configuration of an adaptive limit.
    pub struct AdaptiveConfig {
        /// Algorithm that computes the limit. Defaults to [`gradient2`](Algorithm::Gradient2), as in
        /// Netflix's [concurrency-limits]. The defaults of `initial` and `max` are from there too.
        ///
        /// [concurrency-limits]: https://github.com/Netflix/concurrency-limits
        pub algorithm: Algorithm = Algorithm::default(),
        /// Initial limit. Must be within [`min`](Self::min) to [`max`](Self::max); defaults to 20.
        pub initial: u32 = 20,
        /// Minimum limit. Must be at least 1 and at most [`initial`](Self::initial); defaults to 1.
        pub min: u32 = 1,
        /// Maximum limit. Must be at least [`initial`](Self::initial); defaults to 200.
        pub max: u32 = 200,
        /// Factor by which the latency may rise before [`gradient2`](Algorithm::Gradient2) treats the
        /// rise as overload. Must be within 1 to 10; defaults to 1, which leaves the headroom of √limit.
        /// The other algorithms ignore the value.
        ///
        /// The default of [Netflix's Gradient2] is 1.5. On 20 simulated servers under overload, 1 settles
        /// at a limit of 33, and 1.5 at a limit of 60.
        ///
        /// [Netflix's Gradient2]: https://github.com/Netflix/concurrency-limits
        pub tolerance: f64 = 1.0,
        /// Duration from which a call that ended without a response counts as a latency sample
        /// (inclusive). Must be above 0. Half of the attempt timeout is a good value. Off by
        /// default: such calls are ignored.
        #[cfg_attr(feature = "schemars", schemars(example = &"250ms"))]
        pub unanswered: Option<Duration> = None,
    }
    limits {
        min: at_least(1),
        tolerance: within(1.0..=10.0),
        unanswered: positive(),
    }
}

/// The algorithm that moves an adaptive limit.
///
/// In a file: `gradient2`, `aimd` or `vegas`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Algorithm {
    /// Compares the latency of a window with the usual latency of the last 600 windows or so (at
    /// least ten minutes), after [Netflix's Gradient2] with Envoy's headroom of √limit.
    ///
    /// [Netflix's Gradient2]: https://github.com/Netflix/concurrency-limits
    #[default]
    Gradient2,
    /// Grows by 1 per window, and shrinks only after a drop signal: a 429, a 503, an attempt timeout or a
    /// panic.
    ///
    /// See the [module docs](super).
    Aimd,
    /// Estimates the number of calls that queue inside the service from the lowest latency, and
    /// keeps that number small, after [Netflix's Vegas].
    ///
    /// [Netflix's Vegas]: https://github.com/Netflix/concurrency-limits
    Vegas,
}

impl Algorithm {
    pub(super) fn build(self, config: &AdaptiveConfig) -> Box<dyn LimitAlgorithm> {
        match self {
            Self::Gradient2 => Box::new(Gradient2::new(config.tolerance)),
            Self::Aimd => Box::new(Aimd),
            Self::Vegas => Box::new(Vegas::default()),
        }
    }
}

impl Validate for AdaptiveConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits()
            .not_above("min", self.min, "initial", self.initial)
            .not_above("initial", self.initial, "max", self.max)
            .into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_field_is_checked_against_its_range() {
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
