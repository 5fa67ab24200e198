//! Checks the head of a response and collects its body.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_ENCODING, TRANSFER_ENCODING},
};
use hyper::body::{Body as _, Incoming};

use super::{ClientError, ClientErrorKind};
use crate::{forward::strip, log::LogValue};

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
pub(super) struct PartialResponse {
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
    pub(super) fn new(response: Response<Incoming>, max: usize) -> Result<Self, ClientError> {
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

    /// Returns the number of bytes that may still arrive.
    pub(super) const fn remaining(&self) -> usize {
        self.remaining
    }

    /// Ready when the whole body has arrived.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Bytes>, ClientError>> {
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
