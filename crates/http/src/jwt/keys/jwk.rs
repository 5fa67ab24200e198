//! Strict parsing of one JSON Web Key ([RFC 7517](https://www.rfc-editor.org/rfc/rfc7517)).

use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Key, KeyError, public::Public};
use crate::jwt::{Algorithm, jose::MAX_KID, object};

/// Members that hold private key material
/// ([RFC 7518 §6.2.2](https://www.rfc-editor.org/rfc/rfc7518#section-6.2.2), §6.3.2, RFC 8037 §2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

pub(super) struct Jwk(Map<String, Value>);

impl Jwk {
    /// Parses a JWK. Text that is not an object or has duplicate names becomes an object without
    /// members, which is then rejected as a key.
    pub(super) fn new(text: &str) -> Self {
        Self(object::map(text.as_bytes(), 4).unwrap_or_default())
    }

    /// Returns the key type: a known `kty`, or `other`.
    pub(super) fn kty(&self) -> &'static str {
        // The result goes to logs, so it must not repeat text from the set.
        let known = ["RSA", "EC", "OKP", "oct"];
        let known = known.iter().find(|kty| self.is("kty", kty));
        known.copied().unwrap_or("other")
    }

    /// Returns `true` if the key contains private key material.
    pub(super) fn is_private(&self) -> bool {
        PRIVATE.iter().any(|name| self.0.contains_key(*name))
    }

    /// Returns the public key. A key with `alg` is for that algorithm. A key without `alg` is for all
    /// of `allowed` that match its type. Private key material is ignored.
    ///
    /// # Errors
    /// Returns an error if the key is not for verifying signatures, is invalid or weak, or is for no
    /// allowed algorithm.
    pub(super) fn key(&self, allowed: &[Algorithm]) -> Result<Key, KeyError> {
        self.check_purpose()?;
        let key = match self.0.get("alg") {
            None => self.public()?.prepare(allowed)?,
            Some(name) => {
                let algorithm = name.as_str().and_then(Algorithm::parse);
                let algorithm = algorithm.filter(|algorithm| allowed.contains(algorithm));
                let error = KeyError::new("`alg` is not an allowed algorithm");
                self.public()?.prepare(&[algorithm.ok_or(error)?])?
            }
        };
        match self.0.get("kid") {
            None => Ok(key),
            Some(Value::String(kid)) if kid.len() <= MAX_KID => Ok(key.with_kid(kid)),
            Some(_) => Err(KeyError::new("`kid` must be a string of at most 256 bytes")),
        }
    }

    fn check_purpose(&self) -> Result<(), KeyError> {
        if self.0.contains_key("use") && !self.is("use", "sig") {
            return Err(KeyError::new("`use` must be \"sig\""));
        }
        match self.0.get("key_ops") {
            None => Ok(()),
            Some(Value::Array(all)) if all.iter().any(|one| one == "verify") => Ok(()),
            Some(_) => Err(KeyError::new("`key_ops` must be a list with \"verify\"")),
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
            "EC" | "OKP" => Err(KeyError::new(
                "`crv` must be P-256, P-384 or Ed25519, matching `kty`",
            )),
            "oct" => Err(KeyError::new("a JWK Set must not contain symmetric keys")),
            _ => Err(KeyError::new("`kty` must be RSA, EC or OKP")),
        }
    }

    /// Returns the point in uncompressed form. Each coordinate has the full length of the curve's field
    /// ([RFC 7518 §6.2.1.2](https://www.rfc-editor.org/rfc/rfc7518#section-6.2.1.2)).
    fn point(&self, size: usize) -> Result<Vec<u8>, KeyError> {
        // The byte 4 marks the uncompressed form (SEC 1 §2.3.3).
        Ok([vec![4], self.sized("x", size)?, self.sized("y", size)?].concat())
    }

    fn sized(&self, name: &str, size: usize) -> Result<Vec<u8>, KeyError> {
        let bytes = self.bytes(name)?;
        if bytes.len() == size {
            Ok(bytes)
        } else {
            Err(KeyError::new(
                "`x` or `y` does not have the length of the curve",
            ))
        }
    }

    /// Decodes a member from base64url without padding.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, KeyError> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
            .ok_or_else(|| KeyError::new("a key parameter is missing or not base64url"))
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|found| found == value)
    }
}
