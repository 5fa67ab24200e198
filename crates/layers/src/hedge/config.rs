//! Configuration of hedging.

use std::time::Duration;

use crate::{
    config::{ConfigError, Validate},
    retry::{BudgetConfig, RetryOn},
};

crate::config! {
    serde
    /// Configuration of [hedging](super::HedgeLayer).
    pub struct HedgeConfig {
        /// Time without a response before the next attempt is sent. Defaults to the 95th percentile of the
        /// latencies, as in ["The Tail at Scale"](https://research.google/pubs/the-tail-at-scale/).
        pub delay: HedgeDelay = HedgeDelay::Quantile(Quantile::default()),
        /// Maximum number of attempts in addition to the first, 1 to 3. Defaults to 1. A call can [lower the
        /// number](crate::Call::max_retries).
        pub max_hedges: u8 = 1,
        /// Failures that start the next attempt at once. Every other result ends the call, except
        /// rejections by a layer below. Defaults to [those that are retried](RetryOn::default).
        ///
        /// The [module docs](super) describe rejections.
        pub hedge_on: RetryOn = RetryOn::default(),
        /// Treats every request as idempotent. Defaults to `false`.
        pub idempotent: bool = false,
        /// Minimum remaining time before the deadline for a hedge, 0 s or more. Defaults to 10 ms. With less
        /// time left, no hedge is sent.
        ///
        /// A [`TimeoutLayer`](crate::TimeoutLayer) below checks its own value too, so the larger one
        /// applies.
        pub min_useful: Duration = crate::timeout::MIN_USEFUL,
        /// Longest time that a hedge waits at a concurrency limit below, 0 s or more. Defaults to 0 s:
        /// hedges never queue. A shorter `max_wait` of the call or of the limit applies instead.
        pub max_wait: Duration = Duration::ZERO,
        /// Extra load that hedges may add. Defaults to 5 % of the calls, the share above the 95th
        /// percentile, plus a floor of 3 hedges per second.
        ///
        /// [`BudgetConfig::default`] has 20 % instead of 5 %. If code sets this field, set
        /// [`ratio`](field@BudgetConfig::ratio) too. In a file, a `ratio` that is not written is 5 %.
        #[cfg_attr(feature = "serde", serde(with = "form::HedgeBudget"))]
        #[cfg_attr(feature = "schemars", schemars(schema_with = "schema::budget"))]
        pub budget: BudgetConfig = hedge_budget(),
    }
    limits {
        max_hedges: within(1..=3),
    }
}

fn hedge_budget() -> BudgetConfig {
    BudgetConfig::default().ratio(0.05)
}

impl Validate for HedgeConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let errors = (self.check_limits())
            .statuses("hedge_on", &self.hedge_on.statuses)
            .nested("budget", &self.budget);
        match &self.delay {
            HedgeDelay::Quantile(quantile) => errors.nested("delay", quantile),
            HedgeDelay::Fixed(_) | HedgeDelay::Never => errors,
        }
        .into_vec()
    }
}

/// Time without a response before the next attempt is sent.
///
/// In a file, the value is a duration, the fields of a [`Quantile`], or the word `never`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// A fixed time, 0 s or more. With zero, all attempts are sent at once.
    Fixed(Duration),
    /// A quantile of the recent latencies.
    Quantile(Quantile),
    /// No hedge is sent because of a delay. Only a failure starts the next attempt.
    Never,
}

crate::config! {
    serde
    /// A delay computed from the latencies of the last minute.
    ///
    /// Each call that succeeds adds one latency: the time of the attempt that succeeded, from when that
    /// attempt was sent. Failed and dropped attempts add none.
    ///
    /// Until there are [`min_samples`](Self::min_samples) latencies, no hedge is sent because of a delay.
    pub struct Quantile {
        /// The share of responses that arrived within the delay, above 0 and at most 1. Defaults to 0.95.
        pub quantile: f64 = 0.95,
        /// Minimum number of latencies from which the delay is computed, at least 1. Defaults to 100.
        pub min_samples: u32 = 100,
        /// Shortest delay, 0 s or more. Defaults to 1 ms.
        pub floor: Duration = Duration::from_millis(1),
        /// Longest delay, at least [`floor`](Self::floor). Off by default. Should be less than the attempt
        /// timeout.
        #[cfg_attr(feature = "schemars", schemars(example = &"500ms"))]
        pub cap: Option<Duration> = None,
    }
    limits {
        quantile: share(),
        min_samples: at_least(1),
    }
}

