//! Accepts the streams of one connection, and ends the connection if a fault requires it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::watch,
    task::JoinSet,
};

use super::{
    super::{
        Request, ServerStats,
        connection::{InFlightGuard, Transport, until_peer_closes},
    },
    StreamFault,
    stream::{ConnectionEnd, Stream},
};

pub(super) type Route = Arc<dyn Fn(&Request) -> StreamFault + Send + Sync>;

/// Serves one connection until the peer or a fault ends it.
pub(super) async fn serve(stream: impl Transport, route: Route, stats: watch::Sender<ServerStats>) {
    let shared = Shared(Arc::new(Mutex::new(stream)));
    let Ok(connection) = h2::server::handshake(shared.clone()).await else {
        return;
    };
    // h2 owns the connection while streams run. `shared` gets it back for a last frame or a reset.
    let last = serve_streams(connection, route, stats).await;
    let Some(mut stream) = shared.into_inner() else {
        return;
    };
    match last {
        Some(AfterStreams::Reset) => {
            stream.tcp().set_zero_linger().ok(); // dropping the stream then sends RST
        }
        Some(AfterStreams::GoAway(frame)) => {
            stream.write_all(&frame).await.ok();
            stream.shutdown().await.ok();
            // Closing a socket with unread bytes would reset the connection and lose the GOAWAY.
            until_peer_closes(&mut stream, &mut Vec::new()).await;
        }
        None => {}
    }
}

/// The last action on the TCP connection, after h2 has released it.
enum AfterStreams {
    GoAway([u8; 17]),
    Reset,
}

async fn serve_streams(
    mut connection: Connection<Shared<impl Transport>, Bytes>,
    route: Route,
    stats: watch::Sender<ServerStats>,
) -> Option<AfterStreams> {
    let mut streams = JoinSet::new();
    // h2 resets an unanswered stream when its handle is dropped, so the handle has to outlive the
    // GOAWAY.
    let mut unanswered = None;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(serve_stream(request, respond, Arc::clone(&route), stats.clone()));
                }
                _ => break,
            },
            Some(ended) = streams.join_next() => match ended {
                Ok(Some((ConnectionEnd::Graceful, _))) => connection.graceful_shutdown(),
                Ok(Some((ConnectionEnd::GoAway(reason), stream))) => {
                    unanswered = Some(stream);
                    connection.abrupt_shutdown(reason);
                }
                Ok(Some((ConnectionEnd::GoAwayUnprocessed(reason), stream))) => {
                    drop(connection);
                    return Some(AfterStreams::GoAway(go_away(stream.id().saturating_sub(2), reason)));
                }
                Ok(Some((ConnectionEnd::Reset, _stream))) => {
                    drop(connection);
                    return Some(AfterStreams::Reset);
                }
                Ok(None) | Err(_) => {}
            },
        }
    }
    drop((connection, unanswered)); // ends the remaining streams with an error
    while streams.join_next().await.is_some() {}
    None
}

/// Serves one stream. Returns the stream if its fault ends the connection.
async fn serve_stream(
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    route: Route,
    stats: watch::Sender<ServerStats>,
) -> Option<(ConnectionEnd, Stream)> {
    let request = read_request(request).await.ok()?;
    let fault = route(&request);
    let guard = InFlightGuard::start(stats, request);
    let mut stream = Stream::new(respond);
    let played = stream.play(fault).await;
    guard.end(played.is_err());
    Some((played.ok()??, stream))
}

/// Reads a request with its body. The `:authority` pseudo-header becomes the header `host`.
async fn read_request(request: http::Request<RecvStream>) -> Result<Request, h2::Error> {
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(bytes) = stream.data().await {
        let bytes = bytes?;
        stream.flow_control().release_capacity(bytes.len()).ok();
        body.extend_from_slice(&bytes);
    }
    let host = head.uri.authority().map(|host| ("host", host.as_str()));
    let host = host.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = head.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        (name.as_str().to_owned(), value.into_owned())
    });
    Ok(Request {
        method: head.method.to_string(),
        path: head
            .uri
            .path_and_query()
            .map_or("", |path| path.as_str())
            .to_owned(),
        headers: host.into_iter().chain(headers).collect(),
        body,
    })
}

/// Encodes a GOAWAY frame (RFC 9113 §6.8) with `last` as the last processed stream.
///
/// h2 cannot send this frame, because it always counts accepted streams as processed.
fn go_away(last: u32, reason: Reason) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8; // payload length; frame[4..9] stay zero: no flags, stream 0
    frame[3] = 7; // type GOAWAY
    frame[9..13].copy_from_slice(&last.to_be_bytes());
    frame[13..].copy_from_slice(&u32::from(reason).to_be_bytes());
    frame
}

// === sharing the TCP connection with h2 ===

/// A byte stream that h2 reads and writes, and that is returned when h2 has released it.
struct Shared<S>(Arc<Mutex<S>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the stream, or `None` if another handle exists.
    fn into_inner(self) -> Option<S> {
        let stream = Arc::into_inner(self.0)?.into_inner();
        Some(stream.unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shared<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shared<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }
}
