//! The `Debug` output of public types contains no secrets and no data of clients.
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

/// Asserts that neither form of the `Debug` output of `value` contains `secret`, as text or as a
/// list of bytes.
fn assert_hides(value: &impl Debug, secret: &[u8]) {
    let text = String::from_utf8_lossy(secret);
    let bytes = format!("{secret:?}").replace(['[', ']', ' '], "");
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.contains(&*text), "{shown}");
        // `{:#?}` prints a list of bytes on several lines.
        let dense: String = shown.split_whitespace().collect();
        assert!(!dense.contains(&bytes), "{shown}");
    }
}

/// Asserts that the `Debug` output of `value` does not contain the canary.
fn assert_hides_canary(value: &impl Debug) {
    assert_hides(value, b"canary");
}

/// Asserts that the `Debug` output of `value` contains neither the second line of `pem` nor the
/// bytes that it encodes.
fn assert_hides_pem(value: &impl Debug, pem: &str) {
    let line = pem.lines().nth(1).unwrap();
    assert_hides(value, &line.as_bytes()[..32]);
    assert_hides(value, &BASE64_STANDARD.decode(&line[..32]).unwrap());
}

fn secret() -> Key {
    Key::from_secret(Algorithm::HS256, CANARY.as_bytes()).unwrap()
}

fn set(key: Key) -> KeySet {
    KeySet::new([key]).unwrap()
}

fn rules() -> VerifierConfig {
    VerifierConfig::new()
        .issuers(["tests"])
        .audiences(["fanout"])
}

fn token() -> String {
    let claims = json!({
        "iss": "tests", "aud": "fanout", "exp": 4_000_000_000_u64, "jti": CANARY, "sub": CANARY,
        "roles": [CANARY], "scope": CANARY, "private": {"a": CANARY},
    });
    sign(Algorithm::HS256, CANARY.as_bytes(), &claims).unwrap()
}

#[test]
fn fault_l4_debug_of_jwt_types_shows_no_secret() {
    assert_hides_canary(&secret());
    assert_hides_canary(&set(secret()));
    assert_hides_canary(&Keys::from(set(secret())));
    let public = Key::from_pem(Algorithm::ES256, PEM.as_bytes()).unwrap();
    assert_hides_pem(&public, PEM);
    assert_hides_pem(&set(public), PEM);
    let revoked = DenyList::new(1);
    revoked.revoke(CANARY, SystemTime::now()).unwrap();
    assert_hides_canary(&revoked);
    let rules = rules().deny_list(revoked);
    assert_hides_canary(&rules);
    let verifier = Verifier::new(set(secret()), rules).unwrap();
    assert_hides_canary(&verifier);
    let layer = JwtLayer::new(verifier, JwtConfig::default()).unwrap();
    assert_hides_canary(&layer);
    assert_hides_canary(&layer.layer(()));
}

#[test]
fn fault_l4_debug_of_tokens_and_claims_shows_no_content() {
    let token = token();
    assert_hides_canary(&verify_jws(&token, &set(secret())).unwrap());
    let claims = Verifier::new(set(secret()), rules())
        .unwrap()
        .verify(&token)
        .unwrap();
    assert_hides_canary(&claims);
    let mut request = Request::new(());
    request.extensions_mut().insert(claims);
    assert_hides_canary(&request);
}

#[test]
fn fault_l4_debug_of_key_errors_shows_no_key() {
    let errors: [KeyError; 3] = [
        Key::from_secret(Algorithm::HS256, b"canary").unwrap_err(),
        Key::from_pem(Algorithm::ES256, CANARY.as_bytes()).unwrap_err(),
        KeySet::new([secret().with_kid("a"), secret().with_kid("a")]).unwrap_err(),
    ];
    for error in errors {
        assert_hides_canary(&error);
        assert!(!error.to_string().contains("canary"));
    }
}

#[tokio::test]
async fn fault_l4_debug_of_jwks_shows_neither_keys_nor_url() {
    let url = format!("https://idp.example/{CANARY}?key={CANARY}");
    let url = JwksUrl::new(url.parse().unwrap()).unwrap();
    assert_hides_canary(&url);
    let issuer = service_fn(|_: Request<Bytes>| async {
        let body = Bytes::from_static(JWKS.as_bytes());
        let response = Response::builder().header("content-type", "application/json");
        Ok::<_, ClientError>(response.body(body).unwrap())
    });
    let jwks = Jwks::start_with(issuer, &url, JwksConfig::default(), |_| ());
    let jwks = jwks.await.unwrap();
    let modulus = JWKS.split("\"n\": \"").nth(1).unwrap();
    for key in jwks.current().unwrap().keys() {
        assert_hides(key, &modulus.as_bytes()[..32]);
    }
    assert_hides_canary(&jwks);
    assert_hides_canary(&Verifier::new(jwks, rules()).unwrap());
}

#[test]
fn fault_l4_debug_of_a_client_shows_no_endpoint() {
    let endpoint = "http://canary".parse().unwrap();
    assert_hides_canary(&Client::new(&endpoint, ClientConfig::default()).unwrap());
}

#[test]
fn fault_l4_debug_of_trace_and_problem_shows_no_client_data() {
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
    assert_hides_canary(&context);
    assert_hides_canary(&TraceLayer::new().layer(CorrelationLayer::default().layer(())));
    let data = to_raw_value(CANARY).unwrap();
    assert_hides_canary(&Problem::new(Code::UpstreamFailed).extension("data", data));
}

#[cfg(feature = "tls")]
#[test]
fn fault_l4_debug_of_tls_configs_shows_no_key() {
    use tower_fanout_http::{
        client::Identity,
        server::{ServerConfig, ServerTls},
    };
    use tower_fanout_testkit::fault_server::tls::Certificate;

    let Certificate {
        chain_pem, key_pem, ..
    } = Certificate::self_signed(&["a"]);
    let mut config = ClientConfig::default();
    config.tls.identity = Some(Identity::new(&*chain_pem, &*key_pem));
    assert_hides_pem(&config.tls, &key_pem);
    assert_hides_pem(&config, &key_pem);
    let client = Client::new(&"https://a".parse().unwrap(), config).unwrap();
    assert_hides_pem(&client, &key_pem);
    let tls = ServerTls::new(chain_pem.as_bytes(), key_pem.as_bytes()).unwrap();
    assert_hides_pem(&tls, &key_pem);
    let mut config = ServerConfig::default();
    config.tls = Some(tls);
    assert_hides_pem(&config, &key_pem);
}
