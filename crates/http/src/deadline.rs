//! Deadlines from request headers: the time that a caller has left.
//!
//! | header | value |
//! |---|---|
//! | `x-request-timeout-ms` | whole milliseconds |
//! | `x-envoy-expected-rq-timeout-ms` | whole milliseconds |
//! | `grpc-timeout` | up to eight digits and one of `H M S m u n` ([gRPC over HTTP/2]) |
//!
//! The values are relative times, so that the clocks of two machines need not agree.
//! [`AttemptHeadersLayer`] writes the first header into requests to downstreams.
//!
//! [`AttemptHeadersLayer`]: crate::attempt_headers::AttemptHeadersLayer
//! [gRPC over HTTP/2]: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md

use std::{error::Error, fmt, time::Duration};

use http::{HeaderMap, HeaderName, Request};
use tower::Layer;
use tower_fanout_layers::{CallContext as _, Deadline, Event, clock};

use crate::{
    attempt_headers::TIMEOUT,
    forwarded::Peer,
    headers::remove_all,
    service::{EditRequest, RequestEdit},
};

const ENVOY: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");

/// The error of a timeout header whose value is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTimeout(());

impl fmt::Display for BadTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value of a timeout header is not valid")
    }
}

impl Error for BadTimeout {}

/// Returns the shortest time in the timeout headers, or `None` if `headers` have none of them.
///
/// # Errors
/// Returns [`BadTimeout`] if the value of a timeout header is not valid.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    type Parse = fn(&str) -> Option<Duration>;
    let parsers = [(TIMEOUT, millis as Parse), (ENVOY, millis), (GRPC, grpc)];
    let mut shortest: Option<Duration> = None;
    for (name, parse) in parsers {
        for value in headers.get_all(name) {
            let time = value.to_str().ok().and_then(parse).ok_or(BadTimeout(()))?;
            shortest = Some(shortest.map_or(time, |shortest| shortest.min(time)));
        }
    }
    Ok(shortest)
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
    let count = &text[..text.len() - unit.len_utf8()];
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

/// A layer that sets the deadline of the request from the timeout headers of a trusted caller.
///
/// The headers are trusted only with [`trust(true)`](Self::trust) or
/// [`trust_proxies(true)`](Self::trust_proxies).
///
/// The deadline is stored in the [`Call`](tower_fanout_layers::Call) in the extensions of the request.
/// If the request already has a deadline, the earlier one counts. Place the deadline of the route
/// below, as a [`DeadlineLayer`](tower_fanout_layers::DeadlineLayer); again the earlier one counts.
/// This layer only stores the deadline, and `DeadlineLayer` enforces it.
///
/// Place the layer above `JwtLayer`, which waits for a fetch of keys no longer than the deadline.
///
/// The layer removes the headers in any case, because the remaining time is shorter when a request
/// is sent to a downstream. If a value is not valid, the layer ignores all timeout headers and
/// emits [`tower_fanout_layers::Event::BadTimeout`] to the events of the call.
///
/// The time has no upper bound. A time that exceeds the range of `Instant` sets no deadline.
#[derive(Clone, Copy, Debug, Default)]
pub struct InboundDeadlineLayer {
    trust: bool,
    trust_proxies: bool,
}

impl InboundDeadlineLayer {
    /// Creates a layer that removes the headers without using them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses the headers if `trust` is `true`. Defaults to `false`. Suitable if all callers are your own
    /// services.
    #[must_use]
    pub const fn trust(mut self, trust: bool) -> Self {
        self.trust = trust;
        self
    }

    /// Uses the headers of requests from trusted proxies if `trust` is `true`. Defaults to `false`.
    ///
    /// [`ForwardedLayer`](crate::forwarded::ForwardedLayer) decides which peers are trusted proxies. Place
    /// this layer below it.
    #[must_use]
    pub const fn trust_proxies(mut self, trust: bool) -> Self {
        self.trust_proxies = trust;
        self
    }

    fn trusts<B>(&self, request: &Request<B>) -> bool {
        let is_trusted = |peer: &Peer| peer.is_trusted;
        self.trust || self.trust_proxies && request.extensions().get().is_some_and(is_trusted)
    }
}

impl<S> Layer<S> for InboundDeadlineLayer {
    type Service = EditRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = *self;
        EditRequest { layer, inner }
    }
}

