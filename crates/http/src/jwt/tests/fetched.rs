//! Faults B2 to B9, B17 and B18: the layer with fetched keys, on the paused clock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tower_fanout_layers::{CallContext, Deadline};

use super::*;
use crate::{
    client::ClientErrorKind,
    jwt::jwks::{
        JwksConfig, Start,
        tests::{good as set, issuer},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a request with a token that is signed by the issuer's key and names `kid`.
fn request_with_kid(kid: &str) -> Request<()> {
    let header = Header {
        kid: Some(kid.into()),
        ..super::header(Algorithm::ES256)
    };
    let key = EncodingKey::from_ec_pem(include_bytes!("../test_keys/ec.pem")).unwrap();
    let token = jsonwebtoken::encode(&header, &good(), &key).unwrap();
    request(&[format!("Bearer {token}").as_bytes()])
}

fn layer(keys: impl Into<Keys>) -> JwtLayer {
    layer_of(Verifier::new(keys, rules()).unwrap().clock(clock))
}

async fn status(layer: &JwtLayer, request: Request<()>) -> u16 {
    call(layer.clone(), request).await.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn fault_b2_b3_answers_503_with_retry_after_while_no_keys_exist() {
    let config = JwksConfig::default().start(Start::Degraded);
    let (jwks, _) = issuer(config, SECOND, |fetch| match fetch {
        0 => Err(ClientErrorKind::Connect.into()),
        1 => set(&["a"]),
        _ => Err(ClientErrorKind::Connect.into()),
    })
    .await;
    let layer = layer(jwks.unwrap());
    let assert_unavailable = async || {
        let response = call(layer.clone(), request_with_kid("a")).await;
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "30");
        assert!(!response.headers().contains_key("www-authenticate"));
        assert_eq!(outcomes(), [Outcome::Rejected(Reason::Unavailable)]);
        assert_eq!(body(response).await["code"], "auth_unavailable");
    };
    assert_unavailable().await;
    sleep(35 * SECOND).await;
    assert_eq!(status(&layer, request_with_kid("a")).await, 200);
    sleep(24 * 3600 * SECOND).await;
    outcomes();
    assert_unavailable().await;
    assert_eq!(
        status(&layer, request(&[])).await,
        401,
        "a request without a token still gets a 401"
    );
}

#[tokio::test(start_paused = true)]
async fn fault_b6_makes_one_fetch_for_unknown_kids_and_known_ones_do_not_wait() {
    let (jwks, seen) = issuer(JwksConfig::default(), SECOND, |_| set(&["a"])).await;
    let layer = layer(jwks.unwrap());
    sleep(30 * SECOND).await;
    for round in 1..=3 {
        let unknown =
            join_all((0..1000).map(|kid| status(&layer, request_with_kid(&format!("x{kid}")))));
        let known = async {
            let before = Instant::now();
            sleep(SECOND / 2).await;
            assert_eq!(status(&layer, request_with_kid("a")).await, 200);
            before.elapsed()
        };
        let (unknown, known) = tokio::join!(unknown, known);
        assert!(unknown.iter().all(|status| *status == 401));
        assert_eq!(known, SECOND / 2);
        assert_eq!(seen.count(), 1 + round);
        sleep(29 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fault_b7_a_token_with_a_new_kid_waits_for_the_fetch() {
    let (jwks, seen) = issuer(JwksConfig::default(), SECOND, |fetch| match fetch {
        0 => set(&["a"]),
        _ => set(&["b"]),
    })
    .await;
    let layer = layer(jwks.unwrap());
    assert_eq!(
        status(&layer, request_with_kid("b")).await,
        401,
        "during the cooldown"
    );
    sleep(30 * SECOND).await;
    let before = Instant::now();
    assert_eq!(status(&layer, request_with_kid("b")).await, 200);
    assert_eq!((before.elapsed(), seen.count()), (SECOND, 2));
    assert_eq!(
        status(&layer, request_with_kid("a")).await,
        401,
        "key `a` was withdrawn"
    );
    assert_eq!(seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn fault_b9_waits_for_a_key_only_until_the_deadline() {
    let (jwks, seen) = issuer(JwksConfig::default(), 4 * SECOND, |fetch| match fetch {
        0 => set(&["a"]),
        _ => set(&["a", "b"]),
    })
    .await;
    let layer = layer(jwks.unwrap());
    sleep(30 * SECOND).await;
    let before = Instant::now();
    let mut request = request_with_kid("b");
    request.call_mut().unwrap().deadline = Deadline::after(before, SECOND);
    let response = call(layer.clone(), request).await;
    assert_eq!(
        (response.status().as_u16(), before.elapsed()),
        (503, SECOND)
    );
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(
        status(&layer, request_with_kid("b")).await,
        200,
        "the fetch was not canceled"
    );
    assert_eq!((before.elapsed(), seen.count()), (4 * SECOND, 2));
}

#[tokio::test(start_paused = true)]
async fn fault_b17_the_wall_clock_affects_expiration_but_no_fetch() {
    static SHIFT: AtomicU64 = AtomicU64::new(3600);
    let (jwks, seen) = issuer(JwksConfig::default(), SECOND, |_| set(&["a"])).await;
    let shifted = || clock() - Duration::from_secs(3600) + Duration::from_secs(SHIFT.load(Relaxed));
    let layer = layer_of(
        Verifier::new(jwks.unwrap(), rules())
            .unwrap()
            .clock(shifted),
    );
    for (shift, expected) in [(3600, 200), (2 * 3600, 401), (0, 200)] {
        SHIFT.store(shift, Relaxed);
        assert_eq!(status(&layer, request_with_kid("a")).await, expected);
        assert_eq!(seen.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_b18_replaces_the_keys_of_a_verifier_in_use() {
    let (jwks, seen) = issuer(JwksConfig::default(), SECOND, |_| set(&["a"])).await;
    let keys = Keys::from(jwks.unwrap());
    let layer = layer(keys.clone());
    assert_eq!(status(&layer, request_with_kid("a")).await, 200);
    let pem = include_bytes!("../test_keys/ec.pub.pem");
    let key = Key::from_pem(Algorithm::ES256, pem).unwrap().with_kid("b");
    keys.replace(KeySet::new([key]).unwrap());
    assert_eq!(status(&layer, request_with_kid("a")).await, 401);
    assert_eq!(status(&layer, request_with_kid("b")).await, 200);
    sleep(3600 * SECOND).await;
    assert_eq!(seen.count(), 1, "replaced keys are no longer fetched");
}
