//! The connections to one downstream, and the limit of concurrent calls.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tower_fanout_layers::config::ConfigError;

use super::{
    ClientConfig, ClientError, Http2, connect::Connector, endpoint::Endpoint, http1::Http1Pool,
    http2::Http2Pool,
};

pub(super) struct Pool {
    /// Limits the number of concurrent calls. `None` if there is no limit.
    permits: Option<Arc<Semaphore>>,
    connections: Connections,
    /// Receives new TLS settings.
    #[cfg(feature = "tls")]
    pub(super) connector: Connector,
}

enum Connections {
    Http1(Arc<Http1Pool>),
    /// HTTP/2, or HTTP/1.1 if the downstream selects it in the TLS handshake.
    Http2(Http2Pool),
}

impl Pool {
    pub(super) fn new(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ConfigError> {
        let connector = Connector::new(endpoint, config)?;
        let max = config.max_connections;
        let max = max.filter(|_| !config.http2.is_prior_knowledge());
        Ok(Self {
            permits: max.map(|max| Arc::new(Semaphore::new(max))),
            connections: match config.http2 {
                Http2::Off => {
                    Connections::Http1(Arc::new(Http1Pool::new(connector.clone(), config)))
                }
                _ => Connections::Http2(Http2Pool::new(endpoint, connector.clone(), config)),
            },
            #[cfg(feature = "tls")]
            connector,
        })
    }

    /// Waits for a permit, sends `request`, which it takes, and collects the response. Calls that wait get permits in
    /// the order of their first polls.
    pub(super) async fn send(
        &self,
        request: &mut Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        let _permit = match &self.permits {
            // Never fails, because the semaphore is never closed.
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        match &self.connections {
            Connections::Http1(pool) => pool.send(request).await,
            Connections::Http2(pool) => pool.send(request).await,
        }
    }
}
