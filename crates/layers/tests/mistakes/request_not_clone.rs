//! Cure: make this request `Clone`

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, LayerError, RetryConfig, RetryLayer, WithCall};

struct Upload;

fn main() {
    let uploads = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult).unwrap())
        .service(service_fn(|_: WithCall<Upload>| async { Ok::<_, LayerError>(7) }));
    let _call = ServiceExt::oneshot(uploads, WithCall::new(Upload));
}
