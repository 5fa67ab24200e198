//! Round trips of all config structs through serialization.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IntoDeserializer};
use serde_json::{from_str, from_value, json, to_string, to_value};
use tower_fanout_layers::{
    breaker::{BreakerConfig, Window},
    concurrency::{
        ConcurrencyConfig, Order,
        adaptive::{AdaptiveConfig, Algorithm},
    },
    config::Validate,
    hedge::{HedgeConfig, HedgeDelay, Quantile},
    per_key::PerKeyConfig,
    retry::{BudgetConfig, Jitter, RetryConfig, RetryOn},
    throttle::ThrottleConfig,
    timeout::{DeadlineConfig, TimeoutConfig},
};

const DURATION: Duration = Duration::from_micros(90_061_500_001);

type Edit<T> = fn(&mut T);

trait Config: Validate + Default + Serialize + DeserializeOwned + PartialEq + Debug {}

impl<T: Validate + Default + Serialize + DeserializeOwned + PartialEq + Debug> Config for T {}

/// Returns the default config after `edit`. The result must be valid.
fn edited<T: Config>(edit: Edit<T>) -> T {
    let mut config = T::default();
    edit(&mut config);
    config.validate().unwrap();
    config
}

/// Serializes and deserializes the default config, and the config after each of `edits`.
fn check_round_trips<T: Config>(edits: &[Edit<T>]) {
    let edits = edits.iter().copied();
    for edit in edits.chain([(|_| {}) as Edit<T>]) {
        let config = edited(edit);
        let text = to_string(&config).unwrap();
        assert_eq!(from_str::<T>(&text).unwrap(), config, "{text}");
    }
}

/// The same for an optional field. `None` is written as `off`, and null is read as `None` too.
fn check_optional<T: Config>(field: &str, on: Edit<T>, off: Edit<T>) {
    check_round_trips(&[on, off]);
    let config = edited(off);
    assert_ne!(config, edited(on), "{field}");
    assert_eq!(to_value(&config).unwrap()[field], "off", "{field}");
    for none in [json!("off"), json!(null)] {
        let read: T = from_value(json!({ field: none })).unwrap();
        assert_eq!(read, config, "{field}: {none}");
    }
}

