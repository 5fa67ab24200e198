//! How much time a caller has left, as it says in a header.
//!
//! | header | value |
//! |---|---|
//! | `x-request-timeout-ms` | whole milliseconds |
//! | `x-envoy-expected-rq-timeout-ms` | whole milliseconds |
//! | `grpc-timeout` | up to eight digits and one of `H M S m u n` ([gRPC over HTTP/2]) |
//!
//! The time is relative, so that the clocks of two machines need not agree. [`AttemptHeadersLayer`] writes the
//! first of them into what is sent on.
//!
//! [`AttemptHeadersLayer`]: crate::attempt_headers::AttemptHeadersLayer
//! [gRPC over HTTP/2]: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, Request};
use tokio::time::Instant;
use tower::{Layer, Service};
use tower_fanout_layers::{CallContext as _, Deadline, Event};

use crate::attempt_headers::TIMEOUT;

const ENVOY: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");

/// A timeout header whose value makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTimeout(());

/// The least time that any of the headers leaves, if there is one.
///
/// # Errors
/// A header's value makes no sense.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    type Read = fn(&str) -> Option<Duration>;
    let forms = [(TIMEOUT, millis as Read), (ENVOY, millis), (GRPC, grpc)];
    let mut least: Option<Duration> = None;
    for (name, read) in forms {
        for value in headers.get_all(name) {
            let time = value.to_str().ok().and_then(read).ok_or(BadTimeout(()))?;
            least = Some(least.map_or(time, |least| least.min(time)));
        }
    }
    Ok(least)
}

fn digits(text: &str) -> Option<u64> {
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    only_digits.then(|| text.parse().ok()).flatten()
}

fn millis(text: &str) -> Option<Duration> {
    digits(text).map(Duration::from_millis)
}

