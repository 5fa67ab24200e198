//! One attempt: a place, the head of the answer, and then its whole body.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, header::CONTENT_ENCODING};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::ResponseFuture as Head;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    ClientError,
    interim::Interim,
    pool::{ConnectionPermit, Pool, Waiting},
};
use crate::forward::strip;

/// The future of [`Client`](super::Client).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    state: State,
    pool: Arc<Pool>,
    /// None where all connections speak HTTP/2, whose interim responses hyper does not report.
    interim: Option<Interim>,
    place: Option<OwnedSemaphorePermit>,
}

enum State {
    Refused(ClientError),
    Waiting(Box<(Waiting, Request<Full<Bytes>>)>),
    Head(Head),
    // Kept apart: most bodies are there with their heads, and what is small is quickly moved.
    Body(Box<Answer>),
    Done,
}

impl ResponseFuture {
    pub(super) fn new(
        pool: &Arc<Pool>,
        request: Result<Request<Full<Bytes>>, ClientError>,
    ) -> Self {
        let mut this = Self {
            state: State::Done,
            pool: Arc::clone(pool),
            interim: None,
            place: None,
        };
        match (request, pool.place()) {
            (Err(error), _) => this.state = State::Refused(error),
            (Ok(request), ConnectionPermit::Free) => this.send(request),
            (Ok(request), ConnectionPermit::Taken(place)) => {
                this.place = Some(place);
                this.send(request);
            }
            (Ok(request), ConnectionPermit::Awaited(waiting)) => {
                this.state = State::Waiting(Box::new((waiting, request)));
            }
        }
        this
    }

    fn send(&mut self, mut request: Request<Full<Bytes>>) {
        self.interim = (!self.pool.http2).then(|| Interim::count(&mut request));
        self.state = State::Head(self.pool.send(request));
    }

    fn proceed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Bytes>, ClientError>> {
        loop {
            match &mut self.state {
                State::Refused(error) => return Poll::Ready(Err(*error)),
                State::Waiting(waiting) => {
                    self.place = ready!(waiting.0.as_mut().poll(cx)).ok();
                    let request = mem::take(&mut waiting.1);
                    self.send(request);
                }
                State::Head(head) => {
                    let polled = Pin::new(head).poll(cx);
                    // Asked after hyper: the head may have come along with too many interim responses.
                    // The end of this call closes its connection, and with it the flood.
                    if let Some(interim) = &self.interim
                        && interim.poll_exceeded(cx).is_ready()
                    {
                        return Poll::Ready(Err(ClientError::BadHead));
                    }
                    let mut answer = Answer::new(
                        ready!(polled).map_err(ClientError::from_hyper)?,
                        self.pool.max_response,
                    )?;
                    let polled = answer.poll(cx);
                    if polled.is_pending() {
                        self.state = State::Body(Box::new(answer));
                    }
                    return polled;
                }
                State::Body(answer) => return answer.poll(cx),
                // The contract of futures: a caller that polls again has a bug.
                State::Done => panic!("polled after completion"),
            }
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Bytes>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.proceed(cx));
        // What the answer holds, its connection say, is not held any longer.
        self.state = State::Done;
        self.place = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

fn check_head(response: &Response<Incoming>) -> Result<(), ClientError> {
    let status = response.status();
    let encoded = response
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity");
    match status {
        StatusCode::NOT_MODIFIED => Err(ClientError::BadStatus),
        _ if status.is_redirection() => Err(ClientError::Redirect),
        _ if status.is_informational() => Err(ClientError::BadStatus),
        _ if encoded => Err(ClientError::BadBody),
        _ => Ok(()),
    }
}

/// An answer, as far as it has come.
struct Answer {
    /// With the first piece of its body. Most bodies come in one piece, which is not copied.
    response: Response<Bytes>,
    incoming: Incoming,
    /// How many more bytes are allowed.
    left: usize,
    /// All pieces, if there are several.
    all: BytesMut,
}

impl Answer {
    fn new(response: Response<Incoming>, max: usize) -> Result<Self, ClientError> {
        check_head(&response)?;
        let (mut parts, incoming) = response.into_parts();
        strip(&mut parts.headers);
        if incoming.size_hint().lower() > max as u64 {
            return Err(ClientError::TooLarge);
        }
        Ok(Self {
            response: Response::from_parts(parts, Bytes::new()),
            incoming,
            left: max,
            all: BytesMut::new(),
        })
    }

    /// Ready when all of it is there.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Bytes>, ClientError>> {
        // What a length was given for ends with its last byte; nothing is waited for after that.
        while !self.incoming.is_end_stream() {
            let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) else {
                break;
            };
            if let Ok(piece) = frame.map_err(|_| ClientError::BadBody)?.into_data() {
                let left = self.left.checked_sub(piece.len());
                self.left = left.ok_or(ClientError::TooLarge)?;
                self.add(piece);
            }
        }
        let mut response = mem::take(&mut self.response);
        if !self.all.is_empty() {
            *response.body_mut() = mem::take(&mut self.all).freeze();
        }
        Poll::Ready(Ok(response))
    }

    fn add(&mut self, piece: Bytes) {
        let first = self.response.body_mut();
        if first.is_empty() && self.all.is_empty() {
            *first = piece;
            return;
        }
        if self.all.is_empty() {
            // The length that is left is known where it was given.
            let rest = self.incoming.size_hint().lower() as usize;
            self.all.reserve(first.len() + piece.len() + rest);
            self.all.extend_from_slice(&mem::take(first));
        }
        self.all.extend_from_slice(&piece);
    }
}
