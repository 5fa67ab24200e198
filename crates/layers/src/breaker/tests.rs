//! Tests of the state machine against the statements of `docs/semantics.md`.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    config::{BreakerConfig, Window},
    state::{Effect, Machine, Mode, OpenReason, Recorded, State, Ticket, is_share},
};
use crate::{
    classify::{
        Cause, Class, Failure,
        table::{self, THROTTLED, UNANSWERED, cut_off, status},
    },
    config::Validate,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A state machine without jitter, with a clock that the test advances.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    /// Creates a machine with the default rates and without the rule for consecutive failures.
    fn new(edit: impl FnOnce(&mut BreakerConfig)) -> Self {
        let mut config = BreakerConfig::new()
            .consecutive_failures(None)
            .open_jitter(0.0);
        edit(&mut config);
        config.validate().unwrap();
        let now = Instant::now();
        let machine = Machine::new(config, now);
        Self { machine, now }
    }

    /// Creates a machine that opens after three consecutive failures.
    fn opens_after_three_failures() -> Self {
        Self::new(|config| config.consecutive_failures = Some(3))
    }

    fn advance(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn admit(&mut self) -> Option<Ticket> {
        self.machine.admit(self.now, || 0.0)
    }

    fn end(&mut self, ticket: Ticket, effect: Effect) -> bool {
        self.end_after(ticket, effect, ms(1))
    }

    fn end_after(&mut self, ticket: Ticket, effect: Effect, elapsed: Duration) -> bool {
        let now = self.now;
        self.record(ticket, effect, elapsed, now) != Recorded::Late
    }

    fn record(
        &mut self,
        ticket: Ticket,
        effect: Effect,
        elapsed: Duration,
        now: Instant,
    ) -> Recorded {
        self.machine.record(ticket, effect, elapsed, now, || 0.0)
    }

    fn call(&mut self, effect: Effect) -> &mut Self {
        let ticket = self.admit().expect("the call should be admitted");
        self.end(ticket, effect);
        self
    }

    fn calls(&mut self, effect: Effect, count: usize) -> &mut Self {
        (0..count).for_each(|_| {
            self.call(effect);
        });
        self
    }

    fn state(&self) -> State {
        self.machine.state()
    }

    fn open_remaining(&self) -> Option<Duration> {
        self.machine.open_remaining(self.now)
    }

    /// Opens the breaker, and advances the clock to the end of its open time.
    fn with_open_time_over(mut self) -> Self {
        self.calls(Effect::Bad, 3);
        let open = self.open_remaining().expect("the breaker should be open");
        self.advance(open);
        self
    }
}

use Effect::{Bad, Good, Neutral, RetryAfter, Throttled};

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
fn cb_12_remaining_open_time_decreases() {
    let mut bench = Bench::opens_after_three_failures();
    bench.calls(Bad, 3);
    assert_eq!(bench.open_remaining(), Some(ms(5_000)));
    assert_eq!(bench.advance(ms(1_500)).open_remaining(), Some(ms(3_500)));
}

#[test]
fn cb_13_admits_a_probe_exactly_at_the_end_of_the_open_time() {
    let mut bench = Bench::opens_after_three_failures();
    bench
        .calls(Bad, 3)
        .advance(ms(5_000) - Duration::from_nanos(1));
    assert!(bench.admit().is_none());
    bench.advance(Duration::from_nanos(1));
    assert!(bench.admit().is_some());
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn cb_15_good_probes_close_and_a_failed_probe_reopens_for_longer() {
    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    bench.calls(Good, 2);
    assert_eq!(bench.state(), State::HalfOpen);
    assert_eq!(bench.call(Good).state(), State::Closed);
    let now = bench.now;
    assert_eq!(
        bench.machine.tally(now).total,
        0,
        "the window should be empty"
    );

    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    bench.call(Good).call(Bad);
    assert_eq!(
        (bench.state(), bench.open_remaining()),
        (State::Open, Some(ms(10_000)))
    );
}

#[test]
fn cb_15_fault_f29_limits_concurrent_probes() {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = Some(3);
        config.half_open_concurrency = 2;
    })
    .with_open_time_over();
    let (first, second) = (bench.admit().unwrap(), bench.admit().unwrap());
    assert!(bench.admit().is_none());
    bench.end(first, Good);
    let third = bench.admit().unwrap();
    assert!(
        bench.admit().is_none(),
        "the running probes can complete the required three"
    );
    bench.end(second, Good);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.end(third, Good);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn cb_16_open_time_grows_up_to_the_cap() {
    let mut bench = Bench::opens_after_three_failures();
    bench.calls(Bad, 3);
    let mut times = Vec::new();
    for _ in 0..6 {
        let open = bench.open_remaining().unwrap();
        times.push(open.as_secs());
        bench.advance(open).call(Bad);
    }
    assert_eq!(times, [5, 10, 20, 40, 60, 60]);

    for random in [0.0, 0.5, 0.999] {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = Some(1);
            config.open_jitter = 0.2;
        });
        let (ticket, now) = (bench.admit().unwrap(), bench.now);
        bench.machine.record(ticket, Bad, ms(1), now, || random);
        let open = bench.open_remaining().unwrap().as_secs_f64();
        assert!((open - 5.0 * (1.0 + 0.2 * random)).abs() < 1e-6, "{open}");
    }
}

