//! Loop detection by the number of gateways that a request has passed.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tower::Layer;

use crate::{
    correlation::CorrelationId,
    problem::{Code, Problem},
    service::{CheckRequest, RequestCheck},
};

/// `x-fanout-depth`: the number of gateways that a request has passed. Absent in requests from outside.
pub const HOP_COUNT: HeaderName = HeaderName::from_static("x-fanout-depth");

/// Maximum number of gateways that a request may have passed before this one.
pub const MAX_HOPS: u8 = 3;

/// The number of gateways that a request has passed. [`LoopDetectionLayer`] adds it to the extensions of a request
/// that has passed one.
///
/// The default is 0, the count of a request from outside, whose extensions have none. If the header is repeated or has a list, the
/// maximum counts. Values that are not numbers are ignored. Numbers above 255 count as 255, so
/// such a request is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HopCount(u8);

impl HopCount {
    /// Reads the maximum of all values, because intermediaries may repeat or join the header. Values
    /// that are not numbers are ignored.
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(HOP_COUNT).iter();
        let parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        Self(parts.filter_map(number).max().unwrap_or_default())
    }

    /// Writes the count for the next gateway, one more than this one. Call it for every downstream
    /// request that is made for an inbound one.
    pub fn write(self, headers: &mut HeaderMap) {
        let next = match self.0 {
            // Nearly all requests come from outside.
            0 => HeaderValue::from_static("1"),
            hops => (u16::from(hops) + 1).into(),
        };
        headers.insert(HOP_COUNT, next);
    }
}

/// Parses decimal digits. Numbers above 255 become 255.
fn number(text: &[u8]) -> Option<u8> {
    let digits = text.trim_ascii();
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digit = |number: u8, digit: &u8| number.saturating_mul(10).saturating_add(digit - b'0');
    valid.then(|| digits.iter().fold(0, digit))
}

/// Refuses a request that has passed more than [`MAX_HOPS`] gateways, with 508 `loop_detected`.
/// Otherwise removes [`HOP_COUNT`] and stores the [`HopCount`] in the extensions of the request, unless it is 0.
///
/// The layer does not count by itself. Call [`HopCount::write`] for each request that your service
/// sends to a downstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopDetectionLayer(());

impl LoopDetectionLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for LoopDetectionLayer {
    type Service = CheckRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = *self;
        CheckRequest { layer, inner }
    }
}

impl<B> RequestCheck<B> for LoopDetectionLayer {
    fn check<R: From<Bytes>>(&self, request: &mut Request<B>) -> Option<Response<R>> {
        let hops = HopCount::of(request.headers());
        if hops > HopCount(MAX_HOPS) {
            tracing::error!(code = Code::LoopDetected.as_str(), "request loop detected");
            let id = request.extensions().get::<CorrelationId>();
            return Some(Problem::new(Code::LoopDetected).into_response(id));
        }
        request.headers_mut().remove(HOP_COUNT);
        if hops > HopCount::default() {
            request.extensions_mut().insert(hops);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{HeaderValue, StatusCode};
    use http_body_util::Full;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    type Whole = Full<Bytes>;

    /// Returns the response for a request with these header values. Its header has the count for the
    /// next gateway.
    async fn response_to(values: &[&'static str]) -> Response<Whole> {
        let next = service_fn(|mut request: Request<()>| async move {
            assert!(!request.headers().contains_key(HOP_COUNT));
            let hops = request.extensions().get::<HopCount>().copied();
            let hops = hops.unwrap_or_default();
            hops.write(request.headers_mut());
            let mut response = Response::new(Whole::default());
            let next_count = request.headers()[HOP_COUNT].clone();
            response.headers_mut().insert(HOP_COUNT, next_count);
            Ok::<_, Infallible>(response)
        });
        let mut request = Request::new(());
        for value in values {
            let value = HeaderValue::from_static(value);
            request.headers_mut().append(HOP_COUNT, value);
        }
        let guard = LoopDetectionLayer::new().layer(next);
        guard.oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn fault_i16_refuses_a_request_that_passed_more_than_three_gateways() {
        for (value, next) in [("0", "1"), ("1", "2"), ("3", "4"), ("003", "4")] {
            assert_eq!(
                response_to(&[value]).await.headers()[HOP_COUNT],
                next,
                "{value}"
            );
        }
        assert_eq!(response_to(&[]).await.headers()[HOP_COUNT], "1");
        let all: [&[&str]; 7] = [
            &["4"],
            &["255"],
            &["256"],
            &["99999999999999999999"],
            &["1", "9"],
            &["9", "x"],
            &["1, 9"],
        ];
        for values in all {
            let response = response_to(values).await;
            assert_eq!(response.status(), StatusCode::LOOP_DETECTED, "{values:?}");
            assert_eq!(
                response.extensions().get::<Code>(),
                Some(&Code::LoopDetected)
            );
        }
    }

    #[tokio::test]
    async fn fault_i11_ignores_a_count_that_is_not_a_number() {
        for value in ["", "-1", "+1", "1.0", " ", "9.", "x"] {
            assert_eq!(
                response_to(&[value]).await.headers()[HOP_COUNT],
                "1",
                "{value:?}"
            );
        }
    }
}
