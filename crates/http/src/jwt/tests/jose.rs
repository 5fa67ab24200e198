//! Faults A9 to A23: parsing and signature of a token.

use std::{io::ErrorKind, net::TcpListener};

use base64::engine::general_purpose::STANDARD;

use super::*;

const OTHER: &[u8] = b"another secret that is long enough too";

/// Returns a verifier with HS256 keys of these `kid`s and secrets.
fn named_keys(keys: &[(&str, &[u8])]) -> Verifier {
    let key = |(kid, secret): &(&str, &[u8])| {
        let key = Key::from_secret(Algorithm::HS256, secret).unwrap();
        key.with_kid(*kid)
    };
    Verifier::new(KeySet::new(keys.iter().map(key)).unwrap(), rules())
        .unwrap()
        .clock(clock)
}

#[test]
fn fault_a9_a10_a11_requires_three_parts_and_limits_the_length() {
    let token = token(&good());
    let (message, _) = token.rsplit_once('.').unwrap();
    assert_eq!(reason(&"a".repeat(8193)), Some(Reason::Oversize));
    let shapes = [
        "",
        "a",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "..",
        "a.b.",
        ".b.c",
        "{\"payload\":\"x\"}",
    ];
    for shape in shapes {
        assert_eq!(reason(shape), Some(Reason::NotThreeParts), "{shape}");
    }
    assert_eq!(reason(&format!("{message}.")), Some(Reason::NotThreeParts));
}

#[test]
fn fault_a12_requires_strict_base64url_in_all_parts() {
    let token = token(&good());
    let parts: Vec<_> = token.split('.').collect();
    for (index, part) in parts.iter().enumerate() {
        // If the length is not a multiple of four, the last digit has unused bits, which must be zero.
        let (start, last) = part.split_at(part.len() - 1);
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = digits.iter().position(|digit| *digit == last.as_bytes()[0]);
        let spare = format!("{start}{}", char::from(digits[last.unwrap() | 1]));
        let mut bad = vec![
            format!("{part}="),
            format!("{part}=="),
            format!("{part}\n"),
            format!(" {part}"),
            format!("{part} "),
            format!("+/{part}"),
        ];
        if part.len() % 4 != 0 {
            bad.push(spare);
        }
        for bad in bad {
            let mut parts = parts.clone();
            parts[index] = &bad;
            assert_eq!(reason(&parts.join(".")), Some(Reason::Base64), "{bad:?}");
        }
    }
    assert!(parts.iter().any(|part| part.len() % 4 != 0));
}

#[test]
fn fault_a13_requires_a_small_flat_header_without_duplicate_names() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        format!("{{\"alg\":\"HS256\",\"x\":{open}{close}}}")
    };
    let long = |length: usize| {
        let frame = "{\"alg\":\"HS256\",\"x\":\"\"}".len();
        format!(
            "{{\"alg\":\"HS256\",\"x\":\"{}\"}}",
            "x".repeat(length - frame)
        )
    };
    assert_eq!(with_header(""), Some(Reason::NotThreeParts));
    for bad in [
        "x",
        "[]",
        "null",
        "{\"alg\":\"HS256\"",
        "{\"alg\":\"HS256\"}{}",
        "{\"alg\":\"HS256\",\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"\\u0061lg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"x\":[{\"y\":1,\"y\":2}]}",
        &nested(9),
        &long(1025),
    ] {
        assert_eq!(with_header(bad), Some(Reason::Header), "{bad}");
    }
    for good in [nested(8), long(1024)] {
        assert_eq!(with_header(&good), None, "{good}");
    }
}

#[test]
fn fault_a14_refuses_alg_none_and_unknown_algorithms() {
    for header in [
        "{\"alg\":\"none\"}",
        "{\"alg\":\"NONE\"}",
        "{\"alg\":\"nOnE\"}",
        "{}",
        "{\"alg\":5}",
        "{\"alg\":\"HS1\"}",
    ] {
        assert_eq!(with_header(header), Some(Reason::Algorithm), "{header}");
    }
}

#[test]
fn fault_a15_refuses_hs256_with_the_public_key_as_the_secret() {
    let pem = include_bytes!("../test_keys/rsa.pub.pem");
    let keys = KeySet::new([Key::from_pem(Algorithm::RS256, pem).unwrap()]).unwrap();
    let verifier = Verifier::new(keys, rules()).unwrap().clock(clock);
    let forged = jsonwebtoken::encode(
        &header(Algorithm::HS256),
        &good(),
        &EncodingKey::from_secret(pem),
    )
    .unwrap();
    assert_eq!(verifier.verify(&forged).unwrap_err(), Reason::Algorithm);
}

#[test]
fn fault_a16_refuses_algorithms_other_than_that_of_the_key() {
    assert_eq!(with_header("{\"alg\":\"HS384\"}"), Some(Reason::Algorithm));
    let signer = EncodingKey::from_rsa_pem(include_bytes!("../test_keys/rsa.pem")).unwrap();
    let key = Key::from_pem(Algorithm::RS256, include_bytes!("../test_keys/rsa.pub.pem")).unwrap();
    let verifier = Verifier::new(KeySet::new([key]).unwrap(), rules())
        .unwrap()
        .clock(clock);
    let sign = |algorithm| jsonwebtoken::encode(&header(algorithm), &good(), &signer).unwrap();
    assert!(verifier.verify(&sign(Algorithm::RS256)).is_ok());
    assert_eq!(
        verifier.verify(&sign(Algorithm::PS256)).unwrap_err(),
        Reason::Algorithm
    );
}

