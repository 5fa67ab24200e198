//! One JSON Web Key ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)), read strictly.

use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Key, KeyError, public::Public};
use crate::jwt::{Algorithm, jose::MAX_KID, object::object};

/// The members of a key that are private
/// ([RFC 7518 §6.2.2](https://www.rfc-editor.org/rfc/rfc7518#section-6.2.2), §6.3.2, RFC 8037 §2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

pub(super) struct Jwk(Map<String, Value>);

impl Jwk {
    /// The key that `text` is; an object without members if it is not an object of unique members.
    pub(super) fn new(text: &str) -> Self {
        Self(object(text.as_bytes(), 4).unwrap_or_default())
    }

    /// Its type: one of those that are known, or `other`.
    pub(super) fn kty(&self) -> &'static str {
        let known = ["RSA", "EC", "OKP", "oct"];
        let known = known.iter().find(|kty| self.is("kty", kty));
        known.copied().unwrap_or("other")
    }

    /// Whether it has private parts.
    pub(super) fn is_private(&self) -> bool {
        PRIVATE.iter().any(|name| self.0.contains_key(*name))
    }

    /// The key for its algorithm, if it names one, else for all of `allowed` that are of its type.
    /// Private parts are left out.
    ///
    /// # Errors
    /// It is not for verifying, is no public key or a weak one, or no algorithm of it is allowed.
    pub(super) fn key(&self, allowed: &[Algorithm]) -> Result<Key, KeyError> {
        self.check_purpose()?;
        let key = match self.0.get("alg") {
            None => self.public()?.prepare(allowed)?,
            Some(name) => {
                let algorithm = name.as_str().and_then(|name| name.parse().ok());
                let algorithm = algorithm.filter(|algorithm| allowed.contains(algorithm));
                let error = KeyError::new("its algorithm is not allowed");
                self.public()?.prepare(&[algorithm.ok_or(error)?])?
            }
        };
        match self.0.get("kid") {
            None => Ok(key),
            Some(Value::String(kid)) if kid.len() <= MAX_KID => Ok(key.with_kid(kid)),
            Some(_) => Err(KeyError::new("its kid is no string of at most 256 bytes")),
        }
    }

    fn check_purpose(&self) -> Result<(), KeyError> {
        if self.0.contains_key("use") && !self.is("use", "sig") {
            return Err(KeyError::new("its use is not \"sig\""));
        }
        match self.0.get("key_ops") {
            None => Ok(()),
            Some(Value::Array(all)) if all.iter().any(|one| one == "verify") => Ok(()),
            Some(_) => Err(KeyError::new("its key_ops do not have \"verify\"")),
        }
    }

    fn public(&self) -> Result<Public, KeyError> {
        match self.kty() {
            "RSA" => Ok(Public::Rsa(RsaPublicKeyComponents {
                n: self.bytes("n")?,
                e: self.bytes("e")?,
            })),
            "EC" if self.is("crv", "P-256") => Ok(Public::P256(self.point(32)?)),
            "EC" if self.is("crv", "P-384") => Ok(Public::P384(self.point(48)?)),
            "OKP" if self.is("crv", "Ed25519") => Ok(Public::Ed25519(self.sized("x", 32)?)),
            "EC" | "OKP" => Err(KeyError::new("its curve is not used here")),
            "oct" => Err(KeyError::new("a secret does not come in a set of keys")),
            _ => Err(KeyError::new("it is no key of a type that is used here")),
        }
    }

    /// The coordinates are as long as the curve's numbers
    /// ([RFC 7518 §6.2.1.2](https://www.rfc-editor.org/rfc/rfc7518#section-6.2.1.2)).
    fn point(&self, size: usize) -> Result<Vec<u8>, KeyError> {
        Ok([vec![4], self.sized("x", size)?, self.sized("y", size)?].concat())
    }

    fn sized(&self, name: &str, size: usize) -> Result<Vec<u8>, KeyError> {
        let bytes = self.bytes(name)?;
        if bytes.len() == size {
            Ok(bytes)
        } else {
            Err(KeyError::new("a coordinate has the wrong length"))
        }
    }

    /// What a member holds in base64url, without padding.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, KeyError> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or_else(|| KeyError::new("a number of it is missing or not base64url"))
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|found| found == value)
    }
}
