//! Tests of the client-side throttle.
#![allow(missing_docs)]

mod common;

use common::*;
use tower::{Layer, ServiceExt};
use tower_fanout_layers::{
    Class, Classify, ClassifyResult, Failure, Rejection, ThrottleConfig, ThrottleLayer,
};

const BUSY: Failure = Failure::Status {
    code: 503,
    retry_after: None,
};

async fn call<C>(layer: &ThrottleLayer<C>, script: Scripted, calls: u32) -> usize
where
    C: Classify<u32, Fault> + Clone,
{
    fastrand::seed(7);
    let service = layer.layer(script.clone());
    for _ in 0..calls {
        let _ = service.clone().oneshot(idempotent_request()).await;
    }
    script.calls()
}

fn throttle() -> ThrottleLayer<ClassifyResult> {
    ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_rejects_all_calls_gets_about_a_tenth() {
    let layer = throttle();
    let reached = call(&layer, script().fail(Fault::Failed(BUSY)), 5_000).await;
    assert!((400..700).contains(&reached), "{reached}");
    assert_eq!(layer.rejection_probability(), 0.9);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_accepts_half_gets_all_calls() {
    let layer = throttle();
    for _ in 0..500 {
        call(&layer, script().respond(1), 1).await;
        call(&layer, script().fail(Fault::Failed(BUSY)), 1).await;
    }
    assert!(layer.rejection_probability() < 0.01, "{layer:?}");
}

#[tokio::test(start_paused = true)]
async fn rejections_by_the_throttle_delay_the_recovery() {
    let layer = throttle();
    call(&layer, script().fail(Fault::Failed(BUSY)), 1_000).await;
    let reached = call(&layer, script().respond(1), 1_000).await;
    assert!(reached < 400, "{reached}");
    tokio::time::advance(ms(120_000)).await;
    assert_eq!(
        layer.rejection_probability(),
        0.0,
        "calls before the window should not count"
    );
}

#[tokio::test(start_paused = true)]
async fn other_errors_and_rejections_do_not_throttle() {
    for fault in [
        BROKEN,
        UNREACHED,
        Fault::Refused(Rejection::AtCapacity),
        Fault::Refused(Rejection::Deadline),
    ] {
        let layer = throttle();
        assert_eq!(call(&layer, script().fail(fault), 100).await, 100);
        assert_eq!(layer.rejection_probability(), 0.0);
    }
    let layer = throttle();
    for _ in 0..100 {
        let call = layer.layer(script().hang()).oneshot(idempotent_request());
        tokio::time::timeout(ms(10), call).await.unwrap_err();
    }
    assert_eq!(layer.rejection_probability(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_local_and_no_failure_of_the_service() {
    let classify = |_: Result<&u32, &Fault>, _| Class::Throttled { retry_after: None };
    let layer = ThrottleLayer::new(ThrottleConfig::new().max(1.0), classify).unwrap();
    call(&layer, script().respond(1), 10_000).await;
    let recorder = EventRecorder::default();
    let request = idempotent_request().events(recorder.events());
    let result = layer.layer(script().respond(1)).oneshot(request).await;
    assert_eq!(result, Err(Fault::Refused(Rejection::ClientThrottled)));
    assert!(matches!(
        Rejection::ClientThrottled.class(ms(0)),
        Class::Rejected(_)
    ));
}
