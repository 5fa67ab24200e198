//! Five small services on loopback ports, with latency and faults.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, Query},
    http::StatusCode,
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The names of the services.
pub(crate) const NAMES: [&str; 5] = ["onchain", "sentiment", "tokenomics", "team", "social"];

/// A stub that listens, or the address where nothing does.
#[derive(Debug)]
pub(super) struct Stub {
    /// Where it listens, or would.
    pub(super) addr: SocketAddr,
    /// Its socket, unless it is down.
    pub(super) listener: Option<TcpListener>,
}

impl Stub {
    /// Takes a free loopback port. A stub that is down gives it up again, so that whoever calls it
    /// is refused.
    ///
    /// # Errors
    /// No port could be had.
    pub(super) async fn bind(down: bool) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self {
            addr: listener.local_addr()?,
            listener: (!down).then_some(listener),
        })
    }
}

/// The routes of the stub called `name`.
pub(super) fn router(name: &str) -> Router {
    match name {
        "onchain" => answering(
            name,
            Duration::from_millis(35),
            |seed, _| json!({"activeAddresses": 10_000 + seed % 90_000, "supply": 1_000_000 + seed % 20_000_000}),
        ),
        "sentiment" => answering(
            name,
            Duration::from_millis(60),
            |seed, _| json!({"score": (seed % 200) as f64 / 100.0 - 1.0, "sources": 3 + seed % 9}),
        ),
        "tokenomics" => answering(
            name,
            Duration::from_millis(220),
            |seed, supply| json!({"circulating": supply, "inflation": (seed % 80) as f64 / 1000.0}),
        ),
        "team" => answering(
            name,
            Duration::from_millis(20),
            |seed, _| json!({"members": 4 + seed % 60, "public": seed.is_multiple_of(2)}),
        ),
        _ => flaky(name),
    }
}

/// Answers after `latency` with what `body` makes of the symbol and of the query.
fn answering(name: &str, latency: Duration, body: fn(u64, Option<u64>) -> Value) -> Router {
    let answer = move |Path(symbol): Path<String>, Query(query): Query<Supply>| async move {
        tokio::time::sleep(latency).await;
        Json(with_symbol(&symbol, body(seed(&symbol), query.supply)))
    };
    Router::new().route(&format!("/{name}/{{symbol}}"), get(answer))
}

/// Answers 503 to every third call, the first included.
fn flaky(name: &str) -> Router {
    let calls = Arc::new(AtomicU64::new(0));
    let answer = move |Path(symbol): Path<String>| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(40)).await;
            if call.is_multiple_of(3) {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            Ok(Json(with_symbol(
                &symbol,
                json!({"mentions": 100 + seed(&symbol) % 10_000}),
            )))
        }
    };
    Router::new().route(&format!("/{name}/{{symbol}}"), get(answer))
}

#[derive(serde::Deserialize)]
struct Supply {
    supply: Option<u64>,
}

fn with_symbol(symbol: &str, mut body: Value) -> Value {
    body["symbol"] = symbol.into();
    body
}

/// The same symbol has the same figures, on every run.
fn seed(symbol: &str) -> u64 {
    symbol.bytes().fold(7, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    })
}
