//! What a retry costs, and when it costs nothing.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::*;
use futures_util::{FutureExt, poll};
use tower::{Layer, ServiceExt};
use tower_fanout_layers::{
    BreakerLayer, BreakerPolicy, ClassifyResult, Reject, RetryAllowance, RetryLayer, RetryPolicy,
    retry::Jitter,
};

/// A retry with a budget for `retries`, whatever is called.
fn with_budget(retries: f64) -> RetryLayer<ClassifyResult> {
    let policy = RetryPolicy::build(|retry| {
        retry.jitter = Jitter::None;
        retry.budget.ratio = 0.0;
        retry.budget.min_per_sec = retries / retry.budget.ttl.as_secs_f64();
    });
    RetryLayer::new(policy.unwrap(), ClassifyResult)
}

const FULL: Fault = Fault::Refused(Reject::AtCapacity);

/// A request that may make so many retries together with others.
fn sharing(allowance: &Arc<RetryAllowance>) -> Request {
    ask_with(|call| call.allowance = Some(Arc::clone(allowance)))
}

/// Whether a call may make a retry out of `allowance`.
async fn may_retry(allowance: &Arc<RetryAllowance>) -> bool {
    let service = with_budget(9.0).layer(script().err(BROKEN).ok(1));
    service.oneshot(sharing(allowance)).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn rt_11_a_call_dropped_in_its_pause_leaves_its_retry_to_its_request() {
    let allowance = Arc::new(RetryAllowance::new(1));
    let service = with_budget(9.0).layer(script().err(BROKEN));
    let mut dropped = service.oneshot(sharing(&allowance)).boxed();
    assert!(poll!(&mut dropped).is_pending());
    assert!(!may_retry(&allowance).await);
    drop(dropped);
    assert!(may_retry(&allowance).await);
    assert!(!may_retry(&allowance).await, "that one was made");
}

#[tokio::test(start_paused = true)]
async fn rt_13_a_breaker_that_opens_leaves_the_retry_to_its_request() {
    let allowance = Arc::new(RetryAllowance::new(1));
    let policy = BreakerPolicy::build(|breaker| breaker.consecutive_failures = Some(1));
    let breaker = BreakerLayer::new("team", policy.unwrap(), ClassifyResult);
    let retry = with_budget(9.0).recheck(breaker.handle().unwrap().clone());
    let service = retry.layer(breaker.layer(script().err(BROKEN)));
    assert_eq!(service.oneshot(sharing(&allowance)).await, Err(BROKEN));
    assert!(may_retry(&allowance).await);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_refused_below_is_left_to_its_request() {
    let allowance = Arc::new(RetryAllowance::new(1));
    let service = with_budget(9.0).layer(script().err(BROKEN).err(FULL));
    assert_eq!(service.oneshot(sharing(&allowance)).await, Err(BROKEN));
    assert!(may_retry(&allowance).await);
}
