//! Cure: wrap any other type of another crate, in a struct of yours or in `WithCall`

use std::net::SocketAddr;

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, LayerError, RetryConfig, RetryLayer};

fn main() {
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .service(service_fn(|address: SocketAddr| async move { Ok::<_, LayerError>(address) }));
    let _call = ServiceExt::oneshot(users, ([127, 0, 0, 1], 80).into());
}
