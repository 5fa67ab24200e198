//! Limits on the size of a branch and the depth of a plan.
#![allow(missing_docs)]

mod common;

use std::thread;

use common::*;
use tokio::runtime::Builder;
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout::{
    FanOut, FanOutError, PerKeyPolicy, Plan, SkipReason, Status,
    layers::{ConcurrencyConfig, WithCall, hedge::HedgeConfig, throttle::ThrottleConfig},
};

/// The size of the state that an HTTP client keeps while it waits for a response, in bytes.
const CLIENT: usize = 512;

/// One attempt that keeps as much state as a client.
async fn attempt(_: WithCall<()>) -> Answer {
    let held = [1u8; CLIENT];
    tokio::task::yield_now().await;
    match held[CLIENT - 1] {
        1 => Ok("ok"),
        _ => Err(failed()),
    }
}

#[test]
fn fault_g22_a_branch_with_its_whole_stack_takes_less_than_4_kib() {
    let retried = downstream(|policy| policy.throttle = Some(ThrottleConfig::new()));
    let hedged = downstream(|policy| {
        (policy.retry, policy.hedge) = (None, Some(HedgeConfig::new()));
    });
    let keyed = downstream(|policy| {
        let limit = ConcurrencyConfig::new().max(1).queue(1);
        policy.per_key = Some(PerKeyPolicy::new().concurrency(limit));
    });
    for downstream in [retried, hedged, keyed] {
        let fallback = downstream.fallback().response("plan b");
        let service = fallback.layer(downstream.layer(service_fn(attempt)));
        // A run allocates this future, and a tag, for each branch.
        let size = size_of_val(&service.oneshot(idempotent_request()));
        println!("{size} bytes");
        assert!((CLIENT..=4096).contains(&size), "{size} bytes");
    }
}

/// A chain of nodes that depend on each other. The first node is `first`.
fn chain(nodes: usize, first: Node) -> FanOut<()> {
    let mut plan = Plan::builder();
    let mut before = plan.node("first", first, |(), _| Ok(())).optional().key();
    for place in 1..nodes {
        let next = plan.node(&place.to_string(), node(|| async { Ok("ok") }), |(), _| {
            Ok(())
        });
        before = next.optional().after(before).key();
    }
    FanOut::new(plan.build().unwrap())
}

/// Runs a chain and returns the outcome of its last node.
async fn last_of(nodes: usize, first: Node) -> (Status, Option<SkipReason>) {
    let chain = chain(nodes, first);
    let report = match chain.oneshot(()).await {
        Ok(answer) => answer.report().clone(),
        Err(FanOutError::Failed { response, .. }) => response.report().clone(),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(report.branches.len(), nodes);
    let last = &report.branches[nodes - 1];
    (last.status, last.skipped)
}

#[test]
fn fault_g22_a_long_chain_does_not_overflow_a_small_stack() {
    let run = || {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for nodes in [1_000, 10_000] {
                let answered = last_of(nodes, slow(0)).await;
                assert_eq!(answered, (Status::Success, None));
                let skipped = last_of(nodes, broken(0)).await;
                let why = Some(SkipReason::Dependency);
                assert_eq!(skipped, (Status::Skipped, why));
            }
        });
    };
    let thread = thread::Builder::new().stack_size(128 * 1024).spawn(run);
    thread.unwrap().join().unwrap();
}
