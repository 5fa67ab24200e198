//! How one downstream is treated, as data.

use std::time::Duration;

use tower_fanout_layers::{
    InvalidPolicy,
    breaker::{BreakerSettings, Window},
    concurrency::ConcurrencySettings,
    policy::{Settings, Valid},
    retry::RetrySettings,
};

/// How one downstream is treated. Each part has defaults, and `None` turns it off.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct PolicySettings {
    /// The longest a branch may take, with all its attempts and pauses; the request's deadline
    /// alone by default.
    #[cfg_attr(feature = "serde", serde(with = "off::duration"))]
    pub total_timeout: Option<Duration>,
    /// The longest an attempt may take, its wait for a turn excluded; 2 s by default.
    #[cfg_attr(feature = "serde", serde(with = "off::duration"))]
    pub attempt_timeout: Option<Duration>,
    /// How it is tried again.
    #[cfg_attr(feature = "serde", serde(with = "off"))]
    pub retry: Option<RetrySettings>,
    /// When it is left alone.
    #[cfg_attr(feature = "serde", serde(with = "off"))]
    pub circuit_breaker: Option<BreakerSettings>,
    /// How many calls it gets at once.
    #[cfg_attr(feature = "serde", serde(with = "off"))]
    pub concurrency: Option<ConcurrencySettings>,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            total_timeout: None,
            attempt_timeout: Some(Duration::from_secs(2)),
            retry: Some(RetrySettings::default()),
            circuit_breaker: Some(BreakerSettings::default()),
            concurrency: Some(ConcurrencySettings::default()),
        }
    }
}

impl Settings for PolicySettings {
    fn problems(&self) -> Vec<InvalidPolicy> {
        let mut problems = Vec::new();
        for (field, timeout) in [
            ("total_timeout", self.total_timeout),
            ("attempt_timeout", self.attempt_timeout),
        ] {
            if timeout == Some(Duration::ZERO) {
                problems.push(InvalidPolicy::new(field, "0s leaves no time at all"));
            }
        }
        let retry = self.retry.iter().flat_map(Settings::problems);
        problems.extend(retry.map(|problem| problem.under("retry")));
        let breaker = self.circuit_breaker.iter().flat_map(Settings::problems);
        problems.extend(breaker.map(|problem| problem.under("circuit_breaker")));
        let limit = self.concurrency.iter().flat_map(Settings::problems);
        problems.extend(limit.map(|problem| problem.under("concurrency")));
        self.cross_check(&mut problems);
        problems
    }
}

impl PolicySettings {
    /// What the parts must not say of each other.
    fn cross_check(&self, problems: &mut Vec<InvalidPolicy>) {
        let mut more_than =
            |field, what: &str, long: Duration, limit_name: &str, limit: Duration| {
                if long > limit {
                    let message = format!("{what} {long:?} is more than {limit_name} {limit:?}");
                    problems.push(InvalidPolicy::new(field, message));
                }
            };
        if let (Some(attempt), Some(total)) = (self.attempt_timeout, self.total_timeout) {
            more_than(
                "attempt_timeout",
                "attempt_timeout",
                attempt,
                "total_timeout",
                total,
            );
        }
        if let (Some(retry), Some(total)) = (&self.retry, self.total_timeout) {
            let pauses = worst_pauses(retry);
            more_than(
                "retry",
                "the longest pauses together,",
                pauses,
                "total_timeout",
                total,
            );
        }
        if let (Some(concurrency), Some(total)) = (&self.concurrency, self.total_timeout) {
            more_than(
                "concurrency.max_wait",
                "max_wait",
                concurrency.max_wait,
                "total_timeout",
                total,
            );
        }
        if let (Some(breaker), Some(attempt)) = (&self.circuit_breaker, self.attempt_timeout)
            && let Window::Time(window) = breaker.window
            && window < attempt * 2
        {
            let message =
                format!("window {window:?} is less than twice attempt_timeout {attempt:?}");
            problems.push(InvalidPolicy::new("circuit_breaker.window", message));
        }
    }

    /// The most attempts that one call makes.
    #[must_use]
    pub fn max_attempts(&self) -> u8 {
        self.retry.as_ref().map_or(1, |retry| retry.max_attempts)
    }

    /// The longest a branch may take if nothing cuts it short: every attempt times out, every pause
    /// and every wait for a turn is as long as it can be. None if attempts have no timeout.
    #[must_use]
    pub fn worst_case(&self) -> Option<Duration> {
        let wait = self.concurrency.as_ref().filter(|limit| limit.queue > 0);
        let one = self.attempt_timeout? + wait.map_or(Duration::ZERO, |limit| limit.max_wait);
        let pauses = self.retry.as_ref().map_or(Duration::ZERO, worst_pauses);
        let all = one * self.max_attempts().into() + pauses;
        Some(self.total_timeout.map_or(all, |total| all.min(total)))
    }
}

/// All pauses of a call that uses up its attempts, at their longest.
fn worst_pauses(retry: &RetrySettings) -> Duration {
    let pauses = (1..u32::from(retry.max_attempts)).map(|attempt| {
        let growth = retry.multiplier.powi(attempt as i32 - 1);
        let pause = retry.base.as_secs_f64() * growth;
        Duration::try_from_secs_f64(pause)
            .unwrap_or(Duration::MAX)
            .min(retry.cap)
    });
    pauses.fold(Duration::ZERO, Duration::saturating_add)
}

/// Checked [`PolicySettings`].
pub type Policy = Valid<PolicySettings>;

/// A part of a policy, or the word `off`.
#[cfg(feature = "serde")]
pub(crate) mod off {
    use std::{fmt, marker::PhantomData};

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
    };

    /// Reads a part; `off` is none.
    ///
    /// # Errors
    /// Those of the part.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        deserializer.deserialize_any(Part(PhantomData))
    }

    /// Writes a part; none is `off`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub(crate) fn serialize<S: Serializer, T: Serialize>(
        part: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match part {
            Some(part) => part.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }

    struct Part<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Part<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("settings or the word \"off\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
            match text {
                "off" => Ok(None),
                text => T::deserialize(text.into_deserializer()).map(Some),
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    /// The same for durations.
    pub(crate) mod duration {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};
        use tower_fanout_layers::policy::duration;

        #[derive(Serialize, Deserialize)]
        struct Text(#[serde(with = "duration")] Duration);

        /// Reads a duration; `off` is none.
        ///
        /// # Errors
        /// It is neither.
        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            let text = super::deserialize::<D, Text>(deserializer)?;
            Ok(text.map(|Text(duration)| duration))
        }

        /// Writes a duration; none is `off`.
        ///
        /// # Errors
        /// Those of the serializer.
        pub(crate) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            super::serialize(&duration.map(Text), serializer)
        }
    }
}
