//! The service of one connection: adds the peer address to requests, and tracks requests in flight.

use std::{
    convert::Infallible,
    error::Error,
    future::Future,
    io::IoSlice,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CONNECTION, COOKIE},
    uri::Scheme,
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::Service;
use tower_fanout_layers::{clock, oneshot::Oneshot};

use super::{
    activity::{Activity, InFlight, ResponseInFlight},
    calls::{Call, Unsent, poll_room},
    wait_queue::Wait,
};
use crate::forwarded::PeerAddr;

/// Error code of a response whose client does not read.
const CALM: h2::Reason = h2::Reason::ENHANCE_YOUR_CALM;

/// Wraps the user's service and records each request and response in the connection's [`Activity`].
///
/// Adds [`PeerAddr`] and the scheme to the extensions of each request. Joins the `cookie` lines of a
/// request. A response fails with ENHANCE_YOUR_CALM if its client does not read the earlier ones.
#[derive(Clone, Debug)]
pub(super) struct TrackRequests<S> {
    pub(super) service: S,
    pub(super) activity: Arc<Activity>,
    pub(super) peer: SocketAddr,
    pub(super) scheme: Scheme,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for TrackRequests<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body,
{
    type Response = Response<TrackedBody<B>>;
    type Error = h2::Error;
    type Future = ResponseFuture<Oneshot<S, Request<Incoming>>, B>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let body = !request.body().is_end_stream();
        let in_flight = self.activity.begin(body);
        join_cookies(request.headers_mut());
        request.extensions_mut().insert(PeerAddr(self.peer));
        request.extensions_mut().insert(self.scheme.clone());
        ResponseFuture {
            future: Oneshot::start(&mut self.service.clone(), request),
            response: None,
            in_flight: Some(in_flight),
            call: Some(Call::new(Arc::clone(&self.activity))),
        }
    }
}

/// Joins the `cookie` lines by `; `. HTTP/2 allows several
/// ([RFC 9113 §8.2.3](https://www.rfc-editor.org/rfc/rfc9113#section-8.2.3)). HTTP/1.1 does not, but a caller
/// can send them, and readers of the first line and of all lines would disagree.
fn join_cookies(headers: &mut HeaderMap) {
    let lines = || headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    if lines().nth(1).is_none() {
        return;
    }
    let joined = lines().collect::<Vec<_>>().join(&b"; "[..]);
    // Never fails, because valid values are joined by valid characters.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

pin_project! {
    /// The response future of [`TrackRequests`].
    pub(super) struct ResponseFuture<F, B> {
        #[pin]
        future: F,
        // Present between the end of the service and that of the request body.
        response: Option<Response<B>>,
        in_flight: Option<InFlight>,
        // Dropped before the response if the client cancels the call.
        call: Option<Call>,
    }
}

impl<F, B> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: Body,
{
    type Output = Result<Response<TrackedBody<B>>, h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Some(call) = this.call {
            ready!(call.poll_begin(cx));
        }
        let mut response = match this.response.take() {
            Some(response) => response,
            None => {
                // A request of HTTP/2 has a task of its own.
                let Ok(response) = ready!(clock::share(|| this.future.poll(cx)));
                if this.in_flight.as_ref().is_some_and(InFlight::may_close) {
                    *this.response = Some(response);
                    // Polled again after hyper has seen whether the service has dropped the body. If the rest
                    // of it is still to arrive, hyper closes the connection, and the response says so
                    // (RFC 9112 §9.6).
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                response
            }
        };
        let in_flight = this.in_flight.take().map(InFlight::respond);
        if in_flight
            .as_ref()
            .is_some_and(|it| it.activity().is_last_response())
        {
            let close = HeaderValue::from_static("close");
            response.headers_mut().entry(CONNECTION).or_insert(close);
        }
        let mut call = this.call.take();
        let size = response.body().size_hint().exact();
        if let Some(call) = call.take_if(|call| !call.respond(size)) {
            call.end();
            return Poll::Ready(Err(CALM.into()));
        }
        // A body of known size costs the service nothing more, so its client may drop it.
        if let Some(call) = call.take_if(|_| size.is_some()) {
            call.end();
        }
        Poll::Ready(Ok(response.map(|body| TrackedBody {
            body,
            in_flight,
            call,
            wait: Wait::default(),
        })))
    }
}

pin_project! {
    /// A response body that records each poll, and waits while too many bytes are unsent.
    pub(super) struct TrackedBody<B> {
        #[pin]
        body: B,
        in_flight: Option<ResponseInFlight>,
        // Present until the end of a body without a known size.
        call: Option<Call>,
        wait: Wait,
    }
}

impl<B> Body for TrackedBody<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = TrackedChunk<B::Data>;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let streamed = this.call.is_some();
        if let Some(in_flight) = this.in_flight.as_ref() {
            let calls = in_flight.activity().calls();
            // A wait would keep in memory what the service has for this response.
            if let Some(call) = this.call.take_if(|_| calls.drop_streamed()) {
                calls.count_dropped();
                call.end();
                return Poll::Ready(Some(Err(h2::Error::from(CALM).into())));
            }
            // Not recorded as a wait for the service: the client is to read other responses.
            ready!(poll_room(this.wait, in_flight.activity(), cx));
        }
        let frame = this.body.as_mut().poll_frame(cx);
        if let Some(in_flight) = this.in_flight.as_mut() {
            in_flight.record_poll(&frame);
        }
        let ended = matches!(frame, Poll::Ready(None | Some(Err(_)))) || this.body.is_end_stream();
        if let Some(call) = this.call.take_if(|_| ended) {
            call.end();
        }
        let in_flight = this.in_flight.as_ref();
        let count = if streamed && !ended {
            Unsent::streamed
        } else {
            Unsent::new
        };
        let frame = frame.map_ok(|frame| {
            frame.map_data(|data| TrackedChunk {
                unsent: in_flight.map(|it| count(Arc::clone(it.activity()), data.remaining())),
                data,
                in_flight: in_flight.map(ResponseInFlight::chunk),
            })
        });
        frame.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A chunk of a response body that records when the client takes bytes of it.
///
/// h2 buffers chunks until the client's window has space, and drops the body once it has the last
/// chunk. So the response is in flight until its last chunk is sent and dropped.
#[derive(Debug)]
pub(super) struct TrackedChunk<D> {
    data: D,
    in_flight: Option<ResponseInFlight>,
    unsent: Option<Unsent>,
}

impl<D> TrackedChunk<D> {
    /// Records that the client has taken `count` bytes.
    fn record_taken(&mut self, count: usize) {
        if let Some(unsent) = &mut self.unsent {
            unsent.sent(count);
        }
        if let Some(in_flight) = &self.in_flight {
            in_flight.record_taken();
        }
    }
}

impl<D: Buf> Buf for TrackedChunk<D> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, parts: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(parts)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        self.record_taken(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.record_taken(count);
        self.data.copy_to_bytes(count)
    }
}
