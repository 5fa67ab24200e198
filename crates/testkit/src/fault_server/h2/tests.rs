//! Checks how an HTTP/2 client sees each stream fault.

use std::time::Duration;

use ::h2::client::{self, SendRequest};
use bytes::Bytes;
use tokio::net::TcpStream;

use super::*;

async fn connect(server: &FaultServer) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let (client, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The status, body and `x-sum` trailer of a response.
type Received = (u16, String, Option<String>);

async fn fetch(client: &SendRequest<Bytes>) -> Result<Received, ::h2::Error> {
    let request = http::Request::post("http://test/p?q=1").header("x-id", "7");
    let mut client = client.clone().ready().await?;
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false)?;
    body.send_data(Bytes::from_static(b"hi"), true)?;
    let (head, mut stream) = response.await?.into_parts();
    let mut received = Vec::new();
    while let Some(bytes) = stream.data().await {
        received.extend_from_slice(&bytes?);
    }
    let trailers = stream.trailers().await?;
    let sum = trailers.map(|trailers| trailers["x-sum"].to_str().unwrap().to_owned());
    let body = String::from_utf8(received).unwrap();
    Ok((head.status.as_u16(), body, sum))
}

async fn fetch_fault(fault: StreamFault) -> Result<Received, ::h2::Error> {
    let server = FaultServer::h2_sequence([fault]).await;
    fetch(&connect(&server).await).await
}

#[tokio::test]
async fn response_carries_parts_and_trailers() {
    let parts = StreamFault::new()
        .interim(103)
        .head(404, &[("x-a", "b")])
        .data("n")
        .pause(Duration::from_millis(1))
        .data("o")
        .trailers(&[("x-sum", "1")]);
    let server = FaultServer::h2_sequence([parts, StreamFault::json("{}")]).await;
    let client = connect(&server).await;
    let trailed = (404, "no".to_owned(), Some("1".to_owned()));
    assert_eq!(fetch(&client).await.unwrap(), trailed);
    assert_eq!(fetch(&client).await.unwrap(), (200, "{}".to_owned(), None));

    let stats = server.wait_for(|stats| stats.in_flight == 0).await;
    assert_eq!((stats.connections, stats.requests.len()), (1, 2));
    let request = &stats.requests[0];
    assert_eq!((&*request.method, &*request.path), ("POST", "/p?q=1"));
    assert_eq!(request.header("host"), Some("test"));
    assert_eq!(request.header("x-id"), Some("7"));
    assert_eq!((request.body.as_slice(), stats.cancelled), (&b"hi"[..], 0));
}

#[tokio::test]
async fn stream_reset_carries_its_reason() {
    for (fault, reason) in [
        (StreamFault::new(), Reason::INTERNAL_ERROR),
        (StreamFault::refused_stream(), Reason::REFUSED_STREAM),
        (StreamFault::rst(Reason::CANCEL), Reason::CANCEL),
        (StreamFault::rst_in_body(Reason::CANCEL), Reason::CANCEL),
    ] {
        let error = fetch_fault(fault).await.unwrap_err();
        assert!(error.is_reset() && error.is_remote(), "{error}");
        assert_eq!(error.reason(), Some(reason));
    }
}

#[tokio::test]
async fn wrong_content_length_is_sent_unchanged() {
    let fault = StreamFault::response(200, &[("content-length", "3")], "{}");
    let error = fetch_fault(fault).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR));
}

#[tokio::test]
async fn go_away_completes_or_ends_the_stream() {
    let server = FaultServer::h2_sequence([StreamFault::go_away("1")]).await;
    let client = connect(&server).await;
    assert_eq!(fetch(&client).await.unwrap().1, "1");

    // An I/O error and not GOAWAY, because the request may have been processed.
    let processed = StreamFault::go_away_and_close(Reason::INTERNAL_ERROR);
    assert!(fetch_fault(processed).await.unwrap_err().is_io());
    let unprocessed = StreamFault::go_away_unprocessed(Reason::INTERNAL_ERROR);
    let error = fetch_fault(unprocessed).await.unwrap_err();
    assert!(error.is_go_away() && error.is_remote(), "{error}");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    assert!(
        fetch_fault(StreamFault::reset_connection())
            .await
            .unwrap_err()
            .is_io()
    );
}

#[tokio::test]
async fn go_away_unprocessed_counts_earlier_streams_as_processed() {
    let server = FaultServer::h2(|request| match request.path.as_str() {
        "/first" => StreamFault::never_respond(),
        _ => StreamFault::go_away_unprocessed(Reason::NO_ERROR),
    })
    .await;
    let mut client = connect(&server).await.ready().await.unwrap();
    let first = http::Request::get("http://test/first").body(()).unwrap();
    let (first, _) = client.send_request(first, true).unwrap();
    server.wait_for(|stats| stats.in_flight == 1).await;
    let error = fetch(&client).await.unwrap_err();
    assert!(error.is_go_away(), "{error}");
    // The first stream counts as processed, so it just loses its connection.
    assert!(!first.await.unwrap_err().is_go_away());
    assert_eq!(
        server
            .wait_for(|stats| stats.in_flight == 0)
            .await
            .cancelled,
        0
    );
}

#[tokio::test]
async fn counts_peers_that_leave_during_the_response() {
    for fault in [
        StreamFault::never_respond(),
        StreamFault::stall_in_body(),
        StreamFault::endless_body(),
        StreamFault::json("{}").after(Duration::from_secs(3600)),
    ] {
        let server = FaultServer::h2_sequence([fault]).await;
        let client = connect(&server).await;
        let call = tokio::spawn(async move { fetch(&client).await });
        server.wait_for(|stats| stats.in_flight == 1).await;
        call.abort();
        let stats = server.wait_for(|stats| stats.in_flight == 0).await;
        assert_eq!((stats.cancelled, stats.connections), (1, 1));
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn alpn_selects_h2_over_tls() {
    use super::super::tls::{CertificateAuthority, ServerTls, tests::client};

    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let server = FaultServer::h2_with_tls(&tls, |_| StreamFault::json("{}")).await;
    assert!(server.url().starts_with("https://localhost:"));
    let stream = client(&authority, None, &[b"h2"], &server).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (client, connection) = client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(fetch(&client).await.unwrap().1, "{}");
}
