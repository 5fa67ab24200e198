//! Cure: put `LayerErrorLayer` or `CallErrorLayer` innermost

use std::convert::Infallible;

use tower::{Service, ServiceBuilder, service_fn};
use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult, WithCall};

fn users() -> impl Service<WithCall<u32>, Response = u32> {
    ServiceBuilder::new()
        .layer(BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap())
        .service(service_fn(|id: WithCall<u32>| async move {
            Ok::<_, Infallible>(id.into_inner())
        }))
}

fn main() {
    let _users = users();
}
