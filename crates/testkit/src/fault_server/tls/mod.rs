//! Speaks TLS, right or wrong, below the answers.
//!
//! | what is wrong | how |
//! |---|---|
//! | the certificate is expired | [`Authority::expired`] |
//! | it is for another host | [`Authority::issue`] with another name |
//! | no authority signed it | [`Certificate::self_signed`] |
//! | an authority signed it that the client does not know | a second [`Authority`] |
//! | the server wants a certificate of the client | [`ServerTls::require_client`] |
//! | the server speaks TLS 1.2 only | [`ServerTls::tls_1_2`] |
//! | the server speaks something older only | [`ServerTls::old_version`] |
//! | the server does not speak TLS at all | [`ServerTls::garbage`] |
//! | the handshake never ends | [`ServerTls::stall`] |
//! | the handshake is cut | [`ServerTls::reset`] |
//!
//! ```
//! use tower_fanout_testkit::fault_server::{Fault, FaultServer, tls::{Authority, ServerTls}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let authority = Authority::new(); // the client trusts `authority.ca_pem()`
//! let expired = ServerTls::new(&authority.expired(&["localhost"]));
//! let server = FaultServer::with_tls(&expired, |_| Fault::json("{}")).await;
//! assert!(server.url().starts_with("https://localhost:"));
//! assert_eq!(server.seen().failed_handshakes, 0); // nobody came yet
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

pub use self::certificates::{Authority, Certificate};
use super::{
    Connection, Fault, FaultServer, Request, Seen,
    connection::{self, Wire},
    in_turn,
};

/// How a server does the handshake of TLS.
///
/// See the [module](self) for an example.
#[derive(Clone, Debug)]
pub struct ServerTls(Handshake);

#[derive(Clone, Debug)]
enum Handshake {
    Real(Real),
    Broken(Fault),
}

#[derive(Clone, Debug)]
struct Real {
    certificate: Certificate,
    versions: Vec<&'static SupportedProtocolVersion>,
    clients: Option<Arc<RootCertStore>>,
}

// === impl ServerTls ===

impl ServerTls {
    /// Shows `certificate`, and speaks TLS 1.2 and 1.3.
    #[must_use]
    pub fn new(certificate: &Certificate) -> Self {
        Self(Handshake::Real(Real {
            certificate: certificate.clone(),
            versions: vec![&TLS13, &TLS12],
            clients: None,
        }))
    }

    /// Speaks TLS 1.2 only. A broken handshake stays as it is.
    #[must_use]
    pub fn tls_1_2(self) -> Self {
        self.real(|real| real.versions = vec![&TLS12])
    }

    /// Refuses clients that show no certificate of `authority`. A broken handshake stays as it is.
    ///
    /// With TLS 1.3 a client learns that it was refused when it reads the answer only.
    ///
    /// # Panics
    ///
    /// Never: the certificate of an [`Authority`] can be read.
    #[must_use]
    pub fn require_client(self, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&authority.ca_pem()) {
            roots.add(certificate).expect(READABLE);
        }
        self.real(|real| real.clients = Some(Arc::new(roots)))
    }

    /// Answers the first message with the alert `protocol_version` (RFC 8446 §6.2), as a server
    /// does that speaks only a version older than the client accepts.
    #[must_use]
    pub fn old_version() -> Self {
        // an alert (21) of TLS 1.1 (3.2), 2 bytes long: fatal (2), protocol_version (70)
        Self::broken(Fault::new().send([21, 3, 2, 0, 2, 2, 70]).close())
    }

    /// Answers the first message in plain HTTP, as a port does that has no TLS.
    #[must_use]
    pub fn garbage() -> Self {
        Self::broken(Fault::answer(400, &[], "").close())
    }

    /// Never answers the first message.
    #[must_use]
    pub fn stall() -> Self {
        Self::broken(Fault::never_answer())
    }

    /// Resets the connection on the first message.
    #[must_use]
    pub fn reset() -> Self {
        Self::broken(Fault::reset_before_head())
    }

    /// Answers the first message with `fault`, whose bytes are sent as they are, and then ends the
    /// connection.
    #[must_use]
    pub fn broken(fault: Fault) -> Self {
        Self(Handshake::Broken(fault))
    }

    fn real(mut self, set: impl FnOnce(&mut Real)) -> Self {
        if let Handshake::Real(real) = &mut self.0 {
            set(real);
        }
        self
    }

    /// Ready to accept connections for the protocol that ALPN calls `protocol`.
    fn acceptor(&self, protocol: &[u8]) -> Acceptor {
        match &self.0 {
            Handshake::Real(real) => Acceptor::Real(real.acceptor(protocol)),
            Handshake::Broken(fault) => Acceptor::Broken(fault.clone()),
        }
    }
}

