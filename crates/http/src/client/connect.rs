//! Opens connections to one downstream: name lookup, TCP, and TLS.

use std::{
    error::Error,
    future::{Future, Ready, ready},
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
    vec,
};

#[cfg(feature = "tls")]
use arc_swap::ArcSwap;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tower::{Service, ServiceExt};
use tower_fanout_layers::{AsRejection, Rejection, config::ConfigError};

use super::{ClientConfig, ClientError, endpoint::Endpoint, error::find, resolve::Lookup};
#[cfg(feature = "tls")]
use super::{ClientTlsConfig, Http2, tls::Tls};
use crate::log::RateLimit;

/// A [`Service`] that opens connections to one downstream.
#[derive(Clone)]
pub(super) struct Connector(Arc<Target>);

struct Target {
    name: String,
    lookup: Lookup,
    timeout: Duration,
    /// `true` if every connection uses HTTP/2, with or without ALPN.
    http2: bool,
    #[cfg(feature = "tls")]
    tls: Option<ArcSwap<Tls>>,
    /// The HTTP/2 mode, which ALPN depends on.
    #[cfg(feature = "tls")]
    mode: Http2,
    /// The error of the last connection that could not be opened.
    last_error: Mutex<Option<ClientError>>,
}

impl Connector {
    pub(super) fn new(endpoint: &Endpoint, config: &ClientConfig) -> Result<Self, ConfigError> {
        Ok(Self(Arc::new(Target {
            name: endpoint.name().to_owned(),
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
            last_error: Mutex::default(),
        })))
    }

    /// Returns the error of the last connection that could not be opened.
    pub(super) fn last_error(&self) -> Option<ClientError> {
        self.0.last_error().clone()
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

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Wire>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let target = Arc::clone(&self.0);
        Box::pin(async move {
            let wire = target.connect(uri).await.inspect_err(|error| {
                warn_of_descriptors(error);
                *target.last_error() = Some(error.clone());
            })?;
            Ok(TokioIo::new(wire))
        })
    }
}

/// Logs that no file descriptor is left, at most once per second in the process.
fn warn_of_descriptors(error: &ClientError) {
    static WARNINGS: RateLimit = RateLimit::new(Duration::from_secs(1));
    if error.as_rejection() == Some(&Rejection::DescriptorLimit)
        && let Some(suppressed) = WARNINGS.admit()
    {
        tracing::warn!(
            suppressed,
            "no file descriptor is left to connect to a downstream"
        );
    }
}

impl Target {
    async fn connect(&self, uri: Uri) -> Result<Wire, ClientError> {
        let start = Instant::now();
        let remaining = || self.timeout.saturating_sub(start.elapsed());
        let addresses = self.lookup.find(&self.name, self.timeout).await?;
        // `HttpConnector` splits this timeout between the addresses, so that one unreachable
        // address does not use up all of it.
        let mut tcp = HttpConnector::new_with_resolver(Resolved(addresses));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(remaining()));
        let stream = tcp.oneshot(uri).await;
        let stream = stream.map_err(|error| self.tcp_error(&error))?.into_inner();
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let tls = tls.load_full();
            let stream = tls.secure(stream, remaining()).await?;
            return Ok(Wire::over_tls(stream, self.http2));
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

    fn last_error(&self) -> MutexGuard<'_, Option<ClientError>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

/// One connection to a downstream, with or without TLS.
pub(super) struct Wire {
    stream: Stream,
    http2: bool,
}

enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl Wire {
    fn plain(stream: TcpStream, http2: bool) -> Self {
        let stream = Stream::Plain(stream);
        Self { stream, http2 }
    }

    #[cfg(feature = "tls")]
    fn over_tls(stream: tokio_rustls::client::TlsStream<TcpStream>, http2: bool) -> Self {
        Self {
            http2: http2 || stream.get_ref().1.alpn_protocol() == Some(super::tls::H2),
            stream: Stream::Tls(Box::new(stream)),
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn ReadWrite> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream),
        }
    }
}

/// Reports the negotiated protocol to hyper. Adds nothing to the extensions of responses.
impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, slices)
    }

    /// Always `true`: both kinds of stream support vectored writes, and hyper would copy small
    /// buffers together if this were `false`.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
