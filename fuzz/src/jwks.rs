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

/// Every key of a set is either dropped or sound, none is secret, and those that are used are a set of
/// their own.
pub fn jwks(data: &[u8]) {
    let Ok((set, dropped)) = KeySet::from_jwks(data, &ALLOWED) else {
        return;
    };
    let document: Value = serde_json::from_slice(data).expect("JSON for others");
    let all = document["keys"].as_array().expect("a list of keys");
    assert_eq!(set.keys().len() + dropped.len(), all.len());
    assert!(all.len() <= 100 && !set.keys().is_empty());
    let is_used = |place: &usize| dropped.iter().all(|key| key.index != *place);
    let places = (0..all.len()).filter(is_used);
    let used: Vec<&Value> = places.map(|place| &all[place]).collect();
    let mut names = Vec::new();
    for (key, jwk) in set.keys().iter().zip(&used) {
        check(key, jwk);
        names.extend(key.kid());
    }
    names.sort_unstable();
    assert!(names.is_sorted_by(|one, other| one < other), "a name twice");
    let alone = json!({"keys": used}).to_string();
    let (again, dropped) = KeySet::from_jwks(alone.as_bytes(), &ALLOWED).expect("a set");
    assert_eq!(
        (format!("{again:?}"), dropped.len()),
        (format!("{set:?}"), 0)
    );
}

/// What is to be seen of a key that is used.
fn check(key: &Key, jwk: &Value) {
    assert_eq!(key.kid(), jwk["kid"].as_str());
    let algorithms: Vec<_> = key.algorithms().map(|one| format!("{one:?}")).collect();
    let named = jwk["alg"].as_str();
    assert!(named.is_none_or(|named| algorithms == [named]), "another");
    assert!(matches!(jwk["use"].as_str(), None | Some("sig")));
    let fits = |names: &[&str]| algorithms.iter().all(|one| names.contains(&one.as_str()));
    let length = |name: &str| bytes(jwk, name).len();
    match (jwk["kty"].as_str(), jwk["crv"].as_str()) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes(jwk, "n"), bytes(jwk, "e"));
            assert!((2048..=8192).contains(&bits(&n)) && is_odd(&n), "modulus");
            assert!((2..=33).contains(&bits(&e)) && is_odd(&e), "exponent");
            assert!(fits(&["RS256", "PS256"]));
        }
        (Some("EC"), Some("P-256")) => assert!(fits(&["ES256"]) && length("x") + length("y") == 64),
        (Some("EC"), Some("P-384")) => assert!(fits(&["ES384"]) && length("x") + length("y") == 96),
        (Some("OKP"), Some("Ed25519")) => assert!(fits(&["EdDSA"]) && length("x") == 32),
        other => panic!("a key of {other:?} is used"),
    }
}

fn bytes(jwk: &Value, name: &str) -> Vec<u8> {
    let text = jwk[name].as_str().expect("a number in text");
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

fn bits(number: &[u8]) -> u32 {
    let first = number.first().map_or(0, |first| 8 - first.leading_zeros());
    let rest = number.len().saturating_sub(1) * 8;
    first + u32::try_from(rest).expect("not so long")
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last % 2 == 1)
}
