//! The keys of one issuer.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Key, KeyError, Prepared, jwk::Jwk};
use crate::jwt::Algorithm;

/// The largest text of a set that is read, in bytes.
pub(in crate::jwt) const MAX_TEXT: usize = 256 << 10;
/// The most keys that a set may have, bad ones included.
pub(in crate::jwt) const MAX_KEYS: usize = 100;
/// The most keys that are tried for a token that names none.
const MAX_TRIED: usize = 4;

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// A key of a set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedKey {
    /// Its place in the set, from 0.
    pub index: usize,
    /// Its type: `RSA`, `EC`, `OKP`, `oct` or `other`.
    pub kty: &'static str,
    /// What is wrong with it.
    pub error: KeyError,
}

/// A JWK Set ([RFC 7517 §5](https://www.rfc-editor.org/rfc/rfc7517#section-5)).
#[derive(Deserialize)]
struct Document<'d> {
    #[serde(borrow)]
    keys: Vec<&'d RawValue>,
}

impl KeySet {
    /// A set of `keys`.
    ///
    /// # Errors
    /// There is none, two have the same name, or secrets stand beside public keys.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        if keys.is_empty() {
            return Err(KeyError::new("there is no key"));
        }
        if is_mixed(&keys) {
            return Err(KeyError::new(
                "secrets and public keys cannot stand in one set",
            ));
        }
        for (place, key) in keys.iter().enumerate() {
            if key.kid.is_some() && keys[..place].iter().any(|other| other.kid == key.kid) {
                return Err(KeyError::new("two keys have the same kid"));
            }
        }
        Ok(Self { keys })
    }

    /// The keys, in the order in which they were given.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The public keys of a JWK Set for `allowed` algorithms, and those keys of it that are not used.
    ///
    /// A key without `alg` is for all allowed algorithms of its type. A key that is wrong, weak, secret
    /// or for something else is dropped alone; private parts of the others are not read. The set has at
    /// most 256 KiB and 100 keys.
    ///
    /// # Errors
    /// The text is no set, or too large; no key of it can be used; or two that can have the same name.
    pub fn from_jwks(
        text: &[u8],
        allowed: &[Algorithm],
    ) -> Result<(Self, Vec<DroppedKey>), KeyError> {
        if text.len() > MAX_TEXT {
            return Err(KeyError::new("the set is too large"));
        }
        Self::read(text, allowed, MAX_KEYS)
    }

    /// [`from_jwks`](Self::from_jwks) with a limit of its own.
    pub(in crate::jwt) fn read(
        text: &[u8],
        allowed: &[Algorithm],
        max_keys: usize,
    ) -> Result<(Self, Vec<DroppedKey>), KeyError> {
        let document: Document<'_> = serde_json::from_slice(text)
            .map_err(|_| KeyError::new("this is no JSON object with a list of keys"))?;
        if document.keys.len() > max_keys {
            return Err(KeyError::new("the set has too many keys"));
        }
        let (mut keys, mut dropped) = (Vec::new(), Vec::new());
        for (index, text) in document.keys.iter().enumerate() {
            let jwk = Jwk::new(text.get());
            let kty = jwk.kty();
            if jwk.is_private() {
                tracing::warn!(index, kty, "a key of a set has private parts");
            }
            match jwk.key(allowed) {
                Ok(key) => keys.push(key),
                Err(error) => dropped.push(DroppedKey { index, kty, error }),
            }
        }
        Ok((Self::new(keys)?, dropped))
    }

    /// The keys that may have signed a token with this header: the one that it names, else the first
    /// few for its algorithm.
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
            .take(MAX_TRIED)
    }

    /// Whether a key has this name, or can have no name.
    pub(in crate::jwt) fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| self.keys.iter().any(|key| key.kid() == Some(kid)))
    }
}

/// Whether some keys are secrets and some are public.
fn is_mixed(keys: &[Key]) -> bool {
    let mut symmetric = keys
        .iter()
        .flat_map(Key::algorithms)
        .map(Algorithm::is_symmetric);
    let first = symmetric.next();
    symmetric.any(|other| Some(other) != first)
}
