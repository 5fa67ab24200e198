//! Modes and commands of the handle: forced open, disabled, shadow mode, reset.

use super::{
    super::state::{Mode, OpenReason},
    *,
};

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