#[test]
fn fault_a18_refuses_header_extensions() {
    for header in [
        "\"crit\":[\"exp\"]",
        "\"crit\":[]",
        "\"crit\":null",
        "\"crit\":[\"b64\"],\"b64\":false",
        "\"b64\":false",
        "\"b64\":true",
        "\"zip\":\"DEF\"",
    ] {
        assert_eq!(
            with_header(&format!("{{\"alg\":\"HS256\",{header}}}")),
            Some(Reason::Critical),
            "{header}"
        );
    }
}

/// The caller signs with its own key and offers that key, or a URL of it, in the header.
#[test]
fn fault_a19_never_uses_or_fetches_a_key_from_the_header() {
    let canary = TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", canary.local_addr().unwrap());
    let caller_secret = b"a secret of the caller, as long as it has to be";
    let jwk = json!({"kty": "oct", "alg": "HS256", "k": URL_SAFE_NO_PAD.encode(caller_secret)});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        ("x5c", json!([STANDARD.encode("a certificate")])),
    ] {
        let header = json!({"alg": "HS256", name: value}).to_string();
        assert_eq!(
            with_header(&header),
            None,
            "{name} is ignored if the signature is valid"
        );
        let forged = raw_with(
            &EncodingKey::from_secret(caller_secret),
            &header,
            &good().to_string(),
        );
        assert_eq!(reason(&forged), Some(Reason::Embedded), "{name}");
    }
    assert_eq!(canary.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn fault_a20_a21_uses_only_the_key_with_the_kid_of_the_token() {
    let long = "k".repeat(256);
    let verifier = named_keys(&[("b", OTHER), ("a", SECRET), (&long, SECRET)]);
    let named = |kid: Value| {
        let header = json!({"alg": "HS256", "kid": kid}).to_string();
        let token = raw(&header, &good().to_string());
        verifier.verify(&token).err()
    };
    assert_eq!(named(json!("a")), None);
    assert_eq!(named(json!(long)), None);
    assert_eq!(named(json!("b")), Some(Reason::Signature));
    for kid in [
        json!("c"),
        json!("A"),
        json!(""),
        json!("../a"),
        json!("a\0"),
        json!("' OR 1=1 --"),
        json!("{{a}}"),
        json!("${jndi:ldap://x}"),
        json!("a".repeat(257)),
        json!(5),
        json!(null),
        json!(["a"]),
    ] {
        assert_eq!(named(kid.clone()), Some(Reason::Kid), "{kid}");
    }
    assert_eq!(named(json!("a".repeat(10_000))), Some(Reason::Oversize));
}

#[test]
fn fault_a22_tries_the_first_four_matching_keys_without_a_kid() {
    let unnamed = |verifier: Verifier| {
        let token = raw("{\"alg\":\"HS256\"}", &good().to_string());
        verifier.verify(&token).err()
    };
    assert_eq!(unnamed(named_keys(&[("a", SECRET)])), None);
    let others = [("b", OTHER), ("c", OTHER), ("d", OTHER), ("e", OTHER)];
    assert_eq!(
        unnamed(named_keys(&[&others[..3], &[("a", SECRET)]].concat())),
        None
    );
    assert_eq!(
        unnamed(named_keys(&[&others[..], &[("a", SECRET)]].concat())),
        Some(Reason::Signature)
    );
}

#[test]
fn fault_a23_refuses_any_change_of_the_signature() {
    let token = token(&good());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 1;
        assert_eq!(
            reason(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(flipped))),
            Some(Reason::Signature)
        );
    }
    for cut in [&bytes[..31], &[0; 32], &[&bytes[..], &[0]].concat()] {
        assert_eq!(
            reason(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(cut))),
            Some(Reason::Signature)
        );
    }
}

/// An ES256 signature consists of two 32-byte numbers
/// ([RFC 7518 §3.4](https://www.rfc-editor.org/rfc/rfc7518#section-3.4)).
#[test]
fn fault_a23_refuses_es256_signatures_with_invalid_numbers() {
    let public = include_bytes!("../test_keys/ec.pub.pem");
    let keys = KeySet::new([Key::from_pem(Algorithm::ES256, public).unwrap()]).unwrap();
    let signer = EncodingKey::from_ec_pem(include_bytes!("../test_keys/ec.pem")).unwrap();
    let token = jsonwebtoken::encode(&header(Algorithm::ES256), &good(), &signer).unwrap();
    assert!(verify_jws(&token, &keys).is_ok());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let bad = [
        vec![0; 64],
        [&[0; 32], s].concat(),
        [r, &[0; 32]].concat(),
        [&order, s].concat(),
        [r, &order].concat(),
        [&order, &order[..]].concat(),
        [s, r].concat(),
        [&[0], &signature[..]].concat(),
        [&signature[..], &[0]].concat(),
        [&[0], r, &[0], s].concat(),
        signature[..63].to_vec(),
        signature[..32].to_vec(),
        [der(r), der(s)].concat(),
        [
            &[0x30, (der(r).len() + der(s).len()) as u8],
            &*der(r),
            &der(s),
        ]
        .concat(),
    ];
    for bad in bad {
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bad));
        let refused = verify_jws(&token, &keys).unwrap_err();
        assert_eq!(refused, Reason::Signature, "{bad:02x?}");
    }
}

/// Encodes a number below 2^256 as a DER integer.
fn der(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let sign: &[u8] = if number[0] < 0x80 { &[] } else { &[0] };
    [&[2, (sign.len() + number.len()) as u8], sign, number].concat()
}

#[test]
fn verify_jws_returns_header_and_payload_unchanged() {
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET).unwrap()]).unwrap();
    let token = raw("{\"alg\":\"HS256\",\"typ\":\"x\"}", " not json ");
    let verified = verify_jws(&token, &keys).unwrap();
    assert_eq!(verified.header["typ"], "x");
    assert_eq!(verified.payload, b" not json ");
}
