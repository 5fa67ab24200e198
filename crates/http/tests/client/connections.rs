//! Connections that are kept, closed, and bounded.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use http::Request;
use tower::ServiceExt;
use tower_fanout::ErrorKind;
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{ask, at, client, get, kind, send};

#[tokio::test]
async fn fault_f6_a_kept_connection_that_was_closed_costs_no_attempt() {
    for closed in [Fault::reset_before_head(), Fault::new().close()] {
        let faults = [Fault::json("1"), closed, Fault::json("2"), Fault::json("3")];
        let server = FaultServer::script(faults).await;
        let client = client(&server);
        for expected in ["1", "2", "3"] {
            assert_eq!(ask(&client).await.unwrap().as_raw(), expected);
        }
        let seen = server.seen();
        assert_eq!((seen.requests.len(), seen.connections), (4, 3));
        assert_eq!(seen.requests[1], seen.requests[2]);
    }
}

#[tokio::test]
async fn fault_f6_it_is_sent_once_more_and_only_then() {
    let twice = [
        Fault::json("1"),
        Fault::reset_before_head(),
        Fault::reset_before_head(),
        Fault::json("2"),
    ];
    let server = FaultServer::script(twice).await;
    let client = client(&server);
    ask(&client).await.unwrap();
    assert_eq!(kind(&client).await, ErrorKind::Reset);
    assert_eq!(server.seen().requests.len(), 3);
}

#[tokio::test]
async fn fault_f6_f25_what_may_have_been_done_is_not_done_again() {
    let post = || Request::post("/orders").body(Bytes::new()).unwrap();
    let begun = Fault::new().send("HTTP/1.1 2").reset();
    for (request, broken) in [(post(), Fault::reset_before_head()), (get("/"), begun)] {
        let server = FaultServer::script([Fault::json("1"), broken, Fault::json("2")]).await;
        let client = client(&server);
        ask(&client).await.unwrap();
        send(&client, request).await.unwrap_err();
        assert_eq!(server.seen().requests.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_fit_wait_for_their_turn() {
    let slow = Fault::json("{}").after(Duration::from_millis(20));
    let server = FaultServer::start(slow).await;
    let client = at(&server.url(), |settings| settings.max_connections = Some(2));
    let answers = join_all((0..8).map(|_| ask(&client))).await;
    assert!(answers.iter().all(Result::is_ok));
    let seen = server.seen();
    assert_eq!((seen.requests.len(), seen.peak_in_flight), (8, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_within_its_own_timeout_and_a_dropped_one_makes_room() {
    let server = FaultServer::script([Fault::never_answer(), Fault::json("2")]).await;
    let client = at(&server.url(), |settings| settings.max_connections = Some(1));
    let mut first = client.clone().oneshot(get("/")).boxed();
    tokio::select! {
        _ = &mut first => panic!("nobody answers"),
        _ = server.wait_for(|seen| seen.in_flight == 1) => {}
    }
    assert_eq!(kind(&client).await, ErrorKind::Timeout);
    assert_eq!(server.seen().requests.len(), 1);
    let (answer, ()) = tokio::join!(ask(&client), async {
        tokio::task::yield_now().await;
        drop(first);
    });
    assert_eq!(answer.unwrap().as_raw(), "2");
}

#[tokio::test]
async fn no_more_unused_connections_are_kept_than_wanted() {
    let server = FaultServer::start(Fault::json("{}")).await;
    let client = at(&server.url(), |settings| settings.max_idle = 0);
    for connections in 1..4 {
        ask(&client).await.unwrap();
        assert_eq!(server.seen().connections, connections);
    }
}
