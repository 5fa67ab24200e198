//! The hand-written fan-out behind a server, in a process of its own.

use std::{
    convert::Infallible,
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{
    by_hand::ByHand,
    candidate::{Candidate, Mode},
    route::Route,
};

/// The argument that makes this program serve the hand-written fan-out. The addresses of the downstreams follow.
pub(crate) const BY_HAND: &str = "--by-hand";

/// The fan-outs by path.
type Routes = Arc<[(String, ByHand)]>;

/// Starts this program again, as the hand-written fan-out over `endpoints`.
pub(crate) fn start(endpoints: &[Uri], mode: Mode<'_>) -> io::Result<Candidate> {
    let endpoints = endpoints.iter().map(|endpoint| endpoint.to_string().into());
    let arguments: Vec<_> = [BY_HAND.into()].into_iter().chain(endpoints).collect();
    Candidate::start(mode, &std::env::current_exe()?, &arguments)
}

/// Writes the address as the gateway does, and serves until the input ends.
pub(crate) fn serve() -> io::Result<()> {
    let endpoints = std::env::args().skip_while(|argument| argument != BY_HAND);
    let endpoints = endpoints.skip(1).map(|endpoint| endpoint.parse());
    let endpoints: Vec<Uri> = endpoints
        .collect::<Result<_, _>>()
        .map_err(io::Error::other)?;
    // As the measured gateway: a scheduler for several threads, with one thread.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let routes = Route::all().filter(|route| !route.token);
    let routes = routes.chain([Route::SLOW]).map(|route| {
        let calls = ByHand::new(&endpoints, route.nodes, route.called());
        (route.path(), calls)
    });
    let routes: Routes = routes.collect();
    runtime.spawn(listen(routes));
    io::stdin().read_to_end(&mut Vec::new()).map(drop)
}

async fn listen(routes: Routes) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound");
    eprintln!("{{\"listen\":\"{address}\"}}");
    while let Ok((stream, _)) = listener.accept().await {
        let routes = Arc::clone(&routes);
        let service = service_fn(move |request| answer(Arc::clone(&routes), request));
        let _ = stream.set_nodelay(true);
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(
    routes: Routes,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let Some((_, calls)) = routes.iter().find(|(route, _)| route == path) else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return Ok(response);
    };
    let mut response = Response::new(Full::new(calls.ask().await));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
