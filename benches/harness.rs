//! Measures cases in turns, so that other load of the machine affects all of them equally.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tower::Service;

/// Maximum number of calls of a case per turn.
const CALLS: u32 = 10_000;
/// Approximate maximum duration of a case per turn.
const TURN: Duration = Duration::from_millis(10);
/// Number of turns. The median of a case counts.
const TURNS: usize = 40;

/// A named operation that is measured.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The index of the case to compare with, and the maximum difference in nanoseconds, if there is one.
    pub(crate) over: Option<(usize, Option<f64>)>,
    call: Box<dyn FnMut()>,
}

impl Case {
    /// Creates a case that calls `service` with the requests that `request` returns.
    pub(crate) fn new<S, Req>(
        name: impl Into<String>,
        mut service: S,
        mut request: impl FnMut() -> Req + 'static,
    ) -> Self
    where
        S: Service<Req> + 'static,
    {
        Self::of(name, move || drive(&mut service, request()))
    }

    /// Creates a case that calls a function.
    pub(crate) fn of(name: impl Into<String>, call: impl FnMut() + 'static) -> Self {
        Self {
            name: name.into(),
            over: None,
            call: Box::new(call),
        }
    }

    /// Compares the case with the case at index `place`. `target` is the maximum difference in nanoseconds.
    pub(crate) fn over(mut self, place: usize, target: impl Into<Option<f64>>) -> Self {
        self.over = Some((place, target.into()));
        self
    }

    pub(crate) fn run(&mut self, calls: u32) {
        for _ in 0..calls {
            (self.call)();
        }
    }

    /// Returns the mean duration of a call in nanoseconds, measured over `calls` calls.
    fn time(&mut self, calls: u32) -> f64 {
        let start = Instant::now();
        self.run(calls);
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    }

    /// Returns the number of calls per turn.
    fn calls(&mut self) -> u32 {
        self.run(CALLS / 50);
        let calls = TURN.as_nanos() as f64 / self.time(CALLS / 50);
        (calls as u32).clamp(CALLS / 100, CALLS)
    }
}

/// Makes `service` ready, calls it, and polls the call to its end.
// Not inlined, so that a profiler can collect only this function: see `layers/main.rs`.
#[inline(never)]
pub(crate) fn drive<S: Service<Req>, Req>(service: &mut S, request: Req) {
    // By reference, because `black_box` would copy a moved value on both sides.
    black_box(&request);
    let mut cx = Context::from_waker(Waker::noop());
    while service.poll_ready(&mut cx).is_pending() {}
    let mut call = pin!(service.call(request));
    loop {
        let poll = call.as_mut().poll(&mut cx);
        if black_box(&poll).is_ready() {
            return;
        }
    }
}

/// Options of the command line.
pub(crate) struct Options {
    /// Runs each case a few times without measuring.
    pub(crate) test: bool,
    /// Runs only the case of this name, with this number of calls, for a profiler.
    pub(crate) only: Option<(String, u32)>,
}

impl Options {
    pub(crate) fn new() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let after = |name: &str| {
            let place = arguments.iter().position(|argument| argument == name)?;
            arguments.get(place + 1).cloned()
        };
        let calls = after("--calls").and_then(|calls| calls.parse().ok());
        Self {
            // `cargo test` runs benches without `--bench`.
            test: !arguments.iter().any(|argument| argument == "--bench"),
            only: after("--only").map(|name| (name, calls.unwrap_or(1_000_000))),
        }
    }
}

/// Runs the cases in turns and prints their costs.
pub(crate) fn compare(mut cases: Vec<Case>, options: &Options) {
    if let Some((name, calls)) = &options.only {
        let case = cases.iter_mut().find(|case| case.name == *name);
        return case.expect("no case has this name").run(*calls);
    }
    if options.test {
        return cases.iter_mut().for_each(|case| case.run(3));
    }
    let calls: Vec<u32> = cases.iter_mut().map(Case::calls).collect();
    let mut costs = vec![Vec::with_capacity(TURNS); cases.len()];
    for _ in 0..TURNS {
        for ((case, calls), costs) in cases.iter_mut().zip(&calls).zip(&mut costs) {
            costs.push(case.time(*calls));
        }
    }
    for costs in &mut costs {
        costs.sort_by(f64::total_cmp);
    }
    print(&mut cases, &costs);
}

fn print(cases: &mut [Case], costs: &[Vec<f64>]) {
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8} {:>7}",
        "ns per call", "median", "least", "over", "target", "allocs"
    );
    let median = |place: usize| costs[place][TURNS / 2];
    for (place, case) in cases.iter_mut().enumerate() {
        let (over, target) = match case.over {
            None => (String::new(), String::new()),
            Some((base, target)) => {
                let over = median(place) - median(base);
                let missed = target.is_some_and(|target| over > target);
                let target = target.map(|target| format!("{target:.0}"));
                let mark = if missed { "!" } else { "" };
                (format!("{over:.1}"), target.unwrap_or_default() + mark)
            }
        };
        let allocations = allocation_counter::measure(|| case.run(100)).count_total as f64 / 100.0;
        println!(
            "{:<44} {:>8.1} {:>8.1} {over:>8} {target:>8} {allocations:>7.1}",
            case.name,
            median(place),
            costs[place][0],
        );
    }
}
