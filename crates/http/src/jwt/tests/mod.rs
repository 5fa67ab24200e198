//! Tests of tokens, by the ids of `docs/faults.md`, and their shared helpers.

use std::{
    cell::RefCell,
    convert::Infallible,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};

use super::*;

mod bearer;
mod claims;
mod cost;
mod denylist;
mod fetched;
mod jose;
mod keys;
mod layer;
mod object;
mod propagate;
mod table;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef-tests";

fn clock() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn rules() -> VerifierConfig {
    VerifierConfig::new()
        .issuers(["https://idp.example"])
        .audiences(["orders"])
        .tier_claim("plan.tier".to_owned())
        .tiers(["free", "pro"])
        .default_tier("free")
}

fn verifier() -> Verifier {
    let key = Key::from_secret(Algorithm::HS256, SECRET).unwrap();
    Verifier::new(KeySet::new([key]).unwrap(), rules())
        .unwrap()
        .clock(clock)
}

/// Returns a layer with `verifier` and the default config.
fn layer_of(verifier: Verifier) -> JwtLayer {
    JwtLayer::new(verifier, JwtConfig::default()).unwrap()
}

/// Returns a layer with the test verifier and `config`.
fn layer_with(config: JwtConfig) -> JwtLayer {
    JwtLayer::new(verifier(), config).unwrap()
}

fn good() -> Value {
    json!({"iss": "https://idp.example", "aud": "orders", "exp": NOW + 60, "sub": "ada"})
}

/// Returns [`good`] with `changes` applied. `null` removes a claim.
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

/// Returns a token with this header and payload, valid or not, signed with [`SECRET`].
fn raw(header: &str, payload: &str) -> String {
    raw_with(&EncodingKey::from_secret(SECRET), header, payload)
}

/// Returns a token with this header and payload, signed by HS256 with `key`.
fn raw_with(key: &EncodingKey, header: &str, payload: &str) -> String {
    // The verifier is created first, because that installs the crypto library.
    let _ = verifier();
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = format!("{header}.{payload}");
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), key, jsonwebtoken::Algorithm::HS256)
            .unwrap();
    format!("{message}.{signature}")
}

/// Returns the header for a token that `jsonwebtoken` signs by `algorithm`.
fn header(algorithm: Algorithm) -> Header {
    Header::new(algorithm.as_str().parse().unwrap())
}

fn token(claims: &Value) -> String {
    raw("{\"alg\":\"HS256\"}", &claims.to_string())
}

fn reason(token: &str) -> Option<Reason> {
    verifier().verify(token).err()
}

fn with_header(header: &str) -> Option<Reason> {
    reason(&raw(header, &good().to_string()))
}

thread_local! {
    static OUTCOMES: RefCell<Vec<Outcome>> = const { RefCell::new(Vec::new()) };
}

fn observe(outcome: Outcome) {
    OUTCOMES.with_borrow_mut(|outcomes| outcomes.push(outcome));
}

/// Returns the outcomes since the last call.
fn outcomes() -> Vec<Outcome> {
    OUTCOMES.take()
}

fn request(headers: &[&[u8]]) -> Request<()> {
    let mut request = Request::new(());
    for value in headers {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(AUTHORIZATION, value);
    }
    request
}

/// Returns the response of `layer`. The inner service requires the caller's claims.
async fn call(layer: JwtLayer, request: Request<()>) -> Response<Full<Bytes>> {
    let service = layer
        .on_outcome(observe)
        .layer(service_fn(|request: Request<()>| async move {
            assert!(request.extensions().get::<Claims>().is_some());
            Ok::<_, Infallible>(Response::new(Full::default()))
        }));
    service.oneshot(request).await.unwrap()
}

/// Returns the status and the reason for a request with these `Authorization` header values.
async fn refused(headers: &[&[u8]]) -> (u16, &'static str) {
    let response = call(layer_of(verifier()), request(headers)).await;
    (response.status().as_u16(), outcomes()[0].reason())
}

async fn answer(headers: &[&[u8]]) -> Response<Full<Bytes>> {
    call(layer_of(verifier()), request(headers)).await
}

async fn answer_to(layer: JwtLayer, token: &str) -> Response<Full<Bytes>> {
    call(layer, request(&[format!("Bearer {token}").as_bytes()])).await
}

async fn body(response: Response<Full<Bytes>>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

fn challenge(response: &Response<Full<Bytes>>) -> &str {
    response.headers()["www-authenticate"].to_str().unwrap()
}
