//! Connections over HTTP/2, which calls share.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{Request, Response, uri::PathAndQuery};
use http_body_util::Full;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};

use super::{
    ClientConfig, ClientError, ClientErrorKind, body::PartialResponse, connect::Connector,
    endpoint::Endpoint, interim::Interim,
};

type Legacy = legacy::Client<Connector, Full<Bytes>>;

/// hyper-util's clients. Each keeps at most one HTTP/2 connection, so several connections need as many clients.
/// They use HTTP/1.1 if the downstream selects it in the TLS handshake.
pub(super) struct Http2Pool {
    clients: Box<[Legacy]>,
    next: AtomicUsize,
    endpoint: Endpoint,
    /// `true` if every connection uses HTTP/2 by prior knowledge.
    only: bool,
    max_response: usize,
    connector: Connector,
}

impl Http2Pool {
    pub(super) fn new(endpoint: &Endpoint, connector: Connector, config: &ClientConfig) -> Self {
        let only = config.http2.is_prior_knowledge();
        let max = config.max_connections.filter(|_| !only);
        let max_idle = config.max_idle.min(max.unwrap_or(usize::MAX));
        let build = || {
            legacy::Client::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(config.idle_timeout)
                .pool_max_idle_per_host(max_idle)
                .http1_max_buf_size(config.max_head)
                .http2_max_header_list_size(u32::try_from(config.max_head).unwrap_or(u32::MAX))
                .http2_keep_alive_interval(config.h2_ping_interval)
                .http2_keep_alive_timeout(config.h2_ping_timeout)
                .http2_keep_alive_while_idle(true)
                .http2_only(only)
                .build(connector.clone())
        };
        let connections = 0..config.http2.connections();
        Self {
            clients: connections.map(|_| build()).collect(),
            next: AtomicUsize::new(0),
            endpoint: endpoint.clone(),
            only,
            max_response: config.max_response,
            connector,
        }
    }

    /// Sends `request`, which it takes, on the connection whose turn it is, and collects the response.
    pub(super) async fn send(
        &self,
        request: &mut Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        let target = mem::take(request.uri_mut()).into_parts().path_and_query;
        let target = target.unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = (self.endpoint.absolute(target))
            .map_err(|error| ClientError::new(ClientErrorKind::BadHead).caused_by(error))?;
        // hyper does not report the interim responses of HTTP/2.
        let interim = (!self.only).then(Interim::new);
        if let Some(interim) = &interim {
            interim.start(request);
        }
        // A valid config has at least one connection, so the divisor is not zero.
        let turn = self.next.fetch_add(1, Relaxed) % self.clients.len();
        let mut head = pin!(self.clients[turn].request(mem::take(request)));
        let head = poll_fn(|cx| {
            let head = head.as_mut().poll(cx);
            if let Some(interim) = &interim {
                interim.check(cx)?;
            }
            head.map_err(|error| ClientError::from_hyper(error, || self.connector.last_error()))
        });
        let mut partial = PartialResponse::new(head.await?, self.max_response)?;
        poll_fn(|cx| partial.poll(cx)).await
    }
}
