//! The client of this project in a hand-written fan-out without policies.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Uri};
use tower::ServiceExt;
use tower_fanout_http::client::{Client, ClientConfig};

use crate::{PATH, by_hand::splice};

/// Does the same as [`ByHand`](crate::by_hand::ByHand) with the client of this project.
pub(crate) fn ask(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let config = ClientConfig::default();
    let clients = endpoints.iter().map(|endpoint| {
        let client = Client::new(endpoint, config.clone());
        client.expect("the endpoint is valid")
    });
    let clients: Vec<_> = clients.collect();
    let clients: Vec<_> = clients.iter().cycle().take(nodes).cloned().collect();
    async move || {
        let calls = clients.iter().map(async |client| {
            let mut request = Request::new(Bytes::new());
            *request.uri_mut() = Uri::from_static(PATH);
            let response = client.clone().oneshot(request).await;
            response.expect("the stub responds").into_body()
        });
        splice(join_all(calls).await.iter().map(|body| &body[..]))
    }
}
