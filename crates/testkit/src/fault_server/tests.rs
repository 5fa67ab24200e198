//! Checks the bytes that each fault sends, with a plain TCP client.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
const JSON: &str = "HTTP/1.1 200 \r\ncontent-type: application/json\r\n";

async fn connect(server: &FaultServer, send: &str) -> TcpStream {
    let mut client = TcpStream::connect(server.addr()).await.unwrap();
    client.write_all(send.as_bytes()).await.unwrap();
    client
}

/// Reads until the connection ends. Returns the text and the result of the last read.
async fn fetch(fault: Fault) -> (String, std::io::Result<usize>) {
    let server = FaultServer::start(fault).await;
    let mut received = Vec::new();
    let end = connect(&server, GET).await.read_to_end(&mut received).await;
    (String::from_utf8(received).unwrap(), end)
}

async fn fetch_whole(fault: Fault) -> String {
    let (received, end) = fetch(fault).await;
    end.unwrap();
    received
}

async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        assert_ne!(
            client.read_buf(&mut received).await.unwrap(),
            0,
            "the connection ended"
        );
    }
    String::from_utf8(received).unwrap()
}

#[tokio::test]
async fn well_formed_responses_are_sent_as_given() {
    let response = Fault::response(404, &[("x-id", "7")], "no");
    let wire = "HTTP/1.1 404 \r\nx-id: 7\r\ncontent-length: 2\r\n\r\nno";
    assert_eq!(fetch_whole(response).await, wire);
    assert_eq!(
        fetch_whole(Fault::response(204, &[], "")).await,
        "HTTP/1.1 204 \r\n\r\n"
    );
    assert_eq!(
        fetch_whole(Fault::deep_json(2)).await,
        format!("{JSON}content-length: 4\r\n\r\n[[]]")
    );
    let redirect = fetch_whole(Fault::redirect("/else")).await;
    assert_eq!(
        redirect,
        "HTTP/1.1 302 \r\nlocation: /else\r\ncontent-length: 0\r\n\r\n"
    );
    assert!(
        fetch_whole(Fault::html())
            .await
            .contains("content-type: text/html")
    );
    let informational = fetch_whole(Fault::informational(3)).await;
    assert_eq!(informational.matches("HTTP/1.1 103 \r\n\r\n").count(), 3);
    let huge = fetch_whole(Fault::huge_headers(10, 1000)).await;
    assert_eq!(huge.matches(&"x".repeat(1000)).count(), 10);
}

#[tokio::test]
async fn broken_framing_is_sent_unchanged() {
    let long = fetch_whole(Fault::length_too_long()).await;
    let (head, body) = long.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with("content-length: 100") && body.len() < 100);
    let short = fetch_whole(Fault::length_too_short()).await;
    assert!(short.ends_with("content-length: 2\r\n\r\n{}{}"));
    let extra = fetch_whole(Fault::extra_response()).await;
    assert_eq!(extra.matches("HTTP/1.1 200 ").count(), 2);
    assert!(
        fetch_whole(Fault::invalid_chunk_size())
            .await
            .contains("\r\nzz\r\n")
    );
    assert!(
        fetch_whole(Fault::truncated_chunk())
            .await
            .ends_with("\r\n\r\n64\r\n{\"id\"")
    );
}

