//! An axum application with a circuit breaker and a concurrency limit for each tenant. A tenant whose
//! database is down, or that sends too much, gets a 503 and does not affect the others.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example tenants
//! curl -i http://127.0.0.1:3000/orders -H 'x-tenant: ada'
//! curl -i http://127.0.0.1:3000/orders -H 'x-tenant: broken' # 500, after five calls 503
//! curl -i http://127.0.0.1:3000/tenants
//! ```

use std::{fmt::Write, sync::Arc};

use axum::{Router, extract::Request, routing::get};
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder};
use tower_fanout_http::problem::ProblemLayer;
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallErrorLayer, ClassifyHttp, ConcurrencyConfig, ConcurrencyLayer,
    PerKeyConfig, PerKeyLayer,
};

/// Requests without the header are a tenant too.
type Tenant = Option<Arc<str>>;

/// Returns the tenant of a request. A proxy in front must set the header, or a caller could choose its tenant.
///
/// The name is copied, because a clone of the header value would keep the head of its request in memory.
fn tenant(request: &Request) -> Tenant {
    let name = request.headers().get("x-tenant")?.to_str().ok()?;
    (name.len() <= 64).then(|| name.into())
}

/// Builds the application.
fn app() -> Result<Router, BoxError> {
    let keys = PerKeyConfig::new().max_keys(50_000);
    let small = ConcurrencyLayer::new(ConcurrencyConfig::new().max(2))?;
    let large = ConcurrencyLayer::new(ConcurrencyConfig::new().max(20))?;
    let limits = PerKeyLayer::new(keys.clone(), small.clone(), tenant)?.template_for(
        move |tenant: &Tenant| match tenant {
            Some(name) if &**name == "large" => large.clone(),
            _ => small.clone(),
        },
    );
    let breaker = BreakerLayer::new("tenants", BreakerConfig::new(), ClassifyHttp::new())?;
    let breakers = PerKeyLayer::new(keys, breaker, tenant)?;
    let states = breakers.clone();
    let layers = ServiceBuilder::new()
        .layer(ProblemLayer::new()) // turns rejections into responses
        .layer(limits)
        .layer(breakers)
        .layer(CallErrorLayer::new()); // `Infallible` cannot carry a rejection
    // axum makes a service of each layer for each route. They share the state of a tenant.
    Ok(Router::new()
        .route("/orders", get(orders))
        .route("/invoices", get(orders))
        .layer(layers)
        .route("/tenants", get(async move || list(&states))))
}

/// Responds with the orders of a tenant from the tenant's own database.
async fn orders(headers: HeaderMap) -> Result<&'static str, StatusCode> {
    match headers.get("x-tenant") {
        Some(name) if name == "broken" => Err(StatusCode::INTERNAL_SERVER_ERROR),
        _ => Ok("tea\n"),
    }
}

/// Lists the state of each tenant's breaker, and of the breaker that tenants beyond `max_keys` share.
fn list<F>(breakers: &PerKeyLayer<Tenant, F, BreakerLayer<ClassifyHttp>>) -> String {
    let others = breakers.overflow().handle().state();
    let mut text = format!("{:?}\nothers: {others:?}\n", breakers.stats());
    for tenant in breakers.keys() {
        if let Some(breaker) = breakers.get(&tenant) {
            let state = breaker.handle().state();
            // Writing to a string does not fail.
            let _ = writeln!(text, "{tenant:?}: {state:?}");
        }
    }
    text
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    Ok(axum::serve(listener, app()?).await?)
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use super::*;

    async fn get(app: &Router, path: &str, tenant: &'static str) -> (StatusCode, String) {
        let request = Request::get(path).header("x-tenant", tenant);
        let request = request.body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_broken_tenant_is_rejected_on_all_routes_and_the_others_are_served() {
        let app = app().unwrap();
        for _ in 0..5 {
            let (status, _) = get(&app, "/orders", "broken").await;
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        }
        let (status, problem) = get(&app, "/invoices", "broken").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
        let served = (StatusCode::OK, "tea\n".to_owned());
        assert_eq!(get(&app, "/orders", "ada").await, served);
        let (_, states) = get(&app, "/tenants", "admin").await;
        assert!(states.contains(r#"Some("broken"): Open"#), "{states}");
        assert!(states.contains(r#"Some("ada"): Closed"#), "{states}");
    }
}
