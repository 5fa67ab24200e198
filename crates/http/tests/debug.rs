//! What is secret, or a client's own, is in no `Debug`.
#![allow(missing_docs)]

use std::{fmt::Debug, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::{json, value::to_raw_value};
use tower::{Layer, service_fn};
use tower_fanout_http::{
    client::{Client, ClientConfig, ClientError},
    correlation::CorrelationLayer,
    jwt::{
        Algorithm, DenyList, JwtConfig, JwtLayer, Key, KeyError, KeySet, Keys, Verifier,
        VerifierConfig,
        jwks::{Jwks, JwksConfig, JwksUrl},
        sign, verify_jws,
    },
    problem::{Code, Problem},
    trace::{TraceContext, TraceLayer},
};

const CANARY: &str = "canary-of-thirty-two-bytes-or-more";
const PEM: &str = include_str!("../src/jwt/test_keys/ec.pub.pem");
const JWKS: &str = include_str!("../src/jwt/test_keys/jwks.json");

/// Fails if `secret` is in either `Debug` of `value`, as text or as a list of bytes.
fn hides(value: &impl Debug, secret: &[u8]) {
    let text = String::from_utf8_lossy(secret);
    let bytes = format!("{secret:?}").replace(['[', ']', ' '], "");
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.contains(&*text), "{shown}");
        // One line or many.
        let dense: String = shown.split_whitespace().collect();
        assert!(!dense.contains(&bytes), "{shown}");
    }
}

/// As [`hides`], of any canary.
fn shows_nothing(value: &impl Debug) {
    hides(value, b"canary");
}

/// As [`hides`], of what a PEM holds: its second line, and the bytes that this stands for.
fn hides_pem(value: &impl Debug, pem: &str) {
    let line = pem.lines().nth(1).unwrap();
    hides(value, &line.as_bytes()[..32]);
    hides(value, &BASE64_STANDARD.decode(&line[..32]).unwrap());
}

fn secret() -> Key {
    Key::from_secret(Algorithm::HS256, CANARY.as_bytes()).unwrap()
}

fn set(key: Key) -> KeySet {
    KeySet::new([key]).unwrap()
}

fn rules() -> VerifierConfig {
    VerifierConfig::new(["tests"], ["fanout"])
}

fn token() -> String {
    let claims = json!({
        "iss": "tests", "aud": "fanout", "exp": 4_000_000_000_u64, "jti": CANARY, "sub": CANARY,
        "roles": [CANARY], "scope": CANARY, "private": {"a": CANARY},
    });
    sign(Algorithm::HS256, CANARY.as_bytes(), &claims).unwrap()
}

#[test]
fn fault_l4_debug_of_public_types_shows_no_secret() {
    shows_nothing(&secret());
    shows_nothing(&set(secret()));
    shows_nothing(&Keys::from(set(secret())));
    let public = Key::from_pem(Algorithm::ES256, PEM.as_bytes()).unwrap();
    hides_pem(&public, PEM);
    hides_pem(&set(public), PEM);
    let revoked = DenyList::new(1);
    revoked.revoke(CANARY, SystemTime::now()).unwrap();
    shows_nothing(&revoked);
    let rules = rules().deny_list(revoked);
    shows_nothing(&rules);
    let verifier = Verifier::new(set(secret()), rules).unwrap();
    shows_nothing(&verifier);
    let layer = JwtLayer::new(verifier, JwtConfig::default()).unwrap();
    shows_nothing(&layer);
    shows_nothing(&layer.layer(()));
}

#[test]
fn fault_l4_debug_of_what_a_token_says_shows_none_of_it() {
    let token = token();
    shows_nothing(&verify_jws(&token, &set(secret())).unwrap());
    let claims = Verifier::new(set(secret()), rules())
        .unwrap()
        .verify(&token)
        .unwrap();
    shows_nothing(&claims);
    let mut request = Request::new(());
    request.extensions_mut().insert(claims);
    shows_nothing(&request);
}

#[test]
fn fault_l4_debug_of_what_is_wrong_with_a_key_shows_none_of_it() {
    let wrong: [KeyError; 3] = [
        Key::from_secret(Algorithm::HS256, b"canary").unwrap_err(),
        Key::from_pem(Algorithm::ES256, CANARY.as_bytes()).unwrap_err(),
        KeySet::new([secret().with_kid("a"), secret().with_kid("a")]).unwrap_err(),
    ];
    for error in wrong {
        shows_nothing(&error);
        assert!(!error.to_string().contains("canary"));
    }
}

#[tokio::test]
async fn fault_l4_debug_of_fetched_keys_shows_none_and_not_what_was_asked() {
    let url = format!("https://idp.example/{CANARY}?key={CANARY}");
    let url = JwksUrl::new(url.parse().unwrap()).unwrap();
    shows_nothing(&url);
    let issuer = service_fn(|_: Request<Bytes>| async {
        let body = Bytes::from_static(JWKS.as_bytes());
        let answer = Response::builder().header("content-type", "application/json");
        Ok::<_, ClientError>(answer.body(body).unwrap())
    });
    let jwks = Jwks::start_with(issuer, &url, JwksConfig::default(), |_| ());
    let jwks = jwks.await.unwrap();
    let modulus = JWKS.split("\"n\": \"").nth(1).unwrap();
    for key in jwks.current().unwrap().keys() {
        hides(key, &modulus.as_bytes()[..32]);
    }
    shows_nothing(&jwks);
    shows_nothing(&Verifier::new(jwks, rules()).unwrap());
}

#[test]
fn fault_l4_debug_of_a_client_shows_nothing_of_it() {
    let endpoint = "http://canary".parse().unwrap();
    shows_nothing(&Client::new(&endpoint, ClientConfig::default()).unwrap());
}

#[test]
fn fault_l4_debug_of_what_a_client_says_of_its_request_shows_none_of_it() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (
            "traceparent",
            "00-11111111111111111111111111111111-2222222222222222-01".to_owned(),
        ),
        ("tracestate", format!("a={CANARY}")),
        ("baggage", format!("a={CANARY}")),
    ] {
        headers.insert(name, HeaderValue::try_from(value).unwrap());
    }
    let context = TraceContext::read(&headers).with_baggage(&headers, &["a".into()]);
    assert!(context.tracestate().is_some());
    shows_nothing(&context);
    shows_nothing(&TraceLayer::new().layer(CorrelationLayer::default().layer(())));
    let data = to_raw_value(CANARY).unwrap();
    shows_nothing(&Problem::new(Code::UpstreamFailed).extension("data", data));
}

#[cfg(feature = "tls")]
#[test]
fn fault_l4_debug_of_what_is_needed_for_tls_shows_no_key() {
    use tower_fanout_http::{
        client::Identity,
        server::{ServerConfig, Tls},
    };
    use tower_fanout_testkit::fault_server::tls::Certificate;

    let Certificate {
        chain_pem, key_pem, ..
    } = Certificate::self_signed(&["a"]);
    let mut settings = ClientConfig::default();
    settings.tls.identity = Some(Identity::new(&*chain_pem, &*key_pem));
    hides_pem(&settings.tls, &key_pem);
    hides_pem(&settings, &key_pem);
    let client = Client::new(&"https://a".parse().unwrap(), settings).unwrap();
    hides_pem(&client, &key_pem);
    let tls = Tls::new(chain_pem.as_bytes(), key_pem.as_bytes()).unwrap();
    hides_pem(&tls, &key_pem);
    let mut settings = ServerConfig::default();
    settings.tls = Some(tls);
    hides_pem(&settings, &key_pem);
}
