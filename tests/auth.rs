//! Whom the gateway believes, with issuers that publish their keys over real sockets.
#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use futures_util::future::join_all;
use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::time::{advance, pause, resume};
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    tls::{Authority, ServerTls},
};

/// A set of the test's key under these names.
fn set(kids: &[&str]) -> Fault {
    let known = include_str!("../crates/http/src/jwt/test_keys/jwks.json");
    let known: Value = serde_json::from_str(known).unwrap();
    let keys = kids.iter().map(|kid| {
        let mut key = known["keys"][1].clone();
        key["kid"] = (*kid).into();
        key
    });
    Fault::json(json!({"keys": keys.collect::<Vec<_>>()}).to_string())
}

/// An issuer that answers as it was told last.
struct Issuer {
    server: FaultServer,
    answer: Arc<Mutex<Fault>>,
}

impl Issuer {
    async fn new(answer: Fault) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let told = Arc::clone(&answer);
        let server = FaultServer::with(move |_| told.lock().unwrap().clone()).await;
        Self { server, answer }
    }

    fn answers(&self, answer: Fault) {
        *self.answer.lock().unwrap() = answer;
    }

    fn fetches(&self) -> usize {
        self.server.seen().requests.len()
    }
}

/// A caller's headers: a token of `issuer` by the key of this name, with these claims too.
fn headers(issuer: &str, kid: &str, more: &Value) -> [(&'static str, String); 1] {
    let mut claims =
        json!({"iss": issuer, "aud": "fanout", "sub": "ada", "exp": 4_000_000_000_u64});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(kid.into());
    let key = include_bytes!("../crates/http/src/jwt/test_keys/ec.pem");
    let token = encode(&header, &claims, &EncodingKey::from_ec_pem(key).unwrap()).unwrap();
    [("authorization", format!("Bearer {token}"))]
}

/// A gateway that believes `main` by keys fetched at `jwks`, with a service behind it.
async fn gateway(jwks: &str, auth: &str) -> (Gateway, Seen) {
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

fn url(server: &FaultServer) -> String {
    format!("url: \"{}/keys\"", server.url())
}

async fn ask(gateway: &Gateway, headers: &[(&str, String)]) -> Answer {
    gateway.send(Method::GET, "/", headers, "").await
}

async fn status(gateway: &Gateway, kid: &str) -> u16 {
    let headers = headers("main", kid, &json!({}));
    ask(gateway, &headers).await.status.as_u16()
}

/// Lets this time go by at once.
async fn go_by(time: std::time::Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn fault_b2_a_degraded_start_answers_503_until_there_are_keys() {
    let issuer = Issuer::new(Fault::answer(500, &[], "")).await;
    let jwks = format!("{}, start: degraded", url(&issuer.server));
    let (gateway, seen) = gateway(&jwks, "jwt: main").await;
    let refused = ask(&gateway, &headers("main", "a", &json!({}))).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.at("/code"), "auth_unavailable");
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(seen.calls(), 0);
    issuer.answers(set(&["a"]));
    go_by(ms(34_000)).await;
    while status(&gateway, "a").await != 200 {}
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn fault_b4_what_is_no_set_leaves_the_last_one_in_use() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: main").await;
    for (fetches, broken) in [
        Fault::answer(500, &[], ""),
        Fault::html(),
        Fault::invalid_json(),
        Fault::json(" ".repeat((256 << 10) + 1)),
        Fault::json("{\"keys\":[]}"),
    ]
    .into_iter()
    .enumerate()
    {
        issuer.answers(broken);
        go_by(ms(34_000)).await;
        // An unknown key asks for a fetch, and waits for it.
        assert_eq!(status(&gateway, "b").await, 401);
        assert_eq!(issuer.fetches(), fetches + 2);
        assert_eq!(status(&gateway, "a").await, 200);
    }
}

#[tokio::test]
async fn fault_b6_a_thousand_unknown_keys_cost_one_fetch() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: main").await;
    go_by(ms(30_000)).await;
    for batch in 0..10 {
        let kids: Vec<_> = (0..100).map(|kid| format!("{batch}-{kid}")).collect();
        let unknown = join_all(kids.iter().map(|kid| status(&gateway, kid)));
        let (unknown, known) = tokio::join!(unknown, status(&gateway, "a"));
        assert!(unknown.iter().all(|status| *status == 401), "{unknown:?}");
        assert_eq!(known, 200);
    }
    assert_eq!(issuer.fetches(), 2, "the first, and one more");
}

#[tokio::test]
async fn fault_b7_a_new_key_is_accepted_after_one_fetch() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: main").await;
    issuer.answers(set(&["b"]));
    assert_eq!(status(&gateway, "b").await, 401, "within the cooldown");
    go_by(ms(30_000)).await;
    assert_eq!(status(&gateway, "b").await, 200);
    assert_eq!(status(&gateway, "a").await, 401, "it was taken out");
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn fault_a31_an_issuer_is_believed_by_its_own_keys_alone() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: [main, other]").await;
    let other = [("authorization", format!("Bearer {}", token(&json!({}))))];
    let stolen = token(&json!({"iss": "main"}));
    let stolen = [("authorization", format!("Bearer {stolen}"))];
    for (headers, status) in [
        (headers("main", "a", &json!({})), 200),
        (other, 200),
        (headers("tests", "a", &json!({})), 401),
        (stolen, 401),
        (headers("nobody", "a", &json!({})), 401),
    ] {
        assert_eq!(ask(&gateway, &headers).await.status, status);
    }
}

