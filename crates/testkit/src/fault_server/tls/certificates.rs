//! Certificates for tests, each wrong in the way that is asked for.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// An authority that is made anew for a test; nobody trusts it who was not given its certificate.
///
/// ```
/// use tower_fanout_testkit::fault_server::tls::Authority;
///
/// let authority = Authority::new();
/// let good = authority.issue(&["localhost", "127.0.0.1"]);
/// assert!(good.chain_pem.starts_with("-----BEGIN CERTIFICATE-----"));
/// assert!(authority.ca_pem() != Authority::new().ca_pem());
/// ```
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The certificate; the authority's own is not part of it.
    pub chain_pem: String,
    /// The private key, as PKCS #8.
    pub key_pem: String,
}

// === impl Authority ===

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// An authority with a key of its own.
    ///
    /// # Panics
    ///
    /// Panics if the system gives no random bytes; so does all that makes a key here.
    #[must_use]
    pub fn new() -> Self {
        let key = key();
        // a name of its own: who looks for the issuer by name does not find another authority
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

    /// The authority's certificate in PEM: what a client is told to trust.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A good certificate of a server that has all of `names`, which are host names or addresses.
    ///
    /// Give it names the server is not called by, and it is one for the wrong host.
    ///
    /// # Panics
    ///
    /// Panics if there is no name, or one is not of ASCII; so do the others.
    #[must_use]
    pub fn issue(&self, names: &[&str]) -> Certificate {
        self.sign(&server(names))
    }

    /// A certificate of a server that was valid in the year 2000 only.
    #[must_use]
    pub fn expired(&self, names: &[&str]) -> Certificate {
        let mut params = server(names);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(&params)
    }

    /// A certificate of a client called `name`; no server can use it.
    #[must_use]
    pub fn client(&self, name: &str) -> Certificate {
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
    /// A certificate of a server that no authority signed.
    ///
    /// # Panics
    ///
    /// Panics as [`Authority::issue`] does.
    #[must_use]
    pub fn self_signed(names: &[&str]) -> Self {
        let key = key();
        Self::new(&server(names).self_signed(&key).expect(SIGNED), &key)
    }

    fn new(signed: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            chain_pem: signed.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

/// Shows no key.
impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("chain_pem", &self.chain_pem)
            .finish_non_exhaustive()
    }
}

const SIGNED: &str = "a certificate is signed with a key that was just made";

fn key() -> KeyPair {
    KeyPair::generate().expect("random bytes for a key")
}

fn server(names: &[&str]) -> CertificateParams {
    let mut params = params(names, names.first().expect("a server has a name"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names are of ASCII");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}
