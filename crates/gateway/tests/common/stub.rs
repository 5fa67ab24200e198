//! Services that a gateway calls, which count their calls.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{ms, spawn};

/// A service that counts its calls and notes their headers.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<SeenInner>);

#[derive(Default)]
struct SeenInner {
    calls: AtomicUsize,
    now: AtomicUsize,
    peak: AtomicUsize,
    cut: AtomicUsize,
    headers: std::sync::Mutex<Vec<(String, HeaderMap)>>,
    changed: tokio::sync::Notify,
}

struct Running(Seen, bool);

impl Running {
    /// Marks the call as not cancelled.
    fn finish(&mut self) {
        self.1 = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.0.cut.fetch_add(1, Ordering::SeqCst);
        }
        self.0.0.changed.notify_waiters();
    }
}

impl Seen {
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// The target and headers of each call, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<(String, HeaderMap)> {
        self.0.headers.lock().unwrap().clone()
    }

    /// Waits until `condition` holds of (calls, calls that were cut).
    pub(crate) async fn until(&self, condition: impl Fn(usize, usize) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if condition(self.calls(), self.0.cut.load(Ordering::SeqCst)) {
                return;
            }
            changed.await;
        }
    }

    fn enter(&self, request: &Request) -> (usize, Running) {
        let inner = &self.0;
        let call = inner.calls.fetch_add(1, Ordering::SeqCst);
        let now = inner.now.fetch_add(1, Ordering::SeqCst) + 1;
        inner.peak.fetch_max(now, Ordering::SeqCst);
        let target = request.uri().to_string();
        inner
            .headers
            .lock()
            .unwrap()
            .push((target, request.headers().clone()));
        inner.changed.notify_waiters();
        (call, Running(self.clone(), false))
    }
}

/// The delay and the response of a stub for its `n`th call, from 0.
pub(crate) type Script = fn(usize) -> (Duration, StatusCode, Value);

/// A stub service with this script.
pub(crate) async fn stub(script: Script) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (call, mut running) = noted.enter(&request);
        async move {
            let (delay, status, body) = script(call);
            tokio::time::sleep(delay).await;
            running.finish();
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            response.body(Body::from(body.to_string())).unwrap()
        }
    });
    (spawn(router).await, seen)
}

/// Answers at once.
pub(crate) fn quick(_: usize) -> (Duration, StatusCode, Value) {
    (ms(0), StatusCode::OK, json!({"ok": true}))
}

/// Never answers within a test.
pub(crate) fn hanging(_: usize) -> (Duration, StatusCode, Value) {
    (ms(600_000), StatusCode::OK, json!(null))
}

/// Fails at once.
pub(crate) fn broken(_: usize) -> (Duration, StatusCode, Value) {
    (
        ms(0),
        StatusCode::INTERNAL_SERVER_ERROR,
        json!({"error": "inside"}),
    )
}
