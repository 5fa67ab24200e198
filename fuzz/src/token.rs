use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use serde_json::value::RawValue;
use tower_fanout_http::jwt::{Algorithm, Key, KeySet, Verifier, VerifierConfig, sign, verify_jws};

const SECRET: &[u8] = b"a secret that only this fuzz target uses";
const NOW: u64 = 1_700_000_000;

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let key = Key::from_secret(Algorithm::HS256, SECRET).expect("the secret is long enough");
    KeySet::new([key]).expect("one key is a set")
});

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let config = VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["fuzz"])
        .tier_claim("realm.tier".to_owned())
        .tiers(["free", "pro"])
        .default_tier("free")
        .roles_claim("realm.roles");
    let now = || SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let verifier = Verifier::new(KEYS.clone(), config).expect("a valid config");
    verifier.clock(now)
});

/// No input verifies as a token, because none is signed with the secret. Claims that verify after
/// signing have the right issuer and tier and are not expired.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert!(
        verify_jws(text, &KEYS).is_err(),
        "accepted a token that was not signed"
    );
    let Ok(payload) = serde_json::from_str::<&RawValue>(text) else {
        return;
    };
    let token = sign(Algorithm::HS256, SECRET, &payload).expect("JSON can be signed");
    if let Ok(claims) = VERIFIER.verify(&token) {
        let claim = |name: &str| claims.get(&[name]).cloned().unwrap_or_default();
        let expires = claim("exp").as_f64().expect("`exp` must be a number");
        // 30 s is the tolerance for clock skew.
        assert!(expires + 30.0 >= NOW as f64, "accepted an expired token");
        assert_eq!(claim("iss"), "https://idp.example");
        assert!(["free", "pro"].contains(&claims.tier()));
    }
}
