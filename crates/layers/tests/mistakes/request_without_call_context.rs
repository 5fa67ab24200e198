//! Cure: impl CallContext for GetUser {}

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, LayerError, RetryConfig, RetryLayer};

#[derive(Clone)]
struct GetUser(u32);

fn main() {
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .service(service_fn(|GetUser(id)| async move { Ok::<_, LayerError>(id) }));
    let _call = ServiceExt::oneshot(users, GetUser(7));
}
