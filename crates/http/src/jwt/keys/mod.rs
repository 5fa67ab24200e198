//! Keys: read once, at load, with everything that is wrong with them said then.

use std::{error::Error, fmt, sync::Once};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey, Header,
    crypto::{self, CryptoProvider, aws_lc},
};
use serde::Serialize;

/// A key that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError(String);

impl KeyError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for KeyError {}

/// A key to verify tokens with, for one algorithm. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    kid: Option<String>,
    key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A symmetric key for HS256, HS384 or HS512.
    ///
    /// # Errors
    /// The secret is shorter than the hash ([RFC 7518 §3.2](https://www.rfc-editor.org/rfc/rfc7518#section-3.2)),
    /// or one byte over and over; or the algorithm is not symmetric.
    pub fn from_secret(algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let least = match algorithm {
            Algorithm::HS256 => 32,
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => {
                return Err(KeyError::new(format!(
                    "{algorithm:?} does not work with a secret"
                )));
            }
        };
        if secret.len() < least {
            return Err(KeyError::new(format!(
                "a secret for {algorithm:?} has at least {least} bytes"
            )));
        }
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err(KeyError::new("a secret of one byte over and over is none"));
        }
        Ok(Self {
            algorithm,
            kid: None,
            key: DecodingKey::from_secret(secret),
        })
    }

    /// A public key in PEM: RSA of 2,048 to 8,192 bits, EC on P-256 or P-384, or Ed25519.
    ///
    /// # Errors
    /// It is not a public key in PEM, not one for `algorithm`, or its size is not accepted.
    pub fn from_pem(algorithm: Algorithm, pem: &[u8]) -> Result<Self, KeyError> {
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                return Err(KeyError::new(format!(
                    "{algorithm:?} works with a secret, not with PEM"
                )));
            }
            AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(pem),
            AlgorithmFamily::Ec => DecodingKey::from_ec_pem(pem),
            _ => DecodingKey::from_ed_pem(pem),
        };
        let key = key.map_err(|_| {
            KeyError::new(format!("this is no public key in PEM for {algorithm:?}"))
        })?;
        check_size(algorithm, &key)?;
        Ok(Self {
            algorithm,
            kid: None,
            key,
        })
    }

    /// Names the key.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The algorithm that it is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn verify(&self, signature: &str, message: &str) -> bool {
        crypto::verify(signature, message.as_bytes(), &self.key, self.algorithm).unwrap_or(false)
    }
}

fn check_size(algorithm: Algorithm, key: &DecodingKey) -> Result<(), KeyError> {
    let DecodingKeyKind::SecretOrDer(der) = key.kind() else {
        return Err(KeyError::new(
            "the key is not in the form that was expected",
        ));
    };
    match (algorithm, der.len()) {
        (Algorithm::ES256, 65) | (Algorithm::ES384, 97) | (Algorithm::EdDSA, 32) => Ok(()),
        (Algorithm::ES256 | Algorithm::ES384, _) => Err(KeyError::new(format!(
            "the key is on another curve than {algorithm:?}"
        ))),
        (Algorithm::EdDSA, _) => Err(KeyError::new("the key is not an Ed25519 key")),
        _ => match rsa_bits(der) {
            Some(2048..=8192) => Ok(()),
            _ => Err(KeyError::new("an RSA key has 2,048 to 8,192 bits")),
        },
    }
}

/// The size of the modulus, the first integer of a PKCS #1 `RSAPublicKey`
/// ([RFC 8017 §A.1.1](https://www.rfc-editor.org/rfc/rfc8017#appendix-A.1.1)).
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (body, _) = der_value(der, 0x30)?;
    let (modulus, _) = der_value(body, 0x02)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    Some((modulus.len() - first) * 8 - modulus[first].leading_zeros() as usize)
}

/// The value at the start of `der` if it has this tag, and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], mut rest) = der.split_first_chunk()?;
    let mut length = usize::from(length);
    if length > 0x80 {
        let (digits, after) = rest.split_at_checked(length - 0x80)?;
        length = digits.iter().try_fold(0usize, |sum, digit| {
            sum.checked_mul(256)?.checked_add((*digit).into())
        })?;
        rest = after;
    }
    (found == tag)
        .then(|| rest.split_at_checked(length))
        .flatten()
}

/// The keys of one issuer.
#[derive(Clone, Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// A set of `keys`; it also makes sure that the crypto library works.
    ///
    /// # Errors
    /// There is none, two have the same name, or secrets stand beside public keys.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self, KeyError> {
        install_crypto()?;
        let keys: Vec<Key> = keys.into_iter().collect();
        let symmetric = keys
            .iter()
            .filter(|key| is_symmetric(key.algorithm))
            .count();
        if keys.is_empty() {
            return Err(KeyError::new("there is no key"));
        }
        if symmetric != 0 && symmetric != keys.len() {
            return Err(KeyError::new(
                "secrets and public keys cannot stand in one set",
            ));
        }
        for (place, key) in keys.iter().enumerate() {
            if key.kid.is_some() && keys[..place].iter().any(|other| other.kid == key.kid) {
                return Err(KeyError::new("two keys have the same kid"));
            }
        }
        Ok(Self { keys })
    }

    /// The keys that may have signed a token with this header: the one that it names, else the first
    /// few for its algorithm.
    pub(super) fn candidates(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &Key> {
        let named = move |key: &&Key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid));
        self.keys
            .iter()
            .filter(named)
            .filter(move |key| key.algorithm == algorithm)
            .take(4)
    }

    /// Whether a key has this name, or can have no name.
    pub(super) fn knows(&self, kid: Option<&str>) -> bool {
        kid.is_none_or(|kid| self.keys.iter().any(|key| key.kid.as_deref() == Some(kid)))
    }
}

/// Whether the algorithm works with a shared secret.
pub(super) fn is_symmetric(algorithm: Algorithm) -> bool {
    algorithm.family() == AlgorithmFamily::Hmac
}

/// Installs the one crypto library, whatever features other crates have turned on, and tries it.
fn install_crypto() -> Result<(), KeyError> {
    static INSTALL: Once = Once::new();
    // An error says that the program has installed a provider already: that is its right.
    INSTALL.call_once(|| {
        let _ = CryptoProvider::install_default(&aws_lc::DEFAULT_PROVIDER);
    });
    let key = EncodingKey::from_secret(b"self-test");
    let signature = crypto::sign(b"self-test", &key, Algorithm::HS256);
    let key = DecodingKey::from_secret(b"self-test");
    let works = signature
        .and_then(|signature| crypto::verify(&signature, b"self-test", &key, Algorithm::HS256));
    match works {
        Ok(true) => Ok(()),
        _ => Err(KeyError::new("the crypto library does not work")),
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
    Key::from_secret(algorithm, secret)?;
    install_crypto()?;
    jsonwebtoken::encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret),
    )
    .map_err(|_| KeyError::new("the claims cannot be written"))
}
