//! Strict parsing and signature verification of a token, before its claims are read.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Algorithm, keys::KeySet, object::object, reason::Reason};

/// Maximum length of a token, in bytes.
pub(super) const MAX_TOKEN: usize = 8 << 10;
/// Maximum length of a decoded header, in bytes.
const MAX_HEADER: usize = 1 << 10;
/// Maximum nesting of a header.
const MAX_DEPTH: usize = 8;
/// Maximum length of a `kid`, in bytes.
pub(super) const MAX_KID: usize = 256;

/// A token with a valid signature. Its claims are not validated yet and not part of its `Debug` output.
#[non_exhaustive]
pub struct Verified {
    /// The JOSE header.
    pub header: Map<String, Value>,
    /// The decoded payload.
    pub payload: Vec<u8>,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}

/// Parses `token`, a JWS in compact serialization, and verifies its signature
/// ([RFC 7515](https://www.rfc-editor.org/rfc/rfc7515),
/// [RFC 8725](https://www.rfc-editor.org/rfc/rfc8725)). The claims are not validated.
///
/// Keys in the token's header are ignored. Header extensions (`crit`, `b64`, `zip`) are refused. The
/// acceptable algorithms depend on the key, not on the token. Cheap checks come first: a signature is
/// computed only for a well-formed token whose `kid` is in `keys` or absent.
///
/// # Errors
/// Returns the first reason for refusing the token.
pub fn verify_jws(token: &str, keys: &KeySet) -> Result<Verified, Reason> {
    let parts = Parts::of(token)?;
    let header = read_header(&decode(parts.header)?)?;
    let (algorithm, kid) = check_header(&header)?;
    let payload = decode(parts.payload)?;
    // Only refuses invalid base64url. The key decodes the signature again, without allocating.
    decode(parts.signature)?;
    match verify_signature(&parts, algorithm, kid, keys) {
        Ok(()) => Ok(Verified { header, payload }),
        Err(Reason::Signature) if offers_a_key(&header) => Err(Reason::Embedded),
        Err(refusal) => Err(refusal),
    }
}

/// Verifies the signature.
///
/// Timing before the signature is computed depends only on the token itself and on the names and
/// algorithms of the keys, which are public.
fn verify_signature(
    parts: &Parts<'_>,
    algorithm: Algorithm,
    kid: Option<&str>,
    keys: &KeySet,
) -> Result<(), Reason> {
    if !keys.knows(kid) {
        return Err(Reason::Kid);
    }
    let mut candidates = keys.candidates(kid, algorithm).peekable();
    if candidates.peek().is_none() {
        return Err(Reason::Algorithm);
    }
    if candidates.any(|key| key.verify(parts.signature, parts.message)) {
        Ok(())
    } else {
        Err(Reason::Signature)
    }
}

/// Returns the `iss` of `token` without verification. Use it only to select the keys that must verify
/// the token.
pub(super) fn unverified_issuer(token: &str) -> Result<String, Reason> {
    #[derive(Deserialize)]
    struct Claimed {
        iss: Option<Value>,
    }
    // serde refuses a duplicate `iss`, so this reading cannot differ from the strict one.
    let payload = decode(Parts::of(token)?.payload)?;
    match serde_json::from_slice(&payload) {
        Ok(Claimed {
            iss: Some(Value::String(issuer)),
        }) => Ok(issuer),
        Ok(_) => Err(Reason::Issuer),
        Err(_) => Err(Reason::Claims),
    }
}

/// The encoded parts of a token.
struct Parts<'t> {
    header: &'t str,
    payload: &'t str,
    signature: &'t str,
    /// The JWS signing input: header and payload with the dot between them.
    message: &'t str,
}

impl<'t> Parts<'t> {
    fn of(token: &'t str) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::Oversize);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Reason::NotThreeParts)?;
        let (header, payload) = message.split_once('.').ok_or(Reason::NotThreeParts)?;
        // A fourth part would be at the end of `payload`.
        if payload.contains('.') || header.is_empty() || signature.is_empty() {
            return Err(Reason::NotThreeParts);
        }
        Ok(Self {
            header,
            payload,
            signature,
            message,
        })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Base64)
}

fn read_header(text: &[u8]) -> Result<Map<String, Value>, Reason> {
    if text.len() > MAX_HEADER {
        return Err(Reason::Header);
    }
    object(text, MAX_DEPTH).ok_or(Reason::Header)
}

/// Returns `alg` and `kid`. Refuses extensions, unknown algorithms and invalid `kid`s.
fn check_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<&str>), Reason> {
    // Extensions that a verifier does not support must be refused (RFC 7515 §4.1.11).
    if ["crit", "b64", "zip"]
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(Reason::Critical);
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(Algorithm::parse);
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.as_str()),
        Some(_) => return Err(Reason::Kid),
    };
    Ok((algorithm.ok_or(Reason::Algorithm)?, kid))
}

/// Returns `true` if the header offers a key or a URL of one
/// ([RFC 7515 §4.1](https://www.rfc-editor.org/rfc/rfc7515#section-4.1)).
fn offers_a_key(header: &Map<String, Value>) -> bool {
    ["jwk", "jku", "x5u", "x5c"]
        .iter()
        .any(|name| header.contains_key(*name))
}
