//! Servers on loopback sockets, and raw requests to them.
#![allow(dead_code, reason = "each test file uses a part of this module")]

pub(crate) mod frames;
pub(crate) mod front;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower_fanout_http::server::Server;

/// Serves `router` on a free loopback port for the rest of the test.
pub(crate) async fn spawn(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(Server::default().serve(listener, router, std::future::pending()));
    addr
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends `request` on a new connection, and reads until the server closes the connection.
pub(crate) async fn raw(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The server may respond and close before it has read the whole request.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    // A reset ends the response too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// Returns the status of a response and the code of its problem document. The code is empty if the response
/// has no problem document.
pub(crate) fn status_and_code(answer: &str) -> (u16, &str) {
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let code = answer
        .split_once("\"code\":\"")
        .and_then(|(_, rest)| rest.split('"').next());
    (status.unwrap_or_default(), code.unwrap_or_default())
}

/// Returns the path of a program that a test needs. Without the program, prints that the test is skipped and
/// returns `None`.
///
/// # Panics
/// Panics if the program is missing and `FANOUT_REQUIRE_ALL` is set.
pub(crate) fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("FANOUT_REQUIRE_ALL").is_none(),
            "{name} is not on PATH"
        );
        println!("skipped: {name} is not on PATH");
    }
    found
}
