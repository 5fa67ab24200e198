//! Keys for verifying tokens.
//!
//! A key is validated and parsed for the crypto library once, when it is loaded, and never while a
//! token is checked. aws-lc is called directly, so the crypto provider and the features of
//! `jsonwebtoken` that other crates choose have no effect.

mod jwk;
mod pem;
mod public;
mod secret;
mod set;
mod source;
#[cfg(test)]
mod tests;
mod weak;

use std::{borrow::Cow, error::Error, fmt};

use aws_lc_rs::{hmac, signature::ParsedPublicKey};

pub use self::{
    secret::sign,
    set::{DroppedKey, KeySet},
    source::{Keys, Unavailable},
};
pub(super) use self::{
    set::{KeyFaults, MAX_KEYS, MAX_TEXT},
    source::Flight,
};
use super::Algorithm;

/// An error for a key or a key set that cannot be used, or for claims that [`sign`] cannot serialize. The
/// message contains nothing of the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(Cow<'static, str>);

impl KeyError {
    fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for KeyError {}

/// A key for verifying tokens. `Debug` shows its algorithms and its `kid`, but no key material.
///
/// A token with a `kid` is checked only with the key of that [`kid`](Self::with_kid). Without such a key
/// the token is refused as [`Reason::Kid`](super::Reason::Kid): a key without a `kid` is never used for a
/// token with one. A token without a `kid` is checked with the first four keys for its algorithm, with or
/// without a `kid`.
#[derive(Clone)]
pub struct Key {
    kid: Option<String>,
    /// One entry for each algorithm of the key; never empty.
    prepared: Vec<Prepared>,
}

/// A key for one algorithm, parsed by the crypto library.
#[derive(Clone)]
pub(super) struct Prepared {
    algorithm: Algorithm,
    check: Check,
}

#[derive(Clone)]
enum Check {
    /// Boxed, because it is twenty times as large as the other variant.
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// Sets the key id.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Returns the key id, or `None` if the key has none.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Returns the algorithms that the key is for.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.prepared.iter().map(|prepared| prepared.algorithm)
    }
}

/// Maximum length of a signature in bytes: RSA with 8,192 bits, plus 3 that base64 decoding rounds up
/// to.
pub(super) const MAX_SIGNATURE: usize = 1024 + 3;

#[cfg(test)]
thread_local! {
    /// Number of signatures that this thread has computed.
    pub(super) static VERIFICATIONS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Prepared {
    /// Returns `true` if `signature` is valid for `message`.
    pub(super) fn verify(&self, signature: &[u8], message: &str) -> bool {
        #[cfg(test)]
        VERIFICATIONS.set(VERIFICATIONS.get() + 1);
        let message = message.as_bytes();
        match &self.check {
            Check::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}
