//! Closes a connection so that the client receives the last response.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Maximum number of bytes that are read and discarded before a connection is closed.
const MAX_BYTES: usize = 64 << 10;

/// Maximum time to read and discard.
const MAX_TIME: Duration = Duration::from_secs(1);

pin_project! {
    /// A stream that, after its shutdown, reads until the client closes its side too, for at most
    /// 64 KiB and 1 s.
    ///
    /// The operating system resets a connection that is closed with unread bytes, and the reset may
    /// overtake the response. A client that is still sending a body would not see the 413
    /// ([RFC 9112 §9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)).
    #[derive(Debug)]
    pub(super) struct LingeringClose<S> {
        #[pin]
        stream: S,
        // Set at shutdown. Boxed because hyper needs the stream to be `Unpin`.
        deadline: Option<Pin<Box<Sleep>>>,
        remaining: usize,
    }
}

impl<S> LingeringClose<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            deadline: None,
            remaining: MAX_BYTES,
        }
    }

    #[cfg(feature = "tls")]
    pub(super) const fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for LingeringClose<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.deadline.is_none() {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            *this.deadline = Some(Box::pin(sleep(MAX_TIME)));
        }
        let mut discarded = [0; 4 << 10];
        while *this.remaining > 0 {
            let mut read = ReadBuf::new(&mut discarded);
            match this.stream.as_mut().poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    *this.remaining = this.remaining.saturating_sub(read.filled().len());
                }
                // The client has closed or reset the connection.
                Poll::Ready(_) => break,
                Poll::Pending => {
                    if let Some(deadline) = this.deadline {
                        ready!(deadline.as_mut().poll(cx));
                    }
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: AsyncRead> AsyncRead for LingeringClose<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        read: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().stream.poll_read(cx, read)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_d23_reads_remaining_bytes_before_closing() {
        let (server, mut client) = duplex(1 << 10);
        let mut server = LingeringClose::new(server);
        let sending = async {
            client.write_all(&[0; 9 << 10]).await.unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).await.unwrap();
            drop(client);
            response
        };
        let closing = async {
            server.write_all(b"413").await.unwrap();
            server.shutdown().await.unwrap();
        };
        assert_eq!(tokio::join!(sending, closing).0, "413");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d23_stops_reading_after_1_s_or_64_kib() {
        let (server, client) = duplex(1 << 10);
        let start = Instant::now();
        LingeringClose::new(server).shutdown().await.unwrap();
        assert_eq!(start.elapsed(), MAX_TIME);
        drop(client);
        let (server, mut client) = duplex(MAX_BYTES * 2);
        client.write_all(&[0; MAX_BYTES + 1]).await.unwrap();
        let start = Instant::now();
        LingeringClose::new(server).shutdown().await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
