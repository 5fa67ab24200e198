//! Verification does not depend on the crypto provider that `jsonwebtoken` uses. The provider is
//! global to the process, so this test needs its own test binary.

use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};
use serde_json::json;
use tower_fanout_http::jwt::{Algorithm, Key, KeySet, Verifier, VerifierConfig, sign};

/// A provider that panics, like the one that `jsonwebtoken` uses if both of its back ends are
/// enabled.
static PANICS: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| panic!("no provider"),
    verifier_factory: |_, _| panic!("no provider"),
    key_utils: KeyUtils::new_unimplemented(),
};

#[test]
fn fault_b16_verification_ignores_the_global_crypto_provider() {
    PANICS.install_default().unwrap();
    let secret = b"an example secret, long enough for 256 bits";
    let exp = 253_402_300_000_u64;
    let claims = json!({"iss": "https://idp.example", "aud": "orders", "exp": exp, "sub": "ada"});
    let token = sign(Algorithm::HS256, secret, &claims).unwrap();
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, secret).unwrap()]).unwrap();
    let rules = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"]);
    assert_eq!(
        Verifier::new(keys, rules)
            .unwrap()
            .verify(&token)
            .unwrap()
            .subject(),
        "ada"
    );
    for (algorithm, pem) in [
        (
            Algorithm::RS256,
            &include_bytes!("../src/jwt/test_keys/rsa.pub.pem")[..],
        ),
        (
            Algorithm::ES256,
            include_bytes!("../src/jwt/test_keys/ec.pub.pem"),
        ),
        (
            Algorithm::EdDSA,
            include_bytes!("../src/jwt/test_keys/ed.pub.pem"),
        ),
    ] {
        Key::from_pem(algorithm, pem).unwrap();
    }
    let set = include_bytes!("../src/jwt/test_keys/jwks.json");
    KeySet::from_jwks(set, &[Algorithm::RS256, Algorithm::ES256]).unwrap();
}