impl Quantile {
    /// Returns the delay for the latency `learned` at this quantile, within floor and cap.
    pub(super) fn delay(&self, learned: Duration) -> Duration {
        learned
            .max(self.floor)
            .min(self.cap.unwrap_or(Duration::MAX))
    }
}

impl Validate for Quantile {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits()
            .not_below("cap", self.cap, "floor", self.floor)
            .into_vec()
    }
}

/// The schema of [`HedgeDelay`], and of a budget whose `ratio` defaults to that of hedges.
#[cfg(feature = "schemars")]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{BudgetConfig, HedgeDelay, Quantile, hedge_budget};
    use crate::config::schema::{Duration, field};

    impl JsonSchema for HedgeDelay {
        fn schema_name() -> Cow<'static, str> {
            "HedgeDelay".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let fixed = generator.subschema_for::<Duration>();
            let quantile = generator.subschema_for::<Quantile>();
            json_schema!({ "anyOf": [fixed, quantile, { "const": "never" }] })
        }
    }

    pub(super) fn budget(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = BudgetConfig::json_schema(generator);
        if let Some(ratio) = field(&mut schema, "ratio") {
            ratio.insert("default".into(), hedge_budget().ratio.into());
        }
        schema
    }
}

/// The form in a file: a duration, the word `never`, or the fields of a quantile.
#[cfg(feature = "serde")]
mod form {
    use std::fmt;

    use serde::{
        Deserialize, Deserializer, Serialize, Serializer,
        de::{
            Error, MapAccess, Unexpected, Visitor,
            value::{MapAccessDeserializer, StrDeserializer},
        },
    };

    use super::{BudgetConfig, Duration, HedgeDelay, Quantile, hedge_budget};
    use crate::config::duration;

    /// A [`BudgetConfig`] in a file, whose `ratio` defaults to that of hedges.
    #[derive(Deserialize, Serialize)]
    #[serde(remote = "BudgetConfig", deny_unknown_fields, default = "hedge_budget")]
    pub(super) struct HedgeBudget {
        ratio: f64,
        min_per_sec: f64,
        #[serde(with = "duration")]
        ttl: Duration,
        timeout_cost: f64,
    }

