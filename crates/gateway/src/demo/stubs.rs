//! Five stub services on loopback ports, with latency and faults.

use std::{
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

/// The names of the services.
pub(crate) const NAMES: [&str; 5] = ["onchain", "sentiment", "tokenomics", "team", "social"];

/// Returns the routes of the stub `name`.
pub(super) fn router(name: &str) -> Router {
    match name {
        "onchain" => steady(
            name,
            Duration::from_millis(35),
            |seed, _| json!({"activeAddresses": 10_000 + seed % 90_000, "supply": 1_000_000 + seed % 20_000_000}),
        ),
        "sentiment" => steady(
            name,
            Duration::from_millis(60),
            |seed, _| json!({"score": (seed % 200) as f64 / 100.0 - 1.0, "sources": 3 + seed % 9}),
        ),
        "tokenomics" => steady(
            name,
            Duration::from_millis(220),
            |seed, supply| json!({"circulating": supply, "inflation": (seed % 80) as f64 / 1000.0}),
        ),
        "team" => steady(
            name,
            Duration::from_millis(20),
            |seed, _| json!({"members": 4 + seed % 60, "public": seed.is_multiple_of(2)}),
        ),
        _ => flaky(name),
    }
}

/// Responds after `latency` with the result of `body`, which gets the seed of the symbol and the
/// `supply` query parameter.
fn steady(name: &str, latency: Duration, body: fn(u64, Option<u64>) -> Value) -> Router {
    let answer = move |Path(symbol): Path<String>, Query(query): Query<Supply>| async move {
        tokio::time::sleep(latency).await;
        Json(with_symbol(&symbol, body(seed(&symbol), query.supply)))
    };
    Router::new().route(&format!("/{name}/{{symbol}}"), get(answer))
}

/// Responds with 503 to every third call, beginning with the first.
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

/// Returns a number that depends only on the symbol, so that results are the same on every run.
fn seed(symbol: &str) -> u64 {
    symbol.bytes().fold(7, |seed: u64, byte| {
        seed.wrapping_mul(31).wrapping_add(byte.into())
    })
}
