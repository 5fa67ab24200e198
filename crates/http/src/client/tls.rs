//! TLS to a downstream: verification of its certificate, and client authentication.

use std::{
    fmt, io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{
    AlertDescription, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_fanout_layers::{ConfigError, config};

use super::{ClientConfig, ClientError, ClientErrorKind, Http2, TlsErrorKind, hyper_error::find};
use crate::pem::{certificates, provider, roots};

/// The ALPN protocol id of HTTP/2.
pub(super) const H2: &[u8] = b"h2";

config! {
    /// TLS settings of a client (feature `tls`).
    #[derive(Clone, Debug)]
    pub struct ClientTlsConfig {
        /// Root certificates in PEM format. `None`, the default, uses those of the system.
        pub ca: Option<Vec<u8>> = None,
        /// Client certificate and key. `None`, the default, sends no client certificate.
        pub identity: Option<Identity> = None,
        /// Name that the certificate must be valid for. `None`, the default, uses the host of the
        /// endpoint.
        pub server_name: Option<String> = None,
        /// Minimum TLS version. Defaults to 1.2.
        pub min_version: TlsVersion = TlsVersion::V1_2,
        /// Verification of the certificate. Defaults to [`Verify::Full`].
        pub verify: Verify = Verify::Full,
    }
}

/// A client certificate and its private key. The `Debug` output contains neither.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// Creates an identity from a certificate chain, the client's certificate first, and its
    /// private key, both in PEM format.
    ///
    /// [`Client::new`](super::Client::new) checks that they are valid and belong together, if the
    /// endpoint begins with `https://`.
    #[must_use]
    pub fn new(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            chain: chain.into(),
            key: key.into(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schemars",
    derive(schemars::JsonSchema, serde::Deserialize, serde::Serialize)
)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 ([RFC 5246](https://www.rfc-editor.org/rfc/rfc5246)). The default minimum.
    #[default]
    #[cfg_attr(feature = "schemars", serde(rename = "1.2"))]
    V1_2,
    /// TLS 1.3 ([RFC 8446](https://www.rfc-editor.org/rfc/rfc8446)).
    #[cfg_attr(feature = "schemars", serde(rename = "1.3"))]
    V1_3,
}

/// Verification of the certificate of a downstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "schemars",
    derive(schemars::JsonSchema, serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum Verify {
    /// The certificate must be valid, be issued for the server name, and have a trusted root. The
    /// default.
    #[default]
    Full,
    /// Accepts any certificate. An attacker on the network can then read and change all traffic.
    ///
    /// The client logs a warning when it is created.
    DangerouslySkip,
}

/// The rustls config and the server name for handshakes with one downstream.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    without_identity: Arc<NoIdentity>,
}

impl Tls {
    pub(super) fn new(host: &str, config: &ClientConfig) -> Result<Self, ConfigError> {
        let tls = &config.tls;
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let message = format!("expected a DNS name or an IP address, got \"{name}\"");
        let name = (name.try_into()).map_err(|_| invalid("tls.server_name", &message))?;
        let without_identity = Arc::<NoIdentity>::default();
        let builder = tls.server_verification(host)?;
        let mut rustls = match &tls.identity {
            Some(identity) => identity.authenticate(builder)?,
            None => builder.with_client_cert_resolver(Arc::clone(&without_identity) as _),
        };
        rustls.alpn_protocols = match config.http2 {
            Http2::Off => vec![],
            Http2::PriorKnowledge { .. } => vec![H2.to_vec()],
            Http2::Alpn { .. } => vec![H2.to_vec(), b"http/1.1".to_vec()],
        };
        Ok(Self {
            connector: Arc::new(rustls).into(),
            name,
            without_identity,
        })
    }

    /// Performs the TLS handshake on `stream`.
    ///
    /// # Errors
    /// [`ClientErrorKind::Tls`] if the handshake fails or takes longer than `time`.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        time: Duration,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let handshake = self.connector.connect(self.name.clone(), stream);
        let (kind, cause) = match timeout(time, handshake).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => (self.kind(&error), error),
            Err(_) => {
                let message = format!("the handshake took longer than {time:?}");
                (TlsErrorKind::Failed, io::Error::other(message))
            }
        };
        Err(ClientError::new(ClientErrorKind::Tls(kind)).caused_by(cause))
    }

    fn kind(&self, error: &io::Error) -> TlsErrorKind {
        let alert = find::<Error>(error);
        let generic = Error::AlertReceived(AlertDescription::HandshakeFailure);
        match rejects_client_certificate(alert) {
            Some(kind) => kind,
            // With TLS 1.2, OpenSSL sends this alert if the client certificate is missing.
            None if alert == Some(&generic) && self.without_identity.requested.load(Relaxed) => {
                TlsErrorKind::ClientCertRequired
            }
            None => TlsErrorKind::of_io(error),
        }
    }
}

/// Sends no client certificate, and remembers that the downstream requested one.
#[derive(Debug, Default)]
struct NoIdentity {
    requested: AtomicBool,
}

impl ResolvesClientCert for NoIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.requested.store(true, Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

type Builder = rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert>;

impl ClientTlsConfig {
    /// Starts a rustls config with the TLS versions and the verification of the server's certificate.
    fn server_verification(&self, host: &str) -> Result<Builder, ConfigError> {
        let provider = provider();
        let versions = match self.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|_| {
                invalid(
                    "tls.min_version",
                    "no cipher suite supports this TLS version",
                )
            })?;
        if self.verify == Verify::DangerouslySkip {
            tracing::warn!(
                reason = "tls_not_verified",
                host,
                "certificate verification is disabled for a downstream"
            );
            let verifier = Arc::new(AnyCertificate(provider));
            return Ok(builder
                .dangerous()
                .with_custom_certificate_verifier(verifier));
        }
        let roots = match &self.ca {
            Some(pem) => roots(pem)
                .map_err(|message| invalid("tls.ca", message))?
                .into(),
            None => system_roots().ok_or_else(|| {
                invalid(
                    "tls.ca",
                    "the system has no root certificates, so the CA of the service is required",
                )
            })?,
        };
        Ok(builder.with_root_certificates(roots))
    }
}

/// Creates an error of a field of the client's config.
fn invalid(field: &'static str, message: &str) -> ConfigError {
    ConfigError::new(field, message).of("ClientConfig")
}

impl Identity {
    /// Completes the rustls config with the client certificate.
    fn authenticate(&self, builder: Builder) -> Result<rustls::ClientConfig, ConfigError> {
        let error = |message| invalid("tls.identity", message);
        let chain = certificates(&self.chain)
            .ok_or_else(|| error("certificate chain must be in PEM format and not empty"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| error("private key must be in PEM format"))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|_| error("private key does not match the certificate"))
    }
}

/// Returns the root certificates of the system, which are loaded once. Returns `None` if the system
/// has none.
fn system_roots() -> Option<Arc<RootCertStore>> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    (!roots.is_empty()).then(|| Arc::clone(roots))
}

/// Returns a kind if `error` says that the downstream rejected the client certificate or its absence.
///
/// In TLS 1.3 the alert arrives after the client has finished its handshake
/// ([RFC 8446 §4.4.2.4](https://www.rfc-editor.org/rfc/rfc8446#section-4.4.2.4)), possibly after it
/// has sent a request. The downstream does not read that request.
pub(super) fn rejects_client_certificate(error: Option<&Error>) -> Option<TlsErrorKind> {
    use AlertDescription as Alert;
    let rejects = matches!(
        error,
        Some(Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
        ))
    );
    rejects.then_some(TlsErrorKind::ClientCertRequired)
}

/// Accepts any certificate whose private key the server holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
