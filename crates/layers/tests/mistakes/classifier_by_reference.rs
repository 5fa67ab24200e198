//! Cure: a reference to a classifier is no classifier: pass a clone

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, LayerError, RetryConfig, RetryLayer, WithCall};

fn main() {
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), &ClassifyResult).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, LayerError>(id.into_inner())
        }));
    let _call = ServiceExt::oneshot(users, WithCall::new(7));
}
