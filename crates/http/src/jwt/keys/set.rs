//! The set of keys of one issuer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Key, KeyError, Prepared, jwk::Jwk};
use crate::jwt::Algorithm;

/// Maximum size of a JWK Set, in bytes.
pub(in crate::jwt) const MAX_TEXT: usize = 256 << 10;
/// Maximum number of keys in a JWK Set, dropped ones included.
pub(in crate::jwt) const MAX_KEYS: usize = 100;
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
        Self::read(text, allowed, MAX_KEYS)
    }

    /// Parses like [`from_jwks`](Self::from_jwks) with another limit for keys and none for the size.
    pub(in crate::jwt) fn read(
        text: &[u8],
        allowed: &[Algorithm],
        max_keys: usize,
    ) -> Result<(Self, Vec<DroppedKey>), KeyError> {
        let document: Document<'_> = serde_json::from_slice(text)
            .map_err(|_| KeyError::new("expected a JWK Set, a JSON object with a list `keys`"))?;
        if document.keys.len() > max_keys {
            return Err(KeyError::new(format!(
                "the JWK Set must have at most {max_keys} keys, got {}",
                document.keys.len()
            )));
        }
        let (mut keys, mut dropped) = (Vec::new(), Vec::new());
        for (index, text) in document.keys.iter().enumerate() {
            let jwk = Jwk::new(text.get());
            let kty = jwk.kty();
            // The public part of the key is still used. The warning is for the issuer, who must replace
            // it.
            if jwk.is_private() {
                tracing::warn!(index, kty, "the JWK Set publishes private key material");
            }
            match jwk.key(allowed) {
                Ok(key) => keys.push(key),
                Err(error) => dropped.push(DroppedKey { index, kty, error }),
            }
        }
        Ok((Self::new(keys)?, dropped))
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
