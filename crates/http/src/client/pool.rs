//! The connection pools of one downstream, and the limit of concurrent calls.

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

use super::{ClientConfig, ClientError, connect::Connector, endpoint::Endpoint};

type Legacy = legacy::Client<Connector, Full<Bytes>>;

pub(super) struct Pool {
    /// hyper's clients. Each keeps at most one HTTP/2 connection, so several HTTP/2 connections
    /// need as many clients. HTTP/1 needs one.
    clients: Box<[Legacy]>,
    next: AtomicUsize,
    /// Limits the number of concurrent calls. `None` if there is no limit.
    permits: Option<Arc<Semaphore>>,
    /// `true` if every connection uses HTTP/2 by prior knowledge.
    pub(super) http2: bool,
    pub(super) max_response: usize,
    pub(super) connector: Connector,
}

impl Pool {
    pub(super) fn new(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ConfigError> {
        let connector = Connector::new(endpoint, config)?;
        let http2 = config.http2.is_prior_knowledge();
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
            clients: connections.map(|_| build()).collect(),
            next: AtomicUsize::new(0),
            permits: max.map(|max| Arc::new(Semaphore::new(max))),
            http2,
            max_response: config.max_response,
            connector,
        })
    }

    /// Sends `request` on an idle connection, or on a new one if none is idle. Several pools are
    /// used in turn.
    pub(super) fn send(&self, request: Request<Full<Bytes>>) -> Head {
        match &*self.clients {
            [only] => only.request(request),
            // A valid config has at least one connection, so the divisor is not zero.
            several => several[self.next.fetch_add(1, Relaxed) % several.len()].request(request),
        }
    }

    /// Maps an error of hyper's client.
    pub(super) fn error(&self, error: legacy::Error) -> ClientError {
        ClientError::from_hyper(error, || self.connector.last_error())
    }

    /// Acquires a permit for one call, or starts to wait for one.
    pub(super) fn acquire(&self) -> ConnectionPermit {
        let Some(permits) = &self.permits else {
            return ConnectionPermit::Unlimited;
        };
        match Arc::clone(permits).try_acquire_owned() {
            Ok(permit) => ConnectionPermit::Acquired(permit),
            Err(_) => ConnectionPermit::Pending(Box::pin(Arc::clone(permits).acquire_owned())),
        }
    }
}

/// The permit of a call. The call counts against the limit until its permit is dropped.
pub(super) enum ConnectionPermit {
    /// The pool has no limit.
    Unlimited,
    /// A permit was available.
    Acquired(OwnedSemaphorePermit),
    /// No permit was available. Waiting calls get permits in the order in which they asked.
    Pending(Waiting),
}

/// A future that resolves to a permit. It never fails, because the semaphore is never closed.
pub(super) type Waiting =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send + Sync>>;
