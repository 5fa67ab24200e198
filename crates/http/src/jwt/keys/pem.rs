//! Public keys in PEM.

use aws_lc_rs::{rsa, signature::RsaPublicKeyComponents};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};

use super::{Key, KeyError, public::Public};
use crate::jwt::Algorithm;

impl Key {
    /// Parses a public key in PEM: RSA of 2,048 to 8,192 bits, EC on P-256 or P-384, or Ed25519.
    ///
    /// # Errors
    /// Returns an error if `pem` is not a public key in PEM, is not for `algorithm`, or is weak.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let family = Family::of(algorithm).ok_or_else(|| {
            KeyError::new(format!("{algorithm:?} needs a secret, not a PEM file"))
        })?;
        // `jsonwebtoken` only decodes the PEM. aws-lc validates the key and verifies with it.
        let key = match family {
            Family::Rsa => DecodingKey::from_rsa_pem(pem),
            Family::Ec => DecodingKey::from_ec_pem(pem),
            Family::Ed => DecodingKey::from_ed_pem(pem),
        };
        let public = match key.as_ref().map(DecodingKey::kind) {
            Ok(DecodingKeyKind::SecretOrDer(der)) => public(family, der),
            _ => None,
        };
        public
            .ok_or_else(|| {
                KeyError::new(format!("expected a public key in PEM for {algorithm:?}"))
            })?
            .prepare(&[algorithm])
    }
}

/// The key types that PEM files can hold.
#[derive(Clone, Copy)]
enum Family {
    Rsa,
    Ec,
    Ed,
}

impl Family {
    /// Returns the key type for `algorithm`, or `None` if the algorithm needs a secret.
    const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => None,
            Algorithm::ES256 | Algorithm::ES384 => Some(Self::Ec),
            Algorithm::EdDSA => Some(Self::Ed),
            _ => Some(Self::Rsa),
        }
    }
}

/// Returns the key from the decoded PEM: for RSA an `RSAPublicKey`
/// ([RFC 8017 §A.1.1](https://www.rfc-editor.org/rfc/rfc8017#appendix-A.1.1)), else the content of the bit
/// string.
fn public(family: Family, der: &[u8]) -> Option<Public> {
    match (family, der) {
        (Family::Rsa, _) => {
            let key = rsa::PublicKey::from_der(der).ok()?;
            Some(Public::Rsa(RsaPublicKeyComponents::from(&key)))
        }
        (Family::Ec, [4, ..]) if der.len() == 65 => Some(Public::P256(der.to_vec())),
        (Family::Ec, [4, ..]) if der.len() == 97 => Some(Public::P384(der.to_vec())),
        (Family::Ed, _) if der.len() == 32 => Some(Public::Ed25519(der.to_vec())),
        _ => None,
    }
}
