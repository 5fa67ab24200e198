//! A config is read back from what it writes, whatever it holds.
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
    retry::{BudgetConfig, Jitter, RetryConfig, RetryOn},
    throttle::ThrottleConfig,
    timeout::{DeadlineConfig, TimeoutConfig},
};

const SPAN: Duration = Duration::from_micros(90_061_500_001);

type Edit<T> = fn(&mut T);

trait Config: Validate + Default + Serialize + DeserializeOwned + PartialEq + Debug {}

impl<T: Validate + Default + Serialize + DeserializeOwned + PartialEq + Debug> Config for T {}

/// The default config, changed by `edit`, which is valid.
fn changed<T: Config>(edit: Edit<T>) -> T {
    let mut config = T::default();
    edit(&mut config);
    config.validate().unwrap();
    config
}

/// Writes and reads settings as they are by default, and changed by each of `edits`.
fn round_trips<T: Config>(edits: &[Edit<T>]) {
    let edits = edits.iter().copied();
    for edit in edits.chain([(|_| {}) as Edit<T>]) {
        let config = changed(edit);
        let text = to_string(&config).unwrap();
        assert_eq!(from_str::<T>(&text).unwrap(), config, "{text}");
    }
}

/// The same with `field` on and off; off is written as `off`, and null means it too.
fn turns_off<T: Config>(field: &str, on: Edit<T>, off: Edit<T>) {
    round_trips(&[on, off]);
    let config = changed(off);
    assert_ne!(config, changed(on), "{field}");
    assert_eq!(to_value(&config).unwrap()[field], "off", "{field}");
    for none in [json!("off"), json!(null)] {
        let read: T = from_value(json!({ field: none })).unwrap();
        assert_eq!(read, config, "{field}: {none}");
    }
}

