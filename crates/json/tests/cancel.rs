//! Cancelled calls close their connection, so that the downstream notices the cancellation.
#![allow(missing_docs)]

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout::{
    BranchError, FanOut, FanOutError, FanOutResponse, Plan, Report, Status, Strategy,
};
use tower_fanout_http::client::{Client, ClientConfig};
use tower_fanout_json::{
    Json,
    response::{AcceptLayer, JsonLayer},
};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

fn get() -> Request<Bytes> {
    Request::get("/").body(Bytes::new()).unwrap()
}

/// Returns the stack for one attempt, as the gateway builds it.
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

/// Returns a fan-out to `slow` and `others`. The calls to `others` wait until `slow` has received
/// its request.
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

fn report(result: &Result<FanOutResponse, FanOutError>) -> &Report {
    match result {
        Ok(answer) => answer.report(),
        Err(FanOutError::Failed { response, .. }) => response.report(),
        Err(error) => panic!("{error}"),
    }
}

/// Runs `strategy` over a downstream that stalls in its response body, and others with `faults`.
/// Asserts that the run cancels the first, and that it notices while the result of the run is still
/// held.
async fn assert_cancels_slow(strategy: Strategy, faults: Vec<Fault>) {
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
    println!(
        "{}: cancellation noticed {took:?} after the result",
        strategy.as_str()
    );
    assert_eq!((seen.requests.len(), seen.in_flight), (1, 0));
    let report = report(&result);
    assert_eq!(report.branches[others.len()].status, Status::Cancelled);
    assert!(others.iter().all(|server| server.stats().cancelled == 0));
}

#[tokio::test]
async fn fault_g1_all_cancels_the_rest_after_a_failure() {
    assert_cancels_slow(Strategy::All, vec![Fault::response(500, &[], "")]).await;
}

#[tokio::test]
async fn first_cancels_the_rest_after_the_first_response() {
    assert_cancels_slow(Strategy::First, vec![Fault::json("1")]).await;
}

#[tokio::test]
async fn quorum_cancels_the_rest_once_it_is_decided() {
    let two = Strategy::Quorum(NonZeroUsize::new(2).unwrap());
    assert_cancels_slow(two, vec![Fault::json("1"), Fault::json("2")]).await;
    // A quorum that can no longer be reached is decided too.
    let broken = Fault::response(500, &[], "");
    assert_cancels_slow(two, vec![broken.clone(), broken]).await;
}

#[tokio::test(start_paused = true)]
async fn fault_g3_partial_cancels_nothing_after_a_failure() {
    let late = Fault::json("1").after(Duration::from_secs(1));
    let slow = Arc::new(FaultServer::start(late).await);
    let others = [FaultServer::start(Fault::response(500, &[], "")).await];
    let result = fan_out(&slow, &others, Strategy::Partial).oneshot(()).await;
    let statuses = report(&result).branches.iter().map(|branch| branch.status);
    assert!(statuses.eq([Status::Failed, Status::Success]));
    assert_eq!(slow.stats().cancelled, 0);
}

#[tokio::test]
async fn fault_g21_dropping_an_unread_body_cancels_the_request() {
    let server = FaultServer::start(Fault::stall_in_body()).await;
    let call = attempt(&server).oneshot(get());
    tokio::select! {
        _ = call => panic!("the stalled body must not end"),
        _ = server.wait_for(|seen| seen.in_flight == 1) => {}
    }
    let cancelled = server.wait_for(|seen| seen.cancelled == 1);
    timeout(Duration::from_secs(30), cancelled).await.unwrap();
}
