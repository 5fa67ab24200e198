//! A `FanOut` is a tower service like any other: under layers, in a box, and as a node of another
//! fan-out.
#![allow(missing_docs)]

mod common;

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::*;
use tokio::time::Instant;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService,
};
use tower_fanout::{
    BranchError, ErrorKind, FanOut, FanOutError, FanOutResponse, Plan, SelectError, Selection,
    Strategy,
    layers::{
        AsRejection, CallContext, ClassifyResult, Deadline, DeadlineLayer, Failure, LayerError,
        Rejection, RetryConfig, RetryLayer, TimeoutLayer, WithCall,
    },
};

fn one(service: Node) -> FanOut<()> {
    FanOut::new(independent([("one", service)]).build().unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_error_converts_into_a_box_error() {
    async fn asks(fan_out: FanOut<()>) -> Result<FanOutResponse, BoxError> {
        Ok(fan_out.oneshot(()).await?)
    }
    assert!(asks(one(slow(1))).await.is_ok());
    let error = asks(one(broken(1))).await.unwrap_err();
    assert!(error.downcast_ref::<FanOutError>().is_some());
    let boxed = BoxCloneSyncService::new(one(slow(1)).map_err(BoxError::from));
    assert!(boxed.oneshot(()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_can_be_wrapped_in_layers() {
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(ms(50)).unwrap())
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(one(hanging()));
    let error = service.oneshot(()).await.unwrap_err();
    assert!(
        matches!(error.as_rejection(), Some(Rejection::Deadline)),
        "{error:?}"
    );
}

/// A retry around a fan-out numbers its own attempts. Those of a branch begin at 1 each time.
#[tokio::test(start_paused = true)]
async fn ord_15_attempts_of_a_branch_do_not_count_those_of_a_retry_around_the_fan_out() {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let node = service_fn(move |request: WithCall<()>| {
        let call = request.call();
        let seen_call = (
            call.attempt,
            call.last_attempt,
            call.max_retries,
            call.fallback,
        );
        seen.lock().unwrap().push(seen_call);
        async { Err::<(), _>(LayerError::from(Failure::Connect)) }
    });
    let mut plan = Plan::builder();
    plan.node("one", node, |_: &WithCall<()>, _| Ok(WithCall::new(())));
    let fan_out = FanOut::new(plan.build().unwrap());
    let retry = RetryConfig::new().max_attempts(2);
    let service = RetryLayer::new(retry, ClassifyResult)
        .unwrap()
        .layer(fan_out);
    let mut request = WithCall::new(())
        .idempotent()
        .deadline(Deadline::at(Instant::now() + ms(5_000)));
    request.call_mut().unwrap().max_retries = Some(1);
    request.call_mut().unwrap().fallback = false;
    service.oneshot(request).await.unwrap_err();
    assert_eq!(*calls.lock().unwrap(), [(1, false, Some(1), false); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_can_be_a_node_of_another() {
    for (inner, outcome) in [
        (one(slow(1)), None),
        (one(broken(1)), Some(ErrorKind::Internal)),
    ] {
        let mut plan = Plan::builder();
        plan.node("beside", slow(1), |(), _| Ok(()));
        let key = plan.node("inner", inner, |(), _| Ok(())).optional().key();
        let answer = FanOut::new(plan.build().unwrap())
            .oneshot(())
            .await
            .unwrap();
        let error = answer.report().branches[1].error.as_ref();
        assert_eq!(error.map(|error| error.kind()), outcome);
        assert_eq!(answer.get(key).is_some(), outcome.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_has_the_cause_as_its_source() {
    let closed = service_fn(|()| async { Err::<(), BoxError>("the exchange is closed".into()) });
    let mut plan = Plan::builder();
    plan.node("price", closed, |(), _| Ok(()));
    let error = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("\"price\""), "{error}");
    let branch = error.source().unwrap();
    assert_eq!(branch.to_string(), "internal: the service failed");
    assert_eq!(
        branch.source().unwrap().to_string(),
        "the exchange is closed"
    );
}

#[test]
fn er_02_a_node_with_a_layer_error_has_the_kind_of_its_content() {
    for (error, kind, source) in [
        (LayerError::new("closed"), ErrorKind::Internal, "closed"),
        (
            LayerError::from(Rejection::AtCapacity),
            ErrorKind::AtCapacity,
            "the concurrency limit is reached",
        ),
    ] {
        let branch = BranchError::from(error);
        assert_eq!(branch.kind(), kind);
        assert_eq!(branch.source().unwrap().to_string(), source);
    }
    let own = LayerError::new(BranchError::template("no account"));
    assert_eq!(BranchError::from(own).kind(), ErrorKind::Template);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_node_cannot_be_selected() {
    let mut fan_out = one(slow(1)).selection(Selection::named(&[], &[7]));
    let error = fan_out.call(()).await.unwrap_err();
    let FanOutError::Select(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error, SelectError::UnknownNode { node: 7 });
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_node_is_not_on_the_critical_path() {
    for (strategy, winner) in [(Strategy::First, slow(10)), (Strategy::All, broken(10))] {
        let mut plan = Plan::builder();
        plan.node("hangs", hanging(), |(), _| Ok(()));
        let first = plan.node("first", slow(5), |(), _| Ok(())).key();
        plan.node("decides", winner, |(), _| Ok(())).after(first);
        let fan_out = FanOut::new(plan.build().unwrap()).strategy(strategy);
        let report = match fan_out.oneshot(()).await {
            Ok(answer) => answer.report().clone(),
            Err(FanOutError::Failed { response, .. }) => response.report().clone(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(report.last, Some(2));
        assert_eq!(report.critical_path, [1, 2]);
    }
}
