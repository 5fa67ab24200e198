//! The supported signature algorithms.

use serde::{Deserialize, Serialize};
use tower_fanout_layers::labels;

labels! {
    /// A signature algorithm of a token ([RFC 7518 §3](https://www.rfc-editor.org/rfc/rfc7518#section-3)).
    /// Serialized by its `alg` name.
    #[derive(Serialize, Deserialize)]
    pub enum Algorithm {
        /// HMAC with SHA-256.
        HS256 = "HS256",
        /// HMAC with SHA-384.
        HS384 = "HS384",
        /// HMAC with SHA-512.
        HS512 = "HS512",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        RS256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        RS384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        RS512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        PS256 = "PS256",
        /// RSASSA-PSS with SHA-384.
        PS384 = "PS384",
        /// RSASSA-PSS with SHA-512.
        PS512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        ES256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        ES384 = "ES384",
        /// Edwards-curve signatures ([RFC 8037](https://www.rfc-editor.org/rfc/rfc8037)), with Ed25519.
        ///
        /// Also read from `Ed25519`, the name of the same algorithm in
        /// [RFC 9864](https://www.rfc-editor.org/rfc/rfc9864).
        #[serde(alias = "Ed25519")]
        EdDSA = "EdDSA",
    }
}

impl Algorithm {
    /// Returns `true` if the algorithm works with a shared secret.
    #[must_use]
    pub const fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
    /// Returns the algorithm with this `alg` name, or `None` if it is not supported.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDSA);
        }
        let mut all = Self::ALL.iter().copied();
        all.find(|algorithm| algorithm.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_round_trip_by_name() {
        for &algorithm in Algorithm::ALL {
            let name = algorithm.as_str();
            assert_eq!(name, format!("{algorithm:?}"));
            assert_eq!(Algorithm::parse(name), Some(algorithm));
            let json = serde_json::to_string(&algorithm).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Algorithm>(&json).unwrap(), algorithm);
            assert_eq!(
                name.parse::<jsonwebtoken::Algorithm>()
                    .map(|other| format!("{other:?}")),
                Ok(name.to_owned())
            );
        }
        assert_eq!(Algorithm::parse("none"), None);
        assert_eq!(Algorithm::parse("Ed448"), None);
        let alias = serde_json::from_str::<Algorithm>("\"Ed25519\"");
        assert_eq!(alias.ok(), Algorithm::parse("Ed25519"));
    }
}
