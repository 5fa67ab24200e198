//! Cure: innermost, below all other layers

use std::{io, time::Duration};

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{LayerErrorLayer, TimeoutLayer, WithCall};

fn main() {
    let users = ServiceBuilder::new()
        .layer(LayerErrorLayer::new())
        .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, io::Error>(id.into_inner())
        }));
    let _call = ServiceExt::oneshot(users, WithCall::new(7));
}
