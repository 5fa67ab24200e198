//! Valid and invalid certificates for tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority for tests, with a new key and a unique name.
///
/// Clients trust it only if they are given [`ca_pem`](Self::ca_pem).
///
/// ```
/// use tower_fanout_testkit::fault_server::tls::CertificateAuthority;
///
/// let authority = CertificateAuthority::new();
/// let good = authority.issue(&["localhost", "127.0.0.1"]);
/// assert!(good.chain_pem.starts_with("-----BEGIN CERTIFICATE-----"));
/// assert!(authority.ca_pem() != CertificateAuthority::new().ca_pem());
/// ```
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key in PEM.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The certificate, without the certificate of the authority.
    pub chain_pem: String,
    /// The private key as PKCS #8.
    pub key_pem: String,
}

// === impl CertificateAuthority ===

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl CertificateAuthority {
    /// Creates an authority with a new key.
    ///
    /// # Panics
    ///
    /// Panics if the system provides no random bytes. All methods that create a key panic then.
    #[must_use]
    pub fn new() -> Self {
        let key = key();
        // A unique name, so that a verifier that looks up issuers by name cannot mix up authorities.
        let id: u128 = key
            .public_key_raw()
            .iter()
            .rev()
            .take(16)
            .fold(0, |id, &byte| id << 8 | u128::from(byte));
        let mut params = params(&[], &format!("fault server authority {id:032x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        let issuer = CertifiedIssuer::self_signed(params, key);
        Self {
            issuer: issuer.expect(SIGNED),
        }
    }

    /// Returns the certificate of the authority in PEM, for the trust store of a client.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a valid server certificate for `names`, which are host names or IP addresses.
    ///
    /// For a certificate of the wrong host, pass names that differ from the name of the server.
    ///
    /// # Panics
    ///
    /// Panics if `names` is empty or a name is not ASCII.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        self.sign(&server(names))
    }

    /// Issues a server certificate for `names` that was valid in the year 2000 only.
    ///
    /// # Panics
    ///
    /// Panics if `names` is empty or a name is not ASCII.
    #[must_use]
    pub fn issue_expired(&self, names: &[&str]) -> Certificate {
        let mut params = server(names);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&params)
    }

    /// Issues a server certificate for `names` that is not valid before the year 3000.
    ///
    /// # Panics
    ///
    /// Panics if `names` is empty or a name is not ASCII.
    #[must_use]
    pub fn issue_not_yet_valid(&self, names: &[&str]) -> Certificate {
        let mut params = server(names);
        params.not_before = date_time_ymd(3000, 1, 1);
        params.not_after = date_time_ymd(3001, 1, 1);
        self.sign(&params)
    }

    /// Issues a client certificate for `name`. Servers cannot use it.
    ///
    /// # Panics
    ///
    /// Panics if `name` is not ASCII.
    #[must_use]
    pub fn issue_client(&self, name: &str) -> Certificate {
        let mut params = params(&[name], name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = key();
        let signed = params.signed_by(&key, &self.issuer).expect(SIGNED);
        Certificate::new(&signed, &key)
    }
}

// === impl Certificate ===

impl Certificate {
    /// Creates a server certificate for `names` that is signed by its own key.
    ///
    /// # Panics
    ///
    /// Panics if `names` is empty or a name is not ASCII.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let key = key();
        Self::new(&server(names).self_signed(&key).expect(SIGNED), &key)
    }

    /// Creates a certificate for `names` that is signed by its own key and is that of a certificate
    /// authority too, like one that `openssl req -x509` creates.
    ///
    /// # Panics
    ///
    /// Panics if `names` is empty or a name is not ASCII.
    #[must_use]
    pub fn self_signed_ca(names: &[&str]) -> Self {
        let (key, mut params) = (key(), server(names));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self::new(&params.self_signed(&key).expect(SIGNED), &key)
    }

    fn new(signed: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain_pem: signed.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// Omits the private key.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("chain_pem", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

const SIGNED: &str = "a new key can sign a certificate";

fn key() -> KeyPair {
    KeyPair::generate().expect("the system must provide random bytes")
}

fn server(names: &[&str]) -> CertificateParams {
    let name = names.first();
    let mut params = params(names, name.expect("names must not be empty"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names must be ASCII");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}
