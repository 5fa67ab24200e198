//! Keys that are fetched again as time goes by.

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{advance, pause, resume};
use tower_fanout_testkit::fault_server::Fault;

use super::{issuer::*, *};

/// Lets this time go by at once.
async fn go_by(time: std::time::Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn fault_b2_a_degraded_start_answers_503_until_there_are_keys() {
    let issuer = Issuer::new(Fault::response(500, &[], "")).await;
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
        Fault::response(500, &[], ""),
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