fn grpc(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let count = &text[..text.len() - unit.len_utf8()]; // without its last character
    let count = digits(count).filter(|_| count.len() <= 8)?;
    Some(match unit {
        'H' => Duration::from_secs(count * 3600),
        'M' => Duration::from_secs(count * 60),
        'S' => Duration::from_secs(count),
        'm' => Duration::from_millis(count),
        'u' => Duration::from_micros(count),
        'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Takes the time that a caller has left for the call's deadline, if the caller is trusted. What the
/// route allows goes below, as a [`DeadlineLayer`](tower_fanout_layers::DeadlineLayer): the nearer
/// of the two wins.
///
/// The headers are removed in either case: what is sent on is what is left then. A value that makes
/// no sense is as if it were not there; the call's events hears of [`Event::BadTimeout`].
#[derive(Clone, Copy, Debug)]
pub struct InboundDeadlineLayer {
    trusted: bool,
}

impl InboundDeadlineLayer {
    /// Believes the headers, where every caller is one of ours.
    #[must_use]
    pub const fn trusting() -> Self {
        Self { trusted: true }
    }

    /// Removes the headers only.
    #[must_use]
    pub const fn untrusting() -> Self {
        Self { trusted: false }
    }
}

impl<S> Layer<S> for InboundDeadlineLayer {
    type Service = InboundDeadline<S>;

    fn layer(&self, inner: S) -> InboundDeadline<S> {
        InboundDeadline {
            layer: *self,
            inner,
        }
    }
}

/// The service of [`InboundDeadlineLayer`].
#[derive(Clone, Copy, Debug)]
pub struct InboundDeadline<S> {
    layer: InboundDeadlineLayer,
    inner: S,
}

impl<S, B> Service<Request<B>> for InboundDeadline<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if self.layer.trusted {
            match timeout(request.headers()) {
                Ok(Some(timeout)) => shorten(&mut request, timeout),
                Ok(None) => {}
                Err(BadTimeout(())) => request.call().events.emit(Event::BadTimeout),
            }
        }
        for name in [TIMEOUT, ENVOY, GRPC] {
            request.headers_mut().remove(name);
        }
        self.inner.call(request)
    }
}

fn shorten<B>(request: &mut Request<B>, timeout: Duration) {
    let asked = Deadline::after(Instant::now(), timeout);
    if let Some(call) = request.call_mut() {
        call.deadline = match (call.deadline, asked) {
            (Some(own), Some(asked)) => Some(own.min(asked)),
            (own, asked) => own.or(asked),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use tower::{ServiceBuilder, ServiceExt, service_fn};
    use tower_fanout_layers::{CallErrorLayer, DeadlineLayer, EventSink, Events};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    /// What is left of the deadline that a call below a route of 2 s has, and its headers.
    async fn below(layer: InboundDeadlineLayer, request: Request<()>) -> (Duration, HeaderMap) {
        let look = service_fn(|request: Request<()>| async move {
            let deadline = request.call().deadline.unwrap();
            let left = deadline.remaining(Instant::now());
            Ok::<_, Infallible>((left, request.headers().clone()))
        });
        let service = ServiceBuilder::new()
            .layer(layer)
            .layer(DeadlineLayer::new(2_000 * MS).unwrap())
            .layer(CallErrorLayer::new())
            .service(look);
        service.oneshot(request).await.unwrap()
    }

    fn asking(pairs: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.headers_mut() = headers(pairs);
        request
    }

    #[tokio::test(start_paused = true)]
    async fn dl_01_the_nearer_of_the_header_and_the_route_wins() {
        for (asked, left) in [("5000", 2_000 * MS), ("300", 300 * MS)] {
            let request = asking(&[("x-request-timeout-ms", asked)]);
            let (seen, _) = below(InboundDeadlineLayer::trusting(), request).await;
            assert_eq!(seen, left);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dl_02_a_header_that_is_not_trusted_is_ignored_and_not_forwarded() {
        let request = asking(&[("x-request-timeout-ms", "300"), ("grpc-timeout", "1m")]);
        let (seen, headers) = below(InboundDeadlineLayer::untrusting(), request).await;
        assert_eq!(seen, 2_000 * MS);
        assert!(headers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn dl_03_garbage_is_ignored_and_told_of() {
        #[derive(Clone, Default)]
        struct Ear(Arc<Mutex<Vec<Event>>>);
        impl EventSink for Ear {
            fn on(&self, event: Event) {
                self.0.lock().unwrap().push(event);
            }
        }
        for garbage in [
            "soon",
            "-5",
            "+5",
            "1.5",
            "",
            " ",
            "99999999999999999999",
            "\u{e9}",
        ] {
            let ear = Ear::default();
            let mut request = asking(&[("x-request-timeout-ms", garbage)]);
            request.call_mut().unwrap().events = Events::new(Arc::new(ear.clone()));
            let (seen, headers) = below(InboundDeadlineLayer::trusting(), request).await;
            assert_eq!((seen, headers.len()), (2_000 * MS, 0), "{garbage:?}");
            assert_eq!(*ear.0.lock().unwrap(), [Event::BadTimeout], "{garbage:?}");
        }
    }

    #[test]
    fn dl_15_the_forms_of_grpc_timeout() {
        let read = |value: &str| timeout(&headers(&[("grpc-timeout", value)]));
        for (value, time) in [
            ("250m", 250 * MS),
            ("1S", 1_000 * MS),
            ("100000u", 100 * MS),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(read(value), Ok(Some(time)), "{value}");
        }
        for garbage in ["123456789m", "S", "1", "1s", "-1S", "1 S", "1Sé", "", "m1"] {
            assert_eq!(read(garbage), Err(BadTimeout(())), "{garbage:?}");
        }
    }

    #[test]
    fn of_several_headers_the_least_counts() {
        let several = headers(&[
            ("x-request-timeout-ms", "500"),
            ("grpc-timeout", "2S"),
            ("x-envoy-expected-rq-timeout-ms", "300"),
        ]);
        assert_eq!(timeout(&several), Ok(Some(300 * MS)));
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }
}
