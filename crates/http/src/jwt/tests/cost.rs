//! The number of signatures that are computed for a token.

use super::*;
use crate::jwt::keys::VERIFICATIONS;

/// Returns five HS256 keys, `k0` to `k4`.
fn keys() -> KeySet {
    let key = |number: u8| {
        let secret = format!("{number} a secret that is long enough for it");
        let key = Key::from_secret(Algorithm::HS256, secret.as_bytes()).unwrap();
        key.with_kid(format!("k{number}"))
    };
    KeySet::new((0..5).map(key)).unwrap()
}

/// Returns the reason for refusing a token, and the number of signatures that were computed for it.
fn cost(keys: &KeySet, header: &str, payload: &str, signature: &[u8]) -> (Reason, u32) {
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let token = format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(signature));
    VERIFICATIONS.set(0);
    let refusal = verify_jws(&token, keys).unwrap_err();
    (refusal, VERIFICATIONS.get())
}

#[test]
fn fault_a9_a16_a18_a20_malformed_tokens_cost_no_signature() {
    let keys = keys();
    for (header, reason) in [
        ("{\"alg\":\"none\",\"kid\":\"k0\"}", Reason::Algorithm),
        ("{\"alg\":\"HS384\",\"kid\":\"k0\"}", Reason::Algorithm),
        ("{\"alg\":\"RS256\"}", Reason::Algorithm),
        ("{\"alg\":\"HS256\",\"kid\":\"k9\"}", Reason::Kid),
        ("{\"alg\":\"HS256\",\"crit\":[]}", Reason::Critical),
        ("{}", Reason::Algorithm),
        ("[]", Reason::Header),
    ] {
        assert_eq!(cost(&keys, header, "{}", &[0; 32]), (reason, 0), "{header}");
    }
    let long = "x".repeat(8192);
    let refused = cost(&keys, "{\"alg\":\"HS256\"}", &long, &[0; 32]);
    assert_eq!(refused, (Reason::Oversize, 0));
}

/// The work does not depend on the payload or on the position of the wrong byte.
#[test]
fn fault_a41_a42_costs_one_signature_with_a_kid_and_four_without() {
    let keys = keys();
    for number in 0..10_000_u32 {
        let payload = format!("{{\"sub\":\"{number}\"}}");
        let mut signature = [0; 32];
        signature[number as usize % 32] = 1;
        let header = "{\"alg\":\"HS256\",\"kid\":\"k4\"}";
        let found = cost(&keys, header, &payload, &signature);
        assert_eq!(found, (Reason::Signature, 1));
    }
    let unnamed = cost(&keys, "{\"alg\":\"HS256\"}", "{}", &[0; 32]);
    assert_eq!(unnamed, (Reason::Signature, 4));
}

/// One each for the payload, the id of the subject and the claims, two for the names of members, and
/// three each for two roles and two scopes. The tree of all claims is built for the first caller that
/// reads one.
#[test]
fn verifying_a_token_allocates_for_what_is_kept() {
    let verifier = verifier();
    let token = token(&claims(json!({
        "iat": NOW, "jti": "0198d1f0", "plan": {"tier": "pro", "seats": [1, 2, 3]},
        "roles": ["reader", "writer"], "scope": "orders:read orders:write",
    })));
    // The first token initializes the names of the header.
    assert!(verifier.verify(&token).is_ok());
    let mut claims = None;
    let counted = allocation_counter::measure(|| claims = Some(verifier.verify(&token)));
    assert_eq!(counted.count_total, 11);
    let claims = claims.unwrap().unwrap();
    let parts = (claims.tier(), claims.roles().len(), claims.scopes().len());
    assert_eq!(parts, ("pro", 2, 2));
    let counted = allocation_counter::measure(|| assert_eq!(claims.subject(), "ada"));
    assert_eq!(counted.count_total, 0);
    assert_eq!(claims.get(&["plan", "seats"]), Some(&json!([1, 2, 3])));
    let counted = allocation_counter::measure(|| assert!(claims.get(&["sub"]).is_some()));
    assert_eq!(counted.count_total, 0);
}
