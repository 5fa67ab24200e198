//! Tests of the client against a server with injected faults.
//!
//! Many tests end with a successful call, which proves that nothing is left over from the call
//! before.
#![allow(missing_docs)]

mod connections;
mod faults;
mod forwarding;
mod names;
mod secure;
mod streams;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tower::{Layer, ServiceExt};
use tower_fanout::{BranchError, ErrorKind, layers::TimeoutLayer};
use tower_fanout_http::client::{Client, ClientConfig};
use tower_fanout_json::{
    Json,
    response::{AcceptLayer, JsonLayer},
};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

const TIMEOUT: Duration = Duration::from_secs(2);

fn client(server: &FaultServer) -> Client {
    at(&server.url(), |_| {})
}

fn at(endpoint: &str, edit: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::default();
    edit(&mut config);
    Client::new(&endpoint.parse().unwrap(), config).unwrap()
}

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).unwrap()
}

/// Makes one call through the layers that the gateway puts around an attempt.
async fn call_json(client: &Client) -> Result<Json, BranchError> {
    send(client, get("/users/7")).await
}

async fn send(client: &Client, request: Request<Bytes>) -> Result<Json, BranchError> {
    let attempt = TimeoutLayer::new(TIMEOUT)
        .unwrap()
        .layer(JsonLayer::new().layer(client.clone()));
    AcceptLayer::default().layer(attempt).oneshot(request).await
}

async fn kind(client: &Client) -> ErrorKind {
    call_json(client).await.unwrap_err().kind()
}

async fn kind_of(fault: Fault) -> ErrorKind {
    kind(&client(&FaultServer::start(fault).await)).await
}
