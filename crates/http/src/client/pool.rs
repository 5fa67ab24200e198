//! The connections to one downstream, and who may use them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{self, ResponseFuture as Head},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tower_fanout_layers::config::ConfigError;

use super::{ClientConfig, connect::Connector, endpoint::Endpoint};

type Legacy = legacy::Client<Connector, Full<Bytes>>;

pub(super) struct Pool {
    /// One; or, as each of them has one connection of HTTP/2 only, as many as there are to be of those.
    kept: Box<[Legacy]>,
    next: AtomicUsize,
    /// How many calls are under way at once, if that is bounded.
    places: Option<Arc<Semaphore>>,
    /// All connections speak HTTP/2.
    pub(super) http2: bool,
    pub(super) max_response: usize,
}

impl Pool {
    pub(super) fn new(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ConfigError> {
        let connector = Connector::new(endpoint, config)?;
        let http2 = config.http2.is_certain();
        let max = config.max_connections.filter(|_| !http2);
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
                .http2_only(http2)
                .build(connector.clone())
        };
        let connections = 0..config.http2.connections();
        Ok(Self {
            kept: connections.map(|_| build()).collect(),
            next: AtomicUsize::new(0),
            places: max.map(|max| Arc::new(Semaphore::new(max))),
            http2,
            max_response: config.max_response,
        })
    }

    /// Sends `request` on a connection that is kept, if there is one.
    pub(super) fn send(&self, request: Request<Full<Bytes>>) -> Head {
        match &*self.kept {
            [only] => only.request(request),
            // A valid config has one connection at least, so nothing is divided by zero.
            several => several[self.next.fetch_add(1, Relaxed) % several.len()].request(request),
        }
    }

    /// One of the calls that may be under way at once.
    pub(super) fn place(&self) -> ConnectionPermit {
        let Some(places) = &self.places else {
            return ConnectionPermit::Free;
        };
        match Arc::clone(places).try_acquire_owned() {
            Ok(permit) => ConnectionPermit::Taken(permit),
            Err(_) => ConnectionPermit::Awaited(Box::pin(Arc::clone(places).acquire_owned())),
        }
    }
}

/// One of the calls that may be under way at once, until it is dropped.
pub(super) enum ConnectionPermit {
    /// There is no bound.
    Free,
    /// It is there.
    Taken(OwnedSemaphorePermit),
    /// All are taken; the next in turn gets what another gives back.
    Awaited(Waiting),
}

/// A place that is waited for. It is refused only if the semaphore were closed, which it never is.
pub(super) type Waiting =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;
