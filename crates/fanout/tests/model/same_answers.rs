//! Equal answers give an equal result, in whatever order the nodes end.

use std::time::Duration;

use fastrand::Rng;
use tower::{ServiceExt, service_fn};
use tower_fanout::{Answers, BoundPlan, BranchError, ErrorKind, FanOut, FanOutResponse, Plan};

use crate::real;

/// Number of random orders in which the nodes end.
const SHUFFLES: usize = 10_000;
const NODES: usize = 12;

/// Returns the dependencies of a node.
fn dependencies(node: usize) -> Vec<usize> {
    [node / 2, node / 3, node.saturating_sub(5)]
        .into_iter()
        .filter(|&before| before < node)
        .collect()
}

/// Returns the answers that a node reads from its dependencies, as text.
fn read(node: usize, answers: &Answers) -> String {
    let texts = dependencies(node)
        .into_iter()
        .map(|before| match answers.at(before) {
            Some(text) => String::clone(text),
            None => "nothing".into(),
        });
    format!("{node}({})", texts.collect::<Vec<_>>().join(" "))
}

/// A plan in which two nodes fail. Each node answers with the text that it has read.
fn plan(latencies: &[u64]) -> BoundPlan<()> {
    let mut plan = Plan::builder();
    for (node, &latency) in latencies.iter().enumerate() {
        let service = service_fn(move |text: String| async move {
            tokio::time::sleep(Duration::from_millis(latency)).await;
            match node {
                3 | 7 => Err(BranchError::new(ErrorKind::Status, text)),
                _ => Ok(text),
            }
        });
        let mut declared = plan
            .node(&node.to_string(), service, move |(), out| {
                Ok(read(node, out))
            })
            .optional();
        for before in dependencies(node) {
            declared = declared.after_optional_named(&before.to_string());
        }
    }
    plan.build().unwrap()
}

/// Returns all answers and errors, in order of the plan.
fn summary(answer: &FanOutResponse) -> String {
    let lines = answer.report().branches.iter().map(|branch| {
        let error = branch.error.as_ref().map(ToString::to_string);
        let text = answer.at::<String>(branch.node).cloned().or(error);
        format!("{}: {}\n", branch.status.as_str(), text.unwrap())
    });
    lines.collect()
}

#[test]
fn fault_g8_the_result_is_independent_of_the_order_of_answers() {
    let mut rng = Rng::with_seed(8);
    let mut whole = None;
    for _ in 0..SHUFFLES {
        let latencies: Vec<u64> = (0..NODES).map(|_| rng.u64(0..20)).collect();
        let fan_out = FanOut::new(plan(&latencies)).max_concurrency(rng.usize(1..=NODES));
        let answer = real::block_on(fan_out.oneshot(())).unwrap();
        let folded = summary(&answer);
        assert_eq!(
            *whole.get_or_insert_with(|| folded.clone()),
            folded,
            "{latencies:?}"
        );
    }
}
