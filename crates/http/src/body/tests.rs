//! Tests of the body limits.

use std::convert::Infallible;

use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use tower_fanout_testkit::laws::{Http, Laws};

use super::*;

fn limits(max: usize) -> BodyLimitConfig {
    BodyLimitConfig {
        max,
        ..BodyLimitConfig::default()
    }
}

/// Creates a body of these chunks that then fails with `end`, or never ends if `end` is `None`.
fn chunked(
    chunked: &'static [&'static str],
    end: Option<BodyError>,
) -> impl Body<Data = Bytes, Error = BodyError> {
    let frames = chunked
        .iter()
        .map(|chunk| Ok(Frame::data(Bytes::from(*chunk))));
    let last = match end {
        Some(error) => stream::iter([Err(error)]).left_stream(),
        None => stream::pending().right_stream(),
    };
    StreamBody::new(stream::iter(frames).chain(last))
}

async fn read(
    body: impl Body<Data = Bytes, Error = BodyError>,
    max: usize,
) -> Result<Bytes, BodyError> {
    read_body(&HeaderMap::new(), body, &limits(max)).await
}

#[tokio::test(start_paused = true)]
async fn fault_d22_rejects_a_length_above_the_limit_without_reading() {
    let body = || Full::new(Bytes::from_static(b"12345"));
    let read = |max| async move { read_body(&HeaderMap::new(), body(), &limits(max)).await };
    assert_eq!(read(5).await.unwrap(), "12345");
    assert_eq!(read(4).await, Err(BodyError::TooLarge));
    let response = Problem::from(BodyError::TooLarge).into_response::<Bytes>(None);
    assert_eq!(
        (response.status().as_u16(), &response.headers()[CONNECTION]),
        (413, &HeaderValue::from_static("close"))
    );
}

#[tokio::test(start_paused = true)]
async fn fault_d23_fails_at_the_first_byte_above_the_limit() {
    // The body never ends, so only the size limit can end it at once.
    let start = Instant::now();
    assert_eq!(
        read(chunked(&["123", "45"], None), 4).await,
        Err(BodyError::TooLarge)
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    let body = chunked(&["123", "45", "6"], Some(BodyError::Broken));
    let mut limited = std::pin::pin!(LimitedBody::new(body, 4, Duration::from_secs(1)));
    assert_eq!(
        limited.frame().await.unwrap().unwrap().into_data().unwrap(),
        "123"
    );
    for _ in 0..2 {
        assert_eq!(
            limited.frame().await.unwrap().unwrap_err(),
            BodyError::TooLarge
        );
    }
}

#[test]
fn fault_d23_a_body_in_single_bytes_needs_no_extra_memory() {
    let bytes = (0..1 << 20).map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x"))));
    let counted = allocation_counter::measure(|| {
        let body = StreamBody::new(stream::iter(bytes));
        let read = futures_util::FutureExt::now_or_never(read(body, 1 << 20));
        assert_eq!(read.unwrap().unwrap().len(), 1 << 20);
    });
    assert!(counted.bytes_max <= 4 << 20, "{}", counted.bytes_max);
}

#[tokio::test(start_paused = true)]
async fn fault_d2_a_slow_body_fails_at_the_deadline() {
    let start = Instant::now();
    assert_eq!(
        read(chunked(&["1"], None), 5).await,
        Err(BodyError::Timeout)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let slow = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        Some((Ok::<_, BodyError>(Frame::data(Bytes::from("1"))), ()))
    });
    let start = Instant::now();
    assert_eq!(
        read(StreamBody::new(slow), 5).await,
        Err(BodyError::Timeout)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn fault_d24_an_incomplete_body_is_an_error() {
    let broken = chunked(&["1"], Some(BodyError::Broken));
    assert_eq!(read(broken, 5).await, Err(BodyError::Broken));
}

#[tokio::test(start_paused = true)]
async fn fault_d25_rejects_encoded_bodies_by_default() {
    for (lines, expected) in [
        (&["identity"][..], Ok("12345".into())),
        (&["Identity"], Ok("12345".into())),
        (&["gzip"], Err(BodyError::Encoding)),
        (&["br"], Err(BodyError::Encoding)),
        (&["deflate"], Err(BodyError::Encoding)),
        (&["gzip, br"], Err(BodyError::Encoding)),
        (&["identity", "identity"], Err(BodyError::Encoding)),
        (&[""], Err(BodyError::Encoding)),
    ] {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(line));
        }
        let body = Full::new(Bytes::from_static(b"12345"));
        assert_eq!(
            read_body(&headers, body, &limits(9)).await,
            expected,
            "{lines:?}"
        );
    }
}

