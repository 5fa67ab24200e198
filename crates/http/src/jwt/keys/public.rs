//! Public keys: what is asked of their numbers, and how they are made ready.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};

use super::{Check, Key, KeyError, Prepared, weak};
use crate::jwt::Algorithm;

/// The longest exponent of an RSA key, in bits: longer ones only cost time.
const MAX_EXPONENT: usize = 33;

/// A public key in numbers, big-endian and without leading zeros.
pub(super) enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point in the uncompressed form of SEC 1 §2.3.3.
    P256(Vec<u8>),
    /// As for P-256.
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl Public {
    /// The key for those of `algorithms` that work with keys of its type.
    ///
    /// # Errors
    /// None does, or the key is weak or no valid one.
    pub(super) fn prepare(self, algorithms: &[Algorithm]) -> Result<Key, KeyError> {
        if let Self::Rsa(key) = &self {
            check_rsa(key)?;
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
                "the key is of another type or on another curve than the algorithm",
            ));
        }
        let kid = None;
        Ok(Key { kid, prepared })
    }

    /// None if the algorithm works with another type of keys.
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
        Some(parsed.map_err(|_| KeyError::new("the key's numbers are not those of a valid key")))
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
        return Err(KeyError::new("an RSA key has 2,048 to 8,192 bits"));
    }
    if key.n.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyError::new("an RSA modulus is odd"));
    }
    let is_odd = key.e.last().is_some_and(|last| last % 2 == 1);
    if !is_odd || !(2..=MAX_EXPONENT).contains(&bits(&key.e)) {
        return Err(KeyError::new(
            "an RSA exponent is odd, above 1 and has at most 33 bits",
        ));
    }
    if weak::is_roca(&key.n) {
        return Err(KeyError::new(
            "the RSA key was made by a library whose keys can be broken (CVE-2017-15361)",
        ));
    }
    Ok(())
}

/// The length in bits of a number; 0 if it has leading zeros, or is none.
fn bits(number: &[u8]) -> usize {
    match number.first() {
        None | Some(0) => 0,
        Some(first) => number.len() * 8 - first.leading_zeros() as usize,
    }
}
