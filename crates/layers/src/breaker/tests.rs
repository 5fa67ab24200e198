//! The state machine against its statements.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    config::{BreakerConfig, Window},
    state::{Effect, Machine, Mode, OpenReason, Recorded, State, Ticket},
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

/// A machine with a clock that a test sets, and without jitter.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    /// A rate of one half over at least `min_calls` in 10 s, and nothing else.
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

    /// Three failures open it.
    fn touchy() -> Self {
        Self::new(|settings| settings.consecutive_failures = Some(3))
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
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
        let ticket = self.admit().expect("it is admitted");
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

    /// Opens it, and lets its time pass to the end.
    fn due(mut self) -> Self {
        self.calls(Effect::Bad, 3);
        let open = self.open_remaining().expect("it is open");
        self.pass(open);
        self
    }
}

use Effect::{Bad, Good, LeaveAlone, Neutral, Throttled};

#[test]
fn cb_01_a_rate_is_taken_from_min_calls_on() {
    let mut bench = Bench::new(|settings| settings.min_calls = 20);
    assert_eq!(bench.calls(Bad, 19).state(), State::Closed);
    assert_eq!(bench.call(Bad).state(), State::Open);
}

#[test]
fn cb_02_it_opens_at_the_rate_exactly() {
    let mut bench = Bench::new(|_| {});
    bench.calls(Good, 11).calls(Bad, 10);
    assert_eq!(bench.state(), State::Closed, "10 of 21");
    assert_eq!(bench.call(Bad).state(), State::Open, "11 of 22");

    let third = || {
        Bench::new(|settings| {
            settings.failure_rate = 1.0 / 3.0;
            settings.min_calls = 3;
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
fn cb_03_a_count_window_slides() {
    let mut bench = Bench::new(|settings| {
        settings.window = Window::Count(10);
        settings.min_calls = 10;
    });
    assert_eq!(
        bench.calls(Good, 10_000).calls(Bad, 4).state(),
        State::Closed
    );
    assert_eq!(bench.call(Bad).state(), State::Open);
}

#[test]
fn cb_04_old_failures_leave_a_time_window() {
    let mut bench = Bench::new(|settings| settings.min_calls = 2);
    bench.call(Bad).pass(ms(11_000)).call(Bad);
    let now = bench.now;
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.machine.tally(now).total, 1);
}

#[test]
fn cb_05_fault_f31_fifty_idle_days_leave_an_empty_window_and_a_working_breaker() {
    let mut bench = Bench::new(|settings| settings.min_calls = 2);
    bench.call(Bad).pass(Duration::from_secs(50 * 86_400));
    let now = bench.now;
    assert_eq!(bench.machine.tally(now).total, 0);
    assert_eq!(bench.calls(Bad, 2).state(), State::Open);
}

#[test]
fn cb_06_a_burst_trips_at_the_same_call_however_long_it_takes() {
    for gap in [ms(0), ms(450)] {
        let mut bench = Bench::new(|_| {});
        for call in 1..=20 {
            assert_eq!(bench.state(), State::Closed, "before call {call}");
            bench.call(Bad).pass(gap);
        }
        assert_eq!(bench.state(), State::Open);
    }
}

#[test]
fn cb_07_failures_in_a_row_count_only_while_calls_are_few() {
    let mut quiet = Bench::new(|settings| settings.consecutive_failures = Some(5));
    for _ in 0..4 {
        quiet.call(Bad).pass(ms(1_000));
    }
    assert_eq!(quiet.state(), State::Closed);
    assert_eq!(quiet.call(Bad).state(), State::Open);
    assert_eq!(quiet.machine.reason(), Some(OpenReason::Consecutive));

    let mut busy = Bench::new(|settings| settings.consecutive_failures = Some(5));
    for _ in 0..20 {
        busy.calls(Good, 7).calls(Bad, 3);
    }
    assert_eq!(busy.calls(Bad, 5).state(), State::Closed);
}

#[test]
fn cb_08_of_two_rules_at_once_the_row_of_failures_is_the_reason() {
    let mut bench = Bench::new(|settings| {
        settings.consecutive_failures = Some(5);
        settings.min_calls = 5;
    });
    bench.calls(Bad, 4);
    let generation = bench.machine.generation();
    assert_eq!(bench.call(Bad).state(), State::Open);
    assert_eq!(bench.machine.reason(), Some(OpenReason::Consecutive));
    assert_eq!(bench.machine.generation(), generation + 1, "one transition");
}

#[test]
fn cb_09_slow_calls_open_it_whether_they_failed_or_not() {
    let mut bench = Bench::new(|settings| {
        settings.slow_call = Some(ms(100));
        settings.slow_rate = 0.8;
        settings.failure_rate = 1.0;
        settings.min_calls = 5;
    });
    for (effect, elapsed) in [(Good, 99), (Good, 100), (Bad, 100), (Good, 300)] {
        let ticket = bench.admit().unwrap();
        bench.end_after(ticket, effect, ms(elapsed));
    }
    let now = bench.now;
    assert_eq!(
        bench.machine.tally(now).slow,
        3,
        "as long as the threshold is slow"
    );
    assert_eq!(bench.state(), State::Closed);
    let ticket = bench.admit().unwrap();
    bench.end_after(ticket, Good, ms(100));
    assert_eq!(bench.state(), State::Open, "4 of 5 were slow");
    assert_eq!(bench.machine.reason(), Some(OpenReason::SlowRate));
}

#[test]
fn cb_10_fault_f33_what_a_class_says_of_the_service() {
    let settings = BreakerConfig {
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
    table::check(|class| Effect::of(class, &settings), &Neutral, &others);

    let mut bench = Bench::touchy();
    assert_eq!(bench.calls(Throttled, 100).state(), State::Closed);
    let mut strict = Bench::new(|settings| {
        settings.consecutive_failures = Some(3);
        settings.throttled_is_failure = true;
    });
    assert_eq!(strict.calls(Throttled, 3).state(), State::Open);
}

#[test]
fn cb_12_the_time_to_wait_shrinks() {
    let mut bench = Bench::touchy();
    bench.calls(Bad, 3);
    assert_eq!(bench.open_remaining(), Some(ms(5_000)));
    assert_eq!(bench.pass(ms(1_500)).open_remaining(), Some(ms(3_500)));
}

#[test]
fn cb_13_the_probe_passes_when_the_time_is_up_and_not_before() {
    let mut bench = Bench::touchy();
    bench
        .calls(Bad, 3)
        .pass(ms(5_000) - Duration::from_nanos(1));
    assert!(bench.admit().is_none());
    bench.pass(Duration::from_nanos(1));
    assert!(bench.admit().is_some());
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn cb_15_successful_probes_close_it_and_a_failed_one_opens_it_for_longer() {
    let mut bench = Bench::touchy().due();
    bench.calls(Good, 2);
    assert_eq!(bench.state(), State::HalfOpen);
    assert_eq!(bench.call(Good).state(), State::Closed);
    let now = bench.now;
    assert_eq!(bench.machine.tally(now).total, 0, "it starts afresh");

    let mut bench = Bench::touchy().due();
    bench.call(Good).call(Bad);
    assert_eq!(
        (bench.state(), bench.open_remaining()),
        (State::Open, Some(ms(10_000)))
    );
}

#[test]
fn cb_15_fault_f29_only_so_many_probes_run_at_a_time() {
    let mut bench = Bench::new(|settings| {
        settings.consecutive_failures = Some(3);
        settings.half_open_concurrency = 2;
    })
    .due();
    let (first, second) = (bench.admit().unwrap(), bench.admit().unwrap());
    assert!(bench.admit().is_none());
    bench.end(first, Good);
    let third = bench.admit().unwrap();
    assert!(
        bench.admit().is_none(),
        "three probes decide, no more are wanted"
    );
    bench.end(second, Good);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.end(third, Good);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn cb_16_it_stays_open_longer_each_time_up_to_the_cap() {
    let mut bench = Bench::touchy();
    bench.calls(Bad, 3);
    let mut times = Vec::new();
    for _ in 0..6 {
        let open = bench.open_remaining().unwrap();
        times.push(open.as_secs());
        bench.pass(open).call(Bad);
    }
    assert_eq!(times, [5, 10, 20, 40, 60, 60]);

    for random in [0.0, 0.5, 0.999] {
        let mut bench = Bench::new(|settings| {
            settings.consecutive_failures = Some(1);
            settings.open_jitter = 0.2;
        });
        let (ticket, now) = (bench.admit().unwrap(), bench.now);
        bench.machine.record(ticket, Bad, ms(1), now, || random);
        let open = bench.open_remaining().unwrap().as_secs_f64();
        assert!((open - 5.0 * (1.0 + 0.2 * random)).abs() < 1e-6, "{open}");
    }
}

#[test]
fn cb_17_only_a_long_calm_makes_it_forget() {
    for (calm, open) in [(ms(10_000), ms(10_000)), (ms(61_000), ms(5_000))] {
        let mut bench = Bench::touchy().due();
        bench.calls(Good, 3).pass(calm).calls(Bad, 3);
        assert_eq!(bench.open_remaining(), Some(open), "closed for {calm:?}");
    }
}

#[test]
fn cb_18_cb_22_a_probe_that_says_nothing_gives_its_slot_back() {
    let mut bench = Bench::touchy().due();
    for _ in 0..100 {
        bench.call(Neutral);
        assert_eq!(bench.state(), State::HalfOpen);
    }
    let probe = bench.admit().unwrap();
    assert!(bench.admit().is_none(), "no slot was made up");
    bench.end(probe, Good);
    assert_eq!(bench.calls(Good, 2).state(), State::Closed);
}

#[test]
fn cb_20_a_probe_that_outlives_its_lease_has_failed() {
    let mut bench = Bench::touchy().due();
    let probe = bench.admit().unwrap();
    bench.pass(ms(4_999));
    assert!(bench.admit().is_none());
    bench.pass(ms(1));
    assert!(bench.admit().is_none());
    assert_eq!(
        (bench.state(), bench.open_remaining()),
        (State::Open, Some(ms(10_000)))
    );
    assert!(
        !bench.end(probe, Good),
        "its late success counts for nothing"
    );
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn cb_20_a_probe_that_succeeds_after_its_lease_has_failed_too() {
    let mut bench = Bench::touchy().due();
    let probe = bench.admit().unwrap();
    bench.pass(ms(5_000));
    assert!(!bench.end(probe, Good), "nobody asked meanwhile");
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn cb_21_cb_24_a_call_of_an_older_generation_changes_nothing() {
    for late in [Good, Bad] {
        let mut bench = Bench::touchy();
        let (one, two) = (bench.admit().unwrap(), bench.admit().unwrap());
        bench.calls(Bad, 3);
        let open_remaining = bench.open_remaining();
        assert!(!bench.end(one, late), "while open");
        assert_eq!(
            (bench.state(), bench.open_remaining()),
            (State::Open, open_remaining)
        );
        bench.pass(ms(5_000));
        let probe = bench.admit().unwrap();
        assert!(!bench.end(two, late), "while half-open");
        assert_eq!(bench.state(), State::HalfOpen);
        bench.end(probe, Good);
        assert_eq!(bench.calls(Good, 2).state(), State::Closed);
    }
}

#[test]
fn cb_23_a_throttled_probe_has_failed() {
    let mut bench = Bench::touchy().due();
    assert_eq!(bench.call(Throttled).state(), State::Open);
}

#[test]
fn cb_26_it_is_held_open_until_nobody_holds_it() {
    let mut bench = Bench::touchy();
    bench.calls(Bad, 2);
    let (running, now) = (bench.admit().unwrap(), bench.now);
    bench.machine.hold(now);
    bench.machine.hold(now);
    assert_eq!(bench.state(), State::ForcedOpen);
    assert!(!bench.end(running, Good));
    for _ in 0..2 {
        assert!(bench.pass(ms(1_000_000)).admit().is_none());
        let now = bench.now;
        bench.machine.release(now);
    }
    assert_eq!(bench.state(), State::Closed);
    let now = bench.now;
    assert_eq!(bench.machine.tally(now).total, 0, "it starts afresh");
    assert_eq!(bench.calls(Bad, 3).state(), State::Open);
    bench.machine.hold(now);
    bench.machine.release(now);
    assert_eq!(
        bench.calls(Bad, 3).open_remaining(),
        Some(ms(5_000)),
        "as if for the first time"
    );
}

#[test]
fn cb_26_what_is_said_while_it_is_held_open_comes_after() {
    let mut bench = Bench::touchy();
    let now = bench.now;
    bench.machine.hold(now);
    bench.machine.switch(Mode::Disabled, now);
    bench.machine.open_for(ms(1), now);
    assert_eq!(bench.state(), State::ForcedOpen);
    bench.machine.release(now);
    assert_eq!(bench.state(), State::Disabled);
}

#[test]
fn cb_27_disabled_it_counts_nothing() {
    let mut bench = Bench::touchy();
    let now = bench.now;
    bench.machine.switch(Mode::Disabled, now);
    assert_eq!(bench.calls(Bad, 100).state(), State::Disabled);
    assert_eq!(bench.machine.tally(now).total, 0);
}

#[test]
fn cb_27_for_metrics_only_it_tells_once_per_crossing_and_passes_all() {
    let mut bench = Bench::new(|settings| settings.min_calls = 4);
    let now = bench.now;
    bench.machine.switch(Mode::ShadowMode, now);
    let mut told = |effect: Effect, count: usize| -> usize {
        let told = (0..count).filter(|_| {
            let ticket = bench.admit().expect("all pass");
            bench.record(ticket, effect, ms(1), now) == Recorded::WouldOpen
        });
        told.count()
    };
    assert_eq!(told(Bad, 3), 0);
    assert_eq!(told(Bad, 10), 1, "once");
    assert_eq!(told(Good, 20), 0, "13 of 33 is below one half");
    assert_eq!(told(Bad, 20), 1, "again");
    assert_eq!(bench.state(), State::ShadowMode);
}

#[test]
fn cb_28_a_reset_makes_probes_that_run_count_for_nothing() {
    let mut bench = Bench::touchy().due();
    let (probe, now) = (bench.admit().unwrap(), bench.now);
    bench.machine.switch(Mode::Automatic, now);
    assert_eq!(bench.state(), State::Closed);
    assert!(!bench.end(probe, Bad));
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(bench.calls(Bad, 3).open_remaining(), Some(ms(5_000)));
}

#[test]
fn a_wish_to_be_left_alone_opens_it_for_that_long() {
    let wish = |retry_after| {
        [
            Class::Throttled { retry_after },
            Class::Failure(Failure::Status {
                code: 503,
                retry_after,
            }),
        ]
    };
    let mut settings = BreakerConfig::default();
    let verdicts = |settings: &BreakerConfig, retry_after| {
        wish(retry_after).map(|class| Effect::of(class, settings))
    };
    let wait = Some(ms(7_000));
    assert_eq!(
        verdicts(&settings, wait),
        [Throttled, Bad],
        "not by default"
    );
    settings.open_on_retry_after = true;
    assert_eq!(verdicts(&settings, wait), [LeaveAlone(ms(7_000)); 2]);
    for none in [None, Some(ms(0))] {
        assert_eq!(verdicts(&settings, none), [Throttled, Bad]);
    }
    assert_eq!(Effect::of(Class::Success, &settings), Good);

    let mut bench = Bench::touchy();
    bench.calls(Good, 9).call(LeaveAlone(ms(7_000)));
    assert_eq!(bench.open_remaining(), Some(ms(7_000)));
    assert_eq!(bench.machine.reason(), Some(OpenReason::RetryAfter));
    // So does a probe, and 60 s is the cap.
    bench.pass(ms(7_000)).call(LeaveAlone(Duration::MAX));
    assert_eq!(bench.open_remaining(), Some(ms(60_000)));
    // The backoff goes on from where it was: at its beginning.
    bench.pass(ms(60_000)).call(Bad);
    assert_eq!(bench.open_remaining(), Some(ms(5_000)));
}

#[test]
fn cb_27_a_wish_to_be_left_alone_is_told_of_where_it_is_for_metrics_only() {
    let mut bench = Bench::new(|_| {});
    let now = bench.now;
    bench.machine.switch(Mode::ShadowMode, now);
    let mut told = |effect| {
        let ticket = bench.admit().expect("all pass");
        bench.record(ticket, effect, ms(1), now) == Recorded::WouldOpen
    };
    let wish = LeaveAlone(ms(7_000));
    assert_eq!(
        [wish, wish, Good, wish].map(&mut told),
        [true, false, false, true]
    );
    assert_eq!(bench.state(), State::ShadowMode);
}

#[test]
fn by_hand_it_opens_for_a_time_and_probes_at_once() {
    let mut bench = Bench::touchy();
    let now = bench.now;
    bench.machine.open_for(ms(7), now);
    assert_eq!(bench.open_remaining(), Some(ms(7)));
    assert_eq!(bench.machine.reason(), Some(OpenReason::Manual));
    bench.machine.probe_now(now);
    assert!(bench.admit().is_some());
    assert_eq!(bench.calls(Neutral, 0).state(), State::HalfOpen);
}

#[test]
fn cb_31_a_huge_open_time_stays_at_its_cap() {
    let mut bench = Bench::new(|settings| {
        settings.consecutive_failures = Some(1);
        settings.open = ms(1);
        settings.open_multiplier = f64::MAX;
        settings.open_cap = ms(7_000);
    });
    bench.call(Bad);
    assert_eq!(bench.open_remaining(), Some(ms(1)));
    bench.pass(ms(1)).call(Bad);
    for _ in 0..5 {
        assert_eq!(bench.open_remaining(), Some(ms(7_000)));
        bench.pass(ms(7_000)).call(Bad);
    }
}

#[test]
fn cb_32_more_min_calls_than_the_window_holds_are_as_many_as_it_holds() {
    let mut bench = Bench::new(|settings| {
        settings.window = Window::Count(5);
        settings.min_calls = 100;
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
        (1u64..9_000).prop_map(|wait| LeaveAlone(ms(wait))),
    ];
    prop_oneof![
        Just(Op::Admit),
        (any::<usize>(), effect).prop_map(|(which, effect)| Op::End(which, effect)),
        (0u64..4_000).prop_map(Op::Pass),
    ]
}

proptest! {
    #[test]
    fn cb_34_fault_f29_it_never_sticks_and_never_lets_too_many_probes_run(
        ops in prop::collection::vec(op(), 1..300),
        concurrency in 1u32..3,
    ) {
        let mut bench = Bench::new(|settings| {
            settings.consecutive_failures = Some(2);
            settings.half_open_concurrency = concurrency;
            settings.half_open_max_failures = 1;
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
                Op::Pass(time) => { bench.pass(ms(time)); }
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
        // The outage is over: as time passes, calls are let through, and close it.
        for _ in 0..10 {
            bench.pass(Duration::from_secs(600));
            if let Some(ticket) = bench.admit() {
                bench.end(ticket, Good);
            }
        }
        prop_assert_eq!(bench.state(), State::Closed);
    }
}
