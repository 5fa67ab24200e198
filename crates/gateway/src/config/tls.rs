//! Reads certificates and keys, which stand in files of their own.

use std::{error::Error, fs, path::PathBuf};

use tower_fanout_http::server::{Tls, TlsError};

use super::{reader::ValueReader, value::file};

/// The certificate that is shown to clients, and the files that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct ReloadableCert {
    pub(super) tls: Tls,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl ReloadableCert {
    /// Reads the files again: new connections are shown what is there now.
    ///
    /// # Errors
    /// They cannot be read or used; what is shown stays what it was.
    pub(crate) fn reload(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self
            .tls
            .replace(&fs::read(&self.cert)?, &fs::read(&self.key)?)?)
    }
}

/// A chain of certificates and its key, in PEM, from the files that are named at `cert` and `key`.
pub(super) fn pair(cert: &ValueReader<'_>, key: &ValueReader<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (chain, secret) = (file(cert), file(key));
    let (chain, secret) = (chain?, secret?);
    match Tls::new(&chain, &secret) {
        Ok(_) => return Some((chain, secret)),
        Err(error @ TlsError::Certificate) => cert.error("invalid", error),
        Err(error) => key.error("invalid", error),
    }
    None
}