    impl<'de> Deserialize<'de> for HedgeDelay {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Delay)
        }
    }

    struct Delay;

    impl<'de> Visitor<'de> for Delay {
        type Value = HedgeDelay;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "a duration such as \"50ms\", a map such as { quantile: 0.95 }, or \"never\"",
            )
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<HedgeDelay, E> {
            if text == "never" {
                return Ok(HedgeDelay::Never);
            }
            duration::deserialize(StrDeserializer::<E>::new(text))
                .map(HedgeDelay::Fixed)
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HedgeDelay, A::Error> {
            Quantile::deserialize(MapAccessDeserializer::new(map)).map(HedgeDelay::Quantile)
        }
    }

    impl Serialize for HedgeDelay {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Self::Fixed(delay) => duration::serialize(delay, serializer),
                Self::Quantile(quantile) => quantile.serialize(serializer),
                Self::Never => serializer.serialize_str("never"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    fn quantile(edit: impl FnOnce(&mut Quantile)) -> HedgeDelay {
        let mut quantile = Quantile::default();
        edit(&mut quantile);
        HedgeDelay::Quantile(quantile)
    }

    #[test]
    fn a_learned_delay_is_within_floor_and_cap() {
        let ms = Duration::from_millis;
        let uncapped = Quantile::default();
        assert_eq!(uncapped.delay(ms(0)), ms(1));
        assert_eq!(uncapped.delay(ms(60_000)), ms(60_000));
        let capped = Quantile {
            cap: Some(ms(20)),
            ..uncapped
        };
        assert_eq!(capped.delay(ms(10)), ms(10));
        assert_eq!(capped.delay(ms(60_000)), ms(20));
    }

    #[test]
    fn errors_of_a_delay_name_their_field() {
        let delay = quantile(|quantile| {
            quantile.quantile = 1.5;
            quantile.floor = Duration::from_secs(2);
            quantile.cap = Some(Duration::from_secs(1));
        });
        let config = HedgeConfig {
            delay,
            ..HedgeConfig::default()
        };
        let errors = config.errors();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let expected = [
            "delay.quantile: must be > 0 and <= 1, got 1.5",
            "delay.cap: must be >= floor (2s), got 1s",
        ];
        assert_eq!(errors, expected);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_budget_without_a_ratio_has_the_ratio_of_hedges() {
        let config = r#"{"budget":{"ttl":"20s"}}"#;
        let config: HedgeConfig = serde_json::from_str(config).unwrap();
        let expected = BudgetConfig::new().ratio(0.05).ttl(Duration::from_secs(20));
        assert_eq!(config.budget, expected);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_delay_is_a_duration_a_map_or_never() {
        let slow = |quantile: &mut Quantile| {
            quantile.quantile = 0.99;
            quantile.cap = Some(Duration::from_millis(80));
        };
        let fixed = HedgeDelay::Fixed(Duration::from_millis(50));
        for (written, delay) in [
            (r#""50ms""#, fixed),
            (r#""0s""#, HedgeDelay::Fixed(Duration::ZERO)),
            (r#""never""#, HedgeDelay::Never),
            ("{}", quantile(|_| {})),
            (r#"{"quantile":0.99,"cap":"80ms"}"#, quantile(slow)),
        ] {
            let config: HedgeConfig =
                serde_json::from_str(&format!(r#"{{"delay":{written},"max_hedges":2}}"#)).unwrap();
            assert_eq!((config.delay, config.max_hedges), (delay.clone(), 2));
            let again = serde_json::to_string(&delay).unwrap();
            assert_eq!(serde_json::from_str::<HedgeDelay>(&again).unwrap(), delay);
        }
        let text = serde_json::to_string(&quantile(|_| {})).unwrap();
        assert_eq!(
            text,
            r#"{"quantile":0.95,"min_samples":100,"floor":"1ms","cap":"off"}"#
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn an_invalid_delay_is_reported_with_the_valid_forms() {
        let forms =
            r#"expected a duration such as "50ms", a map such as { quantile: 0.95 }, or "never""#;
        for (written, is) in [
            ("50", "invalid type: integer `50`"),
            (r#""50""#, r#"invalid value: string "50""#),
            (r#""off""#, r#"invalid value: string "off""#),
        ] {
            let error = serde_json::from_str::<HedgeDelay>(written).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with(&format!("{is}, {forms}")), "{error}");
        }
        let error = serde_json::from_str::<HedgeDelay>(r#"{"q":0.5}"#).unwrap_err();
        let known = "unknown field `q`, expected one of `quantile`, `min_samples`, `floor`, `cap`";
        assert!(error.to_string().starts_with(known), "{error}");
    }

    #[test]
    fn every_field_has_its_range() {
        check_ranges::<HedgeConfig>(
            &[
                |hedge| hedge.delay = HedgeDelay::Fixed(Duration::ZERO),
                |hedge| hedge.delay = HedgeDelay::Never,
                |hedge| hedge.max_hedges = 1,
                |hedge| hedge.max_hedges = 3,
                |hedge| hedge.hedge_on = RetryOn::nothing(),
                |hedge| hedge.min_useful = Duration::ZERO,
                |hedge| hedge.max_wait = Duration::MAX,
            ],
            &[
                ("delay.quantile", |hedge| {
                    hedge.delay = quantile(|delay| delay.quantile = 0.0);
                }),
                ("max_hedges", |hedge| hedge.max_hedges = 0),
                ("max_hedges", |hedge| hedge.max_hedges = 4),
                ("hedge_on", |hedge| hedge.hedge_on.statuses.push(600)),
                ("budget.ttl", |hedge| hedge.budget.ttl = Duration::ZERO),
            ],
        );
    }

    #[test]
    fn every_field_of_a_quantile_has_its_range() {
        check_ranges::<Quantile>(
            &[
                |quantile| quantile.quantile = 1.0,
                |quantile| quantile.min_samples = 1,
                |quantile| quantile.floor = Duration::ZERO,
                |quantile| quantile.cap = Some(quantile.floor),
            ],
            &[
                ("quantile", |quantile| quantile.quantile = 0.0),
                ("quantile", |quantile| quantile.quantile = -0.1),
                ("quantile", |quantile| quantile.quantile = 1.1),
                ("quantile", |quantile| quantile.quantile = f64::NAN),
                ("min_samples", |quantile| quantile.min_samples = 0),
                ("cap", |quantile| {
                    quantile.cap = Some(quantile.floor - Duration::from_nanos(1));
                }),
            ],
        );
    }
}
