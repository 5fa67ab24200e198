//! Tests of loading keys, by the ids of `docs/faults.md`.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{EncodingKey, crypto};
use serde_json::{Value, json};

use super::*;

const JWKS: &[u8] = include_bytes!("../test_keys/jwks.json");
const ALLOWED: [Algorithm; 4] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::EdDSA,
];

/// Returns the valid key of type `kty` with `changes` applied. `null` removes a member.
fn jwk(kty: &str, changes: Value) -> Value {
    let set: Value = serde_json::from_slice(JWKS).unwrap();
    let mut keys = set["keys"].as_array().unwrap().iter();
    let mut key = keys.find(|key| key["kty"] == kty).unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(key.as_object_mut().unwrap().remove(name)),
            value => key[name] = value.clone(),
        }
    }
    key
}

fn read(keys: &[Value]) -> Result<(KeySet, Vec<DroppedKey>), KeyError> {
    KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes(), &ALLOWED)
}

/// Returns `true` if `key` is accepted in a set with a valid key.
fn is_used(key: &Value) -> bool {
    let good = jwk("EC", json!({"kid": "good"}));
    let (_, dropped) = read(&[good, key.clone()]).unwrap();
    dropped.is_empty()
}

fn number(bytes: &[u8]) -> Value {
    URL_SAFE_NO_PAD.encode(bytes).into()
}

fn bytes(key: &Value, name: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap()
}

/// Signs "message" with the test key for `algorithm`.
fn signature(algorithm: Algorithm) -> Vec<u8> {
    let key = match algorithm {
        Algorithm::ES256 => EncodingKey::from_ec_pem(include_bytes!("../test_keys/ec.pem")),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(include_bytes!("../test_keys/ed.pem")),
        _ => EncodingKey::from_rsa_pem(include_bytes!("../test_keys/rsa.pem")),
    };
    let algorithm = algorithm.as_str().parse().unwrap();
    let signature = crypto::sign(b"message", &key.unwrap(), algorithm).unwrap();
    URL_SAFE_NO_PAD.decode(signature).unwrap()
}

fn verifies(set: &KeySet, kid: &str, algorithm: Algorithm) -> bool {
    let signature = signature(algorithm);
    set.candidates(Some(kid), algorithm)
        .any(|key| key.verify(&signature, "message"))
}

#[test]
fn keys_of_a_jwk_set_verify_signatures() {
    let (set, dropped) = KeySet::from_jwks(JWKS, &ALLOWED).unwrap();
    assert_eq!(dropped, []);
    for (kid, algorithm) in [
        ("rsa", Algorithm::RS256),
        ("ec", Algorithm::ES256),
        ("ed", Algorithm::EdDSA),
    ] {
        assert!(verifies(&set, kid, algorithm), "{kid}");
    }
    assert!(!verifies(&set, "rsa", Algorithm::PS256), "alg is RS256");
    let (set, _) = read(&[jwk("RSA", json!({"alg": null}))]).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::PS256] {
        assert!(verifies(&set, "rsa", algorithm), "allowed: {algorithm:?}");
    }
    assert!(!verifies(&set, "rsa", Algorithm::RS384), "not allowed");
}

#[test]
fn fault_b5_drops_a_bad_key_and_uses_the_others() {
    let bad = json!({"kty": "RSA", "n": "secret-looking", "e": 5});
    let (set, dropped) = read(&[bad, jwk("EC", json!({})), json!("x"), json!({})]).unwrap();
    assert!(verifies(&set, "ec", Algorithm::ES256));
    let indexes: Vec<_> = dropped.iter().map(|key| (key.index, key.kty)).collect();
    assert_eq!(indexes, [(0, "RSA"), (2, "other"), (3, "other")]);
    assert!(!format!("{dropped:?}").contains("secret-looking"));
    assert_eq!(
        read(&[json!({"kty": "X"})]).unwrap_err().to_string(),
        "the set has no usable key, 1 dropped; key 0 (other): `kty` must be RSA, EC or OKP"
    );
}

#[test]
fn fault_b4_rejects_text_that_is_not_a_jwk_set() {
    let twice = format!("{{\"keys\":[],{}", &String::from_utf8_lossy(JWKS)[1..]);
    let large = format!("{}{}", String::from_utf8_lossy(JWKS), " ".repeat(256 << 10));
    let texts = [
        "",
        "{}",
        "[]",
        "null",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "<!doctype html>",
        &twice,
        &large,
    ];
    for text in texts {
        assert!(KeySet::from_jwks(text.as_bytes(), &ALLOWED).is_err());
    }
    let many: Vec<_> = (0..101)
        .map(|index| jwk("EC", json!({"kid": index.to_string()})))
        .collect();
    assert!(read(&many[..100]).is_ok());
    assert!(read(&many).is_err());
}

#[test]
fn fault_b10_drops_symmetric_keys_and_ignores_private_parts() {
    let secret = json!({"kty": "oct", "alg": "HS256", "k": number(&[7; 32])});
    let (_, dropped) = read(&[secret.clone(), jwk("EC", json!({"d": "AAAA"}))]).unwrap();
    assert_eq!((dropped.len(), dropped[0].kty), (1, "oct"));
    let allowed = [Algorithm::HS256];
    let set = json!({"keys": [secret]}).to_string();
    assert!(KeySet::from_jwks(set.as_bytes(), &allowed).is_err());
}

