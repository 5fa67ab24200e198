//! Hand-written fan-outs without policies.

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::ServiceExt;
use tower_fanout_http::client::{Client, ClientConfig};

use crate::{PATH, splice};

/// Calls `nodes` endpoints at once with hyper's client and puts the responses into one object.
pub(crate) fn hyper(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let config = ClientConfig::default();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(config.connect_timeout));
    let pool: Pool<_, Empty<Bytes>> = Pool::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(config.idle_timeout)
        .build(connector);
    let uris = endpoints.iter().cycle().take(nodes).map(|endpoint| {
        let uri = format!("{endpoint}{}", PATH.trim_start_matches('/'));
        uri.parse().expect("the URI is valid")
    });
    let uris: Vec<Uri> = uris.collect();
    async move || {
        let calls = uris.iter().map(|uri| async {
            let response = pool.get(uri.clone()).await.expect("the stub responds");
            let body = response.into_body().collect().await;
            body.expect("the body is whole").to_bytes()
        });
        splice(join_all(calls).await.iter().map(|body| &body[..]))
    }
}

/// Does the same as [`hyper`] with the client of this project.
pub(crate) fn client(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
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
