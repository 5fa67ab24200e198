//! The adaptive limit against its statements, and on simulated servers.

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
    let settings = AdaptiveConfig {
        algorithm,
        ..AdaptiveConfig::default()
    };
    (Controller::new(settings, now), now)
}

/// Windows of 100 calls with the limit in full use; the limit after them.
fn windows(controller: &mut Controller, now: &mut Instant, count: u32, signal: Signal) -> f64 {
    for _ in 0..count * 100 {
        *now += ms(10);
        let in_flight = controller.limit as u32;
        controller.record(signal, in_flight, *now);
    }
    controller.limit
}

#[test]
fn cl_16_the_limit_falls_when_latency_doubles_and_recovers_with_it() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Vegas] {
        let (mut control, mut now) = controller(algorithm);
        let fast = windows(&mut control, &mut now, 20, Signal::Latency(ms(50)));
        let slow = windows(&mut control, &mut now, 20, Signal::Latency(ms(100)));
        assert!(slow < fast, "{algorithm:?}: {fast} then {slow}");
        assert!(slow >= control.settings.min.into());
        let again = windows(&mut control, &mut now, 40, Signal::Latency(ms(50)));
        assert!(again > slow, "{algorithm:?}: {slow} then {again}");
    }
}

#[test]
fn cl_17_a_limit_that_is_not_used_does_not_move() {
    for algorithm in [Algorithm::Gradient2, Algorithm::Aimd, Algorithm::Vegas] {
        let (mut control, start) = controller(algorithm);
        for call in 1..1_000 {
            let now = start + ms(50) * call;
            control.record(Signal::Latency(ms(20)), 9, now);
        }
        assert_eq!(control.limit, 20.0);
        // A trickle of calls, over hours.
        let (mut control, start) = controller(algorithm);
        for call in 1..1_000 {
            let now = start + ms(60_000) * call;
            control.record(Signal::Latency(ms(20)), 20, now);
        }
        assert_eq!(control.limit, 20.0);
    }
}

#[test]
fn cl_18_the_limit_falls_when_all_calls_time_out() {
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
fn cl_19_calls_that_callers_left_say_nothing() {
    let left = |elapsed| Class::Unanswered {
        elapsed,
        cause: Cause::CallerGone,
    };
    assert_eq!(Signal::of(left(ms(10)), ms(10), None), None);
    assert_eq!(Signal::of(left(ms(10)), ms(10), Some(ms(11))), None);
    let long = Signal::of(left(ms(10)), ms(10), Some(ms(10)));
    assert_eq!(long, Some(Signal::Latency(ms(10))));
    let local = Class::Rejected(Rejection::CircuitOpen { retry_after: None });
    assert_eq!(Signal::of(local, ms(10), Some(ms(1))), None);
}

#[test]
fn what_a_class_tells_of_the_load() {
    let short = UNANSWERED - ms(1);
    let nothing = [
        Class::Failure(Failure::Connect),
        Class::Failure(Failure::NotProcessed),
        Class::Failure(Failure::ConnectionReset),
        cut_off(Cause::Deadline, short),
        cut_off(Cause::CallerGone, short),
    ];
    let nothing = nothing.into_iter();
    let nothing = nothing.chain(
        ROWS.into_iter()
            .filter(|row| matches!(row, Class::Rejected(_))),
    );
    let mut others: Vec<_> = nothing.map(|class| (class, None)).collect();
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
fn a_limit_grows_to_five_times_of_what_was_in_flight_at_most() {
    let (mut control, start) = controller(Algorithm::Vegas);
    (control.limit, control.settings.max) = (3.0, 1_000);
    for call in 0..200_u32 {
        control.record(Signal::Latency(ms(10)), 2, start + ms(20) * call);
    }
    assert!(control.limit <= 10.0, "{}", control.limit);
}

/// `servers` that each need an exponential time of 50 ms on average, and `load` times as many calls
/// as they can serve. What is above the limit is refused. The limit at the end of `seconds`.
fn simulate(algorithm: Algorithm, servers: usize, load: f64, seconds: u64, seed: u64) -> f64 {
    let (mut control, start) = controller(algorithm);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut exponential = |mean: f64| -mean * (1.0 - random.f64()).ln();
    let gap = 0.05 / servers as f64 / load;
    // When each server is free, and who is in the system: the end and the arrival of each.
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
            let Reverse(idle) = free.pop().expect("there are servers");
            let end = idle.max(arrival) + nanos(exponential(0.05));
            free.push(Reverse(end));
            inside.push(Reverse((end, arrival)));
        }
    }
    control.limit
}

#[test]
fn cl_20_the_limit_of_twenty_busy_servers_comes_to_about_twenty_and_stays_there() {
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
fn a_service_that_is_slower_for_good_gets_its_calls_again() {
    let (mut control, mut now) = controller(Algorithm::Gradient2);
    let fast = windows(&mut control, &mut now, 60, Signal::Latency(ms(50)));
    let slow = windows(&mut control, &mut now, 60, Signal::Latency(ms(200)));
    let learned = windows(&mut control, &mut now, 1_000, Signal::Latency(ms(200)));
    println!("{fast}, {slow}, then {learned}");
    assert!(slow < fast / 5.0 && learned > slow * 2.0);
}
