//! Costs of a whole request: a [`FanOut`](tower_fanout::FanOut) over HTTP downstreams with 1 KiB of JSON
//! each, compared with a hand-written fan-out that copies the same bytes without policies.
//!
//! The four downstreams run on loopback, in a process of their own, and the nodes call them in turn. The
//! measured value is the processor time of this thread, which runs everything else: system calls,
//! connections, policies. Each turn runs all cases forwards and then backwards and compares them within the
//! turn, so that other load of the machine affects all of them equally.
//!
//! ```sh
//! cargo bench -p tower-fanout-benches --bench http
//! ```
//!
//! To run one case under a profiler:
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

/// The value of the parameter in each request's path.
const ID: &str = "7";
/// The path of each request.
const PATH: &str = "/data/7";

/// Numbers of downstream calls per request.
const NODES: [usize; 3] = [1, 4, 10];
/// Numbers of requests at once.
const IN_FLIGHT: [usize; 2] = [1, 8];

/// Puts `answers` into one object, each under the name of its node.
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

/// Boxes an async function, so that all cases have one type.
fn boxed<F: AsyncFn() -> Bytes + 'static>(ask: F) -> turns::Ask {
    let ask = Rc::new(ask);
    Box::new(move || {
        let ask = Rc::clone(&ask);
        Box::pin(async move { ask().await })
    })
}

/// Returns the cases with `nodes` calls. All make the same document, and are compared with the first.
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

/// Returns the argument that follows `name` on the command line.
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
    let has_argument = |name: &str| std::env::args().any(|argument| argument == name);
    if has_argument(SERVE) {
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
        let case = case.expect("no case has this name");
        case.run(
            &runtime,
            number("--requests", 20_000),
            number("--in-flight", 1),
        );
        return Ok(());
    }
    // `cargo test` runs benches without `--bench`.
    if has_argument("--bench") {
        turns::print_head();
    }
    for nodes in NODES {
        let cases = cases(&stubs, nodes);
        turns::assert_same(&cases, &runtime);
        if has_argument("--bench") {
            for in_flight in IN_FLIGHT {
                turns::compare(&cases, &runtime, nodes, in_flight);
                recorder.run_upkeep();
            }
        }
    }
    Ok(())
}
