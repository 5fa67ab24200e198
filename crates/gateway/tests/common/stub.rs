//! Stub services that count their calls.

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

/// The calls that a stub service has received.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<SeenInner>);

#[derive(Default)]
struct SeenInner {
    calls: AtomicUsize,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    cancelled: AtomicUsize,
    headers: std::sync::Mutex<Vec<(String, HeaderMap)>>,
    changed: tokio::sync::Notify,
}

/// A call in flight. Counts as cancelled if it is dropped before [`finish`](Self::finish).
struct Running {
    seen: Seen,
    finished: bool,
}

impl Running {
    /// Marks the call as not cancelled.
    fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.seen.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if !self.finished {
            self.seen.0.cancelled.fetch_add(1, Ordering::SeqCst);
        }
        self.seen.0.changed.notify_waiters();
    }
}

impl Seen {
    /// Returns the number of calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Returns the maximum number of calls in flight at once.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(Ordering::SeqCst)
    }

    /// Returns the target and the headers of each call, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<(String, HeaderMap)> {
        self.0.headers.lock().unwrap().clone()
    }

    /// Waits until `condition` is true of the number of calls and the number of cancelled calls.
    pub(crate) async fn until(&self, condition: impl Fn(usize, usize) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if condition(self.calls(), self.0.cancelled.load(Ordering::SeqCst)) {
                return;
            }
            changed.await;
        }
    }

    fn enter(&self, request: &Request) -> (usize, Running) {
        let inner = &self.0;
        let call = inner.calls.fetch_add(1, Ordering::SeqCst);
        let in_flight = inner.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        inner.peak.fetch_max(in_flight, Ordering::SeqCst);
        let target = request.uri().to_string();
        inner
            .headers
            .lock()
            .unwrap()
            .push((target, request.headers().clone()));
        inner.changed.notify_waiters();
        (
            call,
            Running {
                seen: self.clone(),
                finished: false,
            },
        )
    }
}

/// Returns the delay and the response of a stub to the call with this index, from 0.
pub(crate) type Script = fn(usize) -> (Duration, StatusCode, Value);

/// Starts a stub service with this script.
pub(crate) async fn stub(script: Script) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let recorder = seen.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (call, mut running) = recorder.enter(&request);
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

/// Responds at once.
pub(crate) fn quick(_: usize) -> (Duration, StatusCode, Value) {
    (ms(0), StatusCode::OK, json!({"ok": true}))
}

/// Does not respond within the time of a test.
pub(crate) fn hanging(_: usize) -> (Duration, StatusCode, Value) {
    (ms(600_000), StatusCode::OK, json!(null))
}

/// Responds with 500 at once.
pub(crate) fn broken(_: usize) -> (Duration, StatusCode, Value) {
    (
        ms(0),
        StatusCode::INTERNAL_SERVER_ERROR,
        json!({"error": "inside"}),
    )
}
