//! The service of one connection: says who asks, and notes what is in flight.

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

use super::activity::{Activity, Answer, InFlight};
use crate::forwarded::PeerAddr;

/// A service whose requests are noted.
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
    /// The answer to a request that is in flight.
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
        let answer = this.in_flight.take().map(InFlight::answer);
        Poll::Ready(Ok(response.map(|body| TrackedBody { body, answer })))
    }
}

pin_project! {
    /// The body of an answer in flight.
    pub(super) struct TrackedBody<B> {
        #[pin]
        body: B,
        answer: Option<Answer>,
    }
}

impl<B: Body> Body for TrackedBody<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(answer) = this.answer {
            answer.asked(&frame);
        }
        let answer = this.answer.as_ref();
        frame.map_ok(|frame| {
            frame.map_data(|data| Piece {
                data,
                answer: answer.map(Answer::piece),
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

/// A piece of an answer. HTTP/2 keeps it until the client has room for it, and an answer is over for
/// HTTP/2 with its last piece: it is in flight for as long as one of them is.
#[derive(Debug)]
pub(super) struct Piece<D> {
    data: D,
    answer: Option<Answer>,
}

impl<D: Buf> Buf for Piece<D> {
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
        if let Some(answer) = &self.answer {
            answer.taken();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.data.copy_to_bytes(count)
    }
}
