//! The memory of a connection, in bytes by a counting allocator.
#![allow(missing_docs)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use allocation_counter::measure;
use axum::{Router, routing::get};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot, task::yield_now};
use tower_fanout_http::server::Server;

/// Number of connections.
const COUNT: usize = 200;

/// Maximum for one connection.
const MOST: u64 = 8 << 10;

fn router() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// Opens connections, sends `bytes` on each, and reads a response from each if there is one.
fn connect(addr: SocketAddr, bytes: &str, responds: bool) -> Vec<TcpStream> {
    let connection = |_| {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let (mut response, mut read) = (Vec::new(), [0; 512]);
        while responds && !response.ends_with(b"hello") {
            let count = stream.read(&mut read).unwrap();
            response.extend_from_slice(&read[..count]);
        }
        stream
    };
    (0..COUNT).map(connection).collect()
}

/// Lets the server read what its clients have sent, close what they have closed, and park what is idle.
async fn settle() {
    for _ in 0..100 * COUNT {
        yield_now().await;
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::time::resume();
    for _ in 0..100 * COUNT {
        yield_now().await;
    }
}

/// Returns the bytes per connection of the server `serve`, which runs on `runtime`.
fn bytes_per_connection(
    runtime: &Runtime,
    serve: fn(TcpListener),
    bytes: &'static str,
    responds: bool,
) -> u64 {
    let addr = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        serve(listener);
        addr
    });
    let open = || {
        let (opened, opens) = oneshot::channel();
        // Allocations of other threads do not count.
        std::thread::spawn(move || opened.send(connect(addr, bytes, responds)));
        runtime.block_on(async {
            let streams = opens.await.unwrap();
            settle().await;
            streams
        })
    };
    // Collections of the server and of the runtime have their size afterwards.
    drop(open());
    runtime.block_on(settle());
    let mut streams = Vec::new();
    let used = measure(|| streams = open());
    assert_eq!(streams.len(), COUNT);
    used.bytes_current.unsigned_abs() / COUNT as u64
}

fn ours(listener: TcpListener) {
    tokio::spawn(Server::default().serve(listener, router(), std::future::pending()));
}

fn axum(listener: TcpListener) {
    tokio::spawn(axum::serve(listener, router()).into_future());
}

#[test]
fn fault_h12_a_slow_or_idle_connection_takes_at_most_8_kib() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (kind, bytes, responds) in [
        ("silent", "", false),
        ("slow", "GET / HTTP/1.1\r\nhost: x\r\na: bbb", false),
        ("idle", "GET / HTTP/1.1\r\nhost: x\r\n\r\n", true),
        (
            "second head",
            "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\na: ",
            true,
        ),
    ] {
        let axum = bytes_per_connection(&runtime, axum, bytes, responds);
        let ours = bytes_per_connection(&runtime, ours, bytes, responds);
        println!("{kind}: {ours} bytes, plain axum {axum} bytes");
        assert!((500..=MOST).contains(&ours), "{kind}: {ours} bytes");
    }
}