/// Splits the response into its head and its body.
async fn fetch_parts(fault: Fault) -> (String, String) {
    let whole = fetch_whole(fault).await;
    let (head, body) = whole.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn until_close_sends_a_body_without_length() {
    let (head, body) = fetch_parts(Fault::until_close("{}")).await;
    assert!(head.ends_with("\r\nconnection: close"));
    assert_eq!(body, "{}");
}

#[tokio::test]
async fn chunked_body_has_one_chunk_per_piece() {
    let (_, body) = fetch_parts(Fault::chunked(&["{", "", "}"])).await;
    assert_eq!(body, "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
}

#[tokio::test]
async fn endless_faults_send_until_the_peer_closes() {
    let interim = Fault::new().send_forever("HTTP/1.1 103 \r\n\r\n");
    for (fault, piece) in [
        (interim, "HTTP/1.1 103 \r\n\r\n"),
        (Fault::endless_body(), "4000\r\n    "),
    ] {
        let server = FaultServer::start(fault).await;
        let mut client = connect(&server, GET).await;
        let mut received = vec![0; 1 << 20];
        client.read_exact(&mut received).await.unwrap();
        let received = String::from_utf8(received).unwrap();
        assert!(received.matches(piece).count() > 50);
        drop(client);
        let stats = server.wait_for(|stats| stats.in_flight == 0).await;
        assert_eq!(stats.cancelled, 1);
    }
}

#[tokio::test]
async fn client_sees_each_reset_and_close() {
    for (fault, received) in [
        (Fault::reset_before_head(), ""),
        (Fault::reset_in_head(), "HTTP/1.1 200 \r\ncontent-ty"),
        (Fault::reset_in_body(), "\r\n\r\n{\"id\": 7, \"na"),
        (Fault::json("{}").reset(), "\r\n\r\n{}"),
    ] {
        let (all, end) = fetch(fault).await;
        assert!(all.ends_with(received), "{all}");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(fetch_whole(Fault::new().close()).await, "");
    let closed = fetch_whole(Fault::json("{}").close()).await;
    assert!(closed.ends_with("\r\n\r\n{}"));
}

#[tokio::test]
async fn refusing_port_keeps_refusing_connections() {
    let server = FaultServer::refusing();
    for _ in 0..2 {
        let error = TcpStream::connect(server.addr()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_use_the_tokio_clock() {
    let start = Instant::now();
    let slow = fetch_whole(Fault::json("{}").after(Duration::from_secs(5))).await;
    assert_eq!((slow.ends_with("{}"), start.elapsed().as_secs()), (true, 5));
    let drip = fetch_whole(Fault::drip("[1]", Duration::from_secs(1))).await;
    assert_eq!(
        (drip.ends_with("[1]"), start.elapsed().as_secs()),
        (true, 8)
    );
}

#[tokio::test]
async fn counts_peers_that_leave_during_the_response() {
    for (fault, sent) in [
        (Fault::never_respond(), ""),
        (Fault::stall_in_head(), "content-ty"),
        (Fault::stall_in_body(), "\"na"),
    ] {
        let server = FaultServer::start(fault).await;
        let mut client = connect(&server, GET).await;
        server.wait_for(|stats| stats.in_flight == 1).await;
        read_until(&mut client, sent).await;
        drop(client);
        let stats = server.wait_for(|stats| stats.in_flight == 0).await;
        assert_eq!((stats.cancelled, stats.peak_in_flight), (1, 1));
    }
}

#[tokio::test]
async fn sequence_continues_on_one_connection_and_repeats_the_last() {
    let server = FaultServer::sequence([Fault::json("1"), Fault::json("2")]).await;
    let post = "POST /p?q=1 HTTP/1.1\r\nX-Id: 7\r\ncontent-length: 2\r\n\r\nhi";
    let mut client = connect(&server, &post.repeat(2)).await;
    read_until(
        &mut client,
        "\r\n\r\n1HTTP/1.1 200 \r\ncontent-type: application/json\r\ncontent-length: 1\r\n\r\n2",
    )
    .await;
    client.write_all(GET.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n2").await;

    let stats = server.stats();
    assert_eq!(
        (stats.connections, stats.requests.len(), stats.cancelled),
        (1, 3, 0)
    );
    let first = &stats.requests[0];
    assert_eq!(
        (first.method.as_str(), first.path.as_str()),
        ("POST", "/p?q=1")
    );
    assert_eq!(
        (first.header("x-id"), first.body.as_slice()),
        (Some("7"), &b"hi"[..])
    );
}

#[tokio::test]
async fn from_fn_routes_by_path_and_drop_stops_the_server() {
    let server = FaultServer::from_fn(|request| match request.path.as_str() {
        "/slow" => Fault::never_respond(),
        _ => Fault::json("{}"),
    })
    .await;
    let mut stalled = connect(&server, "GET /slow HTTP/1.1\r\n\r\n").await;
    let mut served = connect(&server, GET).await;
    read_until(&mut served, "{}").await;
    let stats = server.wait_for(|stats| stats.requests.len() == 2).await;
    assert_eq!((stats.connections, stats.in_flight), (2, 1));
    assert_eq!(server.url(), format!("http://{}", server.addr()));

    let addr = server.addr();
    drop(server);
    assert_eq!(stalled.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(
        TcpStream::connect(addr).await.unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}
