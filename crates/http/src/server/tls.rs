//! The certificates of a server.

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The reason why certificates cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// The chain is not in PEM format, or has no usable certificate.
    Certificate,
    /// The private key is not in PEM format, or of an unsupported kind.
    Key,
    /// The private key does not belong to the first certificate of the chain.
    Mismatch,
    /// The CA for client certificates is not in PEM format, or has no usable certificate.
    Authority,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => {
                "the certificate chain is not valid PEM or has no usable certificate"
            }
            Self::Key => "the private key is not valid PEM or of an unsupported kind",
            Self::Mismatch => "the private key does not match the certificate",
            Self::Authority => {
                "the CA for client certificates is not valid PEM or has no usable certificate"
            }
        })
    }
}

impl std::error::Error for TlsError {}

/// The certificate and key of an HTTPS server, with HTTP/2 and HTTP/1.1 by ALPN.
///
/// The minimum version is TLS 1.2, and TLS 1.3 is preferred. The versions are not configurable.
///
/// Clones share the certificate: [`replace`](Self::replace) on one of them replaces it for all.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    config: ArcSwap<ServerConfig>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Creates the TLS config from a certificate chain, the server's certificate first, and its
    /// private key, both in PEM format.
    ///
    /// # Errors
    /// Returns an error if the chain or the key is not valid, or they do not belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(chain, key, WebPkiClientVerifier::no_client_auth())
    }

    /// Creates a TLS config that requires client certificates (mutual TLS).
    ///
    /// `authority` has the CA certificates in PEM format. A client without a certificate of one of
    /// them fails the handshake.
    ///
    /// # Errors
    /// The errors of [`Tls::new`], and [`TlsError::Authority`] if the CA certificates are not valid.
    pub fn with_client_authority(
        chain: &[u8],
        key: &[u8],
        authority: &[u8],
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authority).ok_or(TlsError::Authority)? {
            roots.add(certificate).map_err(|_| TlsError::Authority)?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        Self::build(
            chain,
            key,
            clients.build().map_err(|_| TlsError::Authority)?,
        )
    }

    fn build(
        chain: &[u8],
        key: &[u8],
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, TlsError> {
        let config = ArcSwap::from_pointee(config(chain, key, Arc::clone(&clients))?);
        Ok(Self(Arc::new(Inner { config, clients })))
    }

    /// Replaces the certificate and the key for all new connections. Open connections are not
    /// affected.
    ///
    /// # Errors
    /// The errors of [`Tls::new`]. After an error the server keeps the current certificate.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let config = config(chain, key, Arc::clone(&self.0.clients))?;
        self.0.config.store(Arc::new(config));
        Ok(())
    }

    /// Performs the handshake on `socket`, with the current certificate.
    pub(super) async fn accept<S>(&self, socket: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0.config.load_full())
            .accept(socket)
            .await
    }
}

/// Returns the aws-lc provider, regardless of the provider that the process has installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Parses all certificates in `pem`. Returns `None` if one of them is malformed or there are none.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|chain| !chain.is_empty())
}

fn config(
    chain: &[u8],
    key: &[u8],
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(chain).ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|_| TlsError::Key)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
            rustls::Error::InvalidCertificate(_) => TlsError::Certificate,
            _ => TlsError::Key,
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
