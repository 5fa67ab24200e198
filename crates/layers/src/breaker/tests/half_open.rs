//! The open time, and the probes after it.

use super::*;

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
