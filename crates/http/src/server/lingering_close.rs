//! Closes a connection so that the client gets the last answer.

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

/// How much is read and thrown away before a connection is closed.
const MAX_BYTES: usize = 64 << 10;

/// How long that may take.
const MAX_TIME: Duration = Duration::from_secs(1);

pin_project! {
    /// A connection that, when it is shut down, still reads until the client closes it too, at most
    /// 64 KiB and 1 s.
    ///
    /// A connection that is closed with bytes unread is reset, and a reset may overtake the answer:
    /// a client that is still sending a body would not learn that it is too large
    /// ([RFC 9112 §9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)).
    #[derive(Debug)]
    pub(super) struct LingeringClose<S> {
        #[pin]
        stream: S,
        // In a box, as a connection must be `Unpin`; made once, at the end.
        until: Option<Pin<Box<Sleep>>>,
        left: usize,
    }
}

impl<S> LingeringClose<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            until: None,
            left: MAX_BYTES,
        }
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
        if this.until.is_none() {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
            *this.until = Some(Box::pin(sleep(MAX_TIME)));
        }
        let mut waste = [0; 4 << 10];
        while *this.left > 0 {
            let mut read = ReadBuf::new(&mut waste);
            match this.stream.as_mut().poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    *this.left = this.left.saturating_sub(read.filled().len());
                }
                // The client has closed it, or reset it.
                Poll::Ready(_) => break,
                Poll::Pending => {
                    if let Some(until) = this.until {
                        ready!(until.as_mut().poll(cx));
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
    async fn fault_d23_what_still_comes_is_read_before_the_connection_is_closed() {
        let (server, mut client) = duplex(1 << 10);
        let mut server = LingeringClose::new(server);
        let sending = async {
            client.write_all(&[0; 9 << 10]).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            drop(client);
            answer
        };
        let closing = async {
            server.write_all(b"413").await.unwrap();
            server.shutdown().await.unwrap();
        };
        assert_eq!(tokio::join!(sending, closing).0, "413");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d23_a_client_that_never_ends_is_cut() {
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
