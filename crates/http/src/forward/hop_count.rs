//! How many gateways a request has come through, so that one that goes in a circle ends.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use crate::{
    correlation::CorrelationId,
    problem::{Code, OrRefused, Problem},
};

/// How many gateways a request has come through: a number, absent from what comes from outside.
pub const HOP_COUNT: HeaderName = HeaderName::from_static("x-fanout-depth");

/// The most gateways that a request may have come through before it comes here.
pub const MAX_HOPS: u8 = 3;

/// How many gateways a request had come through; [`LoopDetectionLayer`] puts it in the request's extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct HopCount(u8);

impl HopCount {
    /// The most that `headers` say, whatever servers between have made of them. What is no number is
    /// not said by a gateway.
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(HOP_COUNT).iter();
        let parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        Self(parts.filter_map(number).max().unwrap_or_default())
    }

    /// Tells the next server that it is one deeper. It is for every request that is made on behalf of
    /// one that came in.
    pub fn stamp(self, headers: &mut HeaderMap) {
        headers.insert(HOP_COUNT, u16::from(self.0).saturating_add(1).into());
    }
}

/// Digits; what is above 255 is 255.
fn number(text: &[u8]) -> Option<u8> {
    let digits = text.trim_ascii();
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digit = |number: u8, digit: &u8| number.saturating_mul(10).saturating_add(digit - b'0');
    valid.then(|| digits.iter().fold(0, digit))
}

/// Turns away, with 508 `loop_detected`, a request that has come through more than [`MAX_HOPS`]
/// gateways. The header of any other is taken out, and its [`HopCount`] put in its extensions.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopDetectionLayer(());

impl LoopDetectionLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for LoopDetectionLayer {
    type Service = LoopDetection<S>;

    fn layer(&self, inner: S) -> LoopDetection<S> {
        LoopDetection { inner }
    }
}

/// The service of [`LoopDetectionLayer`].
#[derive(Clone, Copy, Debug)]
pub struct LoopDetection<S> {
    inner: S,
}

/// Always ready, since what is turned away needs no service.
impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for LoopDetection<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = OrRefused<Oneshot<S, Request<ReqBody>>, ResBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let depth = HopCount::of(request.headers());
        if depth > HopCount(MAX_HOPS) {
            tracing::error!(
                code = Code::LoopDetected.as_str(),
                "a request goes in a circle"
            );
            let id = request.extensions().get::<CorrelationId>();
            return OrRefused::refused(Problem::new(Code::LoopDetected).into_response(id));
        }
        request.headers_mut().remove(HOP_COUNT);
        request.extensions_mut().insert(depth);
        OrRefused::called(self.inner.clone().oneshot(request))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{HeaderValue, StatusCode};
    use http_body_util::Full;
    use tower::service_fn;

    use super::*;

    type Whole = Full<Bytes>;

    /// Sends what a gateway sends on, and answers with the depth that it tells the next.
    async fn told(values: &[&'static str]) -> Response<Whole> {
        let next = service_fn(|mut request: Request<()>| async move {
            assert!(!request.headers().contains_key(HOP_COUNT));
            let depth = *request.extensions().get::<HopCount>().unwrap();
            depth.stamp(request.headers_mut());
            let mut response = Response::new(Whole::default());
            let told = request.headers()[HOP_COUNT].clone();
            response.headers_mut().insert(HOP_COUNT, told);
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
    async fn fault_i16_a_circle_ends_with_the_fourth_gateway() {
        for (value, deeper) in [("0", "1"), ("1", "2"), ("3", "4"), ("003", "4")] {
            assert_eq!(told(&[value]).await.headers()[HOP_COUNT], deeper, "{value}");
        }
        assert_eq!(told(&[]).await.headers()[HOP_COUNT], "1");
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
            let response = told(values).await;
            assert_eq!(response.status(), StatusCode::LOOP_DETECTED, "{values:?}");
            assert_eq!(
                response.extensions().get::<Code>(),
                Some(&Code::LoopDetected)
            );
        }
    }

    #[tokio::test]
    async fn fault_i11_a_depth_that_is_none_is_not_believed() {
        for value in ["", "-1", "+1", "1.0", " ", "9.", "x"] {
            assert_eq!(told(&[value]).await.headers()[HOP_COUNT], "1", "{value:?}");
        }
    }
}