impl Real {
    fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .expect("the provider has these versions");
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
                    .build()
                    .expect("there is a root"),
            ),
        };
        let Certificate { chain_pem, key_pem } = &self.certificate;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect(READABLE);
        let mut config = builder
            .with_single_cert(certificates(chain_pem), key)
            .expect("the key is of the certificate");
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

const READABLE: &str = "PEM that was just written";

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.expect(READABLE))
        .collect()
}

// === impl Acceptor ===

#[derive(Clone)]
enum Acceptor {
    Real(TlsAcceptor),
    Broken(Fault),
}

impl Acceptor {
    /// The connection after its handshake; `None`, and counted, when that failed.
    async fn accept(
        &self,
        stream: TcpStream,
        seen: &watch::Sender<Seen>,
    ) -> Option<TlsStream<TcpStream>> {
        let accepted = match self {
            Self::Real(acceptor) => acceptor.accept(stream).await.ok(),
            Self::Broken(fault) => {
                connection::interrupt(stream, fault).await;
                None
            }
        };
        if accepted.is_none() {
            seen.send_modify(|seen| seen.failed_handshakes += 1);
        }
        accepted
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

// === the server ===

const HTTPS: &str = "https://localhost";

impl FaultServer {
    /// A server that speaks TLS as `tls` says, and HTTP/1.1 within it: it does with each request
    /// what `route` says.
    ///
    /// The handshake offers `http/1.1` by ALPN. Its [`url`](Self::url) names `localhost`, so a good
    /// certificate is for that name.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port. If `route` panics, its connection ends.
    pub async fn with_tls(
        tls: &ServerTls,
        route: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let route = Arc::new(route);
        Self::listen_tls(tls, b"http/1.1", move |stream, seen| {
            let route = Arc::clone(&route);
            async move { connection::serve(stream, |request| route(request), seen).await }
        })
        .await
    }

    /// A server that speaks TLS as `tls` says, and within it does with each connection what the next
    /// of `scripts` says; it repeats the last script.
    ///
    /// # Panics
    ///
    /// Panics if there is no script, or no free port.
    pub async fn connections_with_tls(
        tls: &ServerTls,
        scripts: impl IntoIterator<Item = Connection>,
    ) -> Self {
        let next = in_turn(scripts.into_iter().collect());
        Self::listen_tls(tls, b"http/1.1", move |stream, seen| {
            connection::serve_script(stream, next(), seen)
        })
        .await
    }

    /// A server that does the handshake for the protocol that ALPN calls `protocol`, and then what
    /// `serve` says.
    pub(super) async fn listen_tls<F>(
        tls: &ServerTls,
        protocol: &[u8],
        serve: impl Fn(TlsStream<TcpStream>, watch::Sender<Seen>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = tls.acceptor(protocol);
        let serve = Arc::new(serve);
        Self::listen(HTTPS, move |stream, seen| {
            let (acceptor, serve) = (acceptor.clone(), Arc::clone(&serve));
            async move {
                if let Some(stream) = acceptor.accept(stream, &seen).await {
                    serve(stream, seen).await;
                }
            }
        })
        .await
    }
}
