//! One attempt: the head of the answer, and then its whole body.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header::CONTENT_ENCODING};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::ResponseFuture as Head;

use super::ClientError;

/// The future of [`Client`](super::Client).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    state: State,
    max_response: usize,
}

enum State {
    Refused(ClientError),
    Head(Head),
    // Kept apart: most bodies are there with their heads, and what is small is quickly moved.
    Body(Box<Answer>),
    Done,
}

impl ResponseFuture {
    pub(super) const fn new(head: Head, max_response: usize) -> Self {
        let state = State::Head(head);
        Self {
            state,
            max_response,
        }
    }

    pub(super) const fn refused(error: ClientError) -> Self {
        let state = State::Refused(error);
        Self {
            state,
            max_response: 0,
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Bytes>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.proceed(cx));
        // What the answer holds, its connection say, is not held any longer.
        self.state = State::Done;
        Poll::Ready(result)
    }
}

impl ResponseFuture {
    fn proceed(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Bytes>, ClientError>> {
        match &mut self.state {
            State::Refused(error) => Poll::Ready(Err(*error)),
            State::Head(head) => {
                let response = ready!(Pin::new(head).poll(cx))?;
                let mut answer = Answer::new(response, self.max_response)?;
                let polled = answer.poll(cx);
                if polled.is_pending() {
                    self.state = State::Body(Box::new(answer));
                }
                polled
            }
            State::Body(answer) => answer.poll(cx),
            State::Done => panic!("polled after completion"),
        }
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
        let (parts, incoming) = response.into_parts();
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
