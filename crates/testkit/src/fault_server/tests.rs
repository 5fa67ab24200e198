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
async fn each_wrong_content_length_is_sent_unchanged() {
    for (fault, head_end, sent) in [
        (
            Fault::duplicate_length(),
            "content-length: 2\r\ncontent-length: 4",
            "{}{}",
        ),
        (Fault::negative_length(), "content-length: -1", "{}"),
        (
            Fault::length_and_chunked(),
            "content-length: 2\r\ntransfer-encoding: chunked",
            "2\r\n{}\r\n0\r\n\r\n",
        ),
        (
            Fault::no_content_with_body(),
            "HTTP/1.1 204 \r\ncontent-length: 2",
            "{}",
        ),
        (
            Fault::reset_content_with_body(),
            "HTTP/1.1 205 \r\ncontent-length: 2",
            "{}",
        ),
        (
            Fault::not_modified_with_body(),
            "HTTP/1.1 304 \r\ncontent-length: 2",
            "{}",
        ),
    ] {
        let (head, body) = fetch_parts(fault).await;
        assert!(head.ends_with(head_end), "{head}");
        assert_eq!(body, sent);
    }
}

#[tokio::test]
async fn until_close_sends_a_body_without_length() {
    let (head, body) = fetch_parts(Fault::until_close("{}")).await;
    assert!(head.ends_with("\r\nconnection: close"));
    assert_eq!(body, "{}");
}

#[tokio::test]
async fn chunked_bodies_carry_extensions_and_trailers() {
    let (_, body) = fetch_parts(Fault::chunked(&["{", "", "}"])).await;
    assert_eq!(body, "1\r\n{\r\n1\r\n}\r\n0\r\n\r\n");
    let (_, body) = fetch_parts(Fault::chunk_extension_flood(3)).await;
    assert_eq!(body, "1;xxx\r\n{\r\n1;xxx\r\n}\r\n0\r\n\r\n");
    let (_, body) = fetch_parts(Fault::trailers_flood(2)).await;
    let trailers = "x-trailer-0: x\r\nx-trailer-1: x";
    assert_eq!(body, format!("2\r\n{{}}\r\n0\r\n{trailers}\r\n\r\n"));
}

#[tokio::test]
async fn heads_are_oversized_or_invalid() {
    let cookies = fetch_whole(Fault::set_cookie_flood(9)).await;
    assert_eq!(cookies.matches("\r\nset-cookie: ").count(), 9);
    let big = fetch_whole(Fault::big_header(1 << 20)).await;
    assert!(big.len() > 1 << 20);
    let interim = fetch_whole(Fault::interim(100, 3)).await;
    assert_eq!(interim.matches("HTTP/1.1 100 \r\n\r\n").count(), 3);
    assert!(interim.ends_with("\r\n\r\n{}"));
    assert_eq!(fetch_whole(Fault::http09()).await, "{}");
    for (fault, sent) in [
        (Fault::bad_status_line(), "HTTP/1.1 fine OK\r\n"),
        (Fault::bare_lf(), "content-length: 2\n\n{}"),
        (Fault::obs_fold(), "\r\nx-folded: one,\r\n two\r\n"),
        (
            Fault::switching_protocols(),
            "HTTP/1.1 101 \r\nconnection: upgrade\r\n",
        ),
    ] {
        let whole = fetch_whole(fault).await;
        assert!(whole.contains(sent), "{whole}");
    }
}

#[tokio::test]
async fn endless_faults_send_until_the_peer_closes() {
    for (fault, piece) in [
        (Fault::endless_head(), "x-more: and more\r\n"),
        (Fault::endless_interim(103), "HTTP/1.1 103 \r\n\r\n"),
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
        (Fault::reset_after_response(), "\r\n\r\n{}"),
    ] {
        let (all, end) = fetch(fault).await;
        assert!(all.ends_with(received), "{all}");
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(fetch_whole(Fault::close_before_head()).await, "");
    let closed = fetch_whole(Fault::close_after_response()).await;
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

// === connection scripts ===

/// Sends two requests on one connection and reads until it ends.
async fn fetch_twice(server: &FaultServer) -> (String, std::io::Result<usize>) {
    let mut client = connect(server, "GET /1 HTTP/1.1\r\n\r\n").await;
    let mut received = Vec::new();
    if client.read_buf(&mut received).await.unwrap() > 0 {
        client.write_all(GET.as_bytes()).await.ok();
    }
    let end = client.read_to_end(&mut received).await;
    (String::from_utf8(received).unwrap(), end)
}

#[tokio::test]
async fn each_connection_follows_its_own_script() {
    let server = FaultServer::connections([
        ConnectionScript::new([Fault::json("1"), Fault::reset_before_head()]),
        ConnectionScript::new([Fault::json("2")]).repeat_last(),
    ])
    .await;
    let (received, end) = fetch_twice(&server).await;
    assert!(received.ends_with("\r\n\r\n1"));
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for _ in 0..2 {
        let (received, end) = fetch_twice(&server).await;
        end.unwrap();
        assert_eq!(received.matches("\r\n\r\n2").count(), 2);
    }
    let stats = server.stats();
    assert_eq!((stats.connections, stats.requests.len()), (3, 6));
}

#[tokio::test]
async fn connection_closes_after_its_last_response() {
    let server = FaultServer::connections([ConnectionScript::close_after(2)]).await;
    let mut client = connect(&server, &"GET / HTTP/1.1\r\n\r\n".repeat(2)).await;
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received.matches("\r\n\r\n{}").count(), 2);
}

#[tokio::test]
async fn connection_ends_or_sends_before_any_request() {
    let early = format!("{JSON}content-length: 2\r\n\r\n{{}}");
    for (script, sent, end) in [
        (
            ConnectionScript::reset(),
            &[][..],
            Some(ErrorKind::ConnectionReset),
        ),
        (ConnectionScript::close(), &[], None),
        (ConnectionScript::garbage(), b"\0\x9f\x92\x96\r\n\r\n", None),
        (
            ConnectionScript::before_request(Fault::json("{}")),
            early.as_bytes(),
            None,
        ),
    ] {
        let server = FaultServer::connections([script]).await;
        let mut client = TcpStream::connect(server.addr()).await.unwrap();
        let mut received = Vec::new();
        let ended = client.read_to_end(&mut received).await;
        assert_eq!(received, sent);
        assert_eq!(ended.err().map(|error| error.kind()), end);
        assert_eq!(server.stats().requests, []);
    }
}

#[tokio::test]
async fn connection_stalls_before_it_reads() {
    let server = FaultServer::connections([
        ConnectionScript::stall(),
        ConnectionScript::early_response(),
        ConnectionScript::new([Fault::json("{}")]),
    ])
    .await;
    let _stalled = connect(&server, GET).await;
    server.wait_for(|stats| stats.connections == 1).await;
    read_until(&mut connect(&server, "").await, "\r\n\r\n{}").await;
    read_until(&mut connect(&server, GET).await, "\r\n\r\n{}").await;
    assert_eq!(server.stats().requests.len(), 1);
}
