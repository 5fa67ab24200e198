//! The certificates of a server.

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower_fanout_layers::ConfigError;

use super::{handshake_failures::HandshakeFailures, lingering_close::LingeringClose};
use crate::{
    pem::{NOT_PEM, certificates, provider, roots},
    tls_error::TlsErrorKind,
};

/// The certificate and key of an HTTPS server, with HTTP/2 and HTTP/1.1 by ALPN (feature `tls`).
///
/// The minimum version is TLS 1.2, and TLS 1.3 is preferred. The versions are not configurable.
///
/// Clones share the certificate: [`replace`](Self::replace) on one of them replaces it for all.
#[derive(Clone)]
pub struct ServerTls(Arc<Inner>);

struct Inner {
    config: ArcSwap<ServerConfig>,
    failures: HandshakeFailures,
    /// Failed connections that may wait for the client to read the alert.
    lingering: Semaphore,
}

/// Maximum number of failed connections that wait for their clients.
const MAX_LINGERING: usize = 100;

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Creates the TLS config from a certificate chain, the server's certificate first, and its
    /// private key, both in PEM format.
    ///
    /// # Errors
    /// Returns an error if the chain or the key is not valid, or they do not belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, ConfigError> {
        Self::build(chain, key, WebPkiClientVerifier::no_client_auth())
    }

    /// Creates a TLS config that requires client certificates (mutual TLS).
    ///
    /// `authority` has the CA certificates in PEM format. A client without a certificate of one of
    /// them fails the handshake.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new), and one for `authority` if the CA certificates are not valid.
    pub fn with_client_authority(
        chain: &[u8],
        key: &[u8],
        authority: &[u8],
    ) -> Result<Self, ConfigError> {
        let invalid = |message| ConfigError::new("authority", message).of("ServerTls");
        let roots = Arc::new(roots(authority).map_err(invalid)?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let clients = clients.build().map_err(|_| invalid(NOT_PEM))?;
        Self::build(chain, key, clients)
    }

    fn build(
        chain: &[u8],
        key: &[u8],
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, ConfigError> {
        let config = config(chain, key, clients)?;
        Ok(Self(Arc::new(Inner {
            config: ArcSwap::from_pointee(config),
            failures: HandshakeFailures::new(),
            lingering: Semaphore::new(MAX_LINGERING),
        })))
    }

    /// Switches this config and its clones to the certificate, the key and the client CAs of `other`, for
    /// all new connections. Open connections are not affected.
    pub fn replace(&self, other: &Self) {
        self.0.config.store(other.0.config.load_full());
    }

    /// Returns the number of handshakes that failed with `kind`, in all servers that use this config or a
    /// clone. A handshake that takes too long is counted as [`CloseReason::Slow`](super::CloseReason::Slow)
    /// only.
    #[must_use]
    pub fn handshake_failures(&self, kind: TlsErrorKind) -> u64 {
        self.0.failures.count(kind)
    }

    /// Performs the handshake on `socket`, with the current certificate. Counts and logs a failure, after which
    /// the client receives the alert.
    pub(super) async fn accept(
        &self,
        socket: LingeringClose<TcpStream>,
    ) -> io::Result<TlsStream<LingeringClose<TcpStream>>> {
        let peer = socket.get_ref().peer_addr().ok();
        let acceptor = TlsAcceptor::from(self.0.config.load_full());
        let accepted = acceptor.accept(socket).into_fallible().await;
        let (error, mut socket) = match accepted {
            Ok(stream) => return Ok(stream),
            Err(failed) => failed,
        };
        self.0.failures.record(peer, &error);
        // A client may send its request before it learns that the handshake has failed.
        if let Ok(_permit) = self.0.lingering.try_acquire() {
            let _ = socket.shutdown().await;
        }
        Err(error)
    }
}

fn config(
    chain: &[u8],
    key: &[u8],
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, ConfigError> {
    let bad_chain = || ConfigError::new("chain", NOT_PEM).of("ServerTls");
    let bad_key = |message| ConfigError::new("key", message).of("ServerTls");
    let unusable = "must contain a private key in PEM format, of a supported kind";
    let chain = certificates(chain).ok_or_else(bad_chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| bad_key(unusable))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|_| bad_key(unusable))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                bad_key("the private key does not match the certificate")
            }
            rustls::Error::InvalidCertificate(_) => bad_chain(),
            _ => bad_key(unusable),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