#[test]
fn fault_b11_rejects_a_set_with_a_duplicate_kid() {
    let keys = [jwk("EC", json!({})), jwk("RSA", json!({"kid": "ec"}))];
    assert!(read(&keys).is_err());
    let unused = jwk("RSA", json!({"kid": "ec", "use": "enc"}));
    assert!(read(&[jwk("EC", json!({})), unused]).is_ok());
    let twice = jwk("EC", json!({})).to_string();
    let twice = twice.replace('}', ",\"kid\":\"other\"}");
    let set = format!("{{\"keys\":[{twice}]}}");
    assert!(KeySet::from_jwks(set.as_bytes(), &ALLOWED).is_err());
}

/// Returns the modulus 65537^128 with 2,049 bits. It is a power of 65537 modulo every prime.
fn roca_modulus() -> Vec<u8> {
    let mut number = vec![1u8];
    for _ in 0..128 {
        let shifted = [&number[..], &[0, 0]].concat();
        let mut carry = 0;
        let mut sum = shifted;
        for (index, digit) in sum.iter_mut().rev().enumerate() {
            let other = number.iter().rev().nth(index).copied().unwrap_or(0);
            let all = u16::from(*digit) + u16::from(other) + carry;
            *digit = all as u8;
            carry = all >> 8;
        }
        number = sum;
    }
    number
}

#[test]
fn fault_b12_rejects_weak_rsa_keys() {
    let good = bytes(&jwk("RSA", json!({})), "n");
    let modulus = |n: &[u8]| jwk("RSA", json!({"n": number(n)}));
    let exponent = |e: &[u8]| jwk("RSA", json!({"e": number(e)}));
    assert!(is_used(&modulus(&good)));
    assert!(is_used(&exponent(&[3])));
    let large = [&good[..], &good, &good, &good, &[1]].concat();
    assert!(is_used(&modulus(&large[..1024])));
    let zero = [&[0], &good[..]].concat();
    for n in [&good[..255], &large, &zero, &[], &[0; 256]] {
        assert!(!is_used(&modulus(n)), "{} bytes", n.len());
    }
    let mut even = good;
    even[255] &= 0xfe;
    assert!(!is_used(&modulus(&even)));
    for e in [&[1][..], &[0], &[], &[2], &[1, 0, 0], &[0, 3], &[3; 6]] {
        assert!(!is_used(&exponent(e)), "{e:?}");
    }
    let roca = roca_modulus();
    assert_eq!(roca.len(), 257);
    let (_, dropped) = read(&[modulus(&roca), jwk("EC", json!({}))]).unwrap();
    assert!(dropped[0].error.to_string().contains("CVE-2017-15361"));
}

#[test]
fn fault_b12_b14_rejects_weak_and_invalid_pem_keys() {
    let roca = roca_modulus();
    let sized = |tag, value: &[u8]| {
        let length = (value.len() as u16).to_be_bytes();
        [&[tag, 0x82], &length[..], value].concat()
    };
    let numbers = [&sized(0x02, &roca)[..], &[0x02, 3, 1, 0, 1]].concat();
    let der = sized(0x30, &numbers);
    let error = Key::from_pem(Algorithm::RS256, &pem("RSA PUBLIC KEY", &der)).unwrap_err();
    assert!(error.to_string().contains("CVE-2017-15361"), "{error}");
    let good = include_str!("../test_keys/ec.pub.pem").lines();
    let text: String = good.filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(text).unwrap();
    assert!(Key::from_pem(Algorithm::ES256, &pem("PUBLIC KEY", &der)).is_ok());
    *der.last_mut().unwrap() ^= 1;
    assert!(Key::from_pem(Algorithm::ES256, &pem("PUBLIC KEY", &der)).is_err());
}

/// Returns `2^255 - 19 + offset` as a little-endian number.
fn near_prime(offset: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    (bytes[0], bytes[31]) = (0xed_u8.wrapping_add(offset), 0x7f);
    bytes
}

#[test]
fn fault_b20_rejects_ed25519_keys_of_small_order() {
    let mut one = [0; 32];
    one[0] = 1;
    let eighth = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap();
    let small: [[u8; 32]; 7] = [
        [0; 32],
        one,
        eighth("JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU"),
        eighth("xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o"),
        near_prime(255),
        near_prime(0),
        near_prime(1),
    ];
    for mut x in small {
        for sign in [0, 0x80] {
            x[31] |= sign;
            let key = jwk("OKP", json!({"x": number(&x)}));
            let (_, dropped) = read(&[key, jwk("EC", json!({}))]).unwrap();
            assert!(
                dropped[0].error.to_string().contains("small order"),
                "{x:?}"
            );
        }
        let prefix = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        let der = [&prefix[..], &x].concat();
        assert!(Key::from_pem(Algorithm::EdDSA, &pem("PUBLIC KEY", &der)).is_err());
    }
    assert!(is_used(&jwk("OKP", json!({}))));
}

