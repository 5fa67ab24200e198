//! Policies are read back from what they write, whatever they hold.
#![cfg(feature = "serde")]
#![allow(missing_docs)]

use std::{fmt::Debug, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IntoDeserializer};
use serde_json::{from_str, from_value, json, to_string, to_value};
use tower_fanout_layers::{
    breaker::{BreakerSettings, Window},
    concurrency::{
        ConcurrencySettings, Order,
        adaptive::{AdaptiveSettings, Algorithm},
    },
    hedge::{HedgeDelay, HedgeSettings, Quantile},
    policy::{Settings, Valid},
    retry::{BudgetSettings, Jitter, RetryOn, RetrySettings},
    throttle::ThrottleSettings,
};

const SPAN: Duration = Duration::from_micros(90_061_500_001);

type Edit<T> = fn(&mut T);

/// Writes and reads settings as they are by default, and changed by each of `edits`.
fn round_trips<T>(edits: &[Edit<T>])
where
    T: Settings + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let edits = edits.iter().copied();
    for edit in edits.chain([(|_| {}) as Edit<T>]) {
        let policy = Valid::<T>::build(edit).unwrap();
        let text = to_string(&policy).unwrap();
        assert_eq!(from_str::<Valid<T>>(&text).unwrap(), policy, "{text}");
    }
}

/// The same with `field` on and off; off is written as `off`, and null means it too.
fn turns_off<T>(field: &str, on: Edit<T>, off: Edit<T>)
where
    T: Settings + Serialize + DeserializeOwned + PartialEq + Debug,
{
    round_trips(&[on, off]);
    let policy = Valid::<T>::build(off).unwrap();
    assert_ne!(policy, Valid::build(on).unwrap(), "{field}");
    assert_eq!(to_value(&policy).unwrap()[field], "off", "{field}");
    for none in [json!("off"), json!(null)] {
        let read: Valid<T> = from_value(json!({ field: none })).unwrap();
        assert_eq!(read, policy, "{field}: {none}");
    }
}

#[test]
fn a_breaker_is_read_back() {
    round_trips::<BreakerSettings>(&[
        |breaker| breaker.window = Window::Time(SPAN),
        |breaker| breaker.window = Window::Count(7),
        |breaker| (breaker.open, breaker.open_cap) = (Duration::MAX, Duration::MAX),
        |breaker| breaker.open_multiplier = f64::MAX,
        |breaker| breaker.backoff_reset_after = Duration::ZERO,
    ]);
    turns_off::<BreakerSettings>(
        "slow_call",
        |breaker| breaker.slow_call = Some(SPAN),
        |breaker| breaker.slow_call = None,
    );
    turns_off::<BreakerSettings>(
        "unanswered",
        |breaker| breaker.unanswered = Some(SPAN),
        |breaker| breaker.unanswered = None,
    );
    turns_off::<BreakerSettings>(
        "consecutive_failures",
        |breaker| breaker.consecutive_failures = Some(7),
        |breaker| breaker.consecutive_failures = None,
    );
}

#[test]
fn retries_and_their_budget_are_read_back() {
    round_trips::<RetrySettings>(&[
        |retry| (retry.base, retry.cap) = (SPAN, Duration::MAX),
        |retry| retry.jitter = Jitter::None,
        |retry| retry.retry_on = RetryOn::nothing(),
        |retry| retry.retry_on = RetryOn::nothing().connect(true).statuses([200, 304, 599]),
        |retry| retry.budget.ratio = 0.0,
    ]);
    round_trips::<BudgetSettings>(&[|budget| budget.min_per_sec = 1_000_000.0]);
}

#[test]
fn hedges_are_read_back() {
    round_trips::<HedgeSettings>(&[
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
    round_trips::<ConcurrencySettings>(&[
        |limit| limit.order = Order::Fifo,
        |limit| limit.adaptive = Some(AdaptiveSettings::default().unanswered(SPAN)),
    ]);
    turns_off::<ConcurrencySettings>(
        "aging",
        |limit| limit.aging = Some(Duration::from_millis(1)),
        |limit| limit.aging = None,
    );
    turns_off::<ConcurrencySettings>(
        "adaptive",
        |limit| limit.adaptive = Some(AdaptiveSettings::default()),
        |limit| limit.adaptive = None,
    );
    round_trips::<AdaptiveSettings>(&[|adaptive| adaptive.algorithm = Algorithm::Vegas]);
    turns_off::<AdaptiveSettings>(
        "unanswered",
        |adaptive| adaptive.unanswered = Some(SPAN),
        |adaptive| adaptive.unanswered = None,
    );
}

#[test]
fn a_throttle_is_read_back() {
    round_trips::<ThrottleSettings>(&[|throttle| throttle.window = SPAN]);
}

#[cfg(feature = "http")]
#[test]
fn what_statuses_mean_is_read_back() {
    use tower_fanout_layers::classify::ClassifySettings;

    round_trips::<ClassifySettings>(&[|classes| classes.failure = vec![200, 404]]);
}

#[cfg(feature = "chaos")]
#[test]
fn chaos_is_read_back() {
    use tower_fanout_layers::{
        Failure,
        chaos::{ChaosSettings, HeaderMatch, Injection, Latency, Match, Rule},
    };

    round_trips::<ChaosSettings>(&[|chaos| {
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
    turns_off::<ChaosSettings>(
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
        let error = from_str::<BreakerSettings>(text).unwrap_err().to_string();
        assert!(error.contains(&format!("expected {told}")), "{error}");
    }
}
