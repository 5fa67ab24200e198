//! Polling of JWKS over time.

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{advance, pause, resume};
use tower_fanout_testkit::fault_server::Fault;

use super::{issuer::*, *};

/// Advances the clock by `time`.
async fn advance_by(time: std::time::Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn fault_b2_responds_503_after_a_degraded_start_until_keys_arrive() {
    let issuer = Issuer::new(Fault::response(500, &[], "")).await;
    let jwks = format!("{}, start: degraded", url(&issuer.server));
    let (gateway, seen) = gateway(&jwks, "jwt: main").await;
    let refused = ask(&gateway, &headers("main", "a", &json!({}))).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.at("/code"), "auth_unavailable");
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(seen.calls(), 0);
    issuer.set_response(set(&["a"]));
    advance_by(ms(34_000)).await;
    while status(&gateway, "a").await != 200 {}
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn fault_b4_an_invalid_jwk_set_keeps_the_last_one_in_use() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: main").await;
    for (fetches, broken) in [
        Fault::response(500, &[], ""),
        Fault::html(),
        Fault::invalid_json(),
        Fault::json(" ".repeat((256 << 10) + 1)),
        Fault::json("{\"keys\":[]}"),
    ]
    .into_iter()
    .enumerate()
    {
        issuer.set_response(broken);
        advance_by(ms(34_000)).await;
        // An unknown key id triggers a fetch and waits for it.
        assert_eq!(status(&gateway, "b").await, 401);
        assert_eq!(issuer.fetches(), fetches + 2);
        assert_eq!(status(&gateway, "a").await, 200);
    }
}

#[tokio::test]
async fn fault_b6_a_thousand_unknown_keys_cost_one_fetch() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: main").await;
    advance_by(ms(30_000)).await;
    for batch in 0..10 {
        let kids: Vec<_> = (0..100).map(|kid| format!("{batch}-{kid}")).collect();
        let unknown = join_all(kids.iter().map(|kid| status(&gateway, kid)));
        let (unknown, known) = tokio::join!(unknown, status(&gateway, "a"));
        assert!(unknown.iter().all(|status| *status == 401), "{unknown:?}");
        assert_eq!(known, 200);
    }
    assert_eq!(
        issuer.fetches(),
        2,
        "the first fetch and one for all unknown keys"
    );
}

#[tokio::test]
async fn fault_b7_a_new_key_is_accepted_after_one_fetch() {
    let issuer = Issuer::new(set(&["a"])).await;
    let (gateway, _) = gateway(&url(&issuer.server), "jwt: main").await;
    issuer.set_response(set(&["b"]));
    assert_eq!(status(&gateway, "b").await, 401, "within the cooldown");
    advance_by(ms(30_000)).await;
    assert_eq!(status(&gateway, "b").await, 200);
    assert_eq!(status(&gateway, "a").await, 401, "the key was removed");
    assert_eq!(issuer.fetches(), 2);
}
