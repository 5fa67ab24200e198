//! Keys: read once, at load, with everything that is wrong with them said then.
//!
//! A key is parsed for the crypto library when it is read, never when a token is checked, and the
//! library is called as it is: what other crates install or turn on in `jsonwebtoken` does not matter.

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
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

pub use self::{
    secret::sign,
    set::{DroppedKey, KeySet},
    source::{Keys, Unavailable},
};
pub(super) use self::{
    set::{MAX_KEYS, MAX_TEXT},
    source::Flight,
};
use super::Algorithm;

/// A key that cannot be used. It says nothing of the key itself.
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

/// A key to verify tokens with. `Debug` shows nothing of it.
///
/// A token that names a key is checked with the key of that [name](Self::with_kid) alone; a key without
/// a name is for tokens that name none.
#[derive(Clone)]
pub struct Key {
    kid: Option<String>,
    /// For each algorithm that it is for; at least one.
    prepared: Vec<Prepared>,
}

/// A key for one algorithm, as the crypto library takes it.
#[derive(Clone)]
pub(super) struct Prepared {
    algorithm: Algorithm,
    check: Check,
}

#[derive(Clone)]
enum Check {
    /// Boxed: it is twenty times as large as the other.
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
    /// Names the key.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Its name, if it has one.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms that it is for.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.prepared.iter().map(|prepared| prepared.algorithm)
    }
}

/// The longest signature, in bytes: that of RSA with 8,192 bits, and room for what base64 rounds up.
const MAX_SIGNATURE: usize = 1024 + 3;

#[cfg(test)]
thread_local! {
    /// How many signatures this thread has computed.
    pub(super) static VERIFICATIONS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

impl Prepared {
    /// Whether `signature`, in base64url, is that of `message`.
    pub(super) fn verify(&self, signature: &str, message: &str) -> bool {
        #[cfg(test)]
        VERIFICATIONS.set(VERIFICATIONS.get() + 1);
        let mut bytes = [0; MAX_SIGNATURE];
        let Ok(length) = URL_SAFE_NO_PAD.decode_slice(signature, &mut bytes) else {
            return false;
        };
        // The length is that of what was written into `bytes`.
        let (signature, message) = (&bytes[..length], message.as_bytes());
        match &self.check {
            Check::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}