#[test]
fn round_trips_timeouts() {
    check_round_trips::<DeadlineConfig>(&[|deadline| deadline.min_useful = DURATION]);
    check_optional::<DeadlineConfig>(
        "total",
        |deadline| deadline.total = Some(DURATION),
        |deadline| deadline.total = None,
    );
    let config = TimeoutConfig::new(DURATION).last_attempt_uses_deadline(true);
    let text = to_string(&config).unwrap();
    assert_eq!(from_str::<TimeoutConfig>(&text).unwrap(), config, "{text}");
    let read: TimeoutConfig = from_str(r#"{"timeout":"1s"}"#).unwrap();
    assert_eq!(read, TimeoutConfig::new(Duration::from_secs(1)));
    assert!(
        from_str::<TimeoutConfig>("{}").is_err(),
        "`timeout` should have no default"
    );
}

#[test]
fn round_trips_a_breaker() {
    check_round_trips::<BreakerConfig>(&[
        |breaker| breaker.window = Window::Time(DURATION),
        |breaker| breaker.window = Window::Count(7),
        |breaker| (breaker.open, breaker.open_cap) = (Duration::MAX, Duration::MAX),
        |breaker| breaker.open_multiplier = f64::MAX,
        |breaker| breaker.backoff_reset_after = Duration::ZERO,
    ]);
    check_optional::<BreakerConfig>(
        "slow_call",
        |breaker| breaker.slow_call = Some(DURATION),
        |breaker| breaker.slow_call = None,
    );
    check_optional::<BreakerConfig>(
        "unanswered",
        |breaker| breaker.unanswered = Some(DURATION),
        |breaker| breaker.unanswered = None,
    );
    check_optional::<BreakerConfig>(
        "consecutive_failures",
        |breaker| breaker.consecutive_failures = Some(7),
        |breaker| breaker.consecutive_failures = None,
    );
}

#[test]
fn round_trips_retries_and_their_budget() {
    check_round_trips::<RetryConfig>(&[
        |retry| (retry.base, retry.cap) = (DURATION, Duration::MAX),
        |retry| retry.jitter = Jitter::None,
        |retry| retry.retry_on = RetryOn::nothing(),
        |retry| {
            retry.retry_on = RetryOn::nothing()
                .connect(true)
                .statuses(vec![200, 304, 599])
        },
        |retry| retry.budget.ratio = 0.0,
    ]);
    check_round_trips::<BudgetConfig>(&[|budget| budget.min_per_sec = 1_000_000.0]);
}

#[test]
fn round_trips_hedges() {
    check_round_trips::<HedgeConfig>(&[
        |hedge| hedge.delay = HedgeDelay::Never,
        |hedge| hedge.delay = HedgeDelay::Fixed(DURATION),
        |hedge| hedge.delay = HedgeDelay::Quantile(Quantile::default().cap(DURATION)),
        |hedge| hedge.hedge_on = RetryOn::nothing(),
    ]);
    check_optional::<Quantile>(
        "cap",
        |quantile| quantile.cap = Some(DURATION),
        |quantile| quantile.cap = None,
    );
}

#[test]
fn round_trips_a_concurrency_limit() {
    check_round_trips::<ConcurrencyConfig>(&[
        |limit| limit.order = Order::Fifo,
        |limit| limit.adaptive = Some(AdaptiveConfig::new().unanswered(DURATION)),
    ]);
    check_optional::<ConcurrencyConfig>(
        "aging",
        |limit| limit.aging = Some(Duration::from_millis(1)),
        |limit| limit.aging = None,
    );
    check_optional::<ConcurrencyConfig>(
        "adaptive",
        |limit| limit.adaptive = Some(AdaptiveConfig::new()),
        |limit| limit.adaptive = None,
    );
    check_round_trips::<AdaptiveConfig>(&[|adaptive| adaptive.algorithm = Algorithm::Vegas]);
    check_optional::<AdaptiveConfig>(
        "unanswered",
        |adaptive| adaptive.unanswered = Some(DURATION),
        |adaptive| adaptive.unanswered = None,
    );
}

#[test]
fn round_trips_a_throttle() {
    check_round_trips::<ThrottleConfig>(&[|throttle| throttle.window = DURATION]);
}

#[test]
fn round_trips_limits_of_keys() {
    check_round_trips::<PerKeyConfig>(&[|keys| keys.idle_after = Duration::from_secs(90)]);
}

#[cfg(feature = "http")]
#[test]
fn round_trips_the_classes_of_statuses() {
    use tower_fanout_layers::classify::ClassifyConfig;

    check_round_trips::<ClassifyConfig>(&[|classes| classes.failure = vec![200, 404]]);
}

#[cfg(feature = "chaos")]
#[test]
fn round_trips_chaos() {
    use tower_fanout_layers::{
        Failure,
        chaos::{ChaosConfig, HeaderMatch, Injection, Latency, Match, Rule},
    };

    check_round_trips::<ChaosConfig>(&[|chaos| {
        let uniform = Latency::Uniform {
            min: Duration::ZERO,
            max: DURATION,
        };
        let injections = [
            Injection::Error(Failure::TooLarge),
            Injection::Hang,
            Injection::Latency(Latency::Fixed(DURATION)),
            Injection::Latency(uniform),
            Injection::Status(503),
            Injection::Truncate(7),
            Injection::ResetBody,
        ];
        let header = HeaderMatch {
            name: "x-chaos".into(),
            value: None,
        };
        let filter = Match {
            tier: Some("off".into()),
            header: Some(header),
            ..Match::default()
        };
        let rules = injections.map(|inject| Rule::new(0.5, inject).matching(filter.clone()));
        chaos.rules = rules.into();
    }]);
    check_optional::<ChaosConfig>(
        "seed",
        |chaos| chaos.seed = Some(u64::MAX),
        |chaos| chaos.seed = None,
    );
}

#[test]
fn reads_a_count_window_from_signed_numbers() {
    type Error = serde::de::value::Error;
    let read =
        |calls: i64| Window::deserialize(IntoDeserializer::<Error>::into_deserializer(calls));
    assert_eq!(read(7), Ok(Window::Count(7)));
    let error = read(-1).unwrap_err().to_string();
    let expected =
        "invalid value: integer `-1`, expected a duration such as \"10s\", or a number of calls";
    assert_eq!(error, expected);
}

#[test]
fn errors_name_the_expected_type() {
    for (text, expected) in [
        (r#"{"slow_call": 5}"#, "a duration with its unit"),
        (r#"{"slow_call": "of"}"#, "a duration with its unit"),
        (r#"{"slow_call": true}"#, r#"a value or the word "off""#),
        (r#"{"consecutive_failures": "of"}"#, "u32"),
        (r#"{"consecutive_failures": -1}"#, "u32"),
    ] {
        let error = from_str::<BreakerConfig>(text).unwrap_err().to_string();
        assert!(error.contains(&format!("expected {expected}")), "{error}");
    }
}
