//! Faults A38, A41, A44 and A45: the layer and the handlers behind it.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{
    Method,
    header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN},
};

use super::*;

#[cfg(feature = "axum")]
#[tokio::test]
async fn fault_a38_answers_500_if_a_handler_has_no_jwt_layer() {
    use axum_core::{extract::FromRequestParts, response::IntoResponse};

    let (mut parts, ()) = request(&[]).into_parts();
    let rejection = Claims::from_request_parts(&mut parts, &())
        .await
        .unwrap_err();
    let response = rejection.into_response();
    assert_eq!(response.status(), 500);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "auth_not_configured");
    parts
        .extensions
        .insert(verifier().verify(&token(&good())).unwrap());
    let claims = Claims::from_request_parts(&mut parts, &()).await.unwrap();
    assert_eq!(claims.subject(), "ada");
}

/// The inner service is not called if any step refuses the token.
#[tokio::test]
async fn fault_a38_never_calls_the_service_with_a_refused_token() {
    let wrong = [
        json!({"exp": 1}),
        json!({"aud": "others"}),
        json!({"iss": "others"}),
        json!({"nbf": NOW + 60}),
    ];
    for wrong in wrong {
        let layer = layer_with(JwtConfig::default().any_role(["reader"]));
        let service = layer.layer(service_fn(|_: Request<()>| async {
            panic!("the service was called");
            #[expect(unreachable_code, reason = "defines the response type of the service")]
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        let bearer = format!("Bearer {}", token(&claims(wrong)));
        let response = service
            .oneshot(request(&[bearer.as_bytes()]))
            .await
            .unwrap();
        assert_eq!(response.status(), 401);
    }
}

/// The signature is verified before the claims are read. A caller without the key therefore gets the
/// same reason for any claims and for any wrong byte in the signature.
#[test]
fn fault_a41_the_reason_for_a_forged_token_depends_only_on_its_kid() {
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET)
        .unwrap()
        .with_kid("a")]);
    let verifier = Verifier::new(keys.unwrap(), rules()).unwrap().clock(clock);
    let caller_key = EncodingKey::from_secret(b"a secret of the caller, as long as it has to be");
    for wrong in [
        good(),
        claims(json!({"exp": 1})),
        claims(json!({"iss": 5})),
        json!([]),
    ] {
        let forged = |kid: &str| {
            let header = json!({"alg": "HS256", "kid": kid}).to_string();
            let token = raw_with(&caller_key, &header, &wrong.to_string());
            verifier.verify(&token).unwrap_err()
        };
        assert_eq!(forged("a"), Reason::Signature);
        assert_eq!(forged("b"), Reason::Kid);
    }
    let response = |reason: Reason| format!("{:?}", reason.problem("fanout", ""));
    assert_eq!(response(Reason::Signature), response(Reason::Kid));
}

fn preflight() -> Request<()> {
    let mut preflight = request(&[]);
    *preflight.method_mut() = Method::OPTIONS;
    for (name, value) in [
        (ORIGIN, "https://app.example"),
        (ACCESS_CONTROL_REQUEST_METHOD, "POST"),
    ] {
        preflight
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    preflight
}

#[tokio::test]
async fn fault_a44_passes_preflights_without_claims_and_only_if_configured() {
    let protected = layer_of(verifier()).on_outcome(observe);
    let call = async |layer: &JwtLayer, mut request: Request<()>| {
        let stale = verifier().verify(&token(&good())).unwrap();
        request.extensions_mut().insert(stale);
        let service = layer.layer(service_fn(|request: Request<()>| async move {
            assert!(request.extensions().get::<Claims>().is_none());
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }));
        service.oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(call(&protected, preflight()).await, 401);
    let skipping = layer_with(JwtConfig::default().skip_preflight(true)).on_outcome(observe);
    outcomes();
    assert_eq!(call(&skipping, preflight()).await, 200);
    assert_eq!(outcomes(), [Outcome::Preflight]);
    for lacking in [ORIGIN, ACCESS_CONTROL_REQUEST_METHOD] {
        let mut request = preflight();
        request.headers_mut().remove(lacking);
        assert_eq!(call(&skipping, request).await, 401);
    }
    let mut post = preflight();
    *post.method_mut() = Method::POST;
    assert_eq!(call(&skipping, post).await, 401);
}

/// Verified tokens are not cached.
#[test]
fn fault_a45_checks_a_token_on_each_request() {
    static LATER: AtomicU64 = AtomicU64::new(0);
    let keys = KeySet::new([Key::from_secret(Algorithm::HS256, SECRET).unwrap()]).unwrap();
    let list = DenyList::default();
    let verifier = Verifier::new(keys, rules().deny_list(list.clone()))
        .unwrap()
        .clock(|| clock() + Duration::from_secs(LATER.load(Ordering::Relaxed)));
    let [first, second] = ["t-1", "t-2"].map(|id| token(&claims(json!({"jti": id}))));
    assert!(verifier.verify(&first).is_ok());
    list.revoke("t-1", clock()).unwrap();
    assert_eq!(verifier.verify(&first).unwrap_err(), Reason::Revoked);
    assert!(verifier.verify(&second).is_ok());
    LATER.store(91, Ordering::Relaxed);
    assert_eq!(verifier.verify(&second).unwrap_err(), Reason::Expired);
}

/// The label values of the metric match the list in `docs/faults.md`.
#[test]
fn reason_names_match_the_fault_list() {
    let names: std::collections::BTreeSet<_> =
        Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let expected = "alg aud b64 claim_value claims crit duplicate embedded empty_token exp expired header iat iss \
                    kid missing nbf oversize revoked scheme scope shape signature syntax typ unavailable";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(" "), expected);
    let labels = [
        Outcome::Accepted,
        Outcome::Preflight,
        Outcome::Rejected(Reason::Kid),
    ]
    .map(|outcome| (outcome.as_str(), outcome.reason()));
    assert_eq!(
        labels,
        [
            ("accepted", "none"),
            ("preflight", "none"),
            ("rejected", "kid")
        ]
    );
}

#[tokio::test]
async fn reports_one_outcome_per_request() {
    let bearer = format!("Bearer {}", token(&good()));
    for (headers, outcome) in [
        (&[bearer.as_bytes()][..], Outcome::Accepted),
        (&[], Outcome::Rejected(Reason::Missing)),
    ] {
        answer(headers).await;
        assert_eq!(outcomes(), [outcome]);
    }
}
