//! The byte stream of a connection, plain or TLS, which records its reads and writes.

use std::{
    convert::Infallible,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    activity::Activity,
    framing::Framing,
    go_away::{ENHANCE_YOUR_CALM, FramePosition},
};

/// A TCP stream, or a TLS stream on one.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A stream that records its activity.
///
/// Once [`Activity::go_away`] was called, the stream finishes the HTTP/2 frame that is written in part,
/// sends a GOAWAY, closes, and fails. An HTTP/1 stream fails at the first violation of [`Framing`].
pub(super) struct Stream {
    wire: Box<dyn Wire>,
    /// Bytes that were read before HTTP began.
    received: Bytes,
    activity: Arc<Activity>,
    position: Position,
    /// `true` once the client has sent a request with invalid framing.
    invalid: bool,
    /// Number of bytes of the GOAWAY frame that are sent.
    go_away: u8,
}

/// The position within the messages of the connection, as far as it matters.
enum Position {
    Reading(Framing),
    Writing(FramePosition),
}

impl Stream {
    /// Creates a stream that reads `received` first.
    pub(super) fn new(wire: Box<dyn Wire>, received: Bytes, activity: Arc<Activity>) -> Self {
        let position = if activity.is_multiplexed() {
            Position::Writing(FramePosition::default())
        } else {
            Position::Reading(Framing::default())
        };
        Self {
            wire,
            received,
            activity,
            position,
            invalid: false,
            go_away: 0,
        }
    }

    /// Returns the wire, and the bytes that were given to [`new`](Self::new) and are not read yet.
    pub(super) fn into_parts(self) -> (Box<dyn Wire>, Bytes) {
        (self.wire, self.received)
    }

    fn recorded<T>(&self, wrote: Poll<T>) -> Poll<T> {
        self.activity.record_write(&wrote);
        wrote
    }

    /// Returns `true` if the GOAWAY is due and fits here.
    fn ends(&self) -> bool {
        self.rest_of_frame() == Some(0)
    }

    /// Returns the number of bytes that certainly belong to the frame that is written in part, if the
    /// GOAWAY is due.
    fn rest_of_frame(&self) -> Option<usize> {
        match &self.position {
            Position::Writing(frames) if self.activity.is_going_away() => Some(frames.rest()),
            _ => None,
        }
    }

    fn record_written(&mut self, bytes: &[u8]) {
        if let Position::Writing(frames) = &mut self.position {
            frames.advance(bytes);
        }
    }

    /// Keeps those bytes of an HTTP/1 client that it sent before the first violation.
    fn check(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        if let Position::Reading(requests) = &mut self.position
            && let Some(valid) = requests.check(&buffer.filled()[before..])
        {
            self.invalid = true;
            buffer.set_filled(before + valid);
        }
    }

    /// Sends the GOAWAY, closes the stream, and fails.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Infallible>> {
        while let rest @ [_, ..] = &ENHANCE_YOUR_CALM[usize::from(self.go_away)..] {
            let sent = ready!(Pin::new(&mut self.wire).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            // At most the length of the frame.
            self.go_away += sent as u8;
        }
        ready!(Pin::new(&mut self.wire).poll_shutdown(cx))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ends() {
            return self.poll_end(cx).map_ok(|never| match never {});
        }
        if self.invalid {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        let read = if self.received.is_empty() {
            Pin::new(&mut self.wire).poll_read(cx, buffer)
        } else {
            let count = self.received.len().min(buffer.remaining());
            buffer.put_slice(&self.received[..count]);
            self.received.advance(count);
            if self.received.is_empty() {
                // Frees the buffer, which an empty slice would keep.
                self.received = Bytes::new();
            }
            Poll::Ready(Ok(()))
        };
        if buffer.filled().len() > before {
            self.activity.record_read();
            self.check(buffer, before);
            if buffer.filled().len() == before {
                // An empty read would be the end of the stream.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.ends() {
            return self.poll_end(cx).map_ok(|never| match never {});
        }
        if let Some(rest) = self.rest_of_frame() {
            bytes = &bytes[..bytes.len().min(rest)];
        }
        let wrote = Pin::new(&mut self.wire).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = wrote {
            self.record_written(&bytes[..count]);
        }
        self.recorded(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.rest_of_frame().is_some() {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(cx, first.map_or(&[], |part| part));
        }
        let wrote = Pin::new(&mut self.wire).poll_write_vectored(cx, parts);
        if let Poll::Ready(Ok(mut left)) = wrote {
            for part in parts {
                let written = left.min(part.len());
                self.record_written(&part[..written]);
                left -= written;
            }
        }
        self.recorded(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ends() {
            return self.poll_end(cx).map_ok(|never| match never {});
        }
        let flushed = Pin::new(&mut self.wire).poll_flush(cx);
        self.recorded(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.wire).poll_shutdown(cx);
        self.recorded(shut)
    }
}