#[tokio::test]
async fn fault_a35_a_missing_scope_is_named() {
    let issuer = Issuer::new(set(&["a"])).await;
    let auth = "jwt: main, all_scopes: [pages, users]";
    let (gateway, seen) = gateway(&url(&issuer.server), auth).await;
    for scope in [json!("pages"), json!(7), json!(["pages", 7]), json!(null)] {
        let headers = headers("main", "a", &json!({"scope": scope}));
        let answer = ask(&gateway, &headers).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.at("/code"), "insufficient_scope");
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"fanout\", error=\"insufficient_scope\", scope=\"pages users\""
        );
    }
    assert_eq!(seen.calls(), 0);
    let headers = headers("main", "a", &json!({"scope": "users pages"}));
    assert_eq!(ask(&gateway, &headers).await.status, 200);
}

#[tokio::test]
async fn fault_a39_a_header_for_a_claim_is_never_the_callers() {
    let issuer = Issuer::new(set(&["a"])).await;
    let auth = "jwt: main, propagate_claims: [{ claim: id, header: x-user-id }]";
    let (gateway, seen) = gateway(&url(&issuer.server), auth).await;
    for claims in [json!({"id": "ada-7"}), json!({})] {
        let mut headers = headers("main", "a", &claims).to_vec();
        headers.push(("x-user-id", "root".into()));
        assert_eq!(ask(&gateway, &headers).await.status, 200);
    }
    let sent = seen.requests();
    assert_eq!(sent[0].1["x-seen"], "ada-7");
    assert_eq!(sent[1].1["x-seen"], "nobody");
    assert!(
        sent.iter()
            .all(|(_, headers)| !headers.contains_key("x-user-id"))
    );
}

#[tokio::test]
async fn keys_are_fetched_from_a_server_of_a_private_ca() {
    let authority = Authority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let server = FaultServer::with_tls(&tls, |_| set(&["a"])).await;
    let name = format!("tower-fanout-{}-ca.pem", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, authority.ca_pem()).unwrap();
    let jwks = format!("{}, ca_file: \"{}\"", url(&server), file.display());
    let (gateway, _) = gateway(&jwks, "jwt: main").await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status(&gateway, "a").await, 200);
}
