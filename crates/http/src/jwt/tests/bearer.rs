//! Faults A1 to A9 and A11: the `Authorization` header.

use http::{HeaderMap, header::COOKIE};
use proptest::prelude::*;

use super::{super::bearer::bearer, *};

#[tokio::test]
async fn fault_a1_a2_sends_a_challenge_without_error_if_no_token_came() {
    let cases: [(&[&[u8]], &str); 5] = [
        (&[], "missing"),
        (&[b"Basic YTpi"], "scheme"),
        (&[b"Digest x"], "scheme"),
        (&[b"Digest username=\"a\", realm=\"b\""], "scheme"),
        (&[b"Bearerx y"], "scheme"),
    ];
    for (headers, reason) in cases {
        let response = answer(headers).await;
        assert_eq!(outcomes()[0].reason(), reason);
        assert_eq!(
            (response.status().as_u16(), challenge(&response)),
            (401, "Bearer realm=\"fanout\"")
        );
        assert_eq!(body(response).await["code"], "auth_required");
    }
}

#[test]
fn fault_a1_sends_a_valid_challenge_for_any_realm() {
    for (refusal, shown) in [
        (Reason::Missing, "Bearer realm=\"ab\""),
        (
            Reason::Scope,
            "Bearer realm=\"ab\", error=\"insufficient_scope\", scope=\"x\"",
        ),
    ] {
        let problem = refusal.problem("a\"\r\n\u{e9}\\b", "\"x\n");
        assert_eq!(challenge(&problem.into_response(None)), shown);
    }
}

#[tokio::test]
async fn fault_a3_ignores_case_of_the_scheme_and_accepts_only_spaces() {
    let token = token(&good());
    for good in ["bearer ", "BEARER   ", "Bearer "] {
        let line = format!("{good}{token}");
        assert_eq!(refused(&[line.as_bytes()]).await, (200, "none"));
    }
    for bad in ["Bearer\t", "Bearer \t", "Bearer\t "] {
        let line = format!("{bad}{token}");
        assert_eq!(
            refused(&[line.as_bytes()]).await,
            (400, "syntax"),
            "{bad:?}"
        );
    }
}

#[tokio::test]
async fn fault_a4_refuses_a_token_without_scheme() {
    let response = answer(&[token(&good()).as_bytes()]).await;
    assert_eq!(outcomes(), [Outcome::Rejected(Reason::MissingScheme)]);
    assert_eq!(Reason::MissingScheme.as_str(), "syntax");
    assert_eq!(response.status(), 401);
    assert_eq!(
        challenge(&response),
        "Bearer realm=\"fanout\", error=\"invalid_token\""
    );
}

#[tokio::test]
async fn fault_a5_a6_a8_answers_400_to_malformed_headers() {
    let token = token(&good());
    let bearer = format!("Bearer {token}");
    let joined = format!("{bearer}, {bearer}");
    let after_basic = format!("Basic YTpi, {bearer}");
    let lines: [(&[&[u8]], &str); 11] = [
        (&[b"Bearer"], "empty_token"),
        (&[b"Bearer    "], "empty_token"),
        (&[bearer.as_bytes(), bearer.as_bytes()], "duplicate"),
        (&[bearer.as_bytes(), b"Basic YTpi"], "duplicate"),
        (&[b"Basic YTpi", bearer.as_bytes()], "duplicate"),
        (&[joined.as_bytes()], "duplicate"),
        (&[after_basic.as_bytes()], "duplicate"),
        (&[b"Bearer \xff\xfe"], "syntax"),
        (&["Bearer é".as_bytes()], "syntax"),
        (&[b"\xff\xfe"], "syntax"),
        (&[b"Bearer a b"], "syntax"),
    ];
    for (headers, reason) in lines {
        let response = answer(headers).await;
        assert_eq!(outcomes()[0].reason(), reason, "{headers:?}");
        assert_eq!(response.status(), 400, "{headers:?}");
        assert_eq!(
            challenge(&response),
            "Bearer realm=\"fanout\", error=\"invalid_request\""
        );
    }
}

#[tokio::test]
async fn fault_a7_ignores_tokens_outside_the_authorization_header() {
    let token = token(&good());
    let elsewhere = |mut request: Request<()>| {
        *request.uri_mut() = format!("/?access_token={token}").parse().unwrap();
        let cookie = format!("access_token={token}; token={token}");
        request
            .headers_mut()
            .insert(COOKIE, cookie.parse().unwrap());
        request
    };
    let response = call(layer_of(verifier()), elsewhere(request(&[]))).await;
    assert_eq!(response.status(), 401);
    assert_eq!(outcomes(), [Outcome::Rejected(Reason::Missing)]);
    let bearer = format!("Bearer {token}");
    let both = elsewhere(request(&[bearer.as_bytes()]));
    let response = call(layer_of(verifier()), both).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn fault_a9_a11_answers_401_to_oversized_and_json_tokens() {
    let lines = [
        (format!("Bearer {}", "a".repeat(8193)), "oversize"),
        (format!("Bearer {}", ",".repeat(8193)), "oversize"),
        (format!("Bearer {}", "a".repeat(8192)), "shape"),
        (
            "Bearer {\"payload\":\"x\",\"signatures\":[]}".into(),
            "shape",
        ),
    ];
    for (line, reason) in lines {
        assert_eq!(refused(&[line.as_bytes()]).await, (401, reason));
    }
}

proptest! {
    #[test]
    fn fault_a8_refuses_any_garbage_with_400_or_401(line in "(Bearer )?[ -~\u{80}-\u{ff}\t]{0,60}") {
        let headers: HeaderMap = [(AUTHORIZATION, HeaderValue::from_bytes(line.as_bytes()).unwrap())]
            .into_iter()
            .collect();
        let answer = bearer(&headers).and_then(|token| verifier().verify(token));
        let status = answer.unwrap_err().code().status().as_u16();
        prop_assert!([400, 401].contains(&status));
        prop_assert!(line.is_ascii() || status == 400);
    }
}
