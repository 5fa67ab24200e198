//! The certificates that a server shows.

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

/// Why certificates are of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// The chain is no PEM, or holds no certificate that can be used.
    Certificate,
    /// The key is no PEM, or of a kind that cannot be used.
    Key,
    /// The key is not that of the first certificate of the chain.
    Mismatch,
    /// The authority for clients is no PEM, or holds no certificate that can be used.
    Authority,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "the certificate chain cannot be used",
            Self::Key => "the private key cannot be used",
            Self::Mismatch => "the private key is not the certificate's",
            Self::Authority => "the authority for clients cannot be used",
        })
    }
}

impl std::error::Error for TlsError {}

/// The certificates that a server shows, TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
///
/// Clones are the same: what replaces one's certificates replaces all's.
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
    /// With this chain of certificates, the server's own first, and its private key, both in PEM.
    ///
    /// # Errors
    /// They cannot be used, or do not belong together.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::build(chain, key, WebPkiClientVerifier::no_client_auth())
    }

    /// Lets in only clients with a certificate of these authorities, in PEM.
    ///
    /// # Errors
    /// As for [`Tls::new`], and if the authorities cannot be used.
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

    /// Shows these certificates from the next connection on.
    ///
    /// # Errors
    /// As for [`Tls::new`]; then the old ones stay.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let config = config(chain, key, Arc::clone(&self.0.clients))?;
        self.0.config.store(Arc::new(config));
        Ok(())
    }

    pub(super) async fn accept<S>(&self, socket: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0.config.load_full())
            .accept(socket)
            .await
    }
}

/// Ours whatever the process has installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a PEM text, at least one.
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
