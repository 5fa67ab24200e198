//! Calls that count, and the rules that open the breaker.

use super::{
    super::{
        config::Window,
        state::{OpenReason, is_share},
    },
    *,
};
use crate::classify::{
    Cause, Class, Failure,
    table::{self, THROTTLED, UNANSWERED, cut_off, status},
};

#[test]
fn cb_01_evaluates_the_rate_from_min_calls_on() {
    let mut bench = Bench::new(|config| config.min_calls = 20);
    assert_eq!(bench.calls(Bad, 19).state(), State::Closed);
    assert_eq!(bench.call(Bad).state(), State::Open);
}

#[test]
fn cb_02_opens_exactly_at_the_failure_rate() {
    let mut bench = Bench::new(|_| {});
    bench.calls(Good, 11).calls(Bad, 10);
    assert_eq!(bench.state(), State::Closed, "10 of 21");
    assert_eq!(bench.call(Bad).state(), State::Open, "11 of 22");

    let third = || {
        Bench::new(|config| {
            config.failure_rate = 1.0 / 3.0;
            config.min_calls = 3;
        })
    };
    let mut bench = third();
    assert_eq!(bench.calls(Good, 2).call(Bad).state(), State::Open);
    let mut bench = third();
    assert_eq!(
        bench.calls(Good, 9).calls(Bad, 4).state(),
        State::Closed,
        "4 of 13"
    );
}

#[test]
fn cb_02_each_whole_percentage_opens_when_it_is_reached_exactly() {
    for (percent, total) in
        (1..=100u64).flat_map(|percent| (1..=1_000).map(move |total| (percent, total)))
    {
        let share = percent as f64 / 100.0;
        // The smallest count that is at least the share, in integers.
        let enough = (percent * total).div_ceil(100);
        assert!(is_share(enough, total, share), "{enough} of {total}");
        assert!(
            !is_share(enough - 1, total, share),
            "{enough} - 1 of {total}"
        );
    }
    for percent in 1..=100u32 {
        let failed = percent as usize;
        let mut bench = Bench::new(|config| {
            config.window = Window::Count(100);
            config.min_calls = 100;
            config.failure_rate = f64::from(percent) / 100.0;
        });
        bench.calls(Good, 100 - failed).calls(Bad, failed - 1);
        assert_eq!(bench.state(), State::Closed, "{percent} %");
        assert_eq!(bench.call(Bad).state(), State::Open, "{percent} %");
    }
}

#[test]
fn cb_03_a_count_window_slides() {
    let mut bench = Bench::new(|config| {
        config.window = Window::Count(10);
        config.min_calls = 10;
    });
    assert_eq!(
        bench.calls(Good, 10_000).calls(Bad, 4).state(),
        State::Closed
    );
    assert_eq!(bench.call(Bad).state(), State::Open);
}

#[test]
fn cb_04_old_failures_leave_a_time_window() {
    let mut bench = Bench::new(|config| config.min_calls = 2);
    bench.call(Bad).advance(ms(11_000)).call(Bad);
    let now = bench.now;
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.machine.tally(now).total, 1);
}

#[test]
fn cb_05_fault_f31_fifty_idle_days_empty_the_window() {
    let mut bench = Bench::new(|config| config.min_calls = 2);
    bench.call(Bad).advance(Duration::from_secs(50 * 86_400));
    let now = bench.now;
    assert_eq!(bench.machine.tally(now).total, 0);
    assert_eq!(bench.calls(Bad, 2).state(), State::Open);
}

#[test]
fn cb_06_fast_and_slow_bursts_trip_at_the_same_call() {
    for gap in [ms(0), ms(450)] {
        let mut bench = Bench::new(|_| {});
        for call in 1..=20 {
            assert_eq!(bench.state(), State::Closed, "before call {call}");
            bench.call(Bad).advance(gap);
        }
        assert_eq!(bench.state(), State::Open);
    }
}

#[test]
fn cb_07_consecutive_failures_trip_only_at_low_volume() {
    let mut quiet = Bench::new(|config| config.consecutive_failures = Some(5));
    for _ in 0..4 {
        quiet.call(Bad).advance(ms(1_000));
    }
    assert_eq!(quiet.state(), State::Closed);
    assert_eq!(quiet.call(Bad).state(), State::Open);
    assert_eq!(quiet.machine.reason(), Some(OpenReason::Consecutive));

    let mut busy = Bench::new(|config| config.consecutive_failures = Some(5));
    for _ in 0..20 {
        busy.calls(Good, 7).calls(Bad, 3);
    }
    assert_eq!(busy.calls(Bad, 5).state(), State::Closed);
}

#[test]
fn cb_07_low_volume_ends_with_a_full_count_window() {
    for (size, min_calls) in [(20, 20), (20, 100), (5, 20), (1, 1)] {
        let mut bench = Bench::new(|config| {
            config.window = Window::Count(size);
            config.min_calls = min_calls;
            config.consecutive_failures = Some(1);
            config.failure_rate = 1.0;
        });
        bench.calls(Good, size);
        if size > 1 {
            assert_eq!(bench.call(Bad).state(), State::Closed, "window of {size}");
        } else {
            assert_eq!(bench.call(Bad).state(), State::Open, "the rate is reached");
            assert_eq!(bench.machine.reason(), Some(OpenReason::FailureRate));
        }
        let mut bench = Bench::new(|config| {
            config.window = Window::Count(size);
            config.min_calls = min_calls;
            config.consecutive_failures = Some(1);
        });
        bench.calls(Good, size - 1).call(Bad);
        let reason = bench.machine.reason();
        assert_eq!(reason, Some(OpenReason::Consecutive), "window of {size}");
    }
}

