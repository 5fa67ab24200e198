//! Tests of chaos around an HTTP service.
#![cfg(all(feature = "chaos", feature = "http"))]
#![allow(missing_docs)]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Channel, Empty, Full};
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout_layers::{
    AsRejection, BoxError, BreakerConfig, BreakerLayer, ClassifyHttp, Failure,
    chaos::{ChaosBody, ChaosConfig, ChaosLayer, HeaderMatch, Injection, Match, Rule, inject_http},
};

fn config(rules: Vec<Rule>) -> ChaosConfig {
    ChaosConfig::new().enabled(true).rules(rules)
}

/// Returns the response of a service with `body`, with `inject` at rate 1.
async fn answer<B>(inject: Injection, body: B) -> Result<Response<ChaosBody<B>>, BoxError>
where
    B: Body + Clone + Send,
{
    let service = service_fn(move |_: Request<()>| {
        let answer = Response::builder().header("content-length", "10");
        std::future::ready(Ok::<_, BoxError>(
            answer.body(ChaosBody::new(body.clone())).unwrap(),
        ))
    });
    let layer = ChaosLayer::new(
        config(vec![Rule::new(1.0, inject)]),
        inject_http(BoxError::from),
    )
    .unwrap();
    layer.layer(service).oneshot(Request::new(())).await
}

/// Reads `body`. Returns the data and the failure that ended the body, if any.
async fn read(body: impl Body<Data = Bytes, Error = BoxError>) -> (Vec<u8>, Option<Failure>) {
    let mut body = Box::pin(body);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read.extend(frame.into_data().unwrap_or_default()),
            Err(error) => {
                assert!(body.is_end_stream());
                assert!(body.frame().await.is_none());
                return (read, Some(error.failure()));
            }
        }
    }
    (read, None)
}

#[tokio::test]
async fn a_truncated_body_breaks_off_and_a_shorter_one_does_not() {
    for (bytes, expected) in [
        (0, (&b""[..], Some(Failure::TruncatedBody))),
        (4, (b"0123", Some(Failure::TruncatedBody))),
        (9, (b"012345678", Some(Failure::TruncatedBody))),
        (10, (b"0123456789", None)),
        (u64::MAX, (b"0123456789", None)),
    ] {
        let answer = answer(Injection::Truncate(bytes), Full::new(&b"0123456789"[..])).await;
        let answer = answer.unwrap();
        assert_eq!(answer.headers()["content-length"], "10");
        let body = answer.into_body();
        assert_eq!(body.size_hint().exact(), Some(10), "the size hint changed");
        let (read, failure) = read(body).await;
        assert_eq!((&read[..], failure), expected);
    }
}

#[tokio::test]
async fn frames_are_truncated_by_their_total_size_and_trailers_pass() {
    let frames = async |bytes| {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
        for data in ["abc", "", "def"] {
            sender.send_data(data.into()).await.unwrap();
        }
        sender
            .send(Frame::trailers(HeaderMap::new()))
            .await
            .unwrap();
        drop(sender);
        let body = Arc::new(Mutex::new(Some(body)));
        let service = service_fn(move |_: Request<()>| {
            let body = body.lock().unwrap().take().unwrap();
            std::future::ready(Ok::<_, BoxError>(Response::new(ChaosBody::new(body))))
        });
        let rules = vec![Rule::new(1.0, Injection::Truncate(bytes))];
        let layer = ChaosLayer::new(config(rules), inject_http(BoxError::from)).unwrap();
        let mut body = layer
            .layer(service)
            .oneshot(Request::new(()))
            .await
            .unwrap()
            .into_body();
        let mut kinds = Vec::new();
        while let Some(frame) = body.frame().await {
            kinds.push(match frame.map(Frame::into_data) {
                Ok(Ok(data)) => String::from_utf8(data.to_vec()).unwrap(),
                Ok(Err(_)) => "trailers".into(),
                Err(_) => "broken".into(),
            });
        }
        kinds
    };
    assert_eq!(frames(3).await, ["abc", "", "broken"]);
    assert_eq!(frames(5).await, ["abc", "", "de", "broken"]);
    assert_eq!(frames(6).await, ["abc", "", "def", "trailers"]);
}

#[tokio::test]
async fn a_reset_body_breaks_off_before_its_first_byte_even_if_empty() {
    let body = answer(Injection::ResetBody, Full::new(&b"0123456789"[..])).await;
    assert_eq!(
        read(body.unwrap().into_body()).await,
        (vec![], Some(Failure::TruncatedBody))
    );
    let body = answer(Injection::ResetBody, Empty::<Bytes>::new())
        .await
        .unwrap()
        .into_body();
    assert!(!body.is_end_stream());
    assert_eq!(read(body).await, (vec![], Some(Failure::TruncatedBody)));
}

#[tokio::test]
async fn an_injected_status_has_no_body() {
    let answer = answer(Injection::Status(503), Full::new(&b"0123456789"[..]))
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().is_empty());
    let body = answer.into_body();
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert_eq!(read(body).await, (vec![], None));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_counts_a_body_that_chaos_broke() {
    let breaker = BreakerLayer::new("team", BreakerConfig::new(), ClassifyHttp::new()).unwrap();
    let rules = vec![Rule::new(1.0, Injection::Truncate(4))];
    let layer = ChaosLayer::new(config(rules), inject_http(BoxError::from)).unwrap();
    let service = service_fn(async |_: Request<()>| {
        Ok::<_, BoxError>(Response::new(ChaosBody::new(Full::new(&b"0123456789"[..]))))
    });
    let service = breaker.clone().until_body_end().layer(layer.layer(service));
    let answer = service.oneshot(Request::new(())).await.unwrap();
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(breaker.handle().snapshot().failed, 1);
}

#[tokio::test]
async fn a_header_matches_by_name_in_any_case_and_by_exact_value() {
    let header = |name: &str, value: Option<&str>| HeaderMatch {
        name: name.into(),
        value: value.map(Into::into),
    };
    let request = Request::builder()
        .header("x-chaos", "no")
        .header("x-chaos", "yes");
    let request = request.body(()).unwrap();
    for (matching, is_in) in [
        (header("X-Chaos", None), true),
        (header("x-chaos", Some("yes")), true),
        (header("x-chaos", Some("YES")), false),
        (header("x-other", None), false),
        (header("no name", None), false),
    ] {
        assert_eq!(matching.is_in(request.headers()), is_in, "{matching:?}");
        let matching = Match {
            header: Some(matching),
            ..Match::default()
        };
        let rule = Rule::new(1.0, Injection::Status(503)).matching(matching);
        let by_header = |matching: &Match, request: &Request<()>| {
            let mut matching = matching.header.iter();
            matching.all(|header| header.is_in(request.headers()))
        };
        let layer = ChaosLayer::new(config(vec![rule]), inject_http(BoxError::from)).unwrap();
        let service = service_fn(async |_: Request<()>| {
            Ok::<_, BoxError>(Response::new(ChaosBody::new(Empty::<Bytes>::new())))
        });
        let service = layer.matching(by_header).layer(service);
        let answer = service.oneshot(request.clone()).await.unwrap();
        assert_eq!(answer.status() == 503, is_in);
    }
}
