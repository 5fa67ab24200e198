//! Front page: implementation of `AsRejection` is not general enough

use std::time::Duration;

use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{TimeoutLayer, WithCall};

fn main() {
    let users = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, BoxError>(id.into_inner())
        }));
    let _task = tokio::spawn(async move { users.oneshot(WithCall::new(7)).await });
}