#[test]
fn cb_08_two_rules_at_once_report_consecutive_failures() {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = Some(5);
        config.min_calls = 5;
    });
    bench.calls(Bad, 4);
    let generation = bench.machine.generation();
    assert_eq!(bench.call(Bad).state(), State::Open);
    assert_eq!(bench.machine.reason(), Some(OpenReason::Consecutive));
    assert_eq!(bench.machine.generation(), generation + 1, "one transition");
}

#[test]
fn cb_09_slow_calls_trip_the_breaker_even_if_they_succeed() {
    let mut bench = Bench::new(|config| {
        config.slow_call = Some(ms(100));
        config.slow_rate = 0.8;
        config.failure_rate = 1.0;
        config.min_calls = 5;
    });
    for (effect, elapsed) in [(Good, 99), (Good, 100), (Bad, 100), (Good, 300)] {
        let ticket = bench.admit().unwrap();
        bench.end_after(ticket, effect, ms(elapsed));
    }
    let now = bench.now;
    assert_eq!(
        bench.machine.tally(now).slow,
        3,
        "a call that takes exactly the threshold is slow"
    );
    assert_eq!(bench.state(), State::Closed);
    let ticket = bench.admit().unwrap();
    bench.end_after(ticket, Good, ms(100));
    assert_eq!(bench.state(), State::Open, "4 of 5 were slow");
    assert_eq!(bench.machine.reason(), Some(OpenReason::SlowRate));
}

#[test]
fn cb_10_fault_f33_effect_of_each_class() {
    let config = BreakerConfig {
        unanswered: Some(UNANSWERED),
        ..BreakerConfig::default()
    };
    let good = [
        Class::Success,
        Class::NonRetryable(404),
        Class::NonRetryable(501),
        Class::NonRetryable(505),
    ];
    let bad = [
        status(500),
        status(502),
        status(503),
        status(504),
        Class::Failure(Failure::Connect),
        Class::Failure(Failure::ConnectionReset),
        Class::Failure(Failure::TruncatedBody),
        Class::Failure(Failure::Protocol),
        Class::Failure(Failure::TooLarge),
        Class::Failure(Failure::AttemptTimeout),
        Class::Failure(Failure::Panic),
        cut_off(Cause::Deadline, UNANSWERED),
        cut_off(Cause::CallerGone, UNANSWERED),
        cut_off(Cause::SiblingFailed, UNANSWERED),
        cut_off(Cause::HedgeLost, UNANSWERED),
    ];
    let mut others = good.map(|class| (class, Good)).to_vec();
    others.extend(bad.map(|class| (class, Bad)));
    others.push((THROTTLED, Throttled));
    table::check(|class| Effect::of(class, &config), &Neutral, &others);

    let mut bench = Bench::opens_after_three_failures();
    assert_eq!(bench.calls(Throttled, 100).state(), State::Closed);
    let mut strict = Bench::new(|config| {
        config.consecutive_failures = Some(3);
        config.throttled_is_failure = true;
    });
    assert_eq!(strict.calls(Throttled, 3).state(), State::Open);
}

#[test]
fn opens_for_the_time_of_retry_after() {
    let retry_after_classes = |retry_after| {
        [
            Class::Throttled { retry_after },
            Class::Failure(Failure::Status {
                code: 503,
                retry_after,
            }),
        ]
    };
    let mut config = BreakerConfig::default();
    let effects = |config: &BreakerConfig, retry_after| {
        retry_after_classes(retry_after).map(|class| Effect::of(class, config))
    };
    let wait = Some(ms(7_000));
    assert_eq!(effects(&config, wait), [Throttled, Bad], "not by default");
    config.open_on_retry_after = true;
    assert_eq!(effects(&config, wait), [RetryAfter(ms(7_000)); 2]);
    for none in [None, Some(ms(0))] {
        assert_eq!(effects(&config, none), [Throttled, Bad]);
    }
    assert_eq!(Effect::of(Class::Success, &config), Good);

    let mut bench = Bench::opens_after_three_failures();
    bench.calls(Good, 9).call(RetryAfter(ms(7_000)));
    assert_eq!(bench.open_remaining(), Some(ms(7_000)));
    assert_eq!(bench.machine.reason(), Some(OpenReason::RetryAfter));
    // A probe opens the breaker in the same way. The open time is capped at 60 s.
    bench.advance(ms(7_000)).call(RetryAfter(Duration::MAX));
    assert_eq!(bench.open_remaining(), Some(ms(60_000)));
    // `Retry-After` does not advance the backoff, so the next trip has the first open time.
    bench.advance(ms(60_000)).call(Bad);
    assert_eq!(bench.open_remaining(), Some(ms(5_000)));
}

#[test]
fn cb_32_min_calls_is_clamped_to_the_count_window() {
    let mut bench = Bench::new(|config| {
        config.window = Window::Count(5);
        config.min_calls = 100;
    });
    assert_eq!(bench.calls(Bad, 5).state(), State::Open);
}
