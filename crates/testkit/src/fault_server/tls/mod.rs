//! TLS below the responses, with valid or broken handshakes (feature `tls`).
//!
//! | failure | constructor |
//! |---|---|
//! | The certificate is expired. | [`CertificateAuthority::issue_expired`] |
//! | The certificate is for another host. | [`CertificateAuthority::issue`] with another name |
//! | The certificate is self-signed. | [`Certificate::self_signed`] |
//! | The client does not trust the authority. | a second [`CertificateAuthority`] |
//! | The server requires a client certificate. | [`ServerTls::require_client_cert`] |
//! | The server supports TLS 1.2 only. | [`ServerTls::tls_1_2`] |
//! | The server supports only versions before TLS 1.2. | [`ServerTls::protocol_version_alert`] |
//! | The server does not speak TLS. | [`ServerTls::plain_http`] |
//! | The handshake never completes. | [`ServerTls::stall`] |
//! | The connection is reset during the handshake. | [`ServerTls::reset`] |
//!
//! ```
//! use tower_fanout_testkit::fault_server::{Fault, FaultServer, tls::{CertificateAuthority, ServerTls}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let authority = CertificateAuthority::new(); // the client trusts `authority.ca_pem()`
//! let expired = ServerTls::new(&authority.issue_expired(&["localhost"]));
//! let server = FaultServer::with_tls(&expired, |_| Fault::json("{}")).await;
//! assert!(server.url().starts_with("https://localhost:"));
//! assert_eq!(server.stats().failed_handshakes, 0); // no client connected yet
//! # }
//! ```

mod certificates;
#[cfg(test)]
pub(super) mod tests;

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub use self::certificates::{Certificate, CertificateAuthority};
use super::{
    Fault, FaultServer, Request, ServerStats,
    connection::{self, Transport},
};

/// The TLS handshake of a server: valid with a certificate, or broken.
///
/// See the [module documentation](self) for an example.
#[derive(Clone, Debug)]
pub struct ServerTls(Handshake);

#[derive(Clone, Debug)]
enum Handshake {
    Valid(ValidHandshake),
    Broken(Fault),
}

#[derive(Clone, Debug)]
struct ValidHandshake {
    certificate: Certificate,
    versions: Vec<&'static SupportedProtocolVersion>,
    clients: Option<Arc<RootCertStore>>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Creates a valid handshake with `certificate`, for TLS 1.2 and 1.3.
    #[must_use]
    pub fn new(certificate: &Certificate) -> Self {
        Self(Handshake::Valid(ValidHandshake {
            certificate: certificate.clone(),
            versions: vec![&TLS13, &TLS12],
            clients: None,
        }))
    }

    /// Limits the handshake to TLS 1.2. Has no effect on a broken handshake.
    #[must_use]
    pub fn tls_1_2(self) -> Self {
        self.valid(|valid| valid.versions = vec![&TLS12])
    }

