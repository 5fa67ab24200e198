//! Tests of the adaptive limit against its statements, and on simulated servers.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;
use crate::{
    classify::{
        Cause,
        table::{self, ROWS, THROTTLED, UNANSWERED, cut_off, status},
    },
    rejection::Rejection,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn controller(algorithm: Algorithm) -> (Controller, Instant) {
    let now = Instant::now();
    let config = AdaptiveConfig {
        algorithm,
        ..AdaptiveConfig::default()
    };
    (Controller::new(config, now), now)
}

/// Records `count` windows of 100 calls that use the whole limit, and returns the limit.
fn windows(controller: &mut Controller, now: &mut Instant, count: u32, signal: Signal) -> f64 {
    for _ in 0..count * 100 {
        *now += ms(10);
        let in_flight = controller.limit as u32;
        controller.record(signal, in_flight, *now);
    }
    controller.limit
}

#[test]
fn cl_16_falls_when_the_latency_doubles_and_recovers() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Vegas] {
        let (mut control, mut now) = controller(algorithm);
        let fast = windows(&mut control, &mut now, 20, Signal::Latency(ms(50)));
        let slow = windows(&mut control, &mut now, 20, Signal::Latency(ms(100)));
        assert!(slow < fast, "{algorithm:?}: {fast} then {slow}");
        assert!(slow >= control.config.min.into());
        let again = windows(&mut control, &mut now, 40, Signal::Latency(ms(50)));
        assert!(again > slow, "{algorithm:?}: {slow} then {again}");
    }
}

#[test]
fn cl_17_low_load_leaves_the_limit_unchanged() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Aimd, Algorithm::Vegas] {
        let (mut control, start) = controller(algorithm);
        for call in 1..1_000 {
            let now = start + ms(50) * call;
            control.record(Signal::Latency(ms(20)), 9, now);
        }
        assert_eq!(control.limit, 20.0);
        // One call per minute: no window gets enough calls.
        let (mut control, start) = controller(algorithm);
        for call in 1..1_000 {
            let now = start + ms(60_000) * call;
            control.record(Signal::Latency(ms(20)), 20, now);
        }
        assert_eq!(control.limit, 20.0);
    }
}

#[test]
fn cl_18_falls_when_all_calls_time_out() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Aimd, Algorithm::Vegas] {
        let (mut control, mut now) = controller(algorithm);
        let signal = Signal::of(Class::Failure(Failure::AttemptTimeout), ms(2_000), None);
        let limit = windows(&mut control, &mut now, 5, signal.unwrap());
        let expected = 20.0 * 0.9_f64.powi(5);
        assert!((limit - expected).abs() < 1e-9, "{limit}");
        let least = windows(&mut control, &mut now, 100, signal.unwrap());
        assert_eq!(least, 1.0);
    }
}

#[test]
fn cl_19_ignores_cancelled_calls() {
    let cancelled = |elapsed| Class::Unanswered {
        elapsed,
        cause: Cause::CallerGone,
    };
    assert_eq!(Signal::of(cancelled(ms(10)), ms(10), None), None);
    assert_eq!(Signal::of(cancelled(ms(10)), ms(10), Some(ms(11))), None);
    let long = Signal::of(cancelled(ms(10)), ms(10), Some(ms(10)));
    assert_eq!(long, Some(Signal::Latency(ms(10))));
    let local = Class::Rejected(Rejection::CircuitOpen { retry_after: None });
    assert_eq!(Signal::of(local, ms(10), Some(ms(1))), None);
}

#[test]
fn signal_of_each_class() {
    let short = UNANSWERED - ms(1);
    let no_signal = [
        Class::Failure(Failure::Connect),
        Class::Failure(Failure::NotProcessed),
        Class::Failure(Failure::ConnectionReset),
        cut_off(Cause::Deadline, short),
        cut_off(Cause::CallerGone, short),
    ];
    let no_signal = no_signal.into_iter();
    let no_signal = no_signal.chain(
        ROWS.into_iter()
            .filter(|row| matches!(row, Class::Rejected(_))),
    );
    let mut others: Vec<_> = no_signal.map(|class| (class, None)).collect();
    let drop = [
        THROTTLED,
        status(503),
        Class::Failure(Failure::AttemptTimeout),
        Class::Failure(Failure::Panic),
    ];
    others.extend(drop.map(|class| (class, Some(Signal::Drop))));
    table::check(
        |class| Signal::of(class, UNANSWERED, Some(UNANSWERED)),
        &Some(Signal::Latency(UNANSWERED)),
        &others,
    );
}

#[test]
fn grows_to_at_most_five_times_the_calls_in_flight() {
    let (mut control, start) = controller(Algorithm::Vegas);
    (control.limit, control.config.max) = (3.0, 1_000);
    for call in 0..200_u32 {
        control.record(Signal::Latency(ms(10)), 2, start + ms(20) * call);
    }
    assert!(control.limit <= 10.0, "{}", control.limit);
}

