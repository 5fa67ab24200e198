//! A node whose service is not ready, or never will be.

use std::{
    error::Error,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tower::{BoxError, Service, ServiceExt};
use tower_fanout::{ErrorKind, FanOut, Plan};

/// A service that is ready after some polls, or fails to become ready.
#[derive(Clone)]
struct Readiness(Result<usize, &'static str>);

impl Service<()> for Readiness {
    type Response = usize;
    type Error = BoxError;
    type Future = Ready<Result<usize, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.0 {
            Ok(0) => Poll::Ready(Ok(())),
            Ok(polls) => {
                *polls -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err((*error).into())),
        }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(matches!(self.0, Ok(0)), "called before it was ready");
        ready(Ok(7))
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_waits_until_its_service_is_ready() {
    let mut plan = Plan::builder::<()>();
    plan.node("now", Readiness(Ok(0)), |(), _| Ok(()));
    plan.node("first", Readiness(Ok(1)), |(), _| Ok(()));
    plan.node("later", Readiness(Ok(3)), |(), _| Ok(()));
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(
        [0, 1, 2].map(|node| answer.at::<usize>(node)),
        [Some(&7); 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_service_fails_to_become_ready_fails() {
    let mut plan = Plan::builder::<()>();
    plan.node("good", Readiness(Ok(0)), |(), _| Ok(()));
    plan.node("bad", Readiness(Err("out of order")), |(), _| Ok(()))
        .optional();
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    let error = answer.report().branches[1].error.as_ref().unwrap();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(error.source().unwrap().to_string(), "out of order");
    assert_eq!(answer.at::<usize>(0), Some(&7));
}
