//! Authentication with issuers that publish their keys over real sockets.
#![allow(missing_docs)]

mod common;

use common::{issuer::*, *};
use http::Method;
use serde_json::json;
use tower_fanout_testkit::fault_server::{
    FaultServer,
    tls::{CertificateAuthority, ServerTls},
};

#[tokio::test]
async fn fault_a31_verifies_a_token_only_with_keys_of_its_issuer() {
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
async fn fault_a35_challenge_lists_the_required_scopes() {
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
async fn fault_a39_removes_claim_headers_that_the_caller_sends() {
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
async fn fault_a39_removes_claim_headers_on_routes_without_claims() {
    let (up, seen) = stub(quick).await;
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [tests], audiences: [fanout], algorithms: [HS256] }} }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}], forward_headers: [x-user-id, x-other] }} }}
routes:
  - {{ name: claims, match: {{ path: /claims }}, auth: {{ jwt: main, propagate_claims: [{{ claim: id, header: x-user-id }}] }}, plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }} }}
  - {{ name: open, match: {{ path: /open }}, plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }} }}
"
    );
    let gateway = Gateway::from_text(&text).await;
    let bearer = format!("Bearer {}", token(&json!({"id": "ada-7"})));
    for path in ["/claims", "/open"] {
        let headers = [
            ("authorization", bearer.clone()),
            ("x-user-id", "root".into()),
            ("x-other", "kept".into()),
        ];
        let answer = gateway.send(Method::GET, path, &headers, "").await;
        assert_eq!(answer.status, 200);
    }
    let sent = seen.requests();
    assert_eq!(sent[0].1["x-user-id"], "ada-7");
    assert!(!sent[1].1.contains_key("x-user-id"));
    assert!(sent.iter().all(|(_, headers)| headers["x-other"] == "kept"));
}

#[tokio::test]
async fn fetches_keys_from_a_server_with_a_private_ca() {
    let authority = CertificateAuthority::new();
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
