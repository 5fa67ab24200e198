//! The time of the response, and the fate of nodes that are late.
#![allow(missing_docs)]

mod common;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
};

use common::*;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_fanout::{FanOut, Plan, Report, ReturnWhen, Status};

/// One required node that takes 20 ms, and one optional node that takes `late` and is counted while
/// it runs.
fn with_late(late: u64, in_flight: &InFlight) -> FanOut<()> {
    let counted = in_flight.clone();
    let late = node(move || {
        let running = counted.enter();
        async move {
            sleep(ms(late)).await;
            drop(running);
            Ok("late")
        }
    });
    let mut plan = Plan::builder();
    plan.node("required", slow(20), |(), _| Ok(()));
    plan.node("late", late, |(), _| Ok(())).optional();
    FanOut::new(plan.build().unwrap())
        .return_when(ReturnWhen::Required)
        .grace(ms(50))
}

async fn report(fan_out: FanOut<()>) -> Report {
    let start = Instant::now();
    let report = fan_out.oneshot(()).await.unwrap().report().clone();
    assert_eq!(report.elapsed, start.elapsed());
    report
}

fn last(report: &Report) -> Status {
    report.branches.last().unwrap().status
}

#[tokio::test(start_paused = true)]
async fn a_late_optional_node_delays_the_response_by_at_most_the_grace() {
    let in_flight = InFlight::default();
    for (late, elapsed, status) in [
        (5000, 70, Status::Cancelled),
        (71, 70, Status::Cancelled),
        (70, 70, Status::Success),
        (30, 30, Status::Success),
    ] {
        let report = report(with_late(late, &in_flight)).await;
        assert_eq!((report.elapsed, last(&report)), (ms(elapsed), status));
        assert_eq!(in_flight.now(), 0, "the late call is dropped");
    }
    let all = with_late(5000, &in_flight).return_when(ReturnWhen::All);
    assert_eq!(report(all).await.elapsed, ms(5000));
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_the_end_of_the_grace_period_counts() {
    let mut plan = Plan::builder();
    plan.node("required", slow(20), |(), _| Ok(()));
    plan.node("fails", broken(70), |(), _| Ok(())).optional();
    plan.node("answers", slow(70), |(), _| Ok(())).optional();
    let fan_out = FanOut::new(plan.build().unwrap())
        .return_when(ReturnWhen::Required)
        .grace(ms(50));
    assert_eq!(last(&report(fan_out).await), Status::Success);
}

type Late = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Collects the futures of detached nodes.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Late>>>);

impl Kept {
    fn detach(&self, fan_out: FanOut<()>) -> FanOut<()> {
        let Self(kept) = self.clone();
        fan_out.detach_late(move |late| kept.lock().unwrap().push(late))
    }

    fn take(&self) -> Vec<Late> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn detached_nodes_run_to_completion() {
    let (in_flight, kept) = (InFlight::default(), Kept::default());
    let start = Instant::now();
    let report = report(kept.detach(with_late(5000, &in_flight))).await;
    assert_eq!((report.elapsed, last(&report)), (ms(70), Status::Cancelled));
    let mut late = kept.take();
    assert_eq!((late.len(), in_flight.now()), (1, 1));
    late.remove(0).await;
    assert_eq!((start.elapsed(), in_flight.now()), (ms(5000), 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_detaches_nothing() {
    let (in_flight, kept) = (InFlight::default(), Kept::default());
    for dropped in [0, 10, 20, 69] {
        let call = kept.detach(with_late(5000, &in_flight)).oneshot(());
        assert!(tokio::time::timeout(ms(dropped), call).await.is_err());
        assert_eq!((kept.take().len(), in_flight.now()), (0, 0));
    }
    assert_eq!(in_flight.peak(), 1);
}

#[tokio::test(start_paused = true)]
async fn fault_g20_a_panic_of_the_spawn_function_keeps_the_answer() {
    let mut plan = Plan::builder();
    plan.node("must", slow(1), |(), _| Ok(()));
    plan.node("may", slow(1000), |(), _| Ok(())).optional();
    let fan_out = FanOut::new(plan.build().unwrap())
        .return_when(ReturnWhen::Required)
        .detach_late(|_| panic!("no runtime"));
    let answer = fan_out.oneshot(()).await.unwrap();
    assert_eq!(answer.report().count(Status::Success), 1);
    assert_eq!(answer.report().count(Status::Cancelled), 1);
}
