//! Cure: write a closure as `classify_fn(|result, elapsed| …)`

use std::time::Duration;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{Class, Classify, LayerError, RetryConfig, RetryLayer, WithCall};

#[derive(Clone)]
struct NotEmpty;

impl Classify<String, LayerError> for NotEmpty {
    fn classify(&self, _: Result<&String, &LayerError>, _: Duration) -> Class {
        Class::Success
    }
}

fn main() {
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), NotEmpty).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, LayerError>(id.into_inner())
        }));
    let _call = ServiceExt::oneshot(users, WithCall::new(7));
}
