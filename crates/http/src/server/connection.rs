//! Serves one connection, from its acceptance to its end.

use std::{
    convert::Infallible, error::Error, future::poll_fn, net::SocketAddr, pin::pin, sync::Arc,
};

use http::{Request, Response, uri::Scheme};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulConnection},
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tower::Service;

use super::{
    CloseReason, ServerConfig,
    activity::{Activity, ConnectionTimeouts},
    lingering_close::LingeringClose,
    stream::{Stream, Wire},
    track_requests::TrackRequests,
};

/// State that all connections of a server share.
pub(super) struct Shared {
    /// A valid config. Its times are at most a year, so that adding one to an `Instant` cannot
    /// overflow.
    pub(super) config: ServerConfig,
    pub(super) http: auto::Builder<TokioExecutor>,
}

/// Serves a connection that was just accepted, and returns the reason why it ended.
///
/// After `stop` changes, the connection ends as soon as it has no request in flight. Dropping the
/// future closes the connection.
pub(super) async fn serve<S, B>(
    shared: Arc<Shared>,
    service: S,
    socket: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<()>,
) -> CloseReason
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (config, accepted) = (&shared.config, Instant::now());
    let handshake = timeout_at(
        accepted + config.header_timeout,
        secure(config, LingeringClose::new(socket)),
    );
    let handshake = tokio::select! {
        shaken = handshake => shaken,
        // No request can be in flight before the handshake.
        _ = stop.changed() => return CloseReason::Done,
    };
    let (wire, scheme) = match handshake {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return CloseReason::Error;
        }
        Err(_) => return CloseReason::Slow,
    };
    let activity = Arc::new(Activity::default());
    let service = TrackRequests {
        service,
        activity: Arc::clone(&activity),
        peer,
        scheme,
    };
    let stream = TokioIo::new(Stream::new(wire, Arc::clone(&activity)));
    let connection = shared.http.serve_connection(stream, service);
    drive(
        connection,
        ConnectionTimeouts::new(&activity, config, accepted),
        config,
        stop,
    )
    .await
}

/// Performs the TLS handshake if TLS is configured. Returns the stream for HTTP and its scheme.
async fn secure(
    config: &ServerConfig,
    socket: LingeringClose<TcpStream>,
) -> std::io::Result<(Box<dyn Wire>, Scheme)> {
    #[cfg(feature = "tls")]
    if let Some(tls) = &config.tls {
        return Ok((Box::new(tls.accept(socket).await?), Scheme::HTTPS));
    }
    #[cfg(not(feature = "tls"))]
    let _ = config;
    Ok((Box::new(socket), Scheme::HTTP))
}

/// Drives `connection` until it ends or exceeds a timeout.
///
/// A stop, the maximum age or the idle timeout starts a graceful shutdown, in which requests in
/// flight may finish. Any other timeout closes the connection at once.
async fn drive<C>(
    connection: C,
    mut timeouts: ConnectionTimeouts<'_>,
    config: &ServerConfig,
    mut stop: watch::Receiver<()>,
) -> CloseReason
where
    C: GracefulConnection<Error = Box<dyn Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    let start = Instant::now();
    let mut timer = pin!(sleep_until(start + config.header_timeout));
    let mut max_age = pin!(async {
        match config.max_age {
            Some(age) => sleep_until(start + age).await,
            None => std::future::pending().await,
        }
    });
    let mut end = CloseReason::Done;
    loop {
        let closing = timeouts.closing;
        tokio::select! {
            biased;
            _ = stop.changed(), if !closing => {}
            ended = &mut connection => return match ended {
                Ok(()) => end,
                Err(_) if closing => end,
                Err(error) => {
                    tracing::debug!(%error, "connection failed");
                    CloseReason::Error
                }
            },
            () = &mut max_age, if !closing => {}
            reason = poll_fn(|cx| timeouts.poll(timer.as_mut(), cx)) => {
                if closing || reason != CloseReason::Idle {
                    return reason;
                }
                end = reason;
            }
        }
        timeouts.closing = true;
        connection.as_mut().graceful_shutdown();
    }
}