/// Simulates `servers` with exponential service times of 50 ms on average, under `load` times the
/// calls that they can serve. Calls above the limit are rejected. Returns the limit after
/// `seconds`.
fn simulate(algorithm: Algorithm, servers: usize, load: f64, seconds: u64, seed: u64) -> f64 {
    let (mut control, start) = controller(algorithm);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut exponential = |mean: f64| -mean * (1.0 - random.f64()).ln();
    let gap = 0.05 / servers as f64 / load;
    // The time at which each server is free, and the calls in the system: end and arrival of each.
    let mut free = BinaryHeap::from(vec![Reverse(0); servers]);
    let mut inside: BinaryHeap<Reverse<(u64, u64)>> = BinaryHeap::new();
    let nanos = |seconds: f64| (seconds * 1e9) as u64;
    let mut arrival = 0;
    while arrival < seconds * 1_000_000_000 {
        arrival += nanos(exponential(gap));
        while let Some(&Reverse((end, arrived))) = inside.peek()
            && end <= arrival
        {
            let latency = Signal::Latency(Duration::from_nanos(end - arrived));
            let at = start + Duration::from_nanos(end);
            control.record(latency, inside.len() as u32, at);
            inside.pop();
        }
        if inside.len() < control.limit as usize {
            let Reverse(idle) = free.pop().expect("one server per entry");
            let end = idle.max(arrival) + nanos(exponential(0.05));
            free.push(Reverse(end));
            inside.push(Reverse((end, arrival)));
        }
    }
    control.limit
}

#[test]
fn cl_20_converges_to_the_number_of_busy_servers() {
    let mut limits = Vec::new();
    for seed in 1..6 {
        for (load, seconds) in [(1.2, 120), (1.5, 120), (3.0, 120), (1.5, 1_200)] {
            limits.push(simulate(Algorithm::Gradient2, 20, load, seconds, seed));
        }
    }
    let is_right = |limit: &f64| (15.0..=40.0).contains(limit);
    assert!(limits.iter().all(is_right), "{limits:?}");
}

#[test]
fn accepts_a_permanently_slower_service_as_usual() {
    let (mut control, mut now) = controller(Algorithm::Gradient2);
    let fast = windows(&mut control, &mut now, 60, Signal::Latency(ms(50)));
    let slow = windows(&mut control, &mut now, 60, Signal::Latency(ms(200)));
    let learned = windows(&mut control, &mut now, 1_000, Signal::Latency(ms(200)));
    println!("{fast}, {slow}, then {learned}");
    assert!(slow < fast / 5.0 && learned > slow * 2.0);
}

/// Checks the usual latency of Gradient2 after windows of (latency in seconds, limit), by the limit that it
/// returns.
#[track_caller]
fn assert_usual(windows: impl Iterator<Item = (f64, f64)> + Clone, expected: f64) {
    let (latency, limit) = windows.clone().last().unwrap();
    // With this tolerance, the gradient is 0.75.
    let tolerance = 0.75 * latency / expected;
    let mut gradient = algorithm::Gradient2::new(tolerance);
    let next = windows.map(|(latency, limit)| {
        let slow = Duration::from_secs_f64(latency);
        gradient.next(
            limit,
            &WindowLatencies {
                slow,
                fastest: slow,
            },
        )
    });
    let target = (next.last().unwrap() - limit) / 0.2 + limit;
    let usual = (target - limit.sqrt()) / limit * latency / tolerance;
    assert!(
        (usual - expected).abs() < 1e-9,
        "{usual} and not {expected}"
    );
}

#[test]
fn gradient2_begins_with_the_mean_of_ten_windows() {
    assert_usual([(0.1, 10.0), (0.2, 10.0), (0.3, 10.0)].into_iter(), 0.2);
    let ten = |last| (0..10).map(move |window| (if window == 9 { last } else { 0.1 }, 10.0));
    assert_usual(ten(0.2), 0.11);
}

#[test]
fn gradient2_learns_a_higher_latency_only_well_below_the_usual_limit() {
    let then = |latency, limit| (0..10).map(|_| (0.2, 10.0)).chain([(latency, limit)]);
    let weight = 2.0 / 601.0;
    for limit in [8.0, 9.0, 10.0] {
        assert_usual(then(0.3, limit), 0.2);
    }
    assert_usual(then(0.3, 7.9), 0.2 + 0.1 * weight);
    assert_usual(then(0.1, 10.0), 0.2 - 0.1 * weight);
}

#[test]
fn gradient2_forgets_fast_after_an_overload() {
    // The mean is twice the latency, and more than twice.
    assert_usual([(0.75, 10.0), (0.25, 10.0)].into_iter(), 0.5);
    assert_usual([(1.0, 10.0), (0.125, 10.0)].into_iter(), 0.5625 * 0.9);
}

#[test]
fn aimd_adds_one_and_vegas_keeps_the_queue_small() {
    let latencies = |slow: f64| WindowLatencies {
        slow: Duration::from_secs_f64(slow),
        fastest: Duration::from_secs(1),
    };
    assert_eq!(algorithm::Aimd.next(10.0, &latencies(9.0)), 11.0);
    // Up to a limit of 10 the step is 1, and at 100 it is 2. The queue is the share of the latency that is no
    // work: 1 call of 2, then 3 and 6 of 8.
    for (limit, slow, next) in [
        (10.0, 1.0, 16.0),
        (2.0, 2.0, 8.0),
        (10.0, 1.25, 11.0),
        (8.0, 1.6, 8.0),
        (8.0, 4.0, 8.0),
        (10.0, 4.0, 9.0),
        (100.0, 1.0, 112.0),
        (100.0, 1.05, 102.0),
        (100.0, 1.1, 100.0),
        (100.0, 1.25, 98.0),
    ] {
        let vegas = algorithm::Vegas::default().next(limit, &latencies(slow));
        assert_eq!(vegas, next, "{limit} {slow}");
    }
}