#[test]
fn timeouts_are_read_back() {
    round_trips::<DeadlineConfig>(&[|deadline| deadline.min_useful = SPAN]);
    turns_off::<DeadlineConfig>(
        "total",
        |deadline| deadline.total = Some(SPAN),
        |deadline| deadline.total = None,
    );
    let config = TimeoutConfig::new(SPAN).last_attempt_uses_deadline(true);
    let text = to_string(&config).unwrap();
    assert_eq!(from_str::<TimeoutConfig>(&text).unwrap(), config, "{text}");
    let read: TimeoutConfig = from_str(r#"{"timeout":"1s"}"#).unwrap();
    assert_eq!(read, TimeoutConfig::new(Duration::from_secs(1)));
    assert!(
        from_str::<TimeoutConfig>("{}").is_err(),
        "no hidden default"
    );
}

#[test]
fn a_breaker_is_read_back() {
    round_trips::<BreakerConfig>(&[
        |breaker| breaker.window = Window::Time(SPAN),
        |breaker| breaker.window = Window::Count(7),
        |breaker| (breaker.open, breaker.open_cap) = (Duration::MAX, Duration::MAX),
        |breaker| breaker.open_multiplier = f64::MAX,
        |breaker| breaker.backoff_reset_after = Duration::ZERO,
    ]);
    turns_off::<BreakerConfig>(
        "slow_call",
        |breaker| breaker.slow_call = Some(SPAN),
        |breaker| breaker.slow_call = None,
    );
    turns_off::<BreakerConfig>(
        "unanswered",
        |breaker| breaker.unanswered = Some(SPAN),
        |breaker| breaker.unanswered = None,
    );
    turns_off::<BreakerConfig>(
        "consecutive_failures",
        |breaker| breaker.consecutive_failures = Some(7),
        |breaker| breaker.consecutive_failures = None,
    );
}

#[test]
fn retries_and_their_budget_are_read_back() {
    round_trips::<RetryConfig>(&[
        |retry| (retry.base, retry.cap) = (SPAN, Duration::MAX),
        |retry| retry.jitter = Jitter::None,
        |retry| retry.retry_on = RetryOn::nothing(),
        |retry| {
            retry.retry_on = RetryOn::nothing()
                .connect(true)
                .statuses(vec![200, 304, 599])
        },
        |retry| retry.budget.ratio = 0.0,
    ]);
    round_trips::<BudgetConfig>(&[|budget| budget.min_per_sec = 1_000_000.0]);
}

#[test]
fn hedges_are_read_back() {
    round_trips::<HedgeConfig>(&[
        |hedge| hedge.delay = HedgeDelay::Never,
        |hedge| hedge.delay = HedgeDelay::Fixed(SPAN),
        |hedge| hedge.delay = HedgeDelay::Quantile(Quantile::default().cap(SPAN)),
        |hedge| hedge.hedge_on = RetryOn::nothing(),
    ]);
    turns_off::<Quantile>(
        "cap",
        |quantile| quantile.cap = Some(SPAN),
        |quantile| quantile.cap = None,
    );
}

#[test]
fn a_concurrency_limit_is_read_back() {
    round_trips::<ConcurrencyConfig>(&[
        |limit| limit.order = Order::Fifo,
        |limit| limit.adaptive = Some(AdaptiveConfig::new().unanswered(SPAN)),
    ]);
    turns_off::<ConcurrencyConfig>(
        "aging",
        |limit| limit.aging = Some(Duration::from_millis(1)),
        |limit| limit.aging = None,
    );
    turns_off::<ConcurrencyConfig>(
        "adaptive",
        |limit| limit.adaptive = Some(AdaptiveConfig::new()),
        |limit| limit.adaptive = None,
    );
    round_trips::<AdaptiveConfig>(&[|adaptive| adaptive.algorithm = Algorithm::Vegas]);
    turns_off::<AdaptiveConfig>(
        "unanswered",
        |adaptive| adaptive.unanswered = Some(SPAN),
        |adaptive| adaptive.unanswered = None,
    );
}

#[test]
fn a_throttle_is_read_back() {
    round_trips::<ThrottleConfig>(&[|throttle| throttle.window = SPAN]);
}

#[cfg(feature = "http")]
#[test]
fn what_statuses_mean_is_read_back() {
    use tower_fanout_layers::classify::ClassifyConfig;

    round_trips::<ClassifyConfig>(&[|classes| classes.failure = vec![200, 404]]);
}

#[cfg(feature = "chaos")]
#[test]
fn chaos_is_read_back() {
    use tower_fanout_layers::{
        Failure,
        chaos::{ChaosConfig, HeaderMatch, Injection, Latency, Match, Rule},
    };

    round_trips::<ChaosConfig>(&[|chaos| {
        let uniform = Latency::Uniform {
            min: Duration::ZERO,
            max: SPAN,
        };
        let injections = [
            Injection::Error(Failure::TooLarge),
            Injection::Hang,
            Injection::Latency(Latency::Fixed(SPAN)),
            Injection::Latency(uniform),
            Injection::Status(503),
            Injection::Truncate(7),
            Injection::ResetBody,
        ];
        let header = HeaderMatch {
            name: "x-chaos".into(),
            value: None,
        };
        let wanted = Match {
            tier: Some("off".into()),
            header: Some(header),
            ..Match::default()
        };
        let rules = injections.map(|inject| Rule::new(0.5, inject).matching(wanted.clone()));
        chaos.rules = rules.into();
    }]);
    turns_off::<ChaosConfig>(
        "seed",
        |chaos| chaos.seed = Some(u64::MAX),
        |chaos| chaos.seed = None,
    );
}

#[test]
fn a_window_of_calls_is_read_from_a_format_whose_numbers_have_signs() {
    type Error = serde::de::value::Error;
    let read =
        |calls: i64| Window::deserialize(IntoDeserializer::<Error>::into_deserializer(calls));
    assert_eq!(read(7), Ok(Window::Count(7)));
    let error = read(-1).unwrap_err().to_string();
    let told =
        "invalid value: integer `-1`, expected a duration such as \"10s\", or a number of calls";
    assert_eq!(error, told);
}

#[test]
fn what_is_no_setting_is_told_what_would_be_one() {
    for (text, told) in [
        (r#"{"slow_call": 5}"#, "a duration with its unit"),
        (r#"{"slow_call": "of"}"#, "a duration with its unit"),
        (r#"{"slow_call": true}"#, r#"a setting or the word "off""#),
        (r#"{"consecutive_failures": "of"}"#, "u32"),
        (r#"{"consecutive_failures": -1}"#, "u32"),
    ] {
        let error = from_str::<BreakerConfig>(text).unwrap_err().to_string();
        assert!(error.contains(&format!("expected {told}")), "{error}");
    }
}
