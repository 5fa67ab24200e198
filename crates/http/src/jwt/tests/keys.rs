//! Tokens that are signed with keys of all types.

use super::*;

#[test]
fn each_key_type_verifies_only_its_own_tokens() {
    type Pair = (Algorithm, &'static [u8], fn() -> EncodingKey);
    let pairs: [Pair; 3] = [
        (
            Algorithm::RS256,
            include_bytes!("../test_keys/rsa.pub.pem"),
            || EncodingKey::from_rsa_pem(include_bytes!("../test_keys/rsa.pem")).unwrap(),
        ),
        (
            Algorithm::ES256,
            include_bytes!("../test_keys/ec.pub.pem"),
            || EncodingKey::from_ec_pem(include_bytes!("../test_keys/ec.pem")).unwrap(),
        ),
        (
            Algorithm::EdDSA,
            include_bytes!("../test_keys/ed.pub.pem"),
            || EncodingKey::from_ed_pem(include_bytes!("../test_keys/ed.pem")).unwrap(),
        ),
    ];
    let keys = KeySet::new(pairs.map(|(algorithm, pem, _)| Key::from_pem(algorithm, pem).unwrap()))
        .unwrap();
    let verifier = Verifier::new(keys, rules()).unwrap().clock(clock);
    for (algorithm, pem, signer) in pairs {
        let token = jsonwebtoken::encode(&header(algorithm), &good(), &signer()).unwrap();
        assert_eq!(
            verifier.verify(&token).unwrap().subject(),
            "ada",
            "{algorithm:?}"
        );
        for other in [
            Algorithm::RS256,
            Algorithm::ES256,
            Algorithm::EdDSA,
            Algorithm::ES384,
        ] {
            assert_eq!(
                Key::from_pem(other, pem).is_ok(),
                other == algorithm,
                "{other:?} from a key for {algorithm:?}"
            );
        }
    }
}

#[test]
fn fault_a17_b11_b12_b13_rejects_weak_keys_and_mixed_sets() {
    assert!(
        Key::from_pem(
            Algorithm::RS256,
            include_bytes!("../test_keys/rsa1024.pub.pem")
        )
        .is_err()
    );
    assert!(Key::from_pem(Algorithm::RS256, b"secret").is_err());
    for (algorithm, least) in [
        (Algorithm::HS256, 32),
        (Algorithm::HS384, 48),
        (Algorithm::HS512, 64),
    ] {
        let secret: Vec<u8> = (0..least).collect();
        assert!(Key::from_secret(algorithm, &secret).is_ok());
        assert!(Key::from_secret(algorithm, &secret[1..]).is_err());
    }
    assert!(Key::from_secret(Algorithm::HS256, &[b'a'; 64]).is_err());
    let symmetric = || Key::from_secret(Algorithm::HS256, SECRET).unwrap();
    let public =
        Key::from_pem(Algorithm::EdDSA, include_bytes!("../test_keys/ed.pub.pem")).unwrap();
    assert!(KeySet::new([symmetric(), public]).is_err());
    assert!(KeySet::new([symmetric().with_kid("a"), symmetric().with_kid("a")]).is_err());
    assert!(KeySet::new([]).is_err());
}

#[test]
fn fault_l4_debug_output_contains_no_keys_and_no_claims() {
    let shown = format!(
        "{:?} {:?}",
        verifier(),
        verifier().verify(&token(&good())).unwrap()
    );
    for secret in ["0123456789abcdef", "48, 49, 50", "ada", "idp.example\")"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn accepts_a_token_from_sign() {
    let token = sign(Algorithm::HS256, SECRET, &good()).unwrap();
    assert_eq!(verifier().verify(&token).unwrap().subject(), "ada");
    assert!(sign(Algorithm::HS256, b"short", &good()).is_err());
}
