//! A self-contained demo: stub services, a generated key, a token and a `curl` command.
//!
//! The configuration is an ordinary file (`demo.yaml`). Requests pass through the same stack as in
//! production, over real sockets.

mod stubs;

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use tokio::net::TcpSocket;
use tower_fanout_http::{
    jwt::{Algorithm, sign},
    server::{Server, ShutdownOutcome},
};
use uuid::Uuid;

pub(crate) use self::stubs::NAMES;
use self::stubs::router;
use crate::{
    app::App,
    auth::Auth,
    config::{Config, Environment},
    health::Readiness,
    output::print,
    run::{Sockets, run, signals, start_workers},
    telemetry,
};

/// Serves the demo on `listen` until a stop signal arrives. The stubs named in `down` refuse
/// connections.
///
/// # Errors
/// Returns an error if a port cannot be bound.
pub(crate) async fn demo(
    listen: SocketAddr,
    down: &[String],
) -> Result<ShutdownOutcome, Box<dyn Error + Send + Sync>> {
    // One UUID has only 122 random bits, so the secret consists of two.
    let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let mut variables = vec![
        ("DEMO_LISTEN".to_owned(), listen.to_string()),
        ("DEMO_SECRET".to_owned(), secret.clone()),
    ];
    let mut refusing = Vec::new();
    for name in NAMES {
        let (address, socket) = start_stub(name, down.iter().any(|down| down == name))?;
        let variable = format!("DEMO_{}", name.to_uppercase());
        variables.push((variable, format!("http://{address}")));
        refusing.extend(socket);
    }
    let env = Environment::from_iter(variables);
    let config = Config::parse("demo.yaml", include_str!("demo.yaml"), &env)?;
    let _flush = telemetry::log(&config.logs)?;
    let ready = Readiness::default();
    let app = App::new(&config, ready.clone())?;
    let auth = Auth::start(&config).await?;
    let sockets = Sockets::bind(&config.server)?;
    print_welcome(&sockets, secret.as_bytes())?;
    // Until here a signal ends the process, even while a write to standard output waits.
    let signals = signals()?;
    let workers = start_workers(None)?;
    Ok(run(
        &app,
        &auth,
        ready,
        sockets,
        Some(workers),
        &config.server,
        signals,
    )
    .await?)
}

/// Starts the stub `name`, and returns its address. If it is down, its socket has a port but does not listen, so
/// connections are refused until the returned socket is dropped.
fn start_stub(name: &'static str, is_down: bool) -> io::Result<(SocketAddr, Option<TcpSocket>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = socket.local_addr()?;
    if is_down {
        return Ok((address, Some(socket)));
    }
    let listener = socket.listen(1024)?;
    tokio::spawn(Server::default().serve(listener, router(name), std::future::pending()));
    Ok((address, None))
}

/// Prints a `curl` command with a token that is valid for an hour, and the addresses to visit.
fn print_welcome(sockets: &Sockets, secret: &[u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let expires =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + Duration::from_secs(3600);
    let claims = serde_json::json!({
        "iss": "fanout-demo", "aud": "fanout", "sub": "demo", "tier": "pro", "exp": expires.as_secs(),
    });
    let token = sign(Algorithm::HS256, secret, &claims)?;
    let (public, admin) = (sockets.public(), sockets.admin());
    print(&format!(
        "\
The demo gateway is running with five stub services. Send a request:

curl -s http://{public}/api/v1/analysis/orchestrate \\
  -H 'content-type: application/json' \\
  -H 'authorization: Bearer {token}' \\
  -d '{{\"input\": {{\"symbol\": \"BTC\"}}}}'

API docs     http://{public}/docs/
metrics      http://{admin}/metrics
stop with    Ctrl-C
"
    ))?;
    Ok(())
}
