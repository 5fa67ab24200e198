//! Cure: use `.response_with(|_| …)`

use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{ClassifyResult, FallbackLayer, LayerError, WithCall};

struct Page;

fn main() {
    let pages = ServiceBuilder::new()
        .layer(FallbackLayer::new(ClassifyResult).response(Page))
        .service(service_fn(|_: WithCall<u32>| async {
            Err::<Page, _>(LayerError::from("down"))
        }));
    let _call = ServiceExt::oneshot(pages, WithCall::new(7));
}
