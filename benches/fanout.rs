//! Costs of a run per node, compared with calls of the same boxed services by hand. The plans have 10, 100
//! and 1,000 nodes, which are independent, form one chain, or depend on each other at random.
//!
//! ```sh
//! cargo bench -p tower-fanout-benches --bench fanout
//! ```

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;
use tower::Service;
use tower_fanout::{FanOut, Plan};

/// Measurements of each case and of its calls by hand, taken alternately. The median counts.
const TURNS: usize = 31;
/// Number of nodes that a measurement runs.
const NODES: usize = 200_000;

/// A service that responds at the first poll, or at the second if `pending`.
#[derive(Clone, Copy)]
struct Nothing {
    pending: bool,
}

impl Service<()> for Nothing {
    type Response = u64;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<u64, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        Box::pin(Later {
            pending: self.pending,
            answer: ready(Ok(7)),
        })
    }
}

/// A future that is ready at the first poll, or at the second if `pending`.
struct Later {
    pending: bool,
    answer: Ready<Result<u64, Infallible>>,
}

impl Future for Later {
    type Output = Result<u64, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::take(&mut self.pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.answer).poll(cx)
    }
}

/// Shape of the dependencies of a plan.
#[derive(Clone, Copy, Debug)]
enum Form {
    Wide,
    Chain,
    Random,
}

fn plan(form: Form, nodes: usize, pending: bool) -> FanOut<()> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut plan = Plan::builder();
    for index in 0..nodes {
        let mut node = plan.node(&format!("n{index}"), Nothing { pending }, |(), _| Ok(()));
        match form {
            Form::Chain if index > 0 => node = node.after_named(&format!("n{}", index - 1)),
            Form::Random if index > 0 => {
                for _ in 0..random.usize(0..3) {
                    node = node.after_named(&format!("n{}", random.usize(0..index)));
                }
            }
            _ => {}
        }
        let _ = node.key();
    }
    FanOut::new(plan.build().expect("the plan is valid"))
}

fn poll<F: Future>(future: F) {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    while future.as_mut().poll(&mut cx).is_pending() {}
}

/// Calls the same services by hand, one after the other.
fn by_hand(services: &[Nothing]) {
    for service in services {
        poll(async {
            let call = black_box(*service).call(());
            let Ok(answer) = black_box(call).await;
            black_box(answer);
        });
    }
}

struct Case {
    name: String,
    nodes: usize,
    run: Box<dyn FnMut()>,
    floor: Box<dyn FnMut()>,
    target: f64,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for pending in [false, true] {
        for form in [Form::Wide, Form::Chain, Form::Random] {
            for nodes in [10, 100, 1000] {
                let mut fan_out = plan(form, nodes, pending);
                let services = vec![Nothing { pending }; nodes];
                let kind = if pending { "pending once" } else { "ready" };
                cases.push(Case {
                    name: format!("{kind}, {form:?}, {nodes} nodes"),
                    nodes,
                    run: Box::new(move || poll(fan_out.call(()))),
                    floor: Box::new(move || by_hand(&services)),
                    target: if pending { 90.0 } else { 60.0 },
                });
            }
        }
    }
    cases
}

fn time(nodes: usize, times: usize, run: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    (0..times).for_each(|_| run());
    start.elapsed().as_nanos() as f64 / (times * nodes) as f64
}

fn median(mut costs: Vec<f64>) -> f64 {
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

/// Returns the number of allocations per node beyond those of the services.
fn allocations(case: &mut Case) -> f64 {
    (case.run)();
    let ours = allocation_counter::measure(|| (case.run)()).count_total;
    let theirs = allocation_counter::measure(|| (case.floor)()).count_total;
    (ours - theirs) as f64 / case.nodes as f64
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().position(|argument| argument == name);
    let test = after("--bench").is_none();
    let mut cases = cases();
    if let Some(place) = after("--only") {
        let name = &arguments[place + 1];
        let case = cases.iter_mut().find(|case| case.name == *name);
        let case = case.expect("no case has this name");
        return (0..2_000_000 / case.nodes).for_each(|_| (case.run)());
    }
    println!(
        "{:<32} {:>8} {:>8} {:>8} {:>7} {:>7}",
        "ns per node", "by hand", "run", "over", "target", "allocs"
    );
    for case in &mut cases {
        let allocations = allocations(case);
        let few = allocations <= 2.0;
        assert!(
            few || !test,
            "{}: {allocations} allocations per node",
            case.name
        );
        if test {
            continue;
        }
        let times = NODES / case.nodes;
        let (mut run, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            run.push(time(case.nodes, times, &mut case.run));
            floor.push(time(case.nodes, times, &mut case.floor));
        }
        let (run, floor) = (median(run), median(floor));
        let over = run - floor;
        let missed = if over > case.target { "!" } else { "" };
        println!(
            "{:<32} {floor:>8.1} {run:>8.1} {:>8} {:>7.0} {allocations:>7.2}",
            case.name,
            format!("{over:.1}{missed}"),
            case.target
        );
    }
}
