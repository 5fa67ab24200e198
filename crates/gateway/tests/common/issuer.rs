//! Issuers that publish their keys over real sockets, and a gateway that accepts their tokens.

use std::sync::{Arc, Mutex};

use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use super::{Answer, Gateway, SECRET, Seen, quick, stub};

/// Returns a JWK set with the test key once for each key id.
pub(crate) fn set(kids: &[&str]) -> Fault {
    set_with(kids, &[])
}

/// Returns a JWK set as [`set`] does, with `others` after its keys.
pub(crate) fn set_with(kids: &[&str], others: &[Value]) -> Fault {
    let known = include_str!("../../../http/src/jwt/test_keys/jwks.json");
    let known: Value = serde_json::from_str(known).unwrap();
    let keys = kids.iter().map(|kid| {
        let mut key = known["keys"][1].clone();
        key["kid"] = (*kid).into();
        key
    });
    let keys: Vec<_> = keys.chain(others.iter().cloned()).collect();
    Fault::json(json!({"keys": keys}).to_string())
}

/// An issuer whose response a test can replace.
pub(crate) struct Issuer {
    pub(crate) server: FaultServer,
    answer: Arc<Mutex<Fault>>,
}

impl Issuer {
    pub(crate) async fn new(answer: Fault) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let current = Arc::clone(&answer);
        let server = FaultServer::from_fn(move |_| current.lock().unwrap().clone()).await;
        Self { server, answer }
    }

    pub(crate) fn set_response(&self, answer: Fault) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn fetches(&self) -> usize {
        self.server.stats().requests.len()
    }
}

/// Returns headers with a token of `issuer`, signed with the key `kid` and with additional claims.
pub(crate) fn headers(issuer: &str, kid: &str, more: &Value) -> [(&'static str, String); 1] {
    let mut claims =
        json!({"iss": issuer, "aud": "fanout", "sub": "ada", "exp": 4_000_000_000_u64});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(kid.into());
    let key = include_bytes!("../../../http/src/jwt/test_keys/ec.pem");
    let token = encode(&header, &claims, &EncodingKey::from_ec_pem(key).unwrap()).unwrap();
    [("authorization", format!("Bearer {token}"))]
}

/// Starts a gateway with one service. It accepts tokens of the issuer `main` by the keys of `jwks`.
pub(crate) async fn gateway(jwks: &str, auth: &str) -> (Gateway, Seen) {
    let (up, seen) = stub(quick).await;
    let text = format!(
        "version: 1
auth:
  jwt:
    main: {{ keys: [{{ jwks: {{ {jwks} }} }}], issuers: [main], audiences: [fanout], algorithms: [ES256] }}
    other: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}] }} }}
routes:
  - name: page
    match: {{ path: / }}
    auth: {{ {auth} }}
    plan: {{ up: {{ downstream: up, required: true, request: {{ path: /, headers: {{ x-seen: \"{{header.x-user-id|nobody}}\" }} }} }} }}
"
    );
    (Gateway::from_text(&text).await, seen)
}

pub(crate) fn url(server: &FaultServer) -> String {
    format!("url: \"{}/keys\"", server.url())
}

pub(crate) async fn ask(gateway: &Gateway, headers: &[(&str, String)]) -> Answer {
    gateway.send(Method::GET, "/", headers, "").await
}

pub(crate) async fn status(gateway: &Gateway, kid: &str) -> u16 {
    let headers = headers("main", kid, &json!({}));
    ask(gateway, &headers).await.status.as_u16()
}
