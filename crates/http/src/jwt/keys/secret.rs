//! Shared secrets, for verifying tokens and, in development, for signing them.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use super::{Check, Key, KeyError, Prepared};
use crate::jwt::Algorithm;

/// Returns the hash of a symmetric algorithm and the hash length in bytes.
fn hash(algorithm: Algorithm) -> Result<(hmac::Algorithm, usize), KeyError> {
    match algorithm {
        Algorithm::HS256 => Ok((hmac::HMAC_SHA256, 32)),
        Algorithm::HS384 => Ok((hmac::HMAC_SHA384, 48)),
        Algorithm::HS512 => Ok((hmac::HMAC_SHA512, 64)),
        _ => Err(KeyError::new(format!(
            "{algorithm:?} needs a public key, not a secret"
        ))),
    }
}

fn prepare(algorithm: Algorithm, secret: &[u8]) -> Result<hmac::Key, KeyError> {
    let (hash, least) = hash(algorithm)?;
    if secret.len() < least {
        return Err(KeyError::new(format!(
            "a secret for {algorithm:?} must have at least {least} bytes"
        )));
    }
    // `secret` is not empty, because it has at least `least` bytes.
    if secret.iter().all(|byte| *byte == secret[0]) {
        return Err(KeyError::new("a secret must not repeat a single byte"));
    }
    Ok(hmac::Key::new(hash, secret))
}

impl Key {
    /// Creates a symmetric key for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// Returns an error if the secret is shorter than the hash
    /// ([RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2)) or repeats a single byte, or if the
    /// algorithm is not symmetric.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let check = Check::Secret(prepare(algorithm, secret)?.into());
        Ok(Self {
            kid: None,
            prepared: vec![Prepared { algorithm, check }],
        })
    }
}

/// Signs a token of `claims` with a secret, for development.
///
/// # Errors
/// Returns an error if [`Key::from_secret`] would reject the secret, or if the claims cannot be
/// serialized.
pub fn sign(
    algorithm: Algorithm,
    secret: &[u8],
    claims: &impl Serialize,
) -> Result<String, KeyError> {
    let key = prepare(algorithm, secret)?;
    let header = format!("{{\"typ\":\"JWT\",\"alg\":\"{algorithm:?}\"}}");
    let claims =
        serde_json::to_vec(claims).map_err(|_| KeyError::new("the claims cannot be serialized"))?;
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header.as_bytes()), encode(&claims));
    let signature = hmac::sign(&key, message.as_bytes());
    Ok(format!("{message}.{}", encode(signature.as_ref())))
}
