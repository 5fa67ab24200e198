//! Validation of public keys, and their preparation for the crypto library.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};

use super::{Check, Key, KeyError, Prepared, weak};
use crate::jwt::Algorithm;

/// Maximum length of an RSA exponent, in bits. Longer exponents only cost time.
const MAX_EXPONENT: usize = 33;

/// The numbers of a public key, big-endian and without leading zeros.
pub(super) enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point in the uncompressed form of SEC 1 §2.3.3.
    P256(Vec<u8>),
    /// A point in the same form.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Public {
    /// Prepares the key for those of `algorithms` that match its type.
    ///
    /// # Errors
    /// Returns an error if no algorithm matches, or if the key is invalid or weak.
    pub(super) fn prepare(self, algorithms: &[Algorithm]) -> Result<Key, KeyError> {
        if let Self::Rsa(key) = &self {
            check_rsa(key)?;
        }
        if let Self::Ed25519(x) = &self
            && weak::is_small_order(x)
        {
            return Err(KeyError::new("the Ed25519 key is a point of small order"));
        }
        let prepared = algorithms.iter().filter_map(|&algorithm| {
            let key = self.parse(algorithm)?;
            Some(key.map(|key| Prepared {
                algorithm,
                check: Check::Public(key),
            }))
        });
        let prepared: Vec<_> = prepared.collect::<Result<_, _>>()?;
        if prepared.is_empty() {
            return Err(KeyError::new(
                "the key does not have the type or the curve of the algorithm",
            ));
        }
        let kid = None;
        Ok(Key { kid, prepared })
    }

    /// Parses the key for `algorithm`. Returns `None` if the algorithm needs another type of key.
    fn parse(&self, algorithm: Algorithm) -> Option<Result<ParsedPublicKey, KeyError>> {
        let parsed = match (self, algorithm) {
            (Self::Rsa(key), algorithm) => key.to_parsed_public_key(parameters(algorithm)?),
            (Self::P256(point), Algorithm::ES256) => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            }
            (Self::P384(point), Algorithm::ES384) => {
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
            }
            (Self::Ed25519(x), Algorithm::EdDSA) => ParsedPublicKey::new(&ED25519, x),
            _ => return None,
        };
        Some(parsed.map_err(|_| KeyError::new("the key parameters are not a valid public key")))
    }
}

fn parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn check_rsa(key: &RsaPublicKeyComponents<Vec<u8>>) -> Result<(), KeyError> {
    if !(2048..=8192).contains(&bits(&key.n)) {
        return Err(KeyError::new("an RSA key must have 2,048 to 8,192 bits"));
    }
    if key.n.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyError::new("an RSA modulus must be odd"));
    }
    let is_odd = key.e.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || !(2..=MAX_EXPONENT).contains(&bits(&key.e)) {
        return Err(KeyError::new(
            "an RSA exponent must be odd, greater than 1 and at most 33 bits long",
        ));
    }
    if weak::is_roca(&key.n) {
        return Err(KeyError::new(
            "the RSA key is weak (CVE-2017-15361, ROCA); generate a new one",
        ));
    }
    Ok(())
}

/// Returns the length of a number in bits, or 0 if it is empty or has leading zeros.
fn bits(number: &[u8]) -> usize {
    match number.first() {
        None | Some(0) => 0,
        Some(first) => number.len() * 8 - first.leading_zeros() as usize,
    }
}
