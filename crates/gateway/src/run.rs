//! Serves an app until it is told to stop.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::get};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::{interval, sleep},
};
use tower_fanout::layers::{ConcurrencyLayer, ConfigError};
use tower_fanout_http::server::{self, CloseReason, Connections, ShutdownOutcome};

use crate::{
    app::App,
    auth::Auth,
    backend::Backend,
    config::{ReloadableCert, Server},
    health::Readiness,
    telemetry,
};

/// The sockets of a gateway, bound before anything else is promised.
#[derive(Debug)]
pub(crate) struct Sockets {
    public: TcpListener,
    admin: TcpListener,
    addresses: (SocketAddr, SocketAddr),
}

impl Sockets {
    /// Binds the public and the admin address.
    ///
    /// # Errors
    /// One of them cannot be bound; the message names it.
    ///
    /// # Panics
    /// There is no runtime of tokio.
    pub(crate) fn bind(server: &Server) -> io::Result<Self> {
        let bind = |address: SocketAddr| {
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            };
            let listener = server::bind(address).map_err(named)?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>((listener, address))
        };
        let (public, listen) = bind(server.listen)?;
        let (admin, operators) = bind(server.admin)?;
        let addresses = (listen, operators);
        Ok(Self {
            public,
            admin,
            addresses,
        })
    }

    /// The public address.
    #[must_use]
    pub(crate) const fn public(&self) -> SocketAddr {
        self.addresses.0
    }

    /// The address for operators.
    #[must_use]
    pub(crate) const fn admin(&self) -> SocketAddr {
        self.addresses.1
    }
}

/// Serves `app` to those whom `auth` lets through, until `stop` resolves: then it is not ready at once,
/// goes on for the drain's delay, and lets requests in flight finish.
///
/// # Errors
/// A value of the server's config is out of its range.
pub(crate) async fn run(
    app: &App,
    auth: &Auth,
    ready: Readiness,
    sockets: Sockets,
    server: &Server,
    stop: impl Future<Output = ()>,
) -> Result<ShutdownOutcome, ConfigError> {
    let public = server::Server::new(server.config.clone())?;
    tracing::info!(listen = %sockets.public(), admin = %sockets.admin(), "serving");
    let state = State {
        backends: app.backends().to_vec(),
        connections: server.config.connections.clone(),
        auth: auth.clone(),
    };
    let admin = tokio::spawn(admin(sockets.admin, state));
    let _reload = AbortOnDrop(tokio::spawn(reload(server.certificate.clone())));
    ready.set(true);
    let stop = async {
        stop.await;
        tracing::info!("stopping");
        ready.set(false);
        sleep(server.drain_delay).await;
    };
    let stopped = public.serve(sockets.public, app.service(auth), stop).await;
    admin.abort();
    tracing::info!(?stopped, "stopped");
    Ok(stopped)
}

/// At each SIGHUP, reads the certificate again.
async fn reload(certificate: Option<ReloadableCert>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangups.recv().await.is_some() {
        match certificate.as_ref().map(ReloadableCert::reload) {
            None => tracing::info!("there is no certificate to read again"),
            Some(Ok(())) => tracing::info!("the certificate was read again"),
            Some(Err(error)) => tracing::warn!(%error, "the certificate stays what it was"),
        }
    }
}

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// The signals cannot be listened to.
pub(crate) fn signals() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(130);
        });
    })
}

async fn either(
    terminate: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What operators look at.
struct State {
    backends: Vec<Arc<Backend>>,
    connections: Connections,
    auth: Auth,
}

/// Serves what is for operators.
async fn admin(listener: TcpListener, state: State) {
    let metrics = telemetry::metrics();
    let _upkeep = AbortOnDrop(tokio::spawn(upkeep(metrics.clone())));
    let page = move || {
        state.backends.iter().for_each(|backend| measure(backend));
        count(&state.connections);
        state.auth.measure();
        std::future::ready(metrics.render())
    };
    let router = Router::new().route("/metrics", get(page));
    let server = server::Server::default();
    server.serve(listener, router, std::future::pending()).await;
}

/// The gauges of a downstream, read when somebody asks.
fn measure(backend: &Backend) {
    let service = || backend.name.clone();
    let state = backend
        .breaker_state()
        .map_or("closed", tower_fanout::metrics::state);
    for one in ["closed", "open", "half_open"] {
        let value = if one == state { 1.0 } else { 0.0 };
        gauge!("fanout_breaker_state", "service" => service(), "state" => one).set(value);
    }
    let limit = backend.downstream.concurrency();
    gauge!("fanout_inflight", "service" => service())
        .set(limit.map_or(0, ConcurrencyLayer::in_flight));
    gauge!("fanout_queued", "service" => service()).set(limit.map_or(0, ConcurrencyLayer::queued));
}

/// The connections to the public address: those that are open, and since the start those that were
/// accepted, and closed for each reason.
fn count(connections: &Connections) {
    let closed = CloseReason::ALL.map(|reason| (reason.as_str(), connections.closed(reason)));
    let all = [
        ("open", connections.open()),
        ("accepted", connections.accepted()),
    ];
    for (state, count) in all.into_iter().chain(closed) {
        gauge!("fanout_connections", "state" => state).set(count as f64);
    }
}

/// Histograms are kept small in the background.
async fn upkeep(metrics: PrometheusHandle) {
    let mut every = interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
