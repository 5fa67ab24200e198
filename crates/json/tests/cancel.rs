//! What a run or a caller gives up, the downstream sees as a closed connection.
#![allow(missing_docs)]

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout::{Answer, BranchError, FanOut, FanOutError, Plan, Report, Status, Strategy};
use tower_fanout_http::client::{Client, ClientConfig};
use tower_fanout_json::{
    Json,
    response::{AcceptLayer, JsonLayer},
};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

fn get() -> Request<Bytes> {
    Request::get("/").body(Bytes::new()).unwrap()
}

/// One attempt, as the gateway makes it.
fn attempt(
    server: &FaultServer,
) -> impl Service<Request<Bytes>, Response = Json, Error = BranchError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<> {
    let endpoint = server.url().parse().unwrap();
    let client = Client::new(&endpoint, ClientConfig::default()).unwrap();
    AcceptLayer::default().layer(JsonLayer::new().layer(client))
}

/// Asks `slow`, and each of `others` when `slow` has its request.
fn fan_out(slow: &Arc<FaultServer>, others: &[FaultServer], strategy: Strategy) -> FanOut<()> {
    let mut plan = Plan::builder();
    for (place, server) in others.iter().enumerate() {
        let (slow, attempt) = (Arc::clone(slow), attempt(server));
        let service = service_fn(move |request| {
            let (slow, attempt) = (Arc::clone(&slow), attempt.clone());
            async move {
                slow.wait_for(|seen| seen.in_flight == 1).await;
                attempt.oneshot(request).await
            }
        });
        plan.node(&place.to_string(), service, |(), _| Ok(get()));
    }
    plan.node("slow", attempt(slow), |(), _| Ok(get()))
        .optional();
    FanOut::new(plan.build().unwrap()).strategy(strategy)
}

fn report(result: &Result<Answer, FanOutError>) -> &Report {
    match result {
        Ok(answer) => answer.report(),
        Err(FanOutError::Failed { answer, .. }) => answer.report(),
        Err(error) => panic!("{error}"),
    }
}

/// Runs `strategy` over a downstream that is in the midst of its answer, and others that do
/// `faults`: the first sees that it is given up while the answer as a whole is still in our hands.
async fn cancels(strategy: Strategy, faults: Vec<Fault>) {
    let slow = Arc::new(FaultServer::start(Fault::stall_in_body()).await);
    let mut others = Vec::new();
    for fault in faults {
        others.push(FaultServer::start(fault).await);
    }
    let result = fan_out(&slow, &others, strategy).oneshot(()).await;
    let answered = Instant::now();
    let cancelled = slow.wait_for(|seen| seen.cancelled == 1);
    let seen = timeout(Duration::from_secs(30), cancelled).await.unwrap();
    let took = answered.elapsed();
    println!("{}: seen {took:?} after the answer", strategy.as_str());
    assert_eq!((seen.requests.len(), seen.in_flight), (1, 0));
    let report = report(&result);
    assert_eq!(report.branches[others.len()].status, Status::Cancelled);
    assert!(others.iter().all(|server| server.stats().cancelled == 0));
}

#[tokio::test]
async fn fault_g1_a_failure_under_all_closes_the_others_at_once() {
    cancels(Strategy::All, vec![Fault::response(500, &[], "")]).await;
}

#[tokio::test]
async fn the_first_answer_closes_its_rivals() {
    cancels(Strategy::First, vec![Fault::json("1")]).await;
}

#[tokio::test]
async fn enough_answers_close_the_rest() {
    let two = Strategy::Quorum(NonZeroUsize::new(2).unwrap());
    cancels(two, vec![Fault::json("1"), Fault::json("2")]).await;
    // Nor is there anything to wait for when there cannot be enough.
    let broken = Fault::response(500, &[], "");
    cancels(two, vec![broken.clone(), broken]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_g3_a_failure_under_partial_closes_nothing() {
    let late = Fault::json("1").after(Duration::from_secs(1));
    let slow = Arc::new(FaultServer::start(late).await);
    let others = [FaultServer::start(Fault::response(500, &[], "")).await];
    let result = fan_out(&slow, &others, Strategy::Partial).oneshot(()).await;
    let statuses = report(&result).branches.iter().map(|branch| branch.status);
    assert!(statuses.eq([Status::Failed, Status::Success]));
    assert_eq!(slow.stats().cancelled, 0);
}

#[tokio::test]
async fn fault_g21_a_body_that_is_dropped_unread_is_cancelled() {
    let server = FaultServer::start(Fault::stall_in_body()).await;
    let call = attempt(&server).oneshot(get());
    tokio::select! {
        _ = call => panic!("the body does not end"),
        _ = server.wait_for(|seen| seen.in_flight == 1) => {}
    }
    let cancelled = server.wait_for(|seen| seen.cancelled == 1);
    timeout(Duration::from_secs(30), cancelled).await.unwrap();
}
