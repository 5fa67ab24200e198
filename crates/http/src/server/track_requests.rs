//! The service of one connection: adds the peer address to requests, and tracks requests in flight.

use std::{
    convert::Infallible,
    future::Future,
    io::IoSlice,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{Request, Response, Version, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::{Service, ServiceExt, util::Oneshot};

use super::activity::{Activity, InFlight, ResponseInFlight};
use crate::forwarded::PeerAddr;

/// Wraps the user's service and records each request and response in the connection's [`Activity`].
///
/// Adds [`PeerAddr`] and the scheme to the extensions of each request.
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
{
    type Response = Response<TrackedBody<B>>;
    type Error = Infallible;
    type Future = ResponseFuture<Oneshot<S, Request<Incoming>>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let multiplexed = request.version() == Version::HTTP_2;
        let body = !request.body().is_end_stream();
        let in_flight = self.activity.begin(multiplexed, body);
        request.extensions_mut().insert(PeerAddr(self.peer));
        request.extensions_mut().insert(self.scheme.clone());
        ResponseFuture {
            future: self.service.clone().oneshot(request),
            in_flight: Some(in_flight),
        }
    }
}

pin_project! {
    /// The response future of [`TrackRequests`].
    pub(super) struct ResponseFuture<F> {
        #[pin]
        future: F,
        in_flight: Option<InFlight>,
    }
}

impl<F, B> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<TrackedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let in_flight = this.in_flight.take().map(InFlight::respond);
        Poll::Ready(Ok(response.map(|body| TrackedBody { body, in_flight })))
    }
}

pin_project! {
    /// A response body that records each poll.
    pub(super) struct TrackedBody<B> {
        #[pin]
        body: B,
        in_flight: Option<ResponseInFlight>,
    }
}

impl<B: Body> Body for TrackedBody<B> {
    type Data = TrackedChunk<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(in_flight) = this.in_flight {
            in_flight.record_poll(&frame);
        }
        let in_flight = this.in_flight.as_ref();
        frame.map_ok(|frame| {
            frame.map_data(|data| TrackedChunk {
                data,
                in_flight: in_flight.map(ResponseInFlight::chunk),
            })
        })
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
        if let Some(in_flight) = &self.in_flight {
            in_flight.record_taken();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.data.copy_to_bytes(count)
    }
}
