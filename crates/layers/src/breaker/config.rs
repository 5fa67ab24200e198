//! Configuration of the circuit breaker.

use std::{ops::RangeInclusive, time::Duration};

use crate::config::{ConfigError, Validate};

/// The part of the past from which the breaker computes its rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// The calls that ended within this time, which must be above 0. The time is divided into ten
    /// buckets.
    Time(Duration),
    /// The last `n` calls, 1 to 10,000.
    Count(usize),
}

crate::config! {
    serde
    /// Configuration of a [circuit breaker](super::BreakerLayer).
    pub struct BreakerConfig {
        /// The calls from which rates are computed: those that ended within a [time](Window::Time), or the last
        /// [`n` calls](Window::Count). Defaults to 10 s, as in Hystrix.
        ///
        /// In a configuration file, a duration is a time, and a whole number is a number of calls.
        pub window: Window = Window::Time(Duration::from_secs(10)),
        /// Minimum number of calls in the window before a rate is evaluated. Must be at least 1;
        /// defaults to 20, as in Hystrix.
        ///
        /// A value above the size of a count window is lowered to that size.
        pub min_calls: u32 = 20,
        /// Share of failed calls at which the breaker opens. Must be above 0 and at most 1; defaults to
        /// 0.5, as in Resilience4j.
        pub failure_rate: f64 = 0.5,
        /// Duration from which a call is slow (inclusive). Must be above 0. Off by default: no call is
        /// slow.
        #[cfg_attr(feature = "schemars", schemars(example = &"500ms"))]
        pub slow_call: Option<Duration> = None,
        /// Share of slow calls at which the breaker opens. Must be above 0 and at most 1; defaults to
        /// 1.0.
        pub slow_rate: f64 = 1.0,
        /// Number of consecutive failures at which the breaker opens, while the window holds fewer than
        /// [`min_calls`](Self::min_calls) calls. Must be at least 1; defaults to 5, as in Envoy's outlier
        /// detection (`consecutive_5xx`). If off, only the rates count.
        pub consecutive_failures: Option<u32> = Some(5),
        /// Open time after the first trip. Must be above 0 and at most [`open_cap`](Self::open_cap);
        /// defaults to 5 s, as in Polly.
        pub open: Duration = Duration::from_secs(5),
        /// Factor by which the open time grows with each further trip. Must be finite and at least 1;
        /// defaults to 2.0.
        pub open_multiplier: f64 = 2.0,
        /// Maximum open time, before jitter. Must be at least [`open`](Self::open); defaults to 60 s.
        pub open_cap: Duration = Duration::from_secs(60),
        /// Maximum random addition to the open time, as a share of it. Must be within 0 to 1; defaults
        /// to 0.2.
        pub open_jitter: f64 = 0.2,
        /// Time in the closed state after which the open time starts at [`open`](Self::open) again.
        /// Defaults to 60 s. Zero resets the open time whenever the breaker closes.
        pub backoff_reset_after: Duration = Duration::from_secs(60),
        /// Number of successful probes that close the breaker. Must be at least 1; defaults to 3.
        pub half_open_probes: u32 = 3,
        /// Maximum number of concurrent probes. Must be at least 1; defaults to 1, as in Polly.
        pub half_open_concurrency: u32 = 1,
        /// Number of failed probes that do not open the breaker yet. Defaults to 0.
        pub half_open_max_failures: u32 = 0,
        /// Maximum duration of a probe, after which it counts as failed. Must be above 0; defaults to
        /// 5 s. Use at least twice the attempt timeout.
        pub probe_lease: Duration = Duration::from_secs(5),
        /// Duration from which a call that ended without a response counts as failed (inclusive). Must
        /// be above 0. Half of the attempt timeout is a good value. Off by default, which uses
        /// [`slow_call`](Self::slow_call). If both are off, such calls are not counted.
        #[cfg_attr(feature = "schemars", schemars(example = &"250ms"))]
        pub unanswered: Option<Duration> = None,
        /// Counts a 429 as a failure while the breaker is closed. Defaults to `false`.
        pub throttled_is_failure: bool = false,
        /// Opens the breaker at once if a result has a [`Retry-After`](crate::Class::retry_after) above 0,
        /// for that time but at most [`open_cap`](Self::open_cap). Defaults to `false`.
        ///
        /// With `ClassifyHttp`, these are the statuses 429, 503 and those that are configured as
        /// `throttled`. The call counts as failed. The open time has no jitter and is not a trip, so later
        /// open times do not grow. While the breaker is half-open, one such probe opens the breaker,
        /// whatever [`half_open_max_failures`](Self::half_open_max_failures) allows.
        pub open_on_retry_after: bool = false,
    }
    limits {
        min_calls: at_least(1),
        failure_rate: share(),
        slow_call: positive(),
        slow_rate: share(),
        consecutive_failures: at_least(1),
        open: positive(),
        open_multiplier: factor(),
        open_jitter: within(0.0..=1.0),
        half_open_probes: at_least(1),
        half_open_concurrency: at_least(1),
        probe_lease: positive(),
        unanswered: positive(),
    }
}

/// Sizes of a count window.
const WINDOW_SIZES: RangeInclusive<usize> = 1..=10_000;

impl BreakerConfig {
    pub(super) fn unanswered_after(&self) -> Option<Duration> {
        self.unanswered.or(self.slow_call)
    }
}

