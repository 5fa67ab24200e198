//! Reads certificates and keys, which stand in files of their own.

use tower_fanout_http::server::{Tls, TlsError};

use super::{reader::Field, value::file};

/// A chain of certificates and its key, in PEM, from the files that are named at `cert` and `key`.
pub(super) fn pair(cert: &Field<'_>, key: &Field<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (chain, secret) = (file(cert), file(key));
    let (chain, secret) = (chain?, secret?);
    match Tls::new(&chain, &secret) {
        Ok(_) => return Some((chain, secret)),
        Err(error @ TlsError::Certificate) => cert.error("invalid", error),
        Err(error) => key.error("invalid", error),
    }
    None
}
