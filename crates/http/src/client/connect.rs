//! Opens connections to one downstream: name lookup, TCP, and TLS.

use std::{
    error::Error,
    future::{Future, Ready, ready},
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

#[cfg(feature = "tls")]
use arc_swap::ArcSwap;
use http::{Uri, uri::PathAndQuery};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use tower_fanout_layers::{AsRejection, Rejection, config::ConfigError};

use super::{
    ClientConfig, ClientError,
    endpoint::Endpoint,
    hyper_error::find,
    resolve::Lookup,
    wire::{LastError, Wire},
};
#[cfg(feature = "tls")]
use super::{ClientTlsConfig, Http2, tls::Tls};
use crate::log::RateLimit;

/// A [`Service`] that opens connections to one downstream.
#[derive(Clone)]
pub(super) struct Connector(Arc<Target>);

struct Target {
    name: String,
    /// The endpoint, whose port is connected to.
    uri: Uri,
    lookup: Lookup,
    timeout: Duration,
    /// `true` if every connection uses HTTP/2, with or without ALPN.
    http2: bool,
    #[cfg(feature = "tls")]
    tls: Option<ArcSwap<Tls>>,
    /// The HTTP/2 mode, which ALPN depends on.
    #[cfg(feature = "tls")]
    mode: Http2,
    last_error: LastError,
}

impl Connector {
    pub(super) fn new(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Target {
            name: endpoint.name().to_owned(),
            uri: endpoint
                .absolute(PathAndQuery::from_static("/"))
                .map_err(|_| ConfigError::new("endpoint", "must have a host").of("Client"))?,
            lookup: Lookup::new(config),
            timeout: config.connect_timeout,
            http2: config.http2.is_prior_knowledge(),
            #[cfg(feature = "tls")]
            tls: match endpoint.is_https() {
                true => Some(ArcSwap::from_pointee(Tls::new(endpoint.name(), config)?)),
                false => None,
            },
            #[cfg(feature = "tls")]
            mode: config.http2,
            last_error: LastError::default(),
        })))
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<TokioIo<Wire>, ClientError> {
        let wire = self.0.connect().await.inspect_err(|error| {
            warn_of_descriptors(error);
            self.0.last_error.set(error.clone());
        })?;
        Ok(TokioIo::new(wire))
    }

    /// Returns the error of the last connection that could not be opened.
    pub(super) fn last_error(&self) -> Option<ClientError> {
        self.0.last_error.get()
    }
}

#[cfg(feature = "tls")]
impl Connector {
    /// Replaces the TLS settings for new connections. Has no effect without TLS.
    pub(super) fn replace_tls(&self, tls: ClientTlsConfig) -> Result<(), ConfigError> {
        let Some(current) = &self.0.tls else {
            return Ok(());
        };
        let config = ClientConfig {
            http2: self.0.mode,
            tls,
            ..ClientConfig::default()
        };
        current.store(Arc::new(Tls::new(&self.0.name, &config)?));
        Ok(())
    }
}

/// Connects to the endpoint, whose host all URIs have.
impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Wire>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await })
    }
}

/// Logs that no file descriptor is left, at most once per second in the process.
fn warn_of_descriptors(error: &ClientError) {
    static WARNINGS: RateLimit = RateLimit::new(Duration::from_secs(1));
    if error.as_rejection() == Some(Rejection::DescriptorLimit)
        && let Some(suppressed) = WARNINGS.admit()
    {
        tracing::warn!(
            suppressed,
            "no file descriptor is left to connect to a downstream"
        );
    }
}

impl Target {
    async fn connect(&self) -> Result<Wire, ClientError> {
        let start = Instant::now();
        let remaining = || self.timeout.saturating_sub(start.elapsed());
        let addresses = self.lookup.find(&self.name, self.timeout).await?;
        // `HttpConnector` splits this timeout between the addresses, so that one unreachable
        // address does not use up all of it.
        let mut tcp = HttpConnector::new_with_resolver(Resolved(addresses));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(remaining()));
        let stream = tcp.oneshot(self.uri.clone()).await;
        let stream = stream.map_err(|error| self.tcp_error(&error))?.into_inner();
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let tls = tls.load_full();
            let stream = tls.secure(stream, remaining()).await?;
            return Ok(Wire::over_tls(stream, self.http2, self.last_error.clone()));
        }
        Ok(Wire::plain(stream, self.http2))
    }

    /// Returns the error of a TCP connection that `HttpConnector` could not open. Drops the error of
    /// `HttpConnector` itself, which contains the address.
    fn tcp_error(&self, error: &(dyn Error + 'static)) -> ClientError {
        let found = find::<io::Error>(error);
        let code = found.and_then(io::Error::raw_os_error);
        ClientError::from_connect(match (code, found.map(io::Error::kind)) {
            (Some(code), _) => io::Error::from_raw_os_error(code),
            (None, Some(io::ErrorKind::TimedOut)) => {
                let message = format!("no response within {:?}", self.timeout);
                io::Error::new(io::ErrorKind::TimedOut, message)
            }
            (None, kind) => io::Error::from(kind.unwrap_or(io::ErrorKind::Other)),
        })
    }
}

/// A resolver that returns the addresses already found and checked, for any name.
///
/// `HttpConnector` must not look up the name again: the second lookup could return an address that
/// the policy does not allow.
#[derive(Clone)]
struct Resolved(Vec<IpAddr>);

impl Service<Name> for Resolved {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        let sockets = self.0.iter().map(|address| SocketAddr::new(*address, 0));
        ready(Ok(sockets.collect::<Vec<_>>().into_iter()))
    }
}
