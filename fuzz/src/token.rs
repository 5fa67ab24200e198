use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use tower_fanout_http::jwt::{Algorithm, Key, KeySet, Rules, verify_jws};

static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    let key = Key::from_secret(
        Algorithm::HS256,
        b"a secret of the fuzz target, nobody else's",
    )
    .expect("long enough");
    KeySet::new([key]).expect("one key")
});

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new(["https://idp.example"], ["fuzz"])
        .expect("both are named")
        .tier("realm.tier", ["free", "pro"], "free")
        .roles("realm.roles")
});

/// No bytes are a token that is believed, since nobody has signed one; and claims that are believed
/// have not expired.
pub fn token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(verify_jws(text, &KEYS).is_err(), "a forged token");
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    if let Ok(claims) = RULES.check(data, now) {
        let claim = |name: &str| claims.get(&[name]).cloned().unwrap_or_default();
        let expires = claim("exp").as_f64().expect("a time");
        assert!(expires + 30.0 >= 1_700_000_000.0, "expired");
        assert_eq!(claim("iss"), "https://idp.example");
        assert!(["free", "pro"].contains(&claims.tier()));
    }
}
