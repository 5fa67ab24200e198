//! Cure: put tower's `Buffer` around this service

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult, LayerError, WithCall};

struct Connection;

fn main() {
    let connection = Connection;
    let users = ServiceBuilder::new()
        .layer(BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap())
        .service(service_fn(move |id: WithCall<u32>| {
            let _used = &connection;
            async move { Ok::<_, LayerError>(id.into_inner()) }
        }));
    let _call = ServiceExt::oneshot(users, WithCall::new(7));
}
