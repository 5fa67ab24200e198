//! Serves an app until a stop signal arrives.

use std::{
    future::Future, io, net::SocketAddr, num::NonZeroUsize, sync::Arc, thread, time::Duration,
};

use axum::{Router, routing::get};
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
    time::{interval, sleep},
};
use tower_fanout::layers::{ConfigError, breaker};
use tower_fanout_http::server::{
    self, CloseReason, Connections, ServerConfig, ServerTls, ShutdownOutcome, TlsErrorKind, Workers,
};

use crate::{
    app::App, auth::Auth, backend::Backend, config::Server, health::Readiness, reload::LoadedFiles,
    telemetry,
};

/// The bound sockets of a gateway, each with its address.
#[derive(Debug)]
pub(crate) struct Sockets {
    public: (TcpListener, SocketAddr),
    admin: (TcpListener, SocketAddr),
}

impl Sockets {
    /// Binds the public and the admin address.
    ///
    /// # Errors
    /// Returns an error that names the address if one of them cannot be bound.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub(crate) fn bind(server: &Server) -> io::Result<Self> {
        let bind = |address: SocketAddr| {
            // The original message does not name the address.
            let named = |error: io::Error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            };
            let listener = server::bind(address).map_err(named)?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>((listener, address))
        };
        Ok(Self {
            public: bind(server.listen)?,
            admin: bind(server.admin)?,
        })
    }

    /// Returns the public address.
    #[must_use]
    pub(crate) const fn public(&self) -> SocketAddr {
        self.public.1
    }

    /// Returns the admin address.
    #[must_use]
    pub(crate) const fn admin(&self) -> SocketAddr {
        self.admin.1
    }
}

/// Starts the threads that serve connections: `count`, or as many as CPUs are available to the process.
///
/// # Errors
/// Returns an error if the system cannot start a thread.
pub(crate) fn start_workers(count: Option<u16>) -> io::Result<Workers> {
    let available = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let count = count.and_then(|count| NonZeroUsize::new(count.into()));
    Workers::start(count.unwrap_or_else(available))
}

/// Serves `app` to callers that `auth` admits, until `stop` resolves. Reads certificates and keys again at each of
/// `hangups`.
///
/// Connections are served by `workers`. `None` serves them on this runtime, whose clock a test can pause.
///
/// Shutdown then takes three steps: readiness turns off, new requests are accepted for the drain delay,
/// and requests in flight complete within the grace period.
///
/// # Errors
/// Returns an error if a value of the server configuration is out of range.
pub(crate) async fn run(
    app: &App,
    auth: &Auth,
    ready: Readiness,
    sockets: Sockets,
    workers: Option<Workers>,
    server: &Server,
    (stop, hangups): (impl Future<Output = ()>, Signal),
) -> Result<ShutdownOutcome, ConfigError> {
    let mut public = server::Server::new(server.config.clone())?;
    if let Some(workers) = workers {
        public = public.workers(workers);
    }
    tracing::info!(listen = %sockets.public(), admin = %sockets.admin(), "serving");
    // Dropping the set aborts its tasks.
    let mut background = JoinSet::new();
    let files = LoadedFiles::new(server.certificate.clone(), app.backends(), auth);
    background.spawn(admin(
        sockets.admin.0,
        app.backends().to_vec(),
        server.config.clone(),
        auth.clone(),
        files.clone(),
    ));
    background.spawn(files.reload_at(hangups));
    // The sockets are bound, so early connections wait in the backlog until `serve` accepts them.
    ready.set(true);
    let stop = async {
        stop.await;
        tracing::info!("stopping");
        ready.set(false);
        // Load balancers need time to notice that the process is not ready.
        sleep(server.drain_delay).await;
    };
    let listener = sockets.public.0;
    let stopped = public.serve(listener, app.service(auth), stop).await;
    // Metrics stay available until the last request is complete.
    drop(background);
    tracing::info!(?stopped, "stopped");
    Ok(stopped)
}

