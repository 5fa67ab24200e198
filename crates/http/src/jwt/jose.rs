//! The form and the signature of a token, read strictly and before anything is believed.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::{
    claims::object,
    keys::KeySet,
    refusal::{Reason, Refusal},
};

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8 << 10;
/// The longest header, decoded.
const MAX_HEADER: usize = 1 << 10;
/// The longest name of a key.
const MAX_KID: usize = 256;

/// A token whose signature is right. Its claims were not looked at.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verified {
    /// Its header.
    pub header: Map<String, Value>,
    /// Its payload, decoded.
    pub payload: Vec<u8>,
}

/// Checks the form and the signature of `token` ([RFC 7515](https://www.rfc-editor.org/rfc/rfc7515),
/// [RFC 8725](https://www.rfc-editor.org/rfc/rfc8725)), not its claims.
///
/// Keys in the token's header are ignored, extensions are refused, and the algorithm is the key's, not
/// the token's.
///
/// # Errors
/// What is wrong with it.
pub fn verify_jws(token: &str, keys: &KeySet) -> Result<Verified, Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal(Reason::Oversize));
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Refusal(Reason::Shape))?;
    let (header, payload) = message.split_once('.').ok_or(Refusal(Reason::Shape))?;
    if payload.contains('.') || header.is_empty() || signature.is_empty() {
        return Err(Refusal(Reason::Shape));
    }
    let decode = |part: &str| {
        URL_SAFE_NO_PAD
            .decode(part)
            .map_err(|_| Refusal(Reason::Base64))
    };
    decode(signature)?;
    let header = read_header(&decode(header)?)?;
    check_signature(&header, message, signature, keys)?;
    let payload = decode(payload)?;
    Ok(Verified { header, payload })
}

fn check_signature(
    header: &Map<String, Value>,
    message: &str,
    signature: &str,
    keys: &KeySet,
) -> Result<(), Refusal> {
    let (algorithm, kid) = check_header(header)?;
    if !keys.knows(kid) {
        return Err(Refusal(Reason::Kid));
    }
    let mut candidates = keys.candidates(kid, algorithm).peekable();
    if candidates.peek().is_none() {
        return Err(Refusal(Reason::Algorithm));
    }
    if candidates.any(|key| key.verify(signature, message)) {
        Ok(())
    } else {
        Err(Refusal(Reason::Signature))
    }
}

fn read_header(text: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if text.len() > MAX_HEADER {
        return Err(Refusal(Reason::Header));
    }
    object(text, 8).ok_or(Refusal(Reason::Header))
}

fn check_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<&str>), Refusal> {
    if ["crit", "b64", "zip"]
        .iter()
        .any(|name| header.contains_key(*name))
    {
        return Err(Refusal(Reason::Critical));
    }
    let algorithm = header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| name.parse().ok());
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.as_str()),
        Some(_) => return Err(Refusal(Reason::Kid)),
    };
    Ok((algorithm.ok_or(Refusal(Reason::Algorithm))?, kid))
}
