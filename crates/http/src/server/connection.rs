//! One connection, from its acceptance to its end.

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

/// What all connections of a server share.
pub(super) struct Shared {
    /// Valid: no time in it is longer than a year, so that none overflows an instant.
    pub(super) config: ServerConfig,
    pub(super) http: auto::Builder<TokioExecutor>,
}

/// Serves a connection that was just accepted, until it ends or, after the stop, has nothing in
/// flight; says why it ended.
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
        // Nothing was asked yet.
        _ = stop.changed() => return CloseReason::Done,
    };
    let (wire, scheme) = match handshake {
        Ok(Ok(wire)) => wire,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
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

/// The wire that requests are read from, and their scheme.
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

/// Lets `connection` run as long as there is patience with it. Once told to go, by the stop, by age
/// or for being idle, it may still finish what is in flight.
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
    let born = Instant::now();
    let mut timer = pin!(sleep_until(born + config.header_timeout));
    let mut old = pin!(async {
        match config.max_age {
            Some(age) => sleep_until(born + age).await,
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
                    tracing::debug!(%error, "a connection ended early");
                    CloseReason::Error
                }
            },
            () = &mut old, if !closing => {}
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
