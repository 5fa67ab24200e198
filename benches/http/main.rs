//! What a request costs from end to end: a [`FanOut`](tower_fanout::FanOut) over HTTP downstreams
//! with 1 KiB of JSON each, beside a hand-written fan-out that copies the same bytes with no policy.
//!
//! The downstreams are four, on loopback, in a process of their own; nodes ask them in turn. What is
//! measured is the processor time of this thread, in which all else runs: system calls, connections,
//! policies. All cases are run forwards and then backwards in each turn, and compared within it, so
//! that what else the machine does hits them alike.
//!
//! ```sh
//! cargo bench -p tower-fanout-benches --bench http
//! ```
//!
//! One case alone, for a profiler:
//! `perf record -g … --bench --only "every policy" --nodes 4 --requests 20000`.

mod by_hand;
mod fan_out;
mod stub;
mod turns;

use std::{io, rc::Rc};

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use stub::{SERVE, Stubs};
use turns::Case;

/// The one value in each request's path, and the path.
const ID: &str = "7";
const PATH: &str = "/data/7";

/// Downstream calls per request, and requests at once.
const NODES: [usize; 3] = [1, 4, 10];
const IN_FLIGHT: [usize; 2] = [1, 8];

/// Puts `answers` into one object, each under its node's name.
fn splice<'a>(answers: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let length: usize = answers.clone().map(|answer| answer.len() + 8).sum();
    let mut out = Vec::with_capacity(length + 2);
    for (node, answer) in answers.enumerate() {
        out.extend(if node == 0 { b"{\"n" } else { b",\"n" });
        out.extend(node.to_string().bytes());
        out.extend(b"\":");
        out.extend(answer);
    }
    out.push(b'}');
    out.into()
}

/// With its type put away.
fn boxed<F: AsyncFn() -> Bytes + 'static>(ask: F) -> turns::Ask {
    let ask = Rc::new(ask);
    Box::new(move || {
        let ask = Rc::clone(&ask);
        Box::pin(async move { ask().await })
    })
}

/// What answers the same with `nodes` calls. The first is what the others are compared with.
fn cases(stubs: &Stubs, nodes: usize) -> Vec<Case> {
    let all = &stubs.endpoints;
    vec![
        Case::new("by hand", boxed(by_hand::hyper(all, nodes))),
        Case::new("our client by hand", boxed(by_hand::client(all, nodes))),
        Case::new("no policy", boxed(fan_out::plain(all, nodes))),
        Case::new("answers checked", boxed(fan_out::checked(all, nodes))),
        Case::new("every policy", boxed(fan_out::whole(all, nodes))).target(1.25),
        Case::new("and metrics", boxed(fan_out::observed(all, nodes))),
    ]
}

/// What follows `name` on the command line.
fn argument(name: &str) -> Option<String> {
    std::env::args()
        .skip_while(|argument| argument != name)
        .nth(1)
}

fn number(name: &str, otherwise: usize) -> usize {
    let number = argument(name).and_then(|number| number.parse().ok());
    number.unwrap_or(otherwise)
}

fn main() -> io::Result<()> {
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    if asked(SERVE) {
        return stub::serve();
    }
    let recorder = PrometheusBuilder::new().install_recorder();
    let recorder = recorder.expect("no other recorder is installed");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stubs = Stubs::start()?;
    let _inside = runtime.enter();
    if let Some(name) = argument("--only") {
        let cases = cases(&stubs, number("--nodes", 4));
        let case = cases.iter().find(|case| case.name == name);
        let case = case.expect("there is such a case");
        case.run(
            &runtime,
            number("--requests", 20_000),
            number("--in-flight", 1),
        );
        return Ok(());
    }
    // `cargo test` runs benches without `--bench`.
    if asked("--bench") {
        turns::print_head();
    }
    for nodes in NODES {
        let cases = cases(&stubs, nodes);
        turns::assert_same(&cases, &runtime);
        if asked("--bench") {
            for in_flight in IN_FLIGHT {
                turns::compare(&cases, &runtime, nodes, in_flight);
                recorder.run_upkeep();
            }
        }
    }
    Ok(())
}
