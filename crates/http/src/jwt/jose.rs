//! Strict parsing and signature verification of a token, before its claims are read.

use std::{fmt, sync::LazyLock};

use base64::{DecodeSliceError, Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Algorithm,
    keys::{KeySet, MAX_SIGNATURE},
    object::{Member, Paths, object},
    reason::Reason,
};

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
    let mut buffer = [0; BUFFER];
    let Jws { header, payload } = verify(token, keys, &mut buffer)?;
    let header = serde_json::from_slice(header.text).map_err(|_| Reason::Header)?;
    Ok(Verified { header, payload })
}

/// Size of the buffer for a decoded header, with the bytes that base64 rounds up to.
pub(super) const BUFFER: usize = MAX_HEADER + 3;

/// A token with a valid signature.
pub(super) struct Jws<'b> {
    pub(super) header: Header<'b>,
    /// The decoded payload.
    pub(super) payload: Vec<u8>,
}

/// Verifies like [`verify_jws`], and decodes the header into `buffer`.
pub(super) fn verify<'b>(
    token: &str,
    keys: &KeySet,
    buffer: &'b mut [u8; BUFFER],
) -> Result<Jws<'b>, Reason> {
    let parts = Parts::of(token)?;
    let header = Header::read(decode_header(parts.header, buffer)?)?;
    let (algorithm, kid) = header.check()?;
    let payload = decode(parts.payload)?;
    // On the stack, so that verification does not allocate.
    let mut bytes = [0; MAX_SIGNATURE];
    let long;
    let signature = match decode_into(parts.signature, &mut bytes)? {
        Some(signature) => signature,
        // Longer than any signature, and refused after the checks of the keys.
        None => {
            long = decode(parts.signature)?;
            &long
        }
    };
    match verify_signature(parts.message, signature, algorithm, kid, keys) {
        Ok(()) => Ok(Jws { header, payload }),
        Err(Reason::Signature) if header.offers_a_key => Err(Reason::Embedded),
        Err(refusal) => Err(refusal),
    }
}

/// Verifies the signature.
///
/// Timing before the signature is computed depends only on the token itself and on the names and
/// algorithms of the keys, which are public.
fn verify_signature(
    message: &str,
    signature: &[u8],
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
    if candidates.any(|key| key.verify(signature, message)) {
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

/// Decodes `part` into `buffer`. Returns `None` if it may not fit, whether it is valid or not.
fn decode_into<'b>(part: &str, buffer: &'b mut [u8]) -> Result<Option<&'b [u8]>, Reason> {
    match URL_SAFE_NO_PAD.decode_slice(part, buffer) {
        // `length` counts the bytes that were written into `buffer`, so the range is valid.
        Ok(length) => Ok(Some(&buffer[..length])),
        Err(DecodeSliceError::OutputSliceTooSmall) => Ok(None),
        Err(DecodeSliceError::DecodeError(_)) => Err(Reason::Base64),
    }
}

fn decode_header<'b>(part: &str, buffer: &'b mut [u8; BUFFER]) -> Result<&'b [u8], Reason> {
    match decode_into(part, buffer)? {
        Some(text) if text.len() <= MAX_HEADER => Ok(text),
        Some(_) => Err(Reason::Header),
        None => decode(part).and(Err(Reason::Header)),
    }
}

/// The header of a token.
pub(super) struct Header<'b> {
    text: &'b [u8],
    /// `true` if the header has an extension that changes the meaning of the token.
    has_extension: bool,
    /// `true` if the header offers a key or a URL of one
    /// ([RFC 7515 §4.1](https://www.rfc-editor.org/rfc/rfc7515#section-4.1)).
    offers_a_key: bool,
    alg: Option<Member<'b>>,
    kid: Option<Member<'b>>,
    typ: Option<Member<'b>>,
}

impl<'b> Header<'b> {
    fn read(text: &'b [u8]) -> Result<Self, Reason> {
        static PATHS: LazyLock<Paths<10>> = LazyLock::new(|| {
            let names = [
                "alg", "kid", "typ", "crit", "b64", "zip", "jwk", "jku", "x5u", "x5c",
            ];
            Paths::new(names.map(|name| vec![name.to_owned()]))
        });
        let mut found = [const { None }; 10];
        object(text, MAX_DEPTH, &PATHS, &mut found).ok_or(Reason::Header)?;
        let [alg, kid, typ, others @ ..] = found;
        let (extensions, keys) = others.split_at(3);
        Ok(Self {
            text,
            has_extension: extensions.iter().any(Option::is_some),
            offers_a_key: keys.iter().any(Option::is_some),
            alg,
            kid,
            typ,
        })
    }

    /// Returns `alg` and `kid`. Refuses extensions, unknown algorithms and invalid `kid`s.
    fn check(&self) -> Result<(Algorithm, Option<&str>), Reason> {
        // Extensions that a verifier does not support must be refused (RFC 7515 §4.1.11).
        if self.has_extension {
            return Err(Reason::Critical);
        }
        let kid = match &self.kid {
            None => None,
            Some(Member::Text(kid)) if kid.len() <= MAX_KID => Some(&**kid),
            Some(_) => return Err(Reason::Kid),
        };
        match &self.alg {
            Some(Member::Text(alg)) => {
                let algorithm = Algorithm::parse(alg).ok_or(Reason::Algorithm)?;
                Ok((algorithm, kid))
            }
            _ => Err(Reason::Algorithm),
        }
    }

    /// Returns `typ`, or `None` if the header has none or one that is not a string.
    pub(super) fn typ(&self) -> Option<&str> {
        match &self.typ {
            Some(Member::Text(typ)) => Some(typ),
            _ => None,
        }
    }
}
