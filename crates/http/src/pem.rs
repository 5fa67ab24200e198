//! Certificates in PEM format, for both sides of TLS.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
};

/// The message for a text that is not a list of certificates.
pub(crate) const NOT_PEM: &str = "must contain certificates in PEM format";

/// Returns the aws-lc provider, regardless of the provider that the process has installed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Parses all certificates in `pem`. Returns `None` if one of them is malformed or there are none.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty())
}

/// Parses the CA certificates in `pem`.
///
/// # Errors
/// Returns the message of the error.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, &'static str> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).ok_or(NOT_PEM)? {
        let added = roots.add(certificate);
        added.map_err(|_| "contains a certificate that is not a valid CA")?;
    }
    Ok(roots)
}
