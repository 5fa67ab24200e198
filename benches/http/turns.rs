//! Measures cases in turns and compares them with the first.

use std::{future::Future, hint::black_box, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use nix::time::ClockId;
use tokio::runtime::Runtime;

use crate::quartiles::quartiles;

/// Number of turns, each of which runs every case twice.
const TURNS: usize = 31;
/// Number of downstream calls per run of a case.
const CALLS: usize = 1000;

/// Makes a request and returns the response.
pub(crate) type Ask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Bytes>>>>;

/// An implementation of the fan-out that is measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    ask: Ask,
    target: Option<f64>,
}

impl Case {
    pub(crate) fn new(name: &'static str, ask: Ask) -> Self {
        let target = None;
        Self { name, ask, target }
    }

    /// Sets the maximum cost, as a multiple of the first case.
    pub(crate) fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// Makes `requests` requests, `in_flight` at once.
    pub(crate) fn run(&self, runtime: &Runtime, requests: usize, in_flight: usize) {
        let all = stream::iter(0..requests).map(|_| (self.ask)());
        runtime.block_on(all.buffer_unordered(in_flight).for_each(async |answer| {
            black_box(answer);
        }));
    }

    /// Returns the processor time per request, in microseconds.
    fn time(&self, runtime: &Runtime, requests: usize, in_flight: usize) -> f64 {
        let start = used();
        self.run(runtime, requests, in_flight);
        (used() - start).as_secs_f64() * 1e6 / requests as f64
    }

    fn allocations(&self, runtime: &Runtime, in_flight: usize) -> f64 {
        let requests = 50;
        let counted =
            allocation_counter::measure(|| self.run(runtime, requests, in_flight)).count_total;
        counted as f64 / requests as f64
    }
}

/// Returns the processor time that this thread has used.
fn used() -> Duration {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    clock.expect("the platform has a clock per thread").into()
}

/// Asserts that all cases return the same bytes.
pub(crate) fn assert_same(cases: &[Case], runtime: &Runtime) {
    let answers = cases.iter().map(|case| runtime.block_on((case.ask)()));
    let answers: Vec<_> = answers
        .map(|answer| String::from_utf8(answer.into()))
        .collect();
    for (case, answer) in cases.iter().zip(&answers) {
        assert_eq!(*answer, answers[0], "{}", case.name);
    }
}

/// Prints the column headings of [`compare`].
pub(crate) fn print_head() {
    println!(
        "{:<20} {:>5} {:>9} {:>8} {:>6} {:>13} {:>6} {:>7}",
        "per request", "nodes", "in flight", "µs", "ratio", "quartiles", "target", "allocs"
    );
}

/// Runs the cases in turns and prints their costs, with the ratio to the first.
pub(crate) fn compare(cases: &[Case], runtime: &Runtime, nodes: usize, in_flight: usize) {
    let requests = CALLS / nodes;
    let time = |case: &Case| case.time(runtime, requests, in_flight);
    for case in cases {
        case.run(runtime, requests, in_flight);
    }
    let turns = (0..TURNS).map(|_| {
        let forwards: Vec<f64> = cases.iter().map(time).collect();
        let mut costs: Vec<f64> = cases.iter().rev().map(time).collect();
        costs.reverse();
        costs
            .iter_mut()
            .zip(forwards)
            .for_each(|(cost, other)| *cost = (*cost + other) / 2.0);
        costs
    });
    let turns: Vec<Vec<f64>> = turns.collect();
    for (place, case) in cases.iter().enumerate() {
        let [_, cost, _] = quartiles(turns.iter().map(|turn| turn[place]).collect());
        let ratios = turns.iter().map(|turn| turn[place] / turn[0]).collect();
        let [low, ratio, high] = quartiles(ratios);
        let missed = case.target.is_some_and(|target| ratio > target);
        let target = case
            .target
            .map_or(String::new(), |target| target.to_string());
        println!(
            "{:<20} {nodes:>5} {in_flight:>9} {cost:>8.1} {ratio:>6.2} {:>13} {:>6} {:>7.1}",
            case.name,
            format!("{low:.2} to {high:.2}"),
            target + if missed { "!" } else { "" },
            case.allocations(runtime, in_flight),
        );
    }
}
