//! Tokens over the rows of the fault list.

use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-tests";

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn rules() -> Rules {
    Rules::new(["https://idp.example"], ["orders"])
        .unwrap()
        .tier("plan.tier", ["free", "pro"], "free")
}

fn verifier() -> Verifier {
    let key = Key::from_secret(Algorithm::HS256, SECRET).unwrap();
    Verifier::new(KeySet::new([key]).unwrap(), rules()).clock(clock)
}

fn good() -> Value {
    json!({"iss": "https://idp.example", "aud": "orders", "exp": NOW + 60, "sub": "ada"})
}

/// `good` with these members changed; null takes one out.
fn claims(changes: Value) -> Value {
    let mut claims = good();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// A token of this header and payload, signed with the secret, whatever they are.
fn raw(header: &str, payload: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn token(claims: &Value) -> String {
    // The verifier comes first: it installs the crypto library.
    let _ = verifier();
    raw("{\"alg\":\"HS256\"}", &claims.to_string())
}

fn reason(token: &str) -> Option<Reason> {
    verifier().verify(token).err().map(|refusal| refusal.0)
}

fn with_header(header: &str) -> Option<Reason> {
    let _ = verifier();
    reason(&raw(header, &good().to_string()))
}

async fn answer(headers: &[&[u8]]) -> Response<Full<Bytes>> {
    let service = JwtLayer::new(verifier()).layer(service_fn(|request: Request<()>| async move {
        assert!(request.extensions().get::<Claims>().is_some());
        Ok::<_, std::convert::Infallible>(Response::new(Full::default()))
    }));
    let mut request = Request::new(());
    for value in headers {
        request
            .headers_mut()
            .append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    service.oneshot(request).await.unwrap()
}

fn challenge(response: &Response<Full<Bytes>>) -> &str {
    response.headers()["www-authenticate"].to_str().unwrap()
}

#[tokio::test]
async fn fault_a1_a2_without_a_bearer_token_the_challenge_names_no_error() {
    let lines: [&[&[u8]]; 3] = [&[], &[b"Basic YTpi"], &[b"Digest x"]];
    for headers in lines {
        let response = answer(headers).await;
        assert_eq!(
            (response.status().as_u16(), challenge(&response)),
            (401, "Bearer realm=\"fanout\"")
        );
    }
}

#[tokio::test]
async fn fault_a3_the_scheme_has_no_case_and_spaces_are_spaces() {
    let token = token(&good());
    for good in [format!("bearer {token}"), format!("BEARER   {token}")] {
        assert_eq!(answer(&[good.as_bytes()]).await.status(), 200);
    }
    assert_eq!(
        answer(&[format!("Bearer\t{token}").as_bytes()])
            .await
            .status(),
        401
    );
    assert_eq!(
        answer(&[format!("Bearer \t{token}").as_bytes()])
            .await
            .status(),
        400
    );
}

#[tokio::test]
async fn fault_a4_a_token_without_scheme_is_refused() {
    assert_eq!(answer(&[token(&good()).as_bytes()]).await.status(), 401);
}

#[tokio::test]
async fn fault_a5_a6_a8_a_line_that_is_not_well_formed_is_an_invalid_request() {
    let token = token(&good());
    let bearer = format!("Bearer {token}");
    let joined = format!("{bearer}, {bearer}");
    let lines: [&[&[u8]]; 6] = [
        &[b"Bearer"],
        &[b"Bearer    "],
        &[bearer.as_bytes(), bearer.as_bytes()],
        &[joined.as_bytes()],
        &[b"Bearer \xff\xfe"],
        &[b"Bearer a b"],
    ];
    for headers in lines {
        let response = answer(headers).await;
        assert_eq!(response.status(), 400, "{headers:?}");
        assert_eq!(
            challenge(&response),
            "Bearer realm=\"fanout\", error=\"invalid_request\""
        );
    }
}

#[tokio::test]
async fn every_bad_token_gets_the_same_answer() {
    let mut bodies = std::collections::HashSet::new();
    for bad in [
        "x".to_owned(),
        token(&claims(json!({"exp": 1}))),
        token(&claims(json!({"iss": 5}))),
    ] {
        let response = answer(&[format!("Bearer {bad}").as_bytes()]).await;
        assert_eq!(
            (response.status().as_u16(), challenge(&response)),
            (401, "Bearer realm=\"fanout\", error=\"invalid_token\"")
        );
        bodies.insert(format!("{:?}", response.body()));
    }
    assert_eq!(bodies.len(), 1);
}

#[test]
fn fault_a9_a10_a11_a_token_has_three_parts_and_a_bounded_length() {
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
        assert_eq!(reason(shape), Some(Reason::Shape), "{shape}");
    }
    assert_eq!(reason(&format!("{message}.")), Some(Reason::Shape));
}

#[test]
fn fault_a12_base64_is_strict() {
    let token = token(&good());
    let (message, signature) = token.rsplit_once('.').unwrap();
    for bad in [
        format!("{signature}="),
        format!("{signature}\n"),
        format!(" {signature}"),
        format!("+/{signature}"),
    ] {
        assert_eq!(
            reason(&format!("{message}.{bad}")),
            Some(Reason::Base64),
            "{bad:?}"
        );
    }
}

#[test]
fn fault_a13_the_header_is_a_small_flat_object_of_unique_members() {
    let deep = format!(
        "{{\"alg\":\"HS256\",\"x\":{}{}}}",
        "[".repeat(20),
        "]".repeat(20)
    );
    let long = format!("{{\"alg\":\"HS256\",\"x\":\"{}\"}}", "x".repeat(1024));
    let headers = [
        "",
        "x",
        "[]",
        "null",
        "{\"alg\":\"HS256\",\"alg\":\"HS256\"}",
        &deep,
        &long,
    ];
    for header in headers {
        let expected = if header.is_empty() {
            Reason::Shape
        } else {
            Reason::Header
        };
        assert_eq!(with_header(header), Some(expected), "{header}");
    }
}

#[test]
fn fault_a14_no_algorithm_is_none() {
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
fn fault_a15_a_public_key_is_no_secret() {
    let pem = include_bytes!("test_keys/rsa.pub.pem");
    let keys = KeySet::new([Key::from_pem(Algorithm::RS256, pem).unwrap()]).unwrap();
    let verifier = Verifier::new(keys, rules()).clock(clock);
    let forged = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &good(),
        &EncodingKey::from_secret(pem),
    )
    .unwrap();
    assert_eq!(verifier.verify(&forged).unwrap_err().0, Reason::Algorithm);
}

#[test]
fn fault_a16_the_algorithm_is_the_keys() {
    assert_eq!(with_header("{\"alg\":\"HS384\"}"), Some(Reason::Algorithm));
    let signer = EncodingKey::from_rsa_pem(include_bytes!("test_keys/rsa.pem")).unwrap();
    let key = Key::from_pem(Algorithm::RS256, include_bytes!("test_keys/rsa.pub.pem")).unwrap();
    let verifier = Verifier::new(KeySet::new([key]).unwrap(), rules()).clock(clock);
    let sign = |algorithm| jsonwebtoken::encode(&Header::new(algorithm), &good(), &signer).unwrap();
    assert!(verifier.verify(&sign(Algorithm::RS256)).is_ok());
    assert_eq!(
        verifier.verify(&sign(Algorithm::PS256)).unwrap_err().0,
        Reason::Algorithm
    );
}

#[test]
fn fault_a18_a19_extensions_are_refused_and_keys_in_the_header_ignored() {
    for header in [
        "\"crit\":[\"exp\"]",
        "\"crit\":[]",
        "\"b64\":false",
        "\"zip\":\"DEF\"",
    ] {
        assert_eq!(
            with_header(&format!("{{\"alg\":\"HS256\",{header}}}")),
            Some(Reason::Critical),
            "{header}"
        );
    }
    for header in [
        "\"jwk\":{}",
        "\"jku\":\"http://evil\"",
        "\"x5u\":\"http://evil\"",
        "\"x5c\":[]",
    ] {
        assert_eq!(
            with_header(&format!("{{\"alg\":\"HS256\",{header}}}")),
            None,
            "{header}"
        );
    }
}

#[test]
fn fault_a20_a21_a22_a_named_key_is_that_one_and_no_other() {
    let key = |kid: &str| {
        Key::from_secret(Algorithm::HS256, SECRET)
            .unwrap()
            .with_kid(kid)
    };
    let other = Key::from_secret(Algorithm::HS256, b"another secret that is long enough too")
        .unwrap()
        .with_kid("b");
    let verifier = Verifier::new(KeySet::new([other, key("a")]).unwrap(), rules()).clock(clock);
    let named = |kid: &str| {
        let token = raw(
            &json!({"alg": "HS256", "kid": kid}).to_string(),
            &good().to_string(),
        );
        verifier.verify(&token).err().map(|refusal| refusal.0)
    };
    assert_eq!(named("a"), None);
    assert_eq!(named("b"), Some(Reason::Signature));
    for kid in ["c", "../a", "' OR 1=1", "\0", "{{a}}", &"a".repeat(10_000)] {
        assert!(
            named(kid).is_some_and(|reason| reason != Reason::Signature),
            "{kid}"
        );
    }
    assert!(
        verifier.verify(&token(&good())).is_ok(),
        "without a name all that fit are tried"
    );
}

#[test]
fn fault_a23_a_signature_is_right_or_wrong() {
    let token = token(&good());
    let (message, signature) = token.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1;
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

/// Each claim absent, of the wrong type, at its edges and valid.
#[test]
fn fault_a24_to_a30_the_claims_are_believed_by_the_rules() {
    let cases = [
        ("exp", json!(null), Some(Reason::Expired)),
        ("exp", json!("1800000060"), Some(Reason::Expired)),
        ("exp", json!(-1), Some(Reason::Expired)),
        ("exp", json!(1e300), Some(Reason::Expired)),
        ("exp", json!(u64::MAX), Some(Reason::Expired)),
        ("exp", json!(true), Some(Reason::Expired)),
        ("exp", json!(NOW - 31), Some(Reason::Expired)),
        ("exp", json!(NOW - 30), None),
        ("exp", json!(NOW), None),
        ("exp", json!(NOW as f64 + 0.5), None),
        ("nbf", json!(NOW + 31), Some(Reason::NotBefore)),
        ("nbf", json!(NOW + 30), None),
        ("nbf", json!("1"), Some(Reason::NotBefore)),
        ("iat", json!(NOW + 31), Some(Reason::IssuedAt)),
        ("iat", json!(NOW - 1_000_000), None),
        ("iat", json!([]), Some(Reason::IssuedAt)),
        ("iss", json!(null), Some(Reason::Issuer)),
        ("iss", json!(5), Some(Reason::Issuer)),
        ("iss", json!(["https://idp.example"]), Some(Reason::Issuer)),
        ("iss", json!("https://evil.example"), Some(Reason::Issuer)),
        ("iss", json!("https://idp.example/"), Some(Reason::Issuer)),
        ("aud", json!(null), Some(Reason::Audience)),
        ("aud", json!(5), Some(Reason::Audience)),
        ("aud", json!([]), Some(Reason::Audience)),
        ("aud", json!("other"), Some(Reason::Audience)),
        ("aud", json!(["other", 5, "orders"]), Some(Reason::Audience)),
        ("aud", json!(["other", "orders"]), None),
    ];
    for (name, value, expected) in cases {
        assert_eq!(
            reason(&token(&claims(json!({name: value})))),
            expected,
            "{name}: {value}"
        );
    }
}

#[test]
fn fault_a33_a34_the_payload_is_an_object_of_unique_members() {
    let _ = verifier();
    let good = good().to_string();
    let twice = good.replace('}', ",\"role\":\"user\",\"role\":\"admin\"}");
    let deep = good.replace(
        '}',
        &format!(",\"x\":{}{}}}", "[".repeat(40), "]".repeat(40)),
    );
    let many: String = (0..65).map(|place| format!(",\"c{place}\":1")).collect();
    let many = good.replace('}', &format!("{many}}}"));
    for payload in ["[]", "\"x\"", "", "null", &twice, &deep, &many] {
        assert_eq!(
            reason(&raw("{\"alg\":\"HS256\"}", payload)),
            Some(Reason::Claims),
            "{payload}"
        );
    }
}

#[tokio::test]
async fn fault_a35_without_a_role_the_caller_is_forbidden() {
    let layer = JwtLayer::new(verifier()).any_role(["reader", "admin"]);
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let roles = [
        (json!(null), 403),
        (json!(5), 403),
        (json!({"a": 1}), 403),
        (json!(["reader", 5]), 403),
        (json!([]), 403),
        (json!("writer"), 403),
        (json!(["admin"]), 200),
        (json!("writer reader"), 200),
    ];
    for (roles, status) in roles {
        let mut request = Request::new(());
        let token = token(&claims(json!({"roles": roles})));
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{roles}");
    }
}

#[test]
fn fault_a37_an_unknown_tier_is_the_default() {
    let tier = |tier: Value| {
        verifier()
            .verify(&token(&claims(json!({"plan": {"tier": tier}}))))
            .unwrap()
            .tier()
            .to_owned()
    };
    assert_eq!(tier(json!("pro")), "pro");
    for other in [json!("gold"), json!(5), json!(["pro"]), json!("")] {
        assert_eq!(tier(other), "free");
    }
}

#[test]
fn all_key_types_verify_their_own_tokens_and_no_others() {
    type Pair = (Algorithm, &'static [u8], fn() -> EncodingKey);
    let pairs: [Pair; 3] = [
        (
            Algorithm::RS256,
            include_bytes!("test_keys/rsa.pub.pem"),
            || EncodingKey::from_rsa_pem(include_bytes!("test_keys/rsa.pem")).unwrap(),
        ),
        (
            Algorithm::ES256,
            include_bytes!("test_keys/ec.pub.pem"),
            || EncodingKey::from_ec_pem(include_bytes!("test_keys/ec.pem")).unwrap(),
        ),
        (
            Algorithm::EdDSA,
            include_bytes!("test_keys/ed.pub.pem"),
            || EncodingKey::from_ed_pem(include_bytes!("test_keys/ed.pem")).unwrap(),
        ),
    ];
    let keys = KeySet::new(pairs.map(|(algorithm, pem, _)| Key::from_pem(algorithm, pem).unwrap()))
        .unwrap();
    let verifier = Verifier::new(keys, rules()).clock(clock);
    for (algorithm, pem, signer) in pairs {
        let token = jsonwebtoken::encode(&Header::new(algorithm), &good(), &signer()).unwrap();
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
fn fault_b11_b12_b13_weak_keys_and_mixed_sets_are_refused() {
    assert!(
        Key::from_pem(
            Algorithm::RS256,
            include_bytes!("test_keys/rsa1024.pub.pem")
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
    let public = Key::from_pem(Algorithm::EdDSA, include_bytes!("test_keys/ed.pub.pem")).unwrap();
    assert!(KeySet::new([symmetric(), public]).is_err());
    assert!(KeySet::new([symmetric().with_kid("a"), symmetric().with_kid("a")]).is_err());
    assert!(KeySet::new([]).is_err());
}

#[test]
fn fault_l4_nothing_shows_a_key_or_a_claim() {
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
fn a_signed_token_is_believed() {
    let token = sign(Algorithm::HS256, SECRET, &good()).unwrap();
    assert_eq!(verifier().verify(&token).unwrap().subject(), "ada");
    assert!(sign(Algorithm::HS256, b"short", &good()).is_err());
}
