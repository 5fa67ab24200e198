//! The set of keys of one issuer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Key, KeyError, Prepared, jwk::Jwk};
use crate::jwt::Algorithm;

/// Maximum size of a JWK Set, in bytes.
pub(in crate::jwt) const MAX_TEXT: usize = 256 << 10;
/// Maximum number of keys in a JWK Set, dropped ones included.
pub(in crate::jwt) const MAX_KEYS: usize = 100;
/// Maximum number of faulty keys that are logged one by one.
const MAX_LOGGED: usize = 10;
/// Maximum number of keys that are tried for a token without a `kid`.
const MAX_TRIED: usize = 4;

/// The keys of one issuer: either all symmetric or all public, each `kid` at most once.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A key of a JWK Set that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedKey {
    /// Index in the set, from 0.
    pub index: usize,
    /// Key type: `RSA`, `EC`, `OKP`, `oct` or `other`.
    pub kty: &'static str,
    /// Reason for dropping the key.
    pub error: KeyError,
}

/// The keys of a JWK Set that have a fault. Contains no key material.
#[derive(Clone, Debug, Default)]
pub(in crate::jwt) struct KeyFaults {
    dropped: Vec<DroppedKey>,
    /// Index and type of the keys with private key material, which may be in use nevertheless.
    private: Vec<(usize, &'static str)>,
}

impl KeyFaults {
    /// Logs a warning for each of the first keys of both kinds, and one for the number of the others.
    pub(in crate::jwt) fn warn(&self) {
        self.warn_private();
        for DroppedKey { index, kty, error } in self.dropped.iter().take(MAX_LOGGED) {
            tracing::warn!(index, kty, reason = %error, "key of the JWK Set dropped");
        }
        warn_of_others(self.dropped.len(), "more keys of the JWK Set dropped");
    }

    fn warn_private(&self) {
        // The public part of the key is still used. The warning is for the issuer, who must replace it.
        for (index, kty) in self.private.iter().take(MAX_LOGGED) {
            tracing::warn!(index, kty, "the JWK Set publishes private key material");
        }
        let message = "the JWK Set publishes private key material in more keys";
        warn_of_others(self.private.len(), message);
    }

    /// Returns the error of a set without a usable key, with the fault of its first key.
    fn no_usable_key(&self) -> KeyError {
        let message = "the set has no usable key";
        match self.dropped.first() {
            None => KeyError::new(message),
            Some(DroppedKey { index, kty, error }) => KeyError::new(format!(
                "{message}, {} dropped; key {index} ({kty}): {error}",
                self.dropped.len()
            )),
        }
    }
}

fn warn_of_others(all: usize, message: &str) {
    if let Some(count @ 1..) = all.checked_sub(MAX_LOGGED) {
        tracing::warn!(count, "{message}");
    }
}

/// A JWK Set ([RFC 7517 §5](https://www.rfc-editor.org/rfc/rfc7517#section-5)).
#[derive(Deserialize)]
struct Document<'d> {
    #[serde(borrow)]
    keys: Vec<&'d RawValue>,
}

impl KeySet {
    /// Creates a set of `keys`.
    ///
    /// # Errors
    /// Returns an error if `keys` is empty, if two keys have the same `kid`, or if symmetric and public
    /// keys are mixed.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        if keys.is_empty() {
            return Err(KeyError::new("the set has no usable key"));
        }
        // A second guard against algorithm confusion, where a public key serves as an HMAC secret
        // (RFC 8725 §2.1). The first is that each key is for given algorithms.
        if is_mixed(&keys) {
            return Err(KeyError::new(
                "a set must not mix symmetric and public keys",
            ));
        }
        for (index, key) in keys.iter().enumerate() {
            // A duplicate `kid` would make it ambiguous which key verifies a token.
            if key.kid.is_some() && keys[..index].iter().any(|other| other.kid == key.kid) {
                return Err(KeyError::new("two keys have the same `kid`"));
            }
        }
        Ok(Self { keys })
    }

    /// Returns the keys in the order in which they were given.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Parses a JWK Set. Returns the public keys for `allowed` algorithms, and the keys that were
    /// dropped.
    ///
    /// A key without `alg` is for all allowed algorithms of its type. A key that is invalid, weak,
    /// symmetric or for another use is dropped, and the others are kept. Private key material in other
    /// keys is ignored. The limits are 256 KiB and 100 keys. They do not apply to fetched keys, whose
    /// limits are in [`JwksConfig`](crate::jwt::jwks::JwksConfig).
    ///
    /// # Errors
    /// Returns an error if `text` is not a JWK Set or exceeds a limit, if no key of it can be used, or
    /// if two usable keys have the same `kid`.
    pub fn from_jwks(
        text: &[u8],
        allowed: &[Algorithm],
    ) -> Result<(Self, Vec<DroppedKey>), KeyError> {
        if text.len() > MAX_TEXT {
            return Err(KeyError::new("the JWK Set must have at most 256 KiB"));
        }
        let (set, faults) = Self::read(text, allowed, MAX_KEYS)?;
        faults.warn_private();
        Ok((set?, faults.dropped))
    }

    /// Parses like [`from_jwks`](Self::from_jwks) with another limit for keys and none for the size.
    /// Returns the faults of single keys also if the set cannot be used because of them.
    pub(in crate::jwt) fn read(
        text: &[u8],
        allowed: &[Algorithm],
        max_keys: usize,
    ) -> Result<(Result<Self, KeyError>, KeyFaults), KeyError> {
        let document: Document<'_> = serde_json::from_slice(text)
            .map_err(|_| KeyError::new("expected a JWK Set, a JSON object with a list `keys`"))?;
        if document.keys.len() > max_keys {
            return Err(KeyError::new(format!(
                "the JWK Set must have at most {max_keys} keys, got {}",
                document.keys.len()
            )));
        }
        let (mut keys, mut faults) = (Vec::new(), KeyFaults::default());
        for (index, text) in document.keys.iter().enumerate() {
            let jwk = Jwk::new(text.get());
            let kty = jwk.kty();
            if jwk.is_private() {
                faults.private.push((index, kty));
            }
            match jwk.key(allowed) {
                Ok(key) => keys.push(key),
                Err(error) => faults.dropped.push(DroppedKey { index, kty, error }),
            }
        }
        let set = if keys.is_empty() {
            Err(faults.no_usable_key())
        } else {
            Self::new(keys)
        };
        Ok((set, faults))
    }

    /// Returns the keys that may have signed a token with this header: the key with this `kid`, or else
    /// the first four for the algorithm.
    pub(in crate::jwt) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Prepared> {
        self.keys
            .iter()
            .filter(move |key| kid.is_none_or(|kid| key.kid() == Some(kid)))
            .flat_map(|key| &key.prepared)
            .filter(move |prepared| prepared.algorithm == algorithm)
            // Limits the cost of a token without a `kid`.
            .take(MAX_TRIED)
    }

    /// Returns `true` if a key has this `kid`, or if `kid` is `None`.
    pub(in crate::jwt) fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| self.keys.iter().any(|key| key.kid() == Some(kid)))
    }
}

/// Returns `true` if some keys are symmetric and some are public.
fn is_mixed(keys: &[Key]) -> bool {
    let mut symmetric = keys
        .iter()
        .flat_map(Key::algorithms)
        .map(Algorithm::is_symmetric);
    let first = symmetric.next();
    symmetric.any(|other| Some(other) != first)
}