#[test]
fn fault_b21_a_key_may_name_its_algorithm_ed25519() {
    assert!(is_used(&jwk("OKP", json!({"alg": "Ed25519"}))));
    assert!(!is_used(&jwk("EC", json!({"alg": "Ed25519"}))));
    assert!(!is_used(&jwk("OKP", json!({"alg": "Ed448"}))));
}

fn pem(tag: &str, der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    format!("-----BEGIN {tag}-----\n{text}\n-----END {tag}-----\n").into()
}

#[test]
fn fault_b14_rejects_keys_with_inconsistent_members() {
    let ec = jwk("EC", json!({}));
    let (mut x, y) = (bytes(&ec, "x"), bytes(&ec, "y"));
    x[31] ^= 1;
    let long = number(&[&[0], &x[..]].concat());
    let wrong = [
        jwk("EC", json!({"x": number(&x)})),
        jwk("EC", json!({"x": number(&y), "y": number(&x)})),
        jwk("EC", json!({"x": number(&[0; 32]), "y": number(&[0; 32])})),
        jwk("EC", json!({"x": number(&[255; 32])})),
        jwk("EC", json!({"x": long})),
        jwk("EC", json!({"y": null})),
        jwk("EC", json!({"y": 5})),
        jwk(
            "EC",
            json!({"y": format!("{}=", ec["y"].as_str().unwrap())}),
        ),
        jwk("EC", json!({"crv": "P-384"})),
        jwk("EC", json!({"crv": "secp256k1"})),
        jwk("EC", json!({"crv": null})),
        jwk("EC", json!({"kty": "OKP"})),
        jwk("EC", json!({"kty": "ec"})),
        jwk("EC", json!({"alg": "RS256"})),
        jwk("EC", json!({"alg": "ES384"})),
        jwk("EC", json!({"alg": "ECDH-ES"})),
        jwk("EC", json!({"alg": "none"})),
        jwk("EC", json!({"alg": null, "use": "enc"})),
        jwk("EC", json!({"use": ["sig"]})),
        jwk("EC", json!({"key_ops": ["sign"]})),
        jwk("EC", json!({"key_ops": "verify"})),
        jwk("EC", json!({"key_ops": []})),
        jwk("EC", json!({"kid": 5})),
        jwk("EC", json!({"kid": "x".repeat(257)})),
        jwk("RSA", json!({"alg": "HS256"})),
        jwk("RSA", json!({"alg": "RS512"})),
        jwk("OKP", json!({"crv": "Ed448"})),
        jwk("OKP", json!({"alg": "ES256"})),
    ];
    for key in wrong {
        assert!(!is_used(&key), "{key}");
    }
    for key in [
        jwk(
            "EC",
            json!({"alg": "ES256", "use": "sig", "key_ops": ["x", "verify"]}),
        ),
        jwk("EC", json!({"x5c": ["x"], "more": {"a": 1}})),
        jwk("OKP", json!({"alg": "EdDSA"})),
    ] {
        assert!(is_used(&key), "{key}");
    }
}

#[test]
fn fault_b15_rejects_ed25519_points_of_other_than_32_bytes() {
    for length in [0, 1, 3, 31, 33, 57, 64] {
        let key = jwk("OKP", json!({"x": number(&vec![1; length])}));
        assert!(!is_used(&key), "{length}");
    }
}

#[test]
fn verifying_a_signature_does_not_allocate() {
    let (set, _) = KeySet::from_jwks(JWKS, &ALLOWED).unwrap();
    for (kid, algorithm) in [
        ("rsa", Algorithm::RS256),
        ("ec", Algorithm::ES256),
        ("ed", Algorithm::EdDSA),
    ] {
        let signature = signature(algorithm);
        let counted = allocation_counter::measure(|| {
            let mut keys = set.candidates(Some(kid), algorithm);
            assert!(keys.any(|key| key.verify(&signature, "message")));
        });
        assert_eq!(counted.count_total, 0, "{kid}");
    }
}

#[test]
fn fault_b18_rejects_truncated_files_and_replaces_keys_atomically() {
    let pem = include_str!("../test_keys/ec.pub.pem").trim_end();
    let set = String::from_utf8_lossy(JWKS);
    let set = set.trim_end();
    let read = |text: &str| match text.strip_prefix('{') {
        None => KeySet::new([Key::from_pem(Algorithm::ES256, text.as_bytes())?.with_kid("pem")]),
        Some(_) => KeySet::from_jwks(text.as_bytes(), &ALLOWED).map(|(set, _)| set),
    };
    let keys = Keys::from(read(set).unwrap());
    let other = keys.clone();
    let before = other.current().unwrap();
    for whole in [pem, set] {
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "{}", &whole[..cut]);
        }
    }
    keys.replace(read(pem).unwrap());
    let after = other.current().unwrap();
    assert!(verifies(&after, "pem", Algorithm::ES256) && !after.knows(Some("ec")));
    assert!(
        verifies(&before, "ec", Algorithm::ES256),
        "a set in use stays valid"
    );
}
