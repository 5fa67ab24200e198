//! Measures cases in turns, so that what else the machine does hits them alike.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;
use tower::Service;

/// The most calls per turn, how long a turn of a case takes at most, and turns per case.
const CALLS: u32 = 10_000;
const TURN: Duration = Duration::from_millis(10);
const TURNS: usize = 40;

/// Something that can be called many times.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What its cost is compared with: the place of a case, and the most it may cost beyond it.
    pub(crate) over: Option<(usize, Option<f64>)>,
    call: Box<dyn FnMut()>,
}

impl Case {
    /// Calls `service` with what `request` makes.
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

    /// Calls a function.
    pub(crate) fn of(name: impl Into<String>, call: impl FnMut() + 'static) -> Self {
        Self {
            name: name.into(),
            over: None,
            call: Box::new(call),
        }
    }

    /// Compares it with the case at `place`; `target` is how many nanoseconds more it may cost.
    pub(crate) fn over(mut self, place: usize, target: impl Into<Option<f64>>) -> Self {
        self.over = Some((place, target.into()));
        self
    }

    pub(crate) fn run(&mut self, calls: u32) {
        for _ in 0..calls {
            (self.call)();
        }
    }

    /// How long one of `calls` takes, in nanoseconds.
    fn time(&mut self, calls: u32) -> f64 {
        let start = Instant::now();
        self.run(calls);
        start.elapsed().as_nanos() as f64 / f64::from(calls)
    }

    /// How many calls make a turn.
    fn calls(&mut self) -> u32 {
        self.run(CALLS / 50);
        let calls = TURN.as_nanos() as f64 / self.time(CALLS / 50);
        (calls as u32).clamp(CALLS / 100, CALLS)
    }
}

/// Makes `service` ready, calls it, and polls the call to its end.
pub(crate) fn drive<S: Service<Req>, Req>(service: &mut S, request: Req) {
    // By reference: what is moved through a black box is copied on both sides of it.
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

/// What was asked for on the command line.
pub(crate) struct Asked {
    /// Only to see that it runs.
    pub(crate) test: bool,
    /// Runs only this case, so many times: for a profiler.
    pub(crate) only: Option<(String, u32)>,
}

impl Asked {
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

/// Runs the cases in turns and prints what they cost.
pub(crate) fn compare(mut cases: Vec<Case>, asked: &Asked) {
    if let Some((name, calls)) = &asked.only {
        let case = cases.iter_mut().find(|case| case.name == *name);
        return case.expect("there is such a case").run(*calls);
    }
    if asked.test {
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
