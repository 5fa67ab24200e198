//! TLS to a downstream: whom to believe, and who we are.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    AlertDescription, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_fanout_layers::{ConfigError, setters};

use super::{ClientConfig, ClientError, Http2};

/// How HTTP/2 is called in a handshake.
pub(super) const H2: &[u8] = b"h2";

/// Whom to believe, and who we are, where a downstream speaks TLS.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientTlsConfig {
    /// Certificates to believe, in PEM, in place of those of the system.
    pub ca: Option<Vec<u8>>,
    /// Who we are; nobody by default.
    pub identity: Option<Identity>,
    /// The name that the certificate has to bear, if it is not the host of the address.
    pub server_name: Option<String>,
    /// The oldest version that is spoken; 1.2 by default.
    pub min_version: TlsVersion,
    /// Whether the certificate is verified at all; it is by default.
    pub verify: Verify,
}

setters! {
    ClientTlsConfig {
        ca: Option<Vec<u8>>,
        identity: Option<Identity>,
        server_name: Option<String>,
        min_version: TlsVersion,
        verify: Verify,
    }
}

/// A certificate with its key, both in PEM. The key is not in its `Debug`.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// The certificate, with those that lead to one that is believed, and its key.
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

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 ([RFC 5246](https://www.rfc-editor.org/rfc/rfc5246)).
    #[default]
    V1_2,
    /// TLS 1.3 ([RFC 8446](https://www.rfc-editor.org/rfc/rfc8446)).
    V1_3,
}

/// Whether the certificate of a downstream is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// It has to be valid, bear the right name, and come from one that is believed.
    #[default]
    Full,
    /// Any certificate will do: whoever is in between can read and change everything. It is told in a
    /// warning when the client is made.
    DangerouslySkip,
}

/// What is needed for a handshake.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(host: &str, config: &ClientConfig) -> Result<Self, ConfigError> {
        let tls = &config.tls;
        let name = tls.server_name.as_deref().unwrap_or(host).to_owned();
        let name = name
            .try_into()
            .map_err(|_| ConfigError::new("tls.server_name", "the name of the server is none"))?;
        let mut rustls = tls.identify(tls.believe(host)?)?;
        rustls.alpn_protocols = match config.http2 {
            Http2::Off => vec![],
            Http2::PriorKnowledge { .. } => vec![H2.to_vec()],
            Http2::Alpn { .. } => vec![H2.to_vec(), b"http/1.1".to_vec()],
        };
        Ok(Self {
            connector: Arc::new(rustls).into(),
            name,
        })
    }

    /// Shakes hands on `stream`, within `time`.
    ///
    /// # Errors
    /// [`ClientError::Tls`] if the handshake fails, or takes longer.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        time: Duration,
    ) -> Result<TlsStream<TcpStream>, ClientError> {
        let handshake = self.connector.connect(self.name.clone(), stream);
        match timeout(time, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            _ => Err(ClientError::Tls),
        }
    }
}

type Builder = rustls::ConfigBuilder<rustls::ClientConfig, WantsClientCert>;

impl ClientTlsConfig {
    fn believe(&self, host: &str) -> Result<Builder, ConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = match self.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12][..],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|_| {
                ConfigError::new("tls.min_version", "no cipher suite fits the version of TLS")
            })?;
        if self.verify == Verify::DangerouslySkip {
            tracing::warn!(
                reason = "tls_not_verified",
                host,
                "the certificate of a service is not verified"
            );
            let anyone = Arc::new(Anyone(provider));
            return Ok(builder.dangerous().with_custom_certificate_verifier(anyone));
        }
        let roots = match &self.ca {
            Some(pem) => Arc::new(roots(pem)?),
            None => system().ok_or_else(|| {
                ConfigError::new(
                    "tls.ca",
                    "the system has no certificates to believe: give the CA of the service",
                )
            })?,
        };
        Ok(builder.with_root_certificates(roots))
    }

    fn identify(&self, builder: Builder) -> Result<rustls::ClientConfig, ConfigError> {
        let Some(Identity { chain, key }) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(chain).ok_or_else(|| {
            ConfigError::new(
                "tls.identity",
                "the certificate of the client is not in PEM",
            )
        })?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| ConfigError::new("tls.identity", "the key of the client is not in PEM"))?;
        builder.with_client_auth_cert(chain, key).map_err(|_| {
            ConfigError::new(
                "tls.identity",
                "the key of the client does not fit its certificate",
            )
        })
    }
}

/// All certificates in `pem`; there is one at least.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in
        certificates(pem).ok_or_else(|| ConfigError::new("tls.ca", "the CA is not in PEM"))?
    {
        let added = roots.add(certificate);
        added.map_err(|_| ConfigError::new("tls.ca", "a certificate of the CA is not valid"))?;
    }
    Ok(roots)
}

/// Those of the system, which are loaded once; none if there are none.
fn system() -> Option<Arc<RootCertStore>> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    (!roots.is_empty()).then(|| Arc::clone(roots))
}

/// Whether a connection broke because the other side refused us in a handshake. In TLS 1.3 that comes
/// when ours is over, and may meet a request on its way, which then nobody reads
/// ([RFC 8446 §4.4.2.4](https://www.rfc-editor.org/rfc/rfc8446#section-4.4.2.4)).
pub(super) fn is_refusal(error: Option<&Error>) -> bool {
    use AlertDescription as Alert;
    matches!(
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
    )
}

/// Believes anyone who holds the key of the certificate that is shown.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
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
