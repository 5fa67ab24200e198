//! The future of one attempt: waits for a permit, then for the response head, then for the whole
//! body.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, TRANSFER_ENCODING},
};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::ResponseFuture as Head;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    ClientError, ClientErrorKind,
    interim::Interim,
    pool::{ConnectionPermit, Pool, Waiting},
};
use crate::{forward::strip, log::LogValue};

/// The future of [`Client`](super::Client).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture {
    state: State,
    pool: Arc<Pool>,
    /// `None` before the request is sent, and if every connection uses HTTP/2: hyper does not
    /// report interim responses of HTTP/2.
    interim: Option<Interim>,
    permit: Option<OwnedSemaphorePermit>,
}

enum State {
    Failed(ClientError),
    Waiting(Box<(Waiting, Request<Full<Bytes>>)>),
    Head(Head),
    // Boxed to keep the future small: most bodies arrive together with the head and need no such
    // state.
    Body(Box<PartialResponse>),
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
            permit: None,
        };
        match (request, pool.acquire()) {
            (Err(error), _) => this.state = State::Failed(error),
            (Ok(request), ConnectionPermit::Unlimited) => this.send(request),
            (Ok(request), ConnectionPermit::Acquired(permit)) => {
                this.permit = Some(permit);
                this.send(request);
            }
            (Ok(request), ConnectionPermit::Pending(waiting)) => {
                this.state = State::Waiting(Box::new((waiting, request)));
            }
        }
        this
    }

    fn send(&mut self, mut request: Request<Full<Bytes>>) {
        self.interim = (!self.pool.http2).then(|| Interim::count(&mut request));
        self.state = State::Head(self.pool.send(request));
    }

    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Bytes>, ClientError>> {
        loop {
            match &mut self.state {
                State::Failed(error) => return Poll::Ready(Err(error.clone())),
                State::Waiting(waiting) => {
                    self.permit = ready!(waiting.0.as_mut().poll(cx)).ok();
                    let request = mem::take(&mut waiting.1);
                    self.send(request);
                }
                State::Head(head) => {
                    let polled = Pin::new(head).poll(cx);
                    // Checked after hyper was polled: the head may have arrived together with too
                    // many interim responses. Ending the call closes its connection.
                    if let Some(interim) = &self.interim
                        && interim.poll_exceeded(cx).is_ready()
                    {
                        let error = ClientError::new(ClientErrorKind::BadHead);
                        return Poll::Ready(Err(error.caused_by("more than 16 interim responses")));
                    }
                    let mut partial = PartialResponse::new(
                        ready!(polled).map_err(|error| self.pool.error(error))?,
                        self.pool.max_response,
                    )?;
                    let polled = partial.poll(cx);
                    if polled.is_pending() {
                        self.state = State::Body(Box::new(partial));
                    }
                    return polled;
                }
                State::Body(partial) => return partial.poll(cx),
                // A caller that polls a completed future has a bug.
                State::Done => panic!("polled after completion"),
            }
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Bytes>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.poll_state(cx));
        // Releases the connection and the permit even if the caller keeps the future.
        self.state = State::Done;
        self.permit = None;
        Poll::Ready(result)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// Rejects redirects, statuses of no final response, and codings that were not requested.
fn check_head(response: &Response<Incoming>) -> Result<(), ClientError> {
    let status = response.status();
    let kind = match status {
        StatusCode::NOT_MODIFIED => ClientErrorKind::BadStatus,
        _ if status.is_redirection() => ClientErrorKind::Redirect,
        _ if status.is_informational() => ClientErrorKind::BadStatus,
        // No body, such as that of a 204 or of the response to a HEAD request, has a coding to undo.
        _ if response.body().is_end_stream() => return Ok(()),
        _ => {
            let Some((name, value)) = unrequested_coding(response.headers()) else {
                return Ok(());
            };
            let cause = format!("{name}: {}", LogValue::new(value));
            return Err(ClientError::new(ClientErrorKind::BadEncoding).caused_by(cause));
        }
    };
    Err(ClientError::new(kind).caused_by(format!("status {}", status.as_u16())))
}

/// Returns the first header line with a coding other than `identity` (RFC 9110 §8.4.1) or a final
/// `chunked`. Empty list elements are ignored (RFC 9110 §5.6.1).
fn unrequested_coding(headers: &HeaderMap) -> Option<(HeaderName, &HeaderValue)> {
    let is_coded = |coding: &[u8]| !coding.is_empty() && !is(coding, "identity");
    let mut content = codings(headers, &CONTENT_ENCODING);
    if let Some((_, line)) = content.find(|(coding, _)| is_coded(coding)) {
        return Some((CONTENT_ENCODING, line));
    }
    let mut transfer = codings(headers, &TRANSFER_ENCODING);
    // hyper decodes `chunked` only as the very last element. It decodes no other transfer coding, and then
    // the body ends with the connection.
    let last = transfer.next_back();
    let last = last.filter(|(coding, _)| !is(coding, "chunked"));
    let mut transfer = transfer.chain(last);
    let (_, line) = transfer.find(|(coding, _)| is_coded(coding))?;
    Some((TRANSFER_ENCODING, line))
}

/// Returns each element of all lines with this name, and its line.
fn codings<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = (&'h [u8], &'h HeaderValue)> + use<'h> {
    headers.get_all(name).into_iter().flat_map(|line| {
        let elements = line.as_bytes().split(|byte| *byte == b',');
        elements.map(move |element| (element.trim_ascii(), line))
    })
}

