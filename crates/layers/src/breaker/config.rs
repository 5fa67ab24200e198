//! Configuration of the circuit breaker.

use std::time::Duration;

use crate::config::{ConfigError, Errors, Validate};

/// What the breaker looks back on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// The calls that ended within this long, above 0 s, in ten buckets.
    Time(Duration),
    /// The last so many calls, 1 to 10,000.
    Count(usize),
}

/// Configuration of a [`BreakerLayer`](super::BreakerLayer).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// What it looks back on; 10 s by default, as in linkerd and Hystrix. In a file a duration is one of
    /// [time](Window::Time), and a number one of [calls](Window::Count).
    pub window: Window,
    /// The fewest calls in the window from which a rate is taken, 1 or more; 20 by default, as in
    /// Hystrix. Where a window of calls holds fewer, a rate is taken once it is full.
    pub min_calls: u32,
    /// It opens when this share of the calls failed, above 0 and at most 1; 0.5 by default, as in
    /// Resilience4j.
    pub failure_rate: f64,
    /// A call that takes this long or longer is slow, above 0 s; off by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration::option"))]
    pub slow_call: Option<Duration>,
    /// It opens when this share of the calls was slow, above 0 and at most 1; 1.0 by default.
    pub slow_rate: f64,
    /// It opens after this many failures in a row, 1 or more, but only while there are fewer than
    /// [`min_calls`](Self::min_calls) in the window; 5 by default, as in linkerd and Envoy.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::option"))]
    pub consecutive_failures: Option<u32>,
    /// How long it stays open the first time, above 0 s and at most [`open_cap`](Self::open_cap); 5 s by
    /// default, as in Polly.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub open: Duration,
    /// How many times as long it stays open each further time, 1 or more and finite; 2.0 by default.
    pub open_multiplier: f64,
    /// The longest it stays open, before jitter, [`open`](Self::open) or more; 60 s by default.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub open_cap: Duration,
    /// The share of the open time that is added at random at most, 0 to 1; 0.2 by default.
    pub open_jitter: f64,
    /// After being closed for this long, 0 s or more, it forgets how often it opened; 60 s by default.
    /// With zero it forgets whenever it closes.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub backoff_reset_after: Duration,
    /// The successful probes that close it, 1 or more; 3 by default.
    pub half_open_probes: u32,
    /// The probes at a time, 1 or more; 1 by default, as in Polly and linkerd.
    pub half_open_concurrency: u32,
    /// The failed probes that are forgiven, 0 or more; 0 by default.
    pub half_open_max_failures: u32,
    /// A probe that takes longer counts as failed, above 0 s; 5 s by default. It should be twice the
    /// attempt timeout at least.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub probe_lease: Duration,
    /// A call that was cut off after this long, above 0 s, counts as a slow failure; by default, and
    /// where it is off, [`slow_call`](Self::slow_call), and if that is off too, such calls count for
    /// nothing. Half the attempt timeout is a good value.
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration::option"))]
    pub unanswered: Option<Duration>,
    /// Whether a 429 counts as a failure while closed; not by default.
    pub throttled_is_failure: bool,
    /// Whether a 429 or 503 that says by `Retry-After` how long the service wants to be left alone
    /// opens it at once for that long, [`open_cap`](Self::open_cap) at most; not by default.
    pub open_on_retry_after: bool,
}

crate::setters! {
    BreakerConfig {
        window: Window,
        min_calls: u32,
        failure_rate: f64,
        slow_call: Option<Duration>,
        slow_rate: f64,
        consecutive_failures: Option<u32>,
        open: Duration,
        open_multiplier: f64,
        open_cap: Duration,
        open_jitter: f64,
        backoff_reset_after: Duration,
        half_open_probes: u32,
        half_open_concurrency: u32,
        half_open_max_failures: u32,
        probe_lease: Duration,
        unanswered: Option<Duration>,
        throttled_is_failure: bool,
        open_on_retry_after: bool,
    }
}

impl BreakerConfig {
    pub(super) fn unanswered_after(&self) -> Option<Duration> {
        self.unanswered.or(self.slow_call)
    }
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Window::Time(Duration::from_secs(10)),
            min_calls: 20,
            failure_rate: 0.5,
            slow_call: None,
            slow_rate: 1.0,
            consecutive_failures: Some(5),
            open: Duration::from_secs(5),
            open_multiplier: 2.0,
            open_cap: Duration::from_secs(60),
            open_jitter: 0.2,
            backoff_reset_after: Duration::from_secs(60),
            half_open_probes: 3,
            half_open_concurrency: 1,
            half_open_max_failures: 0,
            probe_lease: Duration::from_secs(5),
            unanswered: None,
            throttled_is_failure: false,
            open_on_retry_after: false,
        }
    }
}

impl Validate for BreakerConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let problems = Errors::default();
        let problems = match self.window {
            Window::Time(span) => problems.positive("window", span),
            Window::Count(size) => problems.within("window", size, 1, 10_000),
        };
        problems
            .at_least("min_calls", self.min_calls, 1)
            .share("failure_rate", self.failure_rate)
            .positive("slow_call", self.slow_call)
            .share("slow_rate", self.slow_rate)
            .at_least(
                "consecutive_failures",
                self.consecutive_failures.unwrap_or(1),
                1,
            )
            .positive("open", self.open)
            .not_above("open", self.open, "open_cap", self.open_cap)
            .factor("open_multiplier", self.open_multiplier)
            .within("open_jitter", self.open_jitter, 0.0, 1.0)
            .at_least("half_open_probes", self.half_open_probes, 1)
            .at_least("half_open_concurrency", self.half_open_concurrency, 1)
            .positive("probe_lease", self.probe_lease)
            .positive("unanswered", self.unanswered)
            .into_vec()
    }
}

/// A duration for a window of time, a number for a window of calls.
#[cfg(feature = "serde")]
mod form {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_setting_has_its_range() {
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
