//! Reads certificates and keys from PEM files.

use std::{error::Error, fs, path::PathBuf};

use tower_fanout_http::server::ServerTls;

use super::{reader::ValueReader, value::file};

/// The server certificate and the files that it is loaded from.
#[derive(Clone, Debug)]
pub(crate) struct ReloadableCert {
    pub(super) tls: ServerTls,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl ReloadableCert {
    /// Reloads the files. New connections use the new certificate.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable or invalid. The current certificate then stays in use.
    pub(crate) fn reload(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self
            .tls
            .replace(&fs::read(&self.cert)?, &fs::read(&self.key)?)?)
    }
}

/// Loads a certificate chain and its private key in PEM from the files named at `cert` and `key`.
/// Returns `None` after reporting an error.
pub(super) fn pair(cert: &ValueReader<'_>, key: &ValueReader<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (chain, secret) = (file(cert), file(key));
    let (chain, secret) = (chain?, secret?);
    match ServerTls::new(&chain, &secret) {
        Ok(_) => return Some((chain, secret)),
        Err(error) if error.field() == "chain" => cert.error("invalid", error.message()),
        Err(error) => key.error("invalid", error.message()),
    }
    None
}
