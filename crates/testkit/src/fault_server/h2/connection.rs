//! Accepts the streams of one connection, and ends it as one of them says.

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
        Request, Seen,
        connection::{Flight, Wire, closed},
    },
    StreamFault,
    stream::{Farewell, Stream},
};

pub(super) type Route = Arc<dyn Fn(&Request) -> StreamFault + Send + Sync>;

/// Serves one connection until it ends, by the peer or by a fault.
pub(super) async fn serve(stream: impl Wire, route: Route, seen: watch::Sender<Seen>) {
    let shared = Shared(Arc::new(Mutex::new(stream)));
    let Ok(connection) = h2::server::handshake(shared.clone()).await else {
        return;
    };
    let last = serve_streams(connection, route, seen).await;
    let Some(mut stream) = shared.into_inner() else {
        return;
    };
    match last {
        Some(LastWord::Reset) => {
            stream.tcp().set_zero_linger().ok(); // dropped then
        }
        Some(LastWord::GoAway(frame)) => {
            stream.write_all(&frame).await.ok();
            stream.shutdown().await.ok();
            closed(&mut stream, &mut Vec::new()).await; // unread bytes would reset the connection
        }
        None => {}
    }
}

/// What the wire carries after the library has let go of it.
enum LastWord {
    GoAway([u8; 17]),
    Reset,
}

async fn serve_streams(
    mut connection: Connection<Shared<impl Wire>, Bytes>,
    route: Route,
    seen: watch::Sender<Seen>,
) -> Option<LastWord> {
    let mut streams = JoinSet::new();
    let mut held = None; // an unanswered stream, once dropped, is reset on a living connection
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    streams.spawn(answer(request, respond, Arc::clone(&route), seen.clone()));
                }
                _ => break,
            },
            Some(ended) = streams.join_next() => match ended {
                Ok(Some((Farewell::Graceful, _))) => connection.graceful_shutdown(),
                Ok(Some((Farewell::AtOnce(reason), stream))) => {
                    held = Some(stream);
                    connection.abrupt_shutdown(reason);
                }
                Ok(Some((Farewell::Before(reason), stream))) => {
                    drop(connection);
                    return Some(LastWord::GoAway(go_away(stream.id().saturating_sub(2), reason)));
                }
                Ok(Some((Farewell::Reset, _stream))) => {
                    drop(connection);
                    return Some(LastWord::Reset);
                }
                Ok(None) | Err(_) => {}
            },
        }
    }
    drop((connection, held)); // tells the streams that the peer left
    while streams.join_next().await.is_some() {}
    None
}

/// Answers one request; returns its stream if that ends the connection.
async fn answer(
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    route: Route,
    seen: watch::Sender<Seen>,
) -> Option<(Farewell, Stream)> {
    let request = read_request(request).await.ok()?;
    let fault = route(&request);
    let flight = Flight::start(seen, request);
    let mut stream = Stream::new(respond);
    let played = stream.play(fault).await;
    flight.end(played.is_err());
    Some((played.ok()??, stream))
}

/// The request with its body; its authority is told as `host`.
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

/// A frame of GOAWAY (RFC 9113 §6.8): the library would count in the streams that it accepted.
fn go_away(last: u32, reason: Reason) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8; // its length; frame[4..9] are no flags and the stream of the connection
    frame[3] = 7; // GOAWAY
    frame[9..13].copy_from_slice(&last.to_be_bytes());
    frame[13..].copy_from_slice(&u32::from(reason).to_be_bytes());
    frame
}

// === the wire, for the library and for us ===

/// A stream that the library reads and writes, and that is ours again when it is done.
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

    /// The stream, if no other handle is left.
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