    /// Requires a client certificate that `authority` issued. Has no effect on a broken handshake.
    ///
    /// With TLS 1.3, a rejected client completes its side of the handshake and gets the error when it
    /// reads the response.
    ///
    /// # Panics
    ///
    /// Never in practice, because the certificate of a [`CertificateAuthority`] is always valid PEM.
    #[must_use]
    pub fn require_client_cert(self, authority: &CertificateAuthority) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&authority.ca_pem()) {
            roots.add(certificate).expect(READABLE);
        }
        self.valid(|valid| valid.clients = Some(Arc::new(roots)))
    }

    /// Responds to the first message with the alert `protocol_version` (RFC 8446 §6.2), like a server
    /// that supports only older versions than the client accepts.
    #[must_use]
    pub fn protocol_version_alert() -> Self {
        // An alert (21) of TLS 1.1 (3.2) with 2 bytes: fatal (2), protocol_version (70).
        Self::broken(Fault::new().send([21, 3, 2, 0, 2, 2, 70]).close())
    }

    /// Responds to the first message in plain HTTP, like a port without TLS.
    #[must_use]
    pub fn plain_http() -> Self {
        Self::broken(Fault::response(400, &[], "").close())
    }

    /// Never responds to the first message.
    #[must_use]
    pub fn stall() -> Self {
        Self::broken(Fault::never_respond())
    }

    /// Resets the connection after the first message.
    #[must_use]
    pub fn reset() -> Self {
        Self::broken(Fault::reset_before_head())
    }

    /// Responds to the first message with the bytes of `fault`, not encrypted, and ends the connection.
    #[must_use]
    pub fn broken(fault: Fault) -> Self {
        Self(Handshake::Broken(fault))
    }

    fn valid(mut self, set: impl FnOnce(&mut ValidHandshake)) -> Self {
        if let Handshake::Valid(valid) = &mut self.0 {
            set(valid);
        }
        self
    }

    /// Returns an acceptor that offers the ALPN `protocol`.
    fn acceptor(&self, protocol: &[u8]) -> Acceptor {
        match &self.0 {
            Handshake::Valid(valid) => Acceptor::Valid(valid.acceptor(protocol)),
            Handshake::Broken(fault) => Acceptor::Broken(fault.clone()),
        }
    }
}

impl ValidHandshake {
    fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .expect("aws-lc-rs supports TLS 1.2 and 1.3");
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
                    .build()
                    .expect("the root store has the certificate of the authority"),
            ),
        };
        let Certificate { chain_pem, key_pem } = &self.certificate;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect(READABLE);
        let mut config = builder
            .with_single_cert(certificates(chain_pem), key)
            .expect("the key belongs to the certificate");
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

const READABLE: &str = "generated PEM is valid";

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.expect(READABLE))
        .collect()
}

// === impl Acceptor ===

#[derive(Clone)]
enum Acceptor {
    Valid(TlsAcceptor),
    Broken(Fault),
}

impl Acceptor {
    /// Performs the handshake. If the handshake fails, counts the failure and returns `None`.
    async fn accept(
        &self,
        stream: TcpStream,
        stats: &watch::Sender<ServerStats>,
    ) -> Option<TlsStream<TcpStream>> {
        let accepted = match self {
            Self::Valid(acceptor) => acceptor.accept(stream).await.ok(),
            Self::Broken(fault) => {
                connection::serve_broken_handshake(stream, fault).await;
                None
            }
        };
        if accepted.is_none() {
            stats.send_modify(|stats| stats.failed_handshakes += 1);
        }
        accepted
    }
}

impl Transport for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

// === the server ===

const HTTPS: &str = "https://localhost";

impl FaultServer {
    /// Starts an HTTP/1.1 server with TLS that responds to each request with the fault that `route`
    /// returns.
    ///
    /// `tls` describes the handshake. ALPN offers `http/1.1`. The host in [`url`](Self::url) is
    /// `localhost`, so a valid certificate has this name.
    ///
    /// # Panics
    ///
    /// Panics if no loopback port is free. A panic in `route` ends its connection only.
    pub async fn with_tls(
        tls: &ServerTls,
        route: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let route = Arc::new(route);
        Self::listen_tls(tls, b"http/1.1", move |stream, stats| {
            let route = Arc::clone(&route);
            async move { connection::serve(stream, |request| route(request), stats).await }
        })
        .await
    }

    /// Starts a server that offers the ALPN `protocol` and passes each connection to `serve` after its
    /// handshake.
    pub(super) async fn listen_tls<F>(
        tls: &ServerTls,
        protocol: &[u8],
        serve: impl Fn(TlsStream<TcpStream>, watch::Sender<ServerStats>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = tls.acceptor(protocol);
        let serve = Arc::new(serve);
        Self::listen(HTTPS, move |stream, stats| {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            async move {
                if let Some(stream) = acceptor.accept(stream, &stats).await {
                    serve(stream, stats).await;
                }
            }
        })
        .await
    }
}
