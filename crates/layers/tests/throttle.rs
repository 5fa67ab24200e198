//! The client-side throttle.
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
        let _ = service.clone().oneshot(ask()).await;
    }
    script.calls()
}

fn throttle() -> ThrottleLayer<ClassifyResult> {
    ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_refuses_everything_gets_about_a_tenth() {
    let layer = throttle();
    let reached = call(&layer, script().fail(Fault::Failed(BUSY)), 5_000).await;
    assert!((400..700).contains(&reached), "{reached}");
    assert_eq!(layer.refused_share(), 0.9);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_accepts_half_is_asked_for_everything() {
    let layer = throttle();
    for _ in 0..500 {
        call(&layer, script().respond(1), 1).await;
        call(&layer, script().fail(Fault::Failed(BUSY)), 1).await;
    }
    assert!(layer.refused_share() < 0.01, "{layer:?}");
}

#[tokio::test(start_paused = true)]
async fn its_own_refusals_keep_it_from_coming_back_at_once() {
    let layer = throttle();
    call(&layer, script().fail(Fault::Failed(BUSY)), 1_000).await;
    let reached = call(&layer, script().respond(1), 1_000).await;
    assert!(reached < 400, "{reached}");
    tokio::time::advance(ms(120_000)).await;
    assert_eq!(layer.refused_share(), 0.0, "what is older counts no more");
}

#[tokio::test(start_paused = true)]
async fn errors_and_refusals_of_others_are_no_reason() {
    for fault in [
        BROKEN,
        UNREACHED,
        Fault::Refused(Rejection::AtCapacity),
        Fault::Refused(Rejection::Deadline),
    ] {
        let layer = throttle();
        assert_eq!(call(&layer, script().fail(fault), 100).await, 100);
        assert_eq!(layer.refused_share(), 0.0);
    }
    let layer = throttle();
    for _ in 0..100 {
        let call = layer.layer(script().hang()).oneshot(ask());
        tokio::time::timeout(ms(10), call).await.unwrap_err();
    }
    assert_eq!(layer.refused_share(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_the_layers_own_and_never_a_failure_of_the_service() {
    let no = |_: Result<&u32, &Fault>, _| Class::Throttled { retry_after: None };
    let layer = ThrottleLayer::new(ThrottleConfig::new().max(1.0), no).unwrap();
    call(&layer, script().respond(1), 10_000).await;
    let ear = Ear::default();
    let asked = ask().events(ear.events());
    let refused = layer.layer(script().respond(1)).oneshot(asked).await;
    assert_eq!(refused, Err(Fault::Refused(Rejection::Throttled)));
    assert!(matches!(
        Rejection::Throttled.class(ms(0)),
        Class::Rejected(_)
    ));
}
