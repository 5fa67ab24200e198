//! Readiness of the process and health of its downstreams.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::body::Body;
use http::{Response, StatusCode};
use indexmap::IndexMap;
use serde::Serialize;

use crate::{
    backend::{Health, HealthStatus},
    orchestrate::json_response,
    route::Route,
};

/// A shared flag that is `true` while the process accepts requests. Cleared when shutdown begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets the flag.
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Returns `true` if the process accepts requests.
    #[must_use]
    pub(crate) fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Serialize)]
struct Overall<'r> {
    status: HealthStatus,
    services: IndexMap<&'r str, Health>,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    fallbacks: IndexMap<&'r str, Health>,
}

/// Returns the health of the downstreams of `route`, those of nodes by their node and those of fallbacks by
/// their name. The status is 503 if a required one is down, else 200.
#[must_use]
pub(crate) fn of(route: &Route) -> Response<Body> {
    let mut services = IndexMap::new();
    let (mut worst, mut required_down) = (HealthStatus::Up, false);
    let nodes = route.fan_out.plan().nodes();
    for ((name, backend), node) in route.names().iter().zip(&route.backends).zip(nodes) {
        let health = backend.health();
        worst = worst.max(health.status);
        required_down |= node.is_required() && health.status == HealthStatus::Down;
        services.insert(&**name, health);
    }
    let mut fallbacks = IndexMap::new();
    for (name, backend) in &route.fallbacks {
        let health = backend.health();
        worst = worst.max(health.status);
        fallbacks.insert(&**name, health);
    }
    let (code, status) = if required_down {
        (StatusCode::SERVICE_UNAVAILABLE, HealthStatus::Down)
    } else {
        // A run succeeds without an optional downstream, so the route is degraded at worst.
        (StatusCode::OK, worst.min(HealthStatus::Degraded))
    };
    // Serialization fails only for maps with keys that are not strings, and for I/O.
    let overall = Overall {
        status,
        services,
        fallbacks,
    };
    let body = serde_json::to_string(&overall).expect("strings and numbers serialize to JSON");
    let mut response = json_response(body);
    *response.status_mut() = code;
    response
}
