//! A token per algorithm, and the cases that verify it.

use std::{hint::black_box, rc::Rc};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use tower_fanout_http::jwt::{Algorithm, Key, KeySet, Verifier, VerifierConfig, verify_jws};

use crate::harness::Case;

const SECRET: &[u8] = b"a secret of this bench, which guards nothing";
const CLAIMS: &str = "{\"iss\":\"https://idp.example\",\"aud\":\"orders\",\"sub\":\"ada\",\
    \"exp\":253402300000,\"iat\":1700000000,\"jti\":\"0198d1f0\",\"tier\":\"pro\",\
    \"roles\":[\"reader\",\"writer\"],\"scope\":\"orders:read orders:write\"}";

/// Returns `true` if the signature of a message is valid, by the crypto library alone: `(message, signature)`.
type Raw = Box<dyn Fn(&[u8], &[u8]) -> bool>;

/// A token, its keys, and the verification of its signature by the crypto library alone.
pub(crate) struct Signed {
    pub(crate) name: &'static str,
    pub(crate) token: String,
    pub(crate) keys: KeySet,
    raw: Raw,
}

impl Signed {
    pub(crate) fn verifier(&self) -> Verifier {
        let config = VerifierConfig::new()
            .issuers(["https://idp.example"])
            .audiences(["orders"]);
        let config = config
            .tier_claim("tier".to_owned())
            .tiers(["free", "pro"])
            .default_tier("free");
        Verifier::new(self.keys.clone(), config).expect("the config is valid")
    }

    /// Returns three cases: the signature alone, the whole JWS, and the JWS with the rules for claims. Each is
    /// compared with the one before. `place` is the index of the first case.
    pub(crate) fn cases(self, place: usize) -> [Case; 3] {
        let Self { name, token, .. } = &self;
        let name = format!("{name}, ");
        let verifier = self.verifier();
        verifier.verify(token).expect("the token is valid");
        let (message, signature) = token.rsplit_once('.').expect("a token has three parts");
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .expect("the signature is base64url");
        let (message, token) = (message.to_owned(), Rc::<str>::from(token.as_str()));
        let (raw, keys, same) = (self.raw, self.keys, Rc::clone(&token));
        assert!(
            raw(message.as_bytes(), &signature),
            "the signature is valid"
        );
        let raw = move || {
            black_box(raw(black_box(message.as_bytes()), &signature));
        };
        let jws = move || drop(black_box(verify_jws(black_box(&token), &keys)));
        let claims = move || drop(black_box(verifier.verify(black_box(&same))));
        [
            Case::of(name.clone() + "aws-lc alone", raw),
            Case::of(name.clone() + "verify_jws", jws).over(place, 2_000.0),
            Case::of(name + "with its claims", claims).over(place + 1, 5_000.0),
        ]
    }
}

/// Returns one token per algorithm.
pub(crate) fn all() -> [Signed; 4] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let same = key.clone();
    let hs = signed(
        Algorithm::HS256,
        Key::from_secret(Algorithm::HS256, SECRET).expect("the secret is long enough"),
        |message| hmac::sign(&key, message).as_ref().to_vec(),
        move |message, signature| hmac::verify(&same, message, signature).is_ok(),
    );
    [hs, ed(), es(), rs()]
}

fn ed() -> Signed {
    let der = der(include_str!("../../crates/http/src/jwt/test_keys/ed.pem"));
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).expect("the key is valid");
    let public = ParsedPublicKey::new(&ED25519, pair.public_key()).expect("the key is valid");
    let pem = include_bytes!("../../crates/http/src/jwt/test_keys/ed.pub.pem");
    let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
    by_pair(Algorithm::EdDSA, pem, sign, public)
}

fn es() -> Signed {
    let der = der(include_str!("../../crates/http/src/jwt/test_keys/ec.pem"));
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).expect("the key is valid");
    let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key());
    let pem = include_bytes!("../../crates/http/src/jwt/test_keys/ec.pub.pem");
    let sign = |message: &[u8]| {
        let signature = pair.sign(&SystemRandom::new(), message);
        signature.expect("signing works").as_ref().to_vec()
    };
    by_pair(
        Algorithm::ES256,
        pem,
        sign,
        public.expect("the key is valid"),
    )
}

fn rs() -> Signed {
    let der = der(include_str!("../../crates/http/src/jwt/test_keys/rsa.pem"));
    let pair = RsaKeyPair::from_pkcs8(&der).expect("the key is valid");
    let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key());
    let pem = include_bytes!("../../crates/http/src/jwt/test_keys/rsa.pub.pem");
    let sign = |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(
            &RSA_PKCS1_SHA256,
            &SystemRandom::new(),
            message,
            &mut signature,
        )
        .expect("signing works");
        signature
    };
    by_pair(
        Algorithm::RS256,
        pem,
        sign,
        public.expect("the key is valid"),
    )
}

fn by_pair(
    algorithm: Algorithm,
    pem: &[u8],
    sign: impl Fn(&[u8]) -> Vec<u8>,
    public: ParsedPublicKey,
) -> Signed {
    let key = Key::from_pem(algorithm, pem).expect("the public key is valid");
    signed(algorithm, key, sign, move |message, signature| {
        public.verify_sig(message, signature).is_ok()
    })
}

fn signed(
    algorithm: Algorithm,
    key: Key,
    sign: impl Fn(&[u8]) -> Vec<u8>,
    raw: impl Fn(&[u8], &[u8]) -> bool + 'static,
) -> Signed {
    let header = format!("{{\"alg\":\"{algorithm:?}\",\"typ\":\"JWT\",\"kid\":\"2026-11\"}}");
    let [header, claims] = [&header, CLAIMS].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    Signed {
        name: match algorithm {
            Algorithm::HS256 => "HS256",
            Algorithm::EdDSA => "EdDSA",
            Algorithm::ES256 => "ES256",
            _ => "RS256",
        },
        token: format!("{message}.{signature}"),
        keys: KeySet::new([key.with_kid("2026-11")]).expect("a set of one key is valid"),
        raw: Box::new(raw),
    }
}

/// Decodes the base64 text of a PEM file.
fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(text).expect("the PEM file is valid")
}
