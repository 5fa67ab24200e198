//! The same answers give the same whole, in whatever order they come.

use std::time::Duration;

use fastrand::Rng;
use tower::{ServiceExt, service_fn};
use tower_fanout::{Answer, Answers, BoundPlan, BranchError, ErrorKind, FanOut, Plan};

use crate::real;

/// In which order nodes end is drawn anew so often.
const SHUFFLES: usize = 10_000;
const NODES: usize = 12;

/// The nodes that a node comes after.
fn before(node: usize) -> Vec<usize> {
    [node / 2, node / 3, node.saturating_sub(5)]
        .into_iter()
        .filter(|&before| before < node)
        .collect()
}

/// What a node was told by those before it.
fn read(node: usize, answers: &Answers) -> String {
    let told = before(node)
        .into_iter()
        .map(|before| match answers.at(before) {
            Some(told) => String::clone(told),
            None => "nothing".into(),
        });
    format!("{node}({})", told.collect::<Vec<_>>().join(" "))
}

/// A plan of which two nodes fail; each answers with what it was told.
fn plan(latencies: &[u64]) -> BoundPlan<()> {
    let mut plan = Plan::builder();
    for (node, &latency) in latencies.iter().enumerate() {
        let service = service_fn(move |told: String| async move {
            tokio::time::sleep(Duration::from_millis(latency)).await;
            match node {
                3 | 7 => Err(BranchError::new(ErrorKind::Status, told)),
                _ => Ok(told),
            }
        });
        let mut declared = plan
            .node(&node.to_string(), service, move |(), out| {
                Ok(read(node, out))
            })
            .optional();
        for before in before(node) {
            declared = declared.after_optional_named(&before.to_string());
        }
    }
    plan.build().unwrap()
}

/// All that was answered or failed, by the plan.
fn fold(answer: &Answer) -> String {
    let told = answer.report().branches.iter().map(|branch| {
        let error = branch.error.as_ref().map(ToString::to_string);
        let told = answer.at::<String>(branch.node).cloned().or(error);
        format!("{}: {}\n", branch.status.as_str(), told.unwrap())
    });
    told.collect()
}

#[test]
fn fault_g8_the_whole_is_the_same_in_every_order_of_answers() {
    let mut rng = Rng::with_seed(8);
    let mut whole = None;
    for _ in 0..SHUFFLES {
        let latencies: Vec<u64> = (0..NODES).map(|_| rng.u64(0..20)).collect();
        let fan_out = FanOut::new(plan(&latencies)).max_concurrency(rng.usize(1..=NODES));
        let answer = real::block_on(fan_out.oneshot(())).unwrap();
        let folded = fold(&answer);
        assert_eq!(
            *whole.get_or_insert_with(|| folded.clone()),
            folded,
            "{latencies:?}"
        );
    }
}
