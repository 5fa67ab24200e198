//! Front page: implementation of `FnOnce` is not general enough

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{Class, Failure, LayerError, RetryConfig, RetryLayer, WithCall};

fn main() {
    let classify = |result, _| match result {
        Ok(_) => Class::Success,
        Err(_) => Class::Failure(Failure::Other),
    };
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), classify).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, LayerError>(id.into_inner())
        }));
    let _call = ServiceExt::oneshot(users, WithCall::new(7));
}
