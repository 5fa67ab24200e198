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

#[path = "../arguments.rs"]
mod arguments;
#[path = "../by_hand.rs"]
mod by_hand;
mod fan_out;
mod our_client;
#[path = "../quartiles.rs"]
mod quartiles;
#[path = "../stub.rs"]
mod stub;
mod turns;

use std::{io, rc::Rc};

use arguments::{after, has, number};
use by_hand::ByHand;
use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusBuilder;
use stub::{SERVE, Stubs};
use turns::Case;

/// The value of the parameter in each request's path.
const ID: &str = "7";
/// The path of each request.
const PATH: &str = "/data/7";

/// Number of downstreams.
const DOWNSTREAMS: usize = 4;
/// Numbers of downstream calls per request.
const NODES: [usize; 3] = [1, 4, 10];
/// Numbers of requests at once.
const IN_FLIGHT: [usize; 2] = [1, 8];

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
    let by_hand = ByHand::new(all, nodes, PATH);
    vec![
        Case::new("by hand", boxed(async move || by_hand.ask().await)),
        Case::new("our client by hand", boxed(our_client::ask(all, nodes))),
        Case::new("no policy", boxed(fan_out::plain(all, nodes))),
        Case::new("answers checked", boxed(fan_out::checked(all, nodes))),
        Case::new("every policy", boxed(fan_out::whole(all, nodes))).target(1.25),
        Case::new("and metrics", boxed(fan_out::observed(all, nodes))),
    ]
}

fn main() -> io::Result<()> {
    if has(SERVE) {
        return stub::serve(number(SERVE, DOWNSTREAMS));
    }
    let recorder = PrometheusBuilder::new().install_recorder();
    let recorder = recorder.expect("no other recorder is installed");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stubs = Stubs::start(DOWNSTREAMS)?;
    let _inside = runtime.enter();
    if let Some(name) = after("--only") {
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
    if has("--bench") {
        turns::print_head();
    }
    for nodes in NODES {
        let cases = cases(&stubs, nodes);
        turns::assert_same(&cases, &runtime);
        if has("--bench") {
            for in_flight in IN_FLIGHT {
                turns::compare(&cases, &runtime, nodes, in_flight);
                recorder.run_upkeep();
            }
        }
    }
    Ok(())
}
