//! Shared secrets, to verify with and, for development, to sign with.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use super::{Check, Key, KeyError, Prepared};
use crate::jwt::Algorithm;

/// The hash of a symmetric algorithm, and its length in bytes.
fn hash(algorithm: Algorithm) -> Result<(hmac::Algorithm, usize), KeyError> {
    match algorithm {
        Algorithm::HS256 => Ok((hmac::HMAC_SHA256, 32)),
        Algorithm::HS384 => Ok((hmac::HMAC_SHA384, 48)),
        Algorithm::HS512 => Ok((hmac::HMAC_SHA512, 64)),
        _ => Err(KeyError::new(format!(
            "{algorithm:?} does not work with a secret"
        ))),
    }
}

fn prepare(algorithm: Algorithm, secret: &[u8]) -> Result<hmac::Key, KeyError> {
    let (hash, least) = hash(algorithm)?;
    if secret.len() < least {
        return Err(KeyError::new(format!(
            "a secret for {algorithm:?} has at least {least} bytes"
        )));
    }
    if secret.iter().all(|byte| *byte == secret[0]) {
        return Err(KeyError::new("a secret of one byte over and over is none"));
    }
    Ok(hmac::Key::new(hash, secret))
}

impl Key {
    /// A symmetric key for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// The secret is shorter than the hash ([RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2)),
    /// or one byte over and over; or the algorithm is not symmetric.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let check = Check::Secret(prepare(algorithm, secret)?.into());
        Ok(Self {
            kid: None,
            prepared: vec![Prepared { algorithm, check }],
        })
    }
}

/// Makes a token of `claims`, signed with a secret: for development.
///
/// # Errors
/// The secret is not one for `algorithm`, or the claims cannot be written.
pub fn sign(
    algorithm: Algorithm,
    secret: &[u8],
    claims: &impl Serialize,
) -> Result<String, KeyError> {
    let key = prepare(algorithm, secret)?;
    let header = format!("{{\"typ\":\"JWT\",\"alg\":\"{algorithm:?}\"}}");
    let claims =
        serde_json::to_vec(claims).map_err(|_| KeyError::new("the claims cannot be written"))?;
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let message = format!("{}.{}", encode(header.as_bytes()), encode(&claims));
    let signature = hmac::sign(&key, message.as_bytes());
    Ok(format!("{message}.{}", encode(signature.as_ref())))
}
