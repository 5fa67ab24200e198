//! Headers that a downstream receives with each attempt: attempt number, remaining time and trace
//! parent.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower::Layer;
use tower_fanout_layers::{Call, WithCall, clock, timeout::TimeoutConfig};

use crate::{
    service::{EditRequest, RequestEdit},
    trace::{TRACEPARENT, TRACESTATE, Traceparent},
};

/// `x-request-timeout-ms`: remaining time of an attempt, in milliseconds, rounded down.
pub const TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
/// `x-retry-attempt`: number of the retry, from 1. The first attempt does not have this header.
pub const RETRY: HeaderName = HeaderName::from_static("x-retry-attempt");

/// A layer that writes [`TIMEOUT`] and [`RETRY`] into each attempt.
///
/// The values come from the [call metadata](crate#terms) of the request: its deadline and its attempt
/// number. The remaining time ends at the deadline or after the
/// [timeout of the attempt](Self::attempt_timeout), whichever comes first. Without both, the layer removes
/// [`TIMEOUT`]. On the first attempt it removes [`RETRY`].
///
/// Hedges count as attempts: the first hedge has [`RETRY`] 1. A fallback keeps the number of the request
/// that it replaces.
///
/// If the request has a `traceparent`, the layer also gives the attempt its own parent id in the
/// same trace. If the `traceparent` is not valid, the layer removes it together with `tracestate`.
/// The layer never adds a `traceparent`: call
/// [`TraceContext::write`](crate::trace::TraceContext::write) when you build the request. The docs of
/// the module `client` have a complete example.
///
/// Place the layer below retries, hedging and fallbacks. Then the time is what remains after the
/// pause before a retry, and each attempt has its own parent id.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttemptHeadersLayer {
    network_margin: Duration,
    attempt_timeout: Option<TimeoutConfig>,
    keeps_parent: bool,
}

impl AttemptHeadersLayer {
    /// Creates the layer with a network margin of zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            network_margin: Duration::ZERO,
            attempt_timeout: None,
            keeps_parent: false,
        }
    }

    /// Gives each attempt a parent id of its own if `own` is `true`, the default. With `false`, `traceparent` stays as
    /// it is, for requests that [`TraceContext::write`](crate::trace::TraceContext::write) gives one per attempt.
    #[must_use]
    pub const fn trace_parent(mut self, own: bool) -> Self {
        self.keeps_parent = !own;
        self
    }

    /// Sets the time that is subtracted from [`TIMEOUT`] to leave time for the response to travel
    /// back. Defaults to zero.
    ///
    /// The result is rounded down to whole milliseconds. If `margin` exceeds the remaining time, the header
    /// is 0. The attempt is sent nevertheless.
    #[must_use]
    pub const fn network_margin(mut self, margin: Duration) -> Self {
        self.network_margin = margin;
        self
    }

    /// Sets the timeout of each attempt: that of the [`TimeoutLayer`](tower_fanout_layers::TimeoutLayer) of
    /// the attempt. Place this layer directly below that one, where the time of the attempt starts. Defaults
    /// to `None`.
    #[must_use]
    pub const fn attempt_timeout(mut self, timeout: Option<TimeoutConfig>) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Returns the time that is left for an attempt, or `None` if it is not limited.
    fn remaining(&self, call: &Call) -> Option<Duration> {
        let deadline = call
            .deadline
            .map(|deadline| deadline.remaining(clock::now()));
        let attempt = self.attempt_timeout.and_then(|timeout| {
            let lifted = timeout.last_attempt_uses_deadline && call.last_attempt;
            (!lifted || deadline.is_none()).then_some(timeout.timeout)
        });
        match (deadline, attempt) {
            (Some(deadline), Some(attempt)) => Some(deadline.min(attempt)),
            (deadline, attempt) => deadline.or(attempt),
        }
    }
}

impl<S> Layer<S> for AttemptHeadersLayer {
    type Service = EditRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = *self;
        EditRequest { layer, inner }
    }
}

impl<R: OutgoingRequest> RequestEdit<R> for AttemptHeadersLayer {
    fn edit(&self, request: &mut R) {
        let (remaining, attempt) = (self.remaining(request.call()), request.call().attempt);
        let headers = request.headers_mut();
        // Values from the caller are replaced or removed, never forwarded.
        if let Some(remaining) = remaining {
            let remaining = remaining.saturating_sub(self.network_margin).as_millis();
            let remaining = u64::try_from(remaining).unwrap_or(u64::MAX);
            headers.insert(TIMEOUT, decimal(remaining));
        } else {
            headers.remove(TIMEOUT);
        }
        if attempt > 1 {
            headers.insert(RETRY, decimal((attempt - 1).into()));
        } else {
            headers.remove(RETRY);
        }
        if !self.keeps_parent {
            write_parent(headers);
        }
    }
}