impl Validate for BreakerConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let errors = self.check_limits();
        let errors = match self.window {
            Window::Time(span) => errors.positive("window", span),
            Window::Count(size) => errors.within("window", size, WINDOW_SIZES),
        };
        errors
            .not_above("open", self.open, "open_cap", self.open_cap)
            .into_vec()
    }
}

/// Serialization of [`Window`]: a duration is a time window, a number is a count window.
#[cfg(feature = "serde")]
mod window_format {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::Window;

    impl<'de> Deserialize<'de> for Window {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl de::Visitor<'_> for Visitor {
                type Value = Window;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a duration such as \"10s\", or a number of calls")
                }

                fn visit_u64<E: de::Error>(self, calls: u64) -> Result<Window, E> {
                    usize::try_from(calls).map(Window::Count).map_err(E::custom)
                }

                fn visit_i64<E: de::Error>(self, calls: i64) -> Result<Window, E> {
                    match u64::try_from(calls) {
                        Ok(calls) => self.visit_u64(calls),
                        Err(_) => Err(E::invalid_value(de::Unexpected::Signed(calls), &self)),
                    }
                }

                fn visit_str<E: de::Error>(self, text: &str) -> Result<Window, E> {
                    let text = de::value::StrDeserializer::new(text);
                    crate::config::duration::deserialize(text).map(Window::Time)
                }
            }
            deserializer.deserialize_any(Visitor)
        }
    }

    impl Serialize for Window {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Time(span) => crate::config::duration::serialize(span, serializer),
                Self::Count(calls) => calls.serialize(serializer),
            }
        }
    }
}

/// The schema of [`Window`].
#[cfg(feature = "schemars")]
mod window_schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{WINDOW_SIZES, Window};
    use crate::config::schema::Duration;

    impl JsonSchema for Window {
        fn schema_name() -> Cow<'static, str> {
            "Window".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let mut time = generator.subschema_for::<Duration>();
            time.insert("x-exclusiveMinimum".into(), "0s".into());
            let (low, high) = WINDOW_SIZES.into_inner();
            let count = json_schema!({ "type": "integer", "minimum": low, "maximum": high });
            json_schema!({ "anyOf": [time, count] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_field_is_checked_against_its_range() {
        check_ranges::<BreakerConfig>(
            &[
                |breaker| breaker.window = Window::Time(Duration::MAX),
                |breaker| breaker.window = Window::Count(1),
                |breaker| breaker.window = Window::Count(10_000),
                |breaker| breaker.min_calls = 1,
                |breaker| breaker.failure_rate = 1.0,
                |breaker| breaker.slow_call = Some(Duration::from_nanos(1)),
                |breaker| breaker.slow_rate = f64::MIN_POSITIVE,
                |breaker| breaker.consecutive_failures = None,
                |breaker| breaker.consecutive_failures = Some(1),
                |breaker| (breaker.open, breaker.open_cap) = (Duration::MAX, Duration::MAX),
                |breaker| breaker.open_cap = breaker.open,
                |breaker| breaker.open_multiplier = 1.0,
                |breaker| breaker.open_jitter = 0.0,
                |breaker| breaker.open_jitter = 1.0,
                |breaker| breaker.backoff_reset_after = Duration::ZERO,
                |breaker| breaker.half_open_max_failures = u32::MAX,
                |breaker| breaker.unanswered = Some(Duration::from_nanos(1)),
            ],
            &[
                ("window", |breaker| {
                    breaker.window = Window::Time(Duration::ZERO)
                }),
                ("window", |breaker| breaker.window = Window::Count(0)),
                ("window", |breaker| breaker.window = Window::Count(10_001)),
                ("min_calls", |breaker| breaker.min_calls = 0),
                ("failure_rate", |breaker| breaker.failure_rate = 0.0),
                ("failure_rate", |breaker| breaker.failure_rate = 1.1),
                ("failure_rate", |breaker| breaker.failure_rate = f64::NAN),
                ("slow_call", |breaker| {
                    breaker.slow_call = Some(Duration::ZERO)
                }),
                ("slow_rate", |breaker| breaker.slow_rate = 0.0),
                ("slow_rate", |breaker| breaker.slow_rate = 1.1),
                ("slow_rate", |breaker| breaker.slow_rate = f64::NAN),
                ("consecutive_failures", |breaker| {
                    breaker.consecutive_failures = Some(0)
                }),
                ("open", |breaker| breaker.open = Duration::ZERO),
                ("open_multiplier", |breaker| breaker.open_multiplier = 0.9),
                ("open_multiplier", |breaker| {
                    breaker.open_multiplier = f64::NAN
                }),
                ("open_multiplier", |breaker| {
                    breaker.open_multiplier = f64::INFINITY
                }),
                ("open", |breaker| breaker.open_cap = Duration::ZERO),
                ("open", |breaker| {
                    breaker.open_cap = breaker.open - Duration::from_nanos(1)
                }),
                ("open_jitter", |breaker| breaker.open_jitter = -0.1),
                ("open_jitter", |breaker| breaker.open_jitter = 1.1),
                ("open_jitter", |breaker| breaker.open_jitter = f64::NAN),
                ("half_open_probes", |breaker| breaker.half_open_probes = 0),
                ("half_open_concurrency", |breaker| {
                    breaker.half_open_concurrency = 0
                }),
                ("probe_lease", |breaker| {
                    breaker.probe_lease = Duration::ZERO
                }),
                ("unanswered", |breaker| {
                    breaker.unanswered = Some(Duration::ZERO)
                }),
            ],
        );
    }
}