/// Returns the status of a response through the layer, with a handler that reads the body and
/// ignores its errors.
async fn through_layer<B>(body: B) -> u16
where
    B: Body<Data = Bytes, Error = BodyError>,
{
    let handler = service_fn(|request: Request<LimitedBody<B>>| async {
        let read = request.into_body().collect().await;
        Ok::<_, Infallible>(Response::new(Full::new(
            read.unwrap_or_default().to_bytes(),
        )))
    });
    let layer = BodyLimitLayer::new(limits(4)).unwrap();
    let response = layer.layer(handler).oneshot(Request::new(body)).await;
    response.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn fault_d22_d23_d2_the_layer_limits_any_handler() {
    let full = |text: &'static str| Full::new(Bytes::from(text)).map_err(|never| match never {});
    assert_eq!(through_layer(full("1234")).await, 200);
    assert_eq!(through_layer(full("")).await, 200);
    assert_eq!(through_layer(full("12345")).await, 413);
    assert_eq!(through_layer(chunked(&["123", "45"], None)).await, 413);
    assert_eq!(through_layer(chunked(&["123"], None)).await, 408);
    assert_eq!(
        through_layer(chunked(&["123"], Some(BodyError::Broken))).await,
        400
    );
}

#[tokio::test(start_paused = true)]
async fn body_limit_keeps_the_laws() {
    let layer = BodyLimitLayer::new(limits(9)).unwrap();
    let limited = |inner| {
        let back = |request: Request<LimitedBody<Full<Bytes>>>| request.map(|_| Full::default());
        layer.layer(tower::util::MapRequest::new(inner, back))
    };
    Laws::new(Http::<Full<Bytes>>::new(), limited).check().await;
}

#[cfg(feature = "decompression")]
mod decoded {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tower_http::compression::CompressionLayer;

    use super::*;

    /// Encodes `text` with `coding`.
    async fn encode(text: Vec<u8>, coding: &'static str) -> Bytes {
        let service = service_fn(move |_: Request<()>| {
            let body = Full::new(Bytes::from(text.clone()));
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let request = Request::get("/")
            .header("accept-encoding", coding)
            .body(())
            .unwrap();
        let response = CompressionLayer::new()
            .layer(service)
            .oneshot(request)
            .await
            .unwrap();
        assert_eq!(response.headers()[CONTENT_ENCODING], coding);
        response.into_body().collect().await.unwrap().to_bytes()
    }

    /// Reads `encoded` in chunks of 1 KiB. Returns the result and the number of encoded bytes that
    /// were read.
    async fn decode(
        encoded: Bytes,
        coding: &'static str,
        max: usize,
    ) -> (Result<Bytes, BodyError>, usize) {
        let limits = BodyLimitConfig {
            max,
            decode: true,
            ..BodyLimitConfig::default()
        };
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        let consumed = AtomicUsize::new(0);
        let frames = encoded.chunks(1 << 10).map(|chunk| {
            consumed.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk)))
        });
        let body = StreamBody::new(stream::iter(frames));
        let read = read_body(&headers, body, &limits).await;
        (read, consumed.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d25_decodes_if_enabled_and_limits_the_decoded_size() {
        for coding in ["gzip", "br"] {
            let text: Vec<u8> = (0..50_000_u32)
                .flat_map(|number| number.to_string().into_bytes())
                .collect();
            let encoded = encode(text.clone(), coding).await;
            let (read, _) = decode(encoded.clone(), coding, text.len()).await;
            assert_eq!(read.unwrap(), text);
            let (read, _) = decode(encoded.clone(), coding, text.len() - 1).await;
            assert_eq!(read, Err(BodyError::TooLarge));
            let (read, _) = decode(encoded.slice(..encoded.len() / 2), coding, text.len()).await;
            assert_eq!(read, Err(BodyError::Broken));
            let (read, _) = decode(Bytes::from_static(b"{\"plain\": true}"), coding, 99).await;
            assert_eq!(read, Err(BodyError::Broken));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d25_stops_decoding_a_bomb_at_the_limit() {
        for (coding, memory) in [("gzip", 1 << 20), ("br", 8 << 20)] {
            let bomb = encode(vec![0; 32 << 20], coding).await;
            // 60 KiB is too small for the ratio to count, so the size ends reading. 1 GiB exceeds the
            // decoded size, so the ratio does.
            for max in [60 << 10, 1 << 30] {
                let mut consumed = 0;
                let counted = allocation_counter::measure(|| {
                    let (read, bytes) =
                        futures_util::FutureExt::now_or_never(decode(bomb.clone(), coding, max))
                            .unwrap();
                    assert_eq!(read, Err(BodyError::TooLarge));
                    consumed = bytes;
                });
                assert!(
                    counted.bytes_max < memory,
                    "{coding}: {}",
                    counted.bytes_max
                );
                assert!(consumed <= 8 << 10, "{coding}: {consumed}");
            }
        }
    }
}
