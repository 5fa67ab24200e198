use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower_fanout_http::jwt::{Algorithm, Key, KeySet};

const ALLOWED: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Every key of a JWK Set is either dropped, or a strong public key that matches its JWK.
///
/// The used keys alone form a set with the same keys.
pub fn jwks(data: &[u8]) {
    let Ok((set, dropped)) = KeySet::from_jwks(data, &ALLOWED) else {
        return;
    };
    let document: Value = serde_json::from_slice(data).expect("serde_json must accept the set too");
    let all = document["keys"]
        .as_array()
        .expect("`keys` must be an array");
    assert_eq!(set.keys().len() + dropped.len(), all.len());
    assert!(all.len() <= 100 && !set.keys().is_empty());
    let is_used = |index: &usize| dropped.iter().all(|key| key.index != *index);
    let indices = (0..all.len()).filter(is_used);
    let used: Vec<&Value> = indices.map(|index| &all[index]).collect();
    let mut names = Vec::new();
    for (key, jwk) in set.keys().iter().zip(&used) {
        check(key, jwk);
        names.extend(key.kid());
    }
    names.sort_unstable();
    assert!(
        names.is_sorted_by(|one, other| one < other),
        "duplicate kid"
    );
    let alone = json!({"keys": used}).to_string();
    let (again, dropped) =
        KeySet::from_jwks(alone.as_bytes(), &ALLOWED).expect("the used keys must form a set");
    assert_eq!(
        (format!("{again:?}"), dropped.len()),
        (format!("{set:?}"), 0)
    );
}

/// Checks that `key` has the name, the algorithms and the strength that `jwk` allows.
fn check(key: &Key, jwk: &Value) {
    assert_eq!(key.kid(), jwk["kid"].as_str());
    let algorithms: Vec<_> = key.algorithms().map(|one| format!("{one:?}")).collect();
    let named = jwk["alg"].as_str();
    assert!(
        named.is_none_or(|named| algorithms == [named]),
        "a key with `alg` must allow only this algorithm"
    );
    assert!(matches!(jwk["use"].as_str(), None | Some("sig")));
    let fits = |names: &[&str]| algorithms.iter().all(|one| names.contains(&one.as_str()));
    let length = |name: &str| bytes(jwk, name).len();
    match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes(jwk, "n"), bytes(jwk, "e"));
            assert!(
                (2048..=8192).contains(&bits(&n)) && is_odd(&n),
                "invalid RSA modulus"
            );
            assert!(
                (2..=33).contains(&bits(&e)) && is_odd(&e),
                "invalid RSA exponent"
            );
            assert!(fits(&["RS256", "PS256"]));
        }
        (Some("EC"), Some("P-256")) => assert!(fits(&["ES256"]) && length("x") + length("y") == 64),
        (Some("EC"), Some("P-384")) => assert!(fits(&["ES384"]) && length("x") + length("y") == 96),
        (Some("OKP"), Some("Ed25519")) => assert!(fits(&["EdDSA"]) && length("x") == 32),
        other => panic!("a key with `kty` and `crv` {other:?} must be dropped"),
    }
}

fn bytes(jwk: &Value, name: &str) -> Vec<u8> {
    let text = jwk[name].as_str().expect("the member must be a string");
    URL_SAFE_NO_PAD
        .decode(text)
        .expect("the member must be base64url")
}

/// Returns the number of bits of a big-endian number without its leading zero bits.
fn bits(number: &[u8]) -> u32 {
    let first = number.first().map_or(0, |first| 8 - first.leading_zeros());
    let rest = number.len().saturating_sub(1) * 8;
    first + u32::try_from(rest).expect("the set has at most 256 KiB")
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last % 2 == 1)
}
