//! Cure: turn on the feature `http` of tower-fanout-layers

use http::Request;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, LayerError, RetryConfig, RetryLayer};

fn main() {
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .service(service_fn(|_: Request<()>| async { Ok::<_, LayerError>(7) }));
    let _call = ServiceExt::oneshot(users, Request::new(()));
}