fn is(coding: &[u8], known: &str) -> bool {
    coding.eq_ignore_ascii_case(known.as_bytes())
}

fn too_large(max: usize) -> ClientError {
    ClientError::new(ClientErrorKind::TooLarge).caused_by(format!("more than {max} bytes"))
}

/// A response whose body is still arriving.
struct PartialResponse {
    /// The head and the first chunk of the body. Most bodies have one chunk, which is not copied.
    response: Response<Bytes>,
    incoming: Incoming,
    /// Maximum size of the body.
    max: usize,
    /// Number of bytes that may still arrive.
    remaining: usize,
    /// All chunks, if there is more than one.
    chunks: BytesMut,
}

impl PartialResponse {
    fn new(response: Response<Incoming>, max: usize) -> Result<Self, ClientError> {
        let checked = check_head(&response);
        let (mut parts, incoming) = response.into_parts();
        strip(&mut parts.headers);
        let response = Response::from_parts(parts, Bytes::new());
        let fits = incoming.size_hint().lower() <= max as u64;
        checked
            .and_then(|()| fits.then_some(()).ok_or_else(|| too_large(max)))
            .map_err(|error| error.of_response(&response))?;
        Ok(Self {
            response,
            incoming,
            max,
            remaining: max,
            chunks: BytesMut::new(),
        })
    }

    /// Ready when the whole body has arrived.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Bytes>, ClientError>> {
        ready!(self.poll_body(cx)).map_err(|error| error.of_response(&self.response))?;
        let mut response = mem::take(&mut self.response);
        if !self.chunks.is_empty() {
            *response.body_mut() = mem::take(&mut self.chunks).freeze();
        }
        Poll::Ready(Ok(response))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        // A body with a known length ends at its last byte, without another poll of the connection.
        while !self.incoming.is_end_stream() {
            let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) else {
                break;
            };
            let bad_body = |error| ClientError::new(ClientErrorKind::BadBody).caused_by(error);
            if let Ok(chunk) = frame.map_err(bad_body)?.into_data() {
                let remaining = self.remaining.checked_sub(chunk.len());
                self.remaining = remaining.ok_or_else(|| too_large(self.max))?;
                self.add(chunk);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn add(&mut self, chunk: Bytes) {
        let first = self.response.body_mut();
        if first.is_empty() && self.chunks.is_empty() {
            *first = chunk;
            return;
        }
        if self.chunks.is_empty() {
            // The remaining length is known if the response has a `Content-Length`; otherwise it is
            // 0.
            let rest = self.incoming.size_hint().lower() as usize;
            self.chunks.reserve(first.len() + chunk.len() + rest);
            self.chunks.extend_from_slice(&mem::take(first));
        }
        self.chunks.extend_from_slice(&chunk);
    }
}