#[test]
fn cb_17_resets_the_open_time_after_a_long_closed_time() {
    for (closed_for, open) in [(ms(10_000), ms(10_000)), (ms(61_000), ms(5_000))] {
        let mut bench = Bench::opens_after_three_failures().with_open_time_over();
        bench.calls(Good, 3).advance(closed_for).calls(Bad, 3);
        assert_eq!(
            bench.open_remaining(),
            Some(open),
            "closed for {closed_for:?}"
        );
    }
}

#[test]
fn cb_18_cb_22_a_neutral_probe_gives_its_slot_back() {
    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    for _ in 0..100 {
        bench.call(Neutral);
        assert_eq!(bench.state(), State::HalfOpen);
    }
    let probe = bench.admit().unwrap();
    assert!(
        bench.admit().is_none(),
        "the number of slots should not grow"
    );
    bench.end(probe, Good);
    assert_eq!(bench.calls(Good, 2).state(), State::Closed);
}

#[test]
fn cb_20_a_probe_fails_at_the_end_of_its_lease() {
    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    let probe = bench.admit().unwrap();
    bench.advance(ms(4_999));
    assert!(bench.admit().is_none());
    bench.advance(ms(1));
    assert!(bench.admit().is_none());
    assert_eq!(
        (bench.state(), bench.open_remaining()),
        (State::Open, Some(ms(10_000)))
    );
    assert!(
        !bench.end(probe, Good),
        "a success after the lease should not count"
    );
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn cb_20_a_success_after_the_lease_is_a_failure() {
    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    let probe = bench.admit().unwrap();
    bench.advance(ms(5_000));
    assert!(
        !bench.end(probe, Good),
        "no call has ended the lease before"
    );
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn cb_21_cb_24_a_result_of_an_older_generation_has_no_effect() {
    for late in [Good, Bad] {
        let mut bench = Bench::opens_after_three_failures();
        let (one, two) = (bench.admit().unwrap(), bench.admit().unwrap());
        bench.calls(Bad, 3);
        let open_remaining = bench.open_remaining();
        assert!(!bench.end(one, late), "while open");
        assert_eq!(
            (bench.state(), bench.open_remaining()),
            (State::Open, open_remaining)
        );
        bench.advance(ms(5_000));
        let probe = bench.admit().unwrap();
        assert!(!bench.end(two, late), "while half-open");
        assert_eq!(bench.state(), State::HalfOpen);
        bench.end(probe, Good);
        assert_eq!(bench.calls(Good, 2).state(), State::Closed);
    }
}

#[test]
fn cb_23_a_throttled_probe_reopens_the_breaker() {
    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    assert_eq!(bench.call(Throttled).state(), State::Open);
}

#[test]
fn cb_26_stays_forced_open_until_the_last_guard_is_released() {
    let mut bench = Bench::opens_after_three_failures();
    bench.calls(Bad, 2);
    let (running, now) = (bench.admit().unwrap(), bench.now);
    bench.machine.hold(now);
    bench.machine.hold(now);
    assert_eq!(bench.state(), State::ForcedOpen);
    assert!(!bench.end(running, Good));
    for _ in 0..2 {
        assert!(bench.advance(ms(1_000_000)).admit().is_none());
        let now = bench.now;
        bench.machine.release(now);
    }
    assert_eq!(bench.state(), State::Closed);
    let now = bench.now;
    assert_eq!(
        bench.machine.tally(now).total,
        0,
        "the window should be empty"
    );
    assert_eq!(bench.calls(Bad, 3).state(), State::Open);
    bench.machine.hold(now);
    bench.machine.release(now);
    assert_eq!(
        bench.calls(Bad, 3).open_remaining(),
        Some(ms(5_000)),
        "the open time should be that of a first trip"
    );
}

#[test]
fn cb_26_a_mode_set_while_forced_open_applies_afterwards() {
    let mut bench = Bench::opens_after_three_failures();
    let now = bench.now;
    bench.machine.hold(now);
    bench.machine.switch(Mode::Disabled, now);
    bench.machine.open_for(ms(1), now);
    assert_eq!(bench.state(), State::ForcedOpen);
    bench.machine.release(now);
    assert_eq!(bench.state(), State::Disabled);
}

#[test]
fn cb_27_records_nothing_while_disabled() {
    let mut bench = Bench::opens_after_three_failures();
    let now = bench.now;
    bench.machine.switch(Mode::Disabled, now);
    assert_eq!(bench.calls(Bad, 100).state(), State::Disabled);
    assert_eq!(bench.machine.tally(now).total, 0);
}

#[test]
fn cb_27_shadow_mode_reports_each_crossing_once_and_admits_all() {
    let mut bench = Bench::new(|config| config.min_calls = 4);
    let now = bench.now;
    bench.machine.switch(Mode::Shadow, now);
    let mut crossings = |effect: Effect, count: usize| -> usize {
        let crossings = (0..count).filter(|_| {
            let ticket = bench.admit().expect("all calls should advance");
            bench.record(ticket, effect, ms(1), now) == Recorded::WouldOpen
        });
        crossings.count()
    };
    assert_eq!(crossings(Bad, 3), 0);
    assert_eq!(crossings(Bad, 10), 1, "first crossing");
    assert_eq!(crossings(Good, 20), 0, "13 of 33 are below one half");
    assert_eq!(crossings(Bad, 20), 1, "second crossing");
    assert_eq!(bench.state(), State::Shadow);
}

#[test]
fn cb_27_a_crossing_ends_when_the_window_holds_no_failure() {
    let mut bench = Bench::new(|config| config.consecutive_failures = Some(1));
    let start = bench.now;
    bench.machine.switch(Mode::Shadow, start);
    let left = bench.admit().unwrap();
    let failing = bench.admit().unwrap();
    assert_eq!(
        bench.record(failing, Bad, ms(1), start),
        Recorded::WouldOpen
    );
    let now = bench.advance(ms(11_000)).now;
    // A result that is not counted makes successes take the fast path.
    assert_eq!(bench.record(left, Neutral, ms(1), now), Recorded::Counted);
    assert!(bench.machine.has_fast_path(now));
    bench.machine.add_good(2, 1, 8, now);
    let failing = bench.admit().unwrap();
    assert_eq!(bench.record(failing, Bad, ms(1), now), Recorded::WouldOpen);
}

#[test]
fn cb_28_a_reset_ignores_the_results_of_running_probes() {
    let mut bench = Bench::opens_after_three_failures().with_open_time_over();
    let (probe, now) = (bench.admit().unwrap(), bench.now);
    bench.machine.switch(Mode::Automatic, now);
    assert_eq!(bench.state(), State::Closed);
    assert!(!bench.end(probe, Bad));
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.calls(Bad, 3).open_remaining(), Some(ms(5_000)));
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
fn cb_27_shadow_mode_reports_a_trip_by_retry_after() {
    let mut bench = Bench::new(|_| {});
    let now = bench.now;
    bench.machine.switch(Mode::Shadow, now);
    let mut crossings = |effect| {
        let ticket = bench.admit().expect("all calls should advance");
        bench.record(ticket, effect, ms(1), now) == Recorded::WouldOpen
    };
    let retry_after = RetryAfter(ms(7_000));
    assert_eq!(
        [retry_after, retry_after, Good, retry_after].map(&mut crossings),
        [true, false, false, true]
    );
    assert_eq!(bench.state(), State::Shadow);
}

#[test]
fn opens_for_a_time_and_probes_at_once_by_hand() {
    let mut bench = Bench::opens_after_three_failures();
    let now = bench.now;
    bench.machine.open_for(ms(7), now);
    assert_eq!(bench.open_remaining(), Some(ms(7)));
    assert_eq!(bench.machine.reason(), Some(OpenReason::Manual));
    bench.machine.probe_now(now);
    assert!(bench.admit().is_some());
    assert_eq!(bench.calls(Neutral, 0).state(), State::HalfOpen);
}

#[test]
fn cb_31_a_huge_multiplier_saturates_at_the_cap() {
    let mut bench = Bench::new(|config| {
        config.consecutive_failures = Some(1);
        config.open = ms(1);
        config.open_multiplier = f64::MAX;
        config.open_cap = ms(7_000);
    });
    bench.call(Bad);
    assert_eq!(bench.open_remaining(), Some(ms(1)));
    bench.advance(ms(1)).call(Bad);
    for _ in 0..5 {
        assert_eq!(bench.open_remaining(), Some(ms(7_000)));
        bench.advance(ms(7_000)).call(Bad);
    }
}

#[test]
fn cb_32_min_calls_is_clamped_to_the_count_window() {
    let mut bench = Bench::new(|config| {
        config.window = Window::Count(5);
        config.min_calls = 100;
    });
    assert_eq!(bench.calls(Bad, 5).state(), State::Open);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Admit,
    End(usize, Effect),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let effect = prop_oneof![
        Just(Good),
        Just(Bad),
        Just(Neutral),
        Just(Throttled),
        (1u64..9_000).prop_map(|wait| RetryAfter(ms(wait))),
    ];
    prop_oneof![
        Just(Op::Admit),
        (any::<usize>(), effect).prop_map(|(which, effect)| Op::End(which, effect)),
        (0u64..4_000).prop_map(Op::Pass),
    ]
}

proptest! {
    #[test]
    fn cb_34_fault_f29_never_sticks_and_limits_probes(
        ops in prop::collection::vec(op(), 1..300),
        concurrency in 1u32..3,
    ) {
        let mut bench = Bench::new(|config| {
            config.consecutive_failures = Some(2);
            config.half_open_concurrency = concurrency;
            config.half_open_max_failures = 1;
        });
        let mut running: Vec<(Ticket, Instant)> = Vec::new();
        let (mut generation, mut counted) = (0, 0u32);
        for op in ops {
            match op {
                Op::Admit => if let Some(ticket) = bench.admit() {
                    running.push((ticket, bench.now));
                },
                Op::End(which, effect) if !running.is_empty() => {
                    let (ticket, _) = running.swap_remove(which % running.len());
                    let before = bench.machine.generation();
                    let taken = bench.end(ticket, effect);
                    if taken && bench.machine.generation() == before && ticket.probe.is_none() {
                        counted += u32::from(matches!(effect, Good | Bad));
                    }
                }
                Op::End(..) => {}
                Op::Pass(time) => { bench.advance(ms(time)); }
            }
            let now = bench.now;
            prop_assert!(bench.machine.generation() >= generation);
            if bench.machine.generation() != generation {
                (generation, counted) = (bench.machine.generation(), 0);
            }
            if bench.state() == State::Closed {
                prop_assert!(bench.machine.tally(now).total <= u64::from(counted));
            }
            let probes = running.iter().filter(|(ticket, since)| {
                ticket.generation == generation && ticket.probe.is_some() && now < *since + ms(5_000)
            });
            prop_assert!(probes.count() <= concurrency as usize);
        }
        // The outage is over: as time passes, calls are admitted and close the breaker.
        for _ in 0..10 {
            bench.advance(Duration::from_secs(600));
            if let Some(ticket) = bench.admit() {
                bench.end(ticket, Good);
            }
        }
        prop_assert_eq!(bench.state(), State::Closed);
    }
}