impl<B> RequestEdit<Request<B>> for InboundDeadlineLayer {
    fn edit(&self, request: &mut Request<B>) {
        if self.trusts(request) {
            match timeout(request.headers()) {
                Ok(Some(timeout)) => shorten(request, timeout),
                Ok(None) => {}
                Err(BadTimeout(())) => request.call().events.emit(Event::BadTimeout),
            }
        }
        remove_all(request.headers_mut(), &[TIMEOUT, ENVOY, GRPC]);
    }
}

/// Sets the deadline of the call to the earlier of its own and `timeout` from now.
fn shorten<B>(request: &mut Request<B>, timeout: Duration) {
    let requested = Deadline::after(clock::now(), timeout);
    if let Some(call) = request.call_mut() {
        call.deadline = match (call.deadline, requested) {
            (Some(current), Some(requested)) => Some(current.min(requested)),
            (current, requested) => current.or(requested),
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

    /// Returns the remaining time and the headers of a call below `layer` and a route deadline of 2
    /// s.
    async fn below(layer: InboundDeadlineLayer, request: Request<()>) -> (Duration, HeaderMap) {
        let inspect = service_fn(|request: Request<()>| async move {
            let deadline = request.call().deadline.unwrap();
            let remaining = deadline.remaining(clock::now());
            Ok::<_, Infallible>((remaining, request.headers().clone()))
        });
        let service = ServiceBuilder::new()
            .layer(layer)
            .layer(DeadlineLayer::new(2_000 * MS).unwrap())
            .layer(CallErrorLayer::new())
            .service(inspect);
        service.oneshot(request).await.unwrap()
    }

    fn with_headers(pairs: &[(&'static str, &str)]) -> Request<()> {
        let mut request = Request::new(());
        *request.headers_mut() = headers(pairs);
        request
    }

    #[tokio::test(start_paused = true)]
    async fn dl_01_the_earlier_deadline_of_header_and_route_counts() {
        for (requested, remaining) in [("5000", 2_000 * MS), ("300", 300 * MS)] {
            let request = with_headers(&[("x-request-timeout-ms", requested)]);
            let (actual, _) = below(InboundDeadlineLayer::new().trust(true), request).await;
            assert_eq!(actual, remaining);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dl_02_ignores_and_removes_untrusted_headers() {
        let request = with_headers(&[("x-request-timeout-ms", "300"), ("grpc-timeout", "1m")]);
        let (actual, headers) = below(InboundDeadlineLayer::new(), request).await;
        assert_eq!(actual, 2_000 * MS);
        assert!(headers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn dl_03_ignores_and_reports_invalid_values() {
        #[derive(Clone, Default)]
        struct Recorder(Arc<Mutex<Vec<Event>>>);
        impl EventSink for Recorder {
            fn on(&self, event: Event) {
                self.0.lock().unwrap().push(event);
            }
        }
        for invalid in [
            "soon",
            "-5",
            "+5",
            "1.5",
            "",
            " ",
            "99999999999999999999",
            "\u{e9}",
        ] {
            let recorder = Recorder::default();
            let mut request = with_headers(&[("x-request-timeout-ms", invalid)]);
            request.call_mut().unwrap().events = Events::new(Arc::new(recorder.clone()));
            let (actual, headers) = below(InboundDeadlineLayer::new().trust(true), request).await;
            assert_eq!((actual, headers.len()), (2_000 * MS, 0), "{invalid:?}");
            assert_eq!(
                *recorder.0.lock().unwrap(),
                [Event::BadTimeout],
                "{invalid:?}"
            );
        }
    }

    #[test]
    fn dl_15_parses_grpc_timeout() {
        let parse = |value: &str| timeout(&headers(&[("grpc-timeout", value)]));
        for (value, time) in [
            ("250m", 250 * MS),
            ("1S", 1_000 * MS),
            ("100000u", 100 * MS),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("2M", Duration::from_secs(120)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("0S", Duration::ZERO),
        ] {
            assert_eq!(parse(value), Ok(Some(time)), "{value}");
        }
        for invalid in ["123456789m", "S", "1", "1s", "-1S", "1 S", "1Sé", "", "m1"] {
            assert_eq!(parse(invalid), Err(BadTimeout(())), "{invalid:?}");
        }
    }

    #[test]
    fn the_shortest_of_several_headers_counts() {
        let several = headers(&[
            ("x-request-timeout-ms", "500"),
            ("grpc-timeout", "2S"),
            ("x-envoy-expected-rq-timeout-ms", "300"),
        ]);
        assert_eq!(timeout(&several), Ok(Some(300 * MS)));
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }
}
