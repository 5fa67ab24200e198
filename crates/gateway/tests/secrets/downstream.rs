//! A downstream service whose responses contain canaries.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::canaries::{DATA_OF_SERVICE, RESPONSE};

/// Starts a service that fails in the way that the path selects, with canaries in every response.
pub(crate) async fn downstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(respond(stream));
        }
    });
    addr
}

async fn respond(mut stream: TcpStream) {
    let mut request = vec![0; 16 << 10];
    let read = stream.read(&mut request).await.unwrap_or(0);
    let text = String::from_utf8_lossy(&request[..read]);
    let path = text.split(['/', '?', ' ']).nth(2).unwrap_or_default();
    let (status, kind, body, length) = match path {
        "good" => (
            "200 OK",
            "application/json",
            format!("{{\"a\":\"{DATA_OF_SERVICE}\"}}"),
            0,
        ),
        "json" => (
            "200 OK",
            "application/json",
            format!("{{\"a\":\"{RESPONSE}"),
            0,
        ),
        "html" => ("200 OK", "text/html", format!("<p>{RESPONSE}"), 0),
        "error" => (
            "500 Oh",
            "application/json",
            format!("{{\"a\":\"{RESPONSE}\"}}"),
            0,
        ),
        "moved" => ("302 Found", "text/html", RESPONSE.to_owned(), 0),
        "cut" => (
            "200 OK",
            "application/json",
            format!("{{\"a\":\"{RESPONSE}"),
            99,
        ),
        "head" => (RESPONSE, RESPONSE, RESPONSE.to_owned(), 0),
        "reset" => return stream.set_zero_linger().unwrap(),
        _ => return std::future::pending().await,
    };
    let length = body.len() + length;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nset-cookie: a={RESPONSE}\r\nlocation: http://{RESPONSE}/\r\nx-a: {RESPONSE}\r\nconnection: close\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
}