/// Returns a future that resolves at the first SIGTERM or SIGINT, and the SIGHUPs from now on. A second
/// SIGTERM or SIGINT ends the process at once, with exit code 130.
///
/// # Errors
/// Returns an error if the signal handlers cannot be installed.
pub(crate) fn signals() -> io::Result<(impl Future<Output = ()>, Signal)> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let hangups = signal(SignalKind::hangup())?;
    let stop = async move {
        either(&mut terminate, &mut interrupt).await;
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            // 128 + SIGINT, the convention of shells.
            std::process::exit(130);
        });
    };
    Ok((stop, hangups))
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Serves the admin endpoints. The arguments are the sources of the gauges on the metrics page.
async fn admin(
    listener: TcpListener,
    backends: Vec<Arc<Backend>>,
    public: ServerConfig,
    auth: Auth,
    files: LoadedFiles,
) {
    let metrics = telemetry::metrics();
    let mut background = JoinSet::new();
    background.spawn(upkeep(metrics.clone()));
    // Gauges are updated on each scrape. Counters and histograms update themselves.
    let page = move || {
        backends.iter().for_each(|backend| measure(backend));
        count(&public.connections);
        if let Some(tls) = &public.tls {
            count_handshakes(tls);
        }
        auth.measure();
        files.measure();
        std::future::ready(metrics.render())
    };
    let router = Router::new().route("/metrics", get(page));
    let server = server::Server::default();
    server.serve(listener, router, std::future::pending()).await;
}

/// Updates the gauges of a downstream. Called for each scrape.
fn measure(backend: &Backend) {
    let downstream = || backend.name.clone();
    // A policy that is off has no series, because its value would be made up.
    if let Some(state) = backend.breaker_state().map(breaker::State::as_str) {
        for label in ["closed", "open", "half_open"] {
            let value = if label == state { 1.0 } else { 0.0 };
            gauge!("fanout_breaker_state", "downstream" => downstream(), "state" => label)
                .set(value);
        }
    }
    if let Some(limit) = backend.downstream.concurrency() {
        gauge!("fanout_inflight", "downstream" => downstream()).set(limit.in_flight());
        gauge!("fanout_queued", "downstream" => downstream()).set(limit.queued());
    }
    for (part, stats) in backend.key_stats() {
        let labels = [("downstream", downstream()), ("per_key", part.to_owned())];
        gauge!("fanout_keys", &labels).set(stats.keys as f64);
        counter!("fanout_keys_forgotten_total", &labels).absolute(stats.forgotten);
        counter!("fanout_keys_overflows_total", &labels).absolute(stats.overflows);
    }
}

/// Updates the metrics of connections to the public address: open now, and accepted and closed by reason
/// since the start; response bytes that wait for clients; cancelled calls and dropped responses.
fn count(connections: &Connections) {
    let closed = CloseReason::ALL.iter();
    let closed = closed.map(|&reason| (reason.as_str(), connections.closed(reason)));
    let all = [
        ("open", connections.open()),
        ("accepted", connections.accepted()),
    ];
    for (state, count) in all.into_iter().chain(closed) {
        gauge!("fanout_connections", "state" => state).set(count as f64);
    }
    gauge!("fanout_http_unsent_bytes").set(connections.unsent() as f64);
    counter!("fanout_http_cancelled_total").absolute(connections.cancelled());
    counter!("fanout_http_responses_dropped_total").absolute(connections.refused());
}

/// Updates the counters of clients that the TLS handshake turned away.
fn count_handshakes(tls: &ServerTls) {
    for kind in TlsErrorKind::ALL {
        counter!("fanout_tls_handshake_failures_total", "kind" => kind.as_str())
            .absolute(tls.handshake_failures(*kind));
    }
}

/// Drains the buffered samples of histograms every 5 s, so that memory stays bounded without scrapes.
async fn upkeep(metrics: PrometheusHandle) {
    let mut every = interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}