/// Returns a number as a header value. The conversion of `http` allocates twice.
fn decimal(number: u64) -> HeaderValue {
    HeaderValue::from_str(itoa::Buffer::new().format(number)).expect("digits are a header value")
}

/// An outgoing request: its headers, and its call metadata, held in [`WithCall`] or in the extensions.
pub trait OutgoingRequest: tower_fanout_layers::CallContext {
    /// Returns the headers for writing.
    fn headers_mut(&mut self) -> &mut HeaderMap;
}

impl<B> OutgoingRequest for Request<B> {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers_mut()
    }
}

impl<B> OutgoingRequest for WithCall<Request<B>> {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        self.get_mut().headers_mut()
    }
}

/// Replaces the parent id of `traceparent` with a new one. Removes the trace headers if the value
/// is not valid.
fn write_parent(headers: &mut HeaderMap) {
    let Some(value) = headers.get_mut(TRACEPARENT) else {
        return;
    };
    if let Some(parent) = Traceparent::parse(value.as_bytes()) {
        *value = parent.child().header_value();
    } else {
        headers.remove(TRACEPARENT);
        headers.remove(TRACESTATE);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};
    use tower_fanout_layers::{CallContext as _, Deadline};

    use super::*;

    async fn sent(request: Request<()>) -> HeaderMap {
        sent_by(AttemptHeadersLayer::new(), request).await
    }

    async fn sent_by(layer: AttemptHeadersLayer, request: Request<()>) -> HeaderMap {
        let echo = service_fn(|request: Request<()>| async move {
            Ok::<_, Infallible>(request.headers().clone())
        });
        layer.layer(echo).oneshot(request).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn rt_19_the_first_attempt_has_no_retry_header_then_it_counts() {
        let mut request = Request::new(());
        assert!(sent(request.clone()).await.is_empty());
        for retry in 1..4u8 {
            request.call_mut().unwrap().attempt = retry + 1;
            assert_eq!(sent(request.clone()).await[RETRY], retry.to_string());
        }
    }

    #[tokio::test]
    async fn fault_c8_each_attempt_has_its_own_parent_in_the_same_trace() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
        let request = |parent| {
            Request::builder()
                .header(TRACEPARENT, parent)
                .header(TRACESTATE, "a=1")
                .body(())
                .unwrap()
        };
        let (first, second) = (sent(request(parent)).await, sent(request(parent)).await);
        for sent in [&first, &second] {
            let trace = sent[TRACEPARENT].to_str().unwrap();
            assert_eq!((&trace[..36], &trace[52..]), (&parent[..36], "-03"));
            assert_ne!(trace, parent);
            assert_eq!(sent[TRACESTATE], "a=1");
        }
        assert_ne!(first[TRACEPARENT], second[TRACEPARENT]);
        assert!(sent(request("none")).await.is_empty());

        let keeps = AttemptHeadersLayer::new().trace_parent(false);
        assert_eq!(sent_by(keeps, request(parent)).await[TRACEPARENT], parent);
    }

    #[tokio::test(start_paused = true)]
    async fn dl_04_a_later_attempt_has_the_remaining_time() {
        let mut request = Request::builder()
            .header(TIMEOUT, "99999999")
            .body(())
            .unwrap();
        assert!(
            !sent(request.clone()).await.contains_key(TIMEOUT),
            "the value of the caller was forwarded"
        );
        request.call_mut().unwrap().deadline =
            Deadline::after(Instant::now(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_micros(300_500)).await;
        assert_eq!(sent(request.clone()).await[TIMEOUT], "699");
        let margin = AttemptHeadersLayer::new().network_margin(Duration::from_millis(50));
        assert_eq!(sent_by(margin, request).await[TIMEOUT], "649");
    }

    #[tokio::test(start_paused = true)]
    async fn dl_18_the_timeout_of_the_attempt_limits_the_remaining_time() {
        let timeout = TimeoutConfig::new(Duration::from_millis(300));
        let relaxed = timeout.last_attempt_uses_deadline(true);
        let of = |timeout| AttemptHeadersLayer::new().attempt_timeout(Some(timeout));
        let mut request = Request::new(());
        assert_eq!(sent_by(of(timeout), request.clone()).await[TIMEOUT], "300");
        assert_eq!(sent_by(of(relaxed), request.clone()).await[TIMEOUT], "300");
        let call = request.call_mut().unwrap();
        call.deadline = Deadline::after(Instant::now(), Duration::from_secs(1));
        call.last_attempt = true;
        assert_eq!(sent_by(of(timeout), request.clone()).await[TIMEOUT], "300");
        assert_eq!(sent_by(of(relaxed), request.clone()).await[TIMEOUT], "1000");
        tokio::time::advance(Duration::from_millis(800)).await;
        assert_eq!(sent_by(of(timeout), request).await[TIMEOUT], "200");
    }
}
