//! One connection to a downstream, with or without TLS.

#[cfg(feature = "tls")]
use std::task::ready;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::ClientError;

/// The error of the last connection that could not be opened. A connection whose client certificate was
/// refused counts as one, although TLS 1.3 reports the refusal after the handshake.
#[derive(Clone, Default)]
pub(super) struct LastError(Arc<Mutex<Option<ClientError>>>);

impl LastError {
    pub(super) fn get(&self) -> Option<ClientError> {
        self.lock().clone()
    }

    pub(super) fn set(&self, error: ClientError) {
        *self.lock() = Some(error);
    }

    /// Removes the refusal of a client certificate.
    #[cfg(feature = "tls")]
    fn accepted(&self) {
        self.lock().take_if(|error| error.is_refused_certificate());
    }

    fn lock(&self) -> MutexGuard<'_, Option<ClientError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection to a downstream, with or without TLS.
pub(super) struct Wire {
    stream: Stream,
    http2: bool,
    /// Receives the refusal of the client certificate. `None` without TLS and after the first read.
    #[cfg(feature = "tls")]
    unread: Option<LastError>,
}

enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl Wire {
    pub(super) fn plain(stream: TcpStream, http2: bool) -> Self {
        Self {
            stream: Stream::Plain(stream),
            http2,
            #[cfg(feature = "tls")]
            unread: None,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn over_tls(
        stream: tokio_rustls::client::TlsStream<TcpStream>,
        http2: bool,
        last_error: LastError,
    ) -> Self {
        Self {
            unread: Some(last_error),
            http2: http2 || stream.get_ref().1.alpn_protocol() == Some(super::tls::H2),
            stream: Stream::Tls(Box::new(stream)),
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut dyn ReadWrite> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Pin::new(stream),
        }
    }
}

#[cfg(feature = "tls")]
impl Wire {
    /// Records the result of the first read.
    fn record_read(&mut self, result: &io::Result<()>) {
        let Some(last_error) = self.unread.take() else {
            return;
        };
        match result.as_ref().err().and_then(ClientError::from_refusal) {
            Some(refusal) => last_error.set(refusal),
            None => last_error.accepted(),
        }
    }

    /// Returns the result of a write. If it failed before the first read because the connection is closed,
    /// returns the alert that the downstream may have sent before it closed the connection.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        let Poll::Ready(Err(written)) = polled else {
            return polled;
        };
        if self.unread.is_none() || !matches!(written.kind(), BrokenPipe | ConnectionReset) {
            return Poll::Ready(Err(written));
        }
        let mut byte = [0];
        // The connection is closed, so the read does not wait for the downstream.
        let read = ready!(Pin::new(self).poll_read(cx, &mut ReadBuf::new(&mut byte)));
        let alert = read.err();
        let alert = alert.filter(|error| ClientError::from_refusal(error).is_some());
        Poll::Ready(Err(alert.unwrap_or(written)))
    }
}

#[cfg(not(feature = "tls"))]
impl Wire {
    fn written<T>(
        &mut self,
        _: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        polled
    }
}

/// Reports the negotiated protocol to hyper. Adds nothing to the extensions of responses.
impl Connection for Wire {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.as_mut().stream().poll_read(cx, buffer);
        #[cfg(feature = "tls")]
        if let Poll::Ready(result) = &polled {
            self.record_read(result);
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.as_mut().stream().poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.as_mut().stream().poll_write_vectored(cx, slices);
        self.written(cx, polled)
    }

    /// Always `true`: both kinds of stream support vectored writes, and hyper would copy small
    /// buffers together if this were `false`.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.as_mut().stream().poll_flush(cx);
        self.written(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
