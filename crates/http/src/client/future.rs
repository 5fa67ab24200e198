//! One attempt: the head of the answer, and then its whole body.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header::CONTENT_ENCODING, response::Parts};
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
    Body(Parts, Body),
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
        if let State::Head(head) = &mut self.state {
            let response = ready!(Pin::new(head).poll(cx))?;
            check_head(&response)?;
            let (parts, body) = response.into_parts();
            self.state = State::Body(parts, Body::new(body, self.max_response)?);
        }
        let ended = match &mut self.state {
            State::Body(_, body) => ready!(body.poll(cx)),
            _ => Ok(()),
        };
        // What the answer holds, its connection say, is not held any longer.
        match mem::replace(&mut self.state, State::Done) {
            State::Body(parts, body) => {
                Poll::Ready(ended.map(|()| Response::from_parts(parts, body.whole())))
            }
            State::Refused(error) => Poll::Ready(Err(error)),
            State::Head(_) | State::Done => panic!("polled after completion"),
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

/// A body, as far as it has come. Most come in one piece, which is not copied.
struct Body {
    incoming: Incoming,
    /// How many more bytes are allowed.
    left: usize,
    first: Bytes,
    /// All pieces, if there are several.
    all: BytesMut,
}

impl Body {
    fn new(incoming: Incoming, max: usize) -> Result<Self, ClientError> {
        if incoming.size_hint().lower() > max as u64 {
            return Err(ClientError::TooLarge);
        }
        Ok(Self {
            incoming,
            left: max,
            first: Bytes::new(),
            all: BytesMut::new(),
        })
    }

    /// Ready when all of it is there.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        // What a length was given for ends with its last byte; nothing is waited for after that.
        while !self.incoming.is_end_stream() {
            let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) else {
                break;
            };
            if let Ok(piece) = frame.map_err(|_| ClientError::BadBody)?.into_data() {
                self.left = self
                    .left
                    .checked_sub(piece.len())
                    .ok_or(ClientError::TooLarge)?;
                self.add(piece);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.all.is_empty() {
            self.first = piece;
            return;
        }
        if !self.first.is_empty() {
            // The length that is left is known where it was given.
            let rest = self.incoming.size_hint().lower() as usize;
            self.all.reserve(self.first.len() + piece.len() + rest);
            self.all.extend_from_slice(&mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&piece);
    }

    fn whole(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            self.all.freeze()
        }
    }
}
