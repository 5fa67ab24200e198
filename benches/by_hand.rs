//! A hand-written fan-out without policies, with which others are compared.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower_fanout_http::client::ClientConfig;

/// Calls `nodes` downstreams at once with hyper's client and puts the responses into one object.
#[derive(Clone)]
pub(crate) struct ByHand {
    pool: Client<HttpConnector, Empty<Bytes>>,
    uris: Arc<[Uri]>,
}

impl ByHand {
    /// Creates a fan-out of `nodes` calls. The calls send `path` to `endpoints`, in turn.
    pub(crate) fn new(endpoints: &[Uri], nodes: usize, path: &str) -> Self {
        let config = ClientConfig::default();
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(config.connect_timeout));
        let uris = endpoints.iter().cycle().take(nodes).map(|endpoint| {
            let uri = format!("{endpoint}{}", path.trim_start_matches('/'));
            uri.parse().expect("the URI is valid")
        });
        Self {
            pool: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(config.idle_timeout)
                .build(connector),
            uris: uris.collect(),
        }
    }

    /// Makes the calls and returns the object.
    pub(crate) async fn ask(&self) -> Bytes {
        let calls = self.uris.iter().map(|uri| async {
            let response = self.pool.get(uri.clone()).await;
            let body = response.expect("the stub responds").into_body();
            let body = body.collect().await;
            body.expect("the body is whole").to_bytes()
        });
        splice(join_all(calls).await.iter().map(|body| &body[..]))
    }
}

/// Puts `answers` into one object, each under the name of its node.
pub(crate) fn splice<'a>(answers: impl Iterator<Item = &'a [u8]> + Clone) -> Bytes {
    let length: usize = answers.clone().map(|answer| answer.len() + 8).sum();
    let mut out = Vec::with_capacity(length + 2);
    for (node, answer) in answers.enumerate() {
        out.extend(if node == 0 { b"{\"n" } else { b",\"n" });
        out.extend(node.to_string().bytes());
        out.extend(b"\":");
        out.extend(answer);
    }
    out.push(b'}');
    out.into()
}
