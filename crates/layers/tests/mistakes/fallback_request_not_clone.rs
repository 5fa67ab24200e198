//! Cure: fallbacks other than `response_with`

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, FallbackLayer, LayerError, WithCall};

struct Upload;

fn main() {
    let uploads = ServiceBuilder::new()
        .layer(FallbackLayer::new(ClassifyResult).function(|_, _| async { Ok(0) }))
        .service(service_fn(|_: WithCall<Upload>| async {
            Err::<u32, _>(LayerError::from("down"))
        }));
    let _call = ServiceExt::oneshot(uploads, WithCall::new(Upload));
}
