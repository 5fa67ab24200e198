//! Faults A39 and A40: claims in headers.

use http::{HeaderMap, HeaderName, header::CONNECTION};

use super::*;
use crate::forward::{ForwardConfig, ForwardHeaders};

const USER: HeaderName = HeaderName::from_static("x-user");

/// Returns the header that the inner service receives for a claim of this value, or the status of the
/// refusal.
async fn sent(config: PropagateClaimsConfig, value: Value) -> Result<Option<String>, u16> {
    let service = layer(config).layer(service_fn(|request: Request<()>| async move {
        let mut values = request.headers().get_all(USER).iter();
        let first = values
            .next()
            .map(|value| value.to_str().unwrap().to_owned());
        assert!(values.next().is_none());
        Ok::<_, Infallible>(Response::new(Full::from(json!(first).to_string())))
    }));
    let mut request = request(&[]);
    for forged in ["root", "admin"] {
        request
            .headers_mut()
            .append(USER, HeaderValue::from_static(forged));
    }
    let claims = verifier().verify(&token(&claims(json!({"x": {"id": value}}))));
    request.extensions_mut().insert(claims.unwrap());
    let response = service.oneshot(request).await.unwrap();
    match response.status().as_u16() {
        200 => Ok(serde_json::from_value(body(response).await).unwrap()),
        status => Err(status),
    }
}

fn plain() -> PropagateClaimsConfig {
    PropagateClaimsConfig::default().claim("x.id", USER)
}

fn encoded() -> PropagateClaimsConfig {
    PropagateClaimsConfig::default().encoded_claim("x.id", USER)
}

fn layer(config: PropagateClaimsConfig) -> PropagateClaimsLayer {
    PropagateClaimsLayer::new(config).unwrap()
}

#[tokio::test]
async fn fault_a39_always_removes_the_header_of_the_caller() {
    for absent in [json!(null), json!(""), json!([]), json!({"other": 1})] {
        assert_eq!(sent(plain(), absent).await, Ok(None));
    }
    let service = layer(plain()).layer(service_fn(|request: Request<()>| async move {
        assert!(
            !request.headers().contains_key(USER),
            "removed even without a token"
        );
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let mut forged = request(&[]);
    forged
        .headers_mut()
        .insert(USER, HeaderValue::from_static("root"));
    assert_eq!(service.oneshot(forged).await.unwrap().status(), 200);
}

#[tokio::test]
async fn fault_a39_no_caller_removes_a_claim_by_a_nomination() {
    let config = ForwardConfig::default().headers([USER, HeaderName::from_static("x-hop")]);
    let forwarded = ForwardHeaders::new(config).unwrap();
    for (connection, hop) in [
        (&["X-User"][..], Some("1")),
        (&["close, x-user, (", "x-user,X-Hop"], None),
        (&["x-hop"], None),
    ] {
        let forwarded = forwarded.clone();
        let service = layer(plain()).layer(service_fn(move |request: Request<()>| {
            let mut sent = HeaderMap::new();
            forwarded.copy(request.headers(), None, &mut sent);
            let mut response = Response::new(Full::<Bytes>::default());
            *response.headers_mut() = sent;
            async { Ok::<_, Infallible>(response) }
        }));
        let mut request = request(&[]);
        for line in connection {
            let line = HeaderValue::from_static(line);
            request.headers_mut().append(CONNECTION, line);
        }
        let hop_header = HeaderValue::from_static("1");
        request.headers_mut().insert("x-hop", hop_header);
        let claims = verifier().verify(&token(&claims(json!({"x": {"id": "ada"}}))));
        request.extensions_mut().insert(claims.unwrap());
        let response = service.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[USER], "ada", "{connection:?}");
        let passed = response.headers().get("x-hop");
        assert_eq!(passed.map(|value| value.to_str().unwrap()), hop);
    }
}

#[tokio::test]
async fn fault_a40_sends_values_that_fit_in_a_header() {
    for (value, text) in [
        (json!("ada"), "ada"),
        (
            json!("Ada, Countess of Lovelace"),
            "Ada, Countess of Lovelace",
        ),
        (json!(42), "42"),
        (json!(-1.5), "-1.5"),
        (json!(true), "true"),
        (json!(["a", "b c"]), "a,b c"),
        (json!("a".repeat(1024)), &"a".repeat(1024)),
    ] {
        assert_eq!(sent(plain(), value).await, Ok(Some(text.into())));
    }
}

#[tokio::test]
async fn fault_a40_omits_encodes_or_refuses_all_other_values() {
    for (value, code) in [
        (json!("a\r\nx-admin: 1"), "a%0D%0Ax-admin%3A%201"),
        (json!("a\u{0}b\tc"), "a%00b%09c"),
        (json!("é"), "%C3%A9"),
        (json!(" a"), "%20a"),
        (json!({"a": 1}), "%7B%22a%22%3A1%7D"),
        (json!([1, "a"]), "%5B1%2C%22a%22%5D"),
        (json!(["a,b", "c"]), "a%2Cb,c"),
        (json!(["a\n", "c"]), "a%0A,c"),
        (json!(["a "]), "a%20"),
    ] {
        assert_eq!(sent(plain(), value.clone()).await, Ok(None), "{value}");
        assert_eq!(
            sent(plain().refuse(true), value.clone()).await,
            Err(401),
            "{value}"
        );
        assert_eq!(sent(encoded(), value).await, Ok(Some(code.into())));
    }
    for config in [plain(), encoded()] {
        let long = json!("a".repeat(1025));
        assert_eq!(sent(config.clone(), long.clone()).await, Ok(None));
        assert_eq!(sent(config.refuse(true), long).await, Err(401));
    }
}

#[tokio::test]
async fn fault_a40_refuses_with_a_challenge_and_reports_the_outcome() {
    let realm = PropagateClaimsConfig::default().realm("or\"ders");
    assert!(PropagateClaimsLayer::new(realm).is_err());
    let layer = layer(plain().refuse(true).realm("orders"));
    let service = layer
        .on_outcome(observe)
        .layer(service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
    let mut request = request(&[]);
    let claims = verifier().verify(&token(&claims(json!({"x": {"id": "\n"}}))));
    request.extensions_mut().insert(claims.unwrap());
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), challenge(&response)),
        (401, "Bearer realm=\"orders\", error=\"invalid_token\"")
    );
    assert_eq!(outcomes(), [Outcome::Rejected(Reason::ClaimValue)]);
    assert_eq!(Reason::ClaimValue.as_str(), "claim_value");
}

#[test]
fn rejects_reserved_headers_and_several_claims_per_header() {
    let refused = |header| PropagateClaimsLayer::new(plain().claim("sub", header)).is_err();
    assert!(refused(USER));
    for name in [
        "authorization",
        "host",
        "content-length",
        "transfer-encoding",
    ] {
        let header = HeaderName::from_static(name);
        assert!(refused(header), "{name}");
    }
}
