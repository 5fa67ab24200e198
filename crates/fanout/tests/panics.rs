//! A panic of user code stays in its branch, and the next request succeeds.
#![allow(missing_docs)]

mod common;

use std::{
    future::{Future, pending},
    panic::resume_unwind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use common::*;
use tokio::time::{advance, sleep};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_fanout::{
    BoundPlan, Branch, Downstream, ErrorKind, FanOut, FanOutError, Plan, Policy, ReturnWhen,
    RunObserver, Status,
    layers::{Classify, ClassifyResult, WithCall, concurrency::ConcurrencyConfig},
};

/// Panics without a message on the console.
fn panics() {
    resume_unwind(Box::new("on purpose"))
}

/// A switch that decides whether user code panics.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    fn pass(&self) {
        if self.0.load(Ordering::Relaxed) {
            panics();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PanicPoint {
    Ready,
    Call,
    Poll,
    /// When its future is dropped after completion.
    End,
    /// When its future is dropped before completion.
    Cut,
}

/// A service that panics at the given point.
#[derive(Clone)]
struct PanicsAt(PanicPoint);

impl Service<()> for PanicsAt {
    type Response = &'static str;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.0 == PanicPoint::Ready {
            panics();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                panics();
            }
        }
        let place = self.0;
        if place == PanicPoint::Call {
            panics();
        }
        Box::pin(async move {
            if place == PanicPoint::Poll {
                panics();
            }
            let _guard = PanicsOnDrop;
            if place == PanicPoint::Cut {
                pending::<()>().await;
            }
            Ok("ok")
        })
    }
}

fn plan(places: &[PanicPoint]) -> BoundPlan<()> {
    let mut plan = Plan::builder();
    for (place, &bad) in places.iter().enumerate() {
        plan.node(&place.to_string(), PanicsAt(bad), |(), _| Ok(()))
            .optional();
    }
    plan.node("fine", slow(10), |(), _| Ok(()));
    plan.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn fault_g19_a_panic_of_a_service_fails_its_branch() {
    let places = [
        PanicPoint::Ready,
        PanicPoint::Call,
        PanicPoint::Poll,
        PanicPoint::End,
    ];
    let fan_out = FanOut::new(plan(&places));
    for _ in 0..2 {
        let report = fan_out.clone().oneshot(()).await.unwrap().report().clone();
        for branch in &report.branches[..places.len()] {
            assert_eq!(branch.error.as_ref().unwrap().kind(), ErrorKind::Panic);
        }
        assert_eq!(report.count(Status::Success), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g19_a_panic_in_drop_keeps_the_answer() {
    let fan_out =
        FanOut::new(plan(&[PanicPoint::Cut, PanicPoint::Cut])).return_when(ReturnWhen::Required);
    let report = fan_out.clone().oneshot(()).await.unwrap().report().clone();
    assert_eq!(report.count(Status::Cancelled), 2);
    assert_eq!(report.count(Status::Success), 1);
    // A run that is dropped, and a detached call.
    let timeout = tokio::time::timeout(ms(5), fan_out.clone().oneshot(()));
    assert!(timeout.await.is_err());
    let fan_out = fan_out.detach_late(drop);
    assert!(fan_out.oneshot(()).await.is_ok());
}

/// An observer that panics at every call.
struct PanickingObserver;

impl RunObserver for PanickingObserver {
    fn on_end(&self, _: usize, _: &Branch) {
        panics();
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g20_a_panic_of_an_observer_changes_nothing() {
    let downstream = downstream(|policy| policy.concurrency.as_mut().unwrap().max = 1);
    let calls = Switch::default();
    let service = around(&downstream, move || {
        let fails = !calls.0.fetch_xor(true, Ordering::Relaxed);
        async move { if fails { Err(failed()) } else { Ok("ok") } }
    });
    let hangs = around(&downstream, pending);
    let mut plan = Plan::builder();
    plan.node("retried", service, |(), _| Ok(idempotent_request()));
    plan.node("cut", hangs, |(), _| Ok(idempotent_request()))
        .optional();
    let fan_out = FanOut::new(plan.build().unwrap())
        .return_when(ReturnWhen::Required)
        .max_concurrency(1)
        .observer(Arc::new(PanickingObserver));
    for _ in 0..2 {
        let report = fan_out.clone().oneshot(()).await.unwrap().report().clone();
        let branch = &report.branches[0];
        assert_eq!((branch.status, branch.attempts), (Status::Success, 2));
        assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
    }
}

/// Returns the error kind of a branch with a whole stack whose fallback or classifier panics.
/// Afterwards nothing panics, and the fallback answers.
async fn with_panics<C>(downstream: &Downstream<C>, switch: &Switch, in_fallback: bool) -> ErrorKind
where
    C: Classify<&'static str, BoxError> + Clone + Send + Sync + 'static,
{
    let service = service_fn(|_: WithCall<()>| async {
        sleep(ms(1)).await;
        Answer::Err(failed())
    });
    let fallback = switch.clone();
    let fallback = downstream.fallback().function(move |_, _| {
        if in_fallback {
            fallback.pass();
        }
        async { Ok("plan b") }
    });
    let service = fallback.layer(downstream.layer(service));
    let mut plan = Plan::builder();
    plan.node("calls", service, |(), _| Ok(idempotent_request()));
    let fan_out = FanOut::new(plan.build().unwrap());
    switch.set(true);
    let error = fan_out.clone().oneshot(()).await.unwrap_err();
    let FanOutError::Failed { response, .. } = error else {
        panic!("the run must start");
    };
    let kind = response.report().branches[0].error.as_ref().unwrap().kind();
    assert_eq!(downstream.concurrency().unwrap().in_flight(), 0);
    switch.set(false);
    let answer = fan_out.oneshot(()).await.unwrap();
    assert_eq!(answer.report().branches[0].status, Status::Fallback);
    kind
}

#[tokio::test(start_paused = true)]
async fn fault_g20_a_panic_of_a_fallback_keeps_the_original_failure() {
    let kind = with_panics(&downstream(|_| {}), &Switch::default(), true).await;
    assert_eq!(kind, ErrorKind::Reset);
}

#[tokio::test(start_paused = true)]
async fn fault_g20_a_panic_of_a_classifier_releases_everything() {
    let policy = Policy::new()
        .attempt_timeout(ms(1000))
        .concurrency(ConcurrencyConfig::new().max(1).queue(0));
    let switch = Switch::default();
    let panics = switch.clone();
    let classify = move |result: Result<&&'static str, &BoxError>, elapsed: Duration| {
        panics.pass();
        ClassifyResult.classify(result, elapsed)
    };
    let downstream = Downstream::new("users", policy, classify).unwrap();
    let kind = with_panics(&downstream, &switch, false).await;
    assert_eq!(kind, ErrorKind::Panic);
    // A probe whose classification failed releases its place for the next probe.
    let breaker = downstream.breaker();
    breaker.open_for(ms(1));
    advance(ms(2)).await;
    with_panics(&downstream, &switch, false).await;
    assert!(
        breaker.snapshot().rejected <= 1,
        "the next probe was let in"
    );
}
