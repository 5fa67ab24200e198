//! Tests of invalid and incomplete HTTP/1 requests, over real sockets.

use http_body_util::BodyExt;

use super::*;

/// Starts a server that responds with the version, the body length, and the names of the headers
/// and trailers of the request.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let names = |headers: &http::HeaderMap| {
            let mut names: Vec<_> = headers
                .keys()
                .map(|name| name.as_str().to_owned())
                .collect();
            names.sort();
            names.join(",")
        };
        let (status, text) = match body.collect().await {
            Ok(body) => {
                let trailers = body.trailers().map(names).unwrap_or_default();
                let (version, names) = (head.version, names(&head.headers));
                let length = body.to_bytes().len();
                (200, format!("{version:?} {length} [{names}] [{trailers}]"))
            }
            Err(_) => (400, "broken".to_owned()),
        };
        let response = Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(text)));
        Ok::<_, Infallible>(response.unwrap())
    });
    let config = ServerConfig::default();
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    addr
}

/// Sends `bytes` and returns everything that the server sends until it closes the connection.
async fn exchange(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes.as_ref()).await;
    let rest = timeout(Duration::from_secs(5), rest(stream)).await;
    rest.expect("the server did not close the connection")
}

fn body(response: &str) -> &str {
    response.rsplit("\r\n\r\n").next().unwrap()
}

#[tokio::test]
async fn fault_d10_drops_content_length_beside_transfer_encoding_and_closes() {
    let addr = echo().await;
    for framing in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 300",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let response = exchange(addr, request).await;
        assert_eq!(response.matches("HTTP/1.1 200 ").count(), 1, "{response}");
        assert_eq!(body(&response), "HTTP/1.1 5 [host,transfer-encoding] []");
    }
}

#[tokio::test]
async fn fault_d11_responds_400_to_an_invalid_content_length() {
    let addr = echo().await;
    for length in [
        "5\r\ncontent-length: 6",
        "5, 5",
        "+5",
        "-5",
        "0x5",
        "5 5",
        "",
        "18446744073709551616",
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\nhello");
        let response = exchange(addr, request).await;
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{length}: {response}"
        );
    }
}

#[tokio::test]
async fn fault_d13_responds_400_to_invalid_chunks_and_trailers() {
    let addr = echo().await;
    for chunks in [
        "5g\r\nhello\r\n0\r\n\r\n".to_owned(),
        "-5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhello!!0\r\n\r\n".to_owned(),
        "5\nhello\r\n0\r\n\r\n".to_owned(),
        "10000000000000000\r\nhello\r\n0\r\n\r\n".to_owned(),
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(17 << 10)),
        format!("5\r\nhello\r\n0\r\na: {}\r\n\r\n", "b".repeat(17 << 10)),
        format!("5\r\nhello\r\n0\r\n{}\r\n", "a: b\r\n".repeat(101)),
        "5\r\nhello\r\n0\r\n a\r\n\r\n".to_owned(),
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        let response = exchange(addr, request).await;
        let shown = &chunks[..chunks.len().min(40)];
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{shown:?}: {response}"
        );
    }
}

#[tokio::test]
async fn fault_d14_trailers_never_become_headers() {
    let request = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nauthorization: Bearer x\r\ncontent-length: 3\r\nhost: y\r\nx-sum: 7\r\n\r\n";
    let response = exchange(echo().await, request).await;
    let (headers, trailers) = body(&response).split_once("] ").unwrap();
    assert_eq!(headers, "HTTP/1.1 5 [connection,host,transfer-encoding");
    assert_eq!(trailers, "[authorization,content-length,host,x-sum]");
}

#[tokio::test]
async fn fault_d15_accepts_http_1_0_without_host_and_closes() {
    let addr = echo().await;
    let response = exchange(addr, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200 "), "{response}");
    assert_eq!(body(&response), "HTTP/1.0 0 [] []");
    let chunked = "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert!(exchange(addr, chunked).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn fault_d16_responds_400_to_or_closes_what_is_not_http_1() {
    let addr = echo().await;
    let hello = [
        &[
            0x16, 0x03, 0x01, 0x00, 0xc8, 0x01, 0x00, 0x00, 0xc4, 0x03, 0x03,
        ][..],
        &[7; 194],
    ]
    .concat();
    for bytes in [
        &b"GET /\r\n\r\n"[..],
        b"GET / HTTP/1.2\r\nhost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET / HTTP/0.9\r\nhost: x\r\n\r\n",
        b"GET / HTTP/11\r\nhost: x\r\n\r\n",
        b"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\0\r\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        &hello,
    ] {
        let response = exchange(addr, bytes).await;
        let rejected = response.is_empty() || response.starts_with("HTTP/1.1 400 ");
        assert!(rejected, "{}: {response}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn fault_d18_ignores_upgrades() {
    let addr = echo().await;
    for upgrade in ["h2c\r\nhttp2-config: AAMAAABkAAQAAP__", "websocket"] {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: {upgrade}\r\n\r\n"
        );
        let response = exchange(addr, request).await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
}

#[tokio::test]
async fn fault_d24_an_incomplete_body_gets_no_200() {
    let mut stream = TcpStream::connect(echo().await).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello";
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let response = rest(stream).await;
    assert!(!response.contains(" 200 "), "{response}");
}

#[tokio::test]
async fn fault_d34_serves_pipelined_requests_in_order_until_one_is_invalid() {
    let one = |body: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let bad = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n";
    let requests = [&one("a"), &one("bb"), &one("ccc"), bad, &one("dddd")].concat();
    let response = exchange(echo().await, requests).await;
    let at = |text| {
        response
            .find(text)
            .unwrap_or_else(|| panic!("no {text} in {response}"))
    };
    assert!(at("HTTP/1.1 1 [") < at("HTTP/1.1 2 [") && at("HTTP/1.1 2 [") < at("HTTP/1.1 3 ["));
    assert!(at("HTTP/1.1 3 [") < at("HTTP/1.1 400 "));
    assert!(!response.contains("HTTP/1.1 4 ["));
}

#[tokio::test]
async fn fault_d22_a_response_before_the_end_of_the_body_says_that_the_connection_closes() {
    for (framing, parts) in [
        ("content-length: 1000000", ["hello", ""]),
        ("content-length: 1000000", ["", "hello"]),
        ("transfer-encoding: chunked", ["5\r\nhello\r\n", ""]),
        (
            "transfer-encoding: chunked",
            ["5\r\nhel", "lo\r\n0\r\n\r\n"],
        ),
        ("content-length: 5\r\nexpect: 100-continue", ["", ""]),
    ] {
        let server = start(|_| {}).await;
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{}",
            parts[0]
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        server.requested.notified().await;
        server.respond.notify_one();
        let mut response = Vec::new();
        while !response.ends_with(b"hello") {
            assert!(stream.read_buf(&mut response).await.unwrap() > 0);
        }
        stream.write_all(parts[1].as_bytes()).await.unwrap();
        let response = String::from_utf8(response).unwrap();
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
        let end = timeout(Duration::from_secs(5), rest(stream)).await;
        assert_eq!(end.unwrap(), "", "{framing}");
    }
}

#[tokio::test]
async fn fault_d22_a_small_body_that_is_not_read_keeps_the_connection() {
    let server = start(|_| {}).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..3 {
        let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
        stream.write_all(request).await.unwrap();
        server.respond.notify_one();
        let mut response = Vec::new();
        while !response.ends_with(b"hello") {
            assert!(stream.read_buf(&mut response).await.unwrap() > 0);
        }
        assert!(!response.windows(10).any(|text| text == b"connection"));
    }
}

/// Starts a server that responds with the `cookie` lines it receives, each in brackets.
async fn cookies() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service_fn(async |request: Request<Incoming>| {
        let lines = request.headers().get_all("cookie").iter();
        let text = lines.map(|line| format!("[{}]", line.to_str().unwrap()));
        let text = Bytes::from(text.collect::<String>());
        Ok::<_, Infallible>(Response::new(Full::new(text)))
    });
    tokio::spawn(Server::default().serve(listener, service, std::future::pending()));
    addr
}

/// The `cookie` lines of a request, and what [`cookies`] responds to it.
const COOKIES: [(&[&str], &str); 4] = [
    (&[], ""),
    (&["a=b; c=d"], "[a=b; c=d]"),
    (&["session=abc", "csrf=def"], "[session=abc; csrf=def]"),
    (&["a=1", "b=2; c=3", "d=\"4\""], "[a=1; b=2; c=3; d=\"4\"]"),
];

#[tokio::test]
async fn fault_d39_cookie_lines_of_http_1_are_joined() {
    let addr = cookies().await;
    for (lines, expected) in COOKIES {
        let lines: String = lines
            .iter()
            .map(|line| format!("cookie: {line}\r\n"))
            .collect();
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{lines}\r\n");
        let response = exchange(addr, request).await;
        assert!(
            response.ends_with(&format!("\r\n\r\n{expected}")),
            "{response}"
        );
    }
}

#[tokio::test]
async fn fault_d39_cookie_lines_of_http_2_are_joined() {
    let stream = TcpStream::connect(cookies().await).await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(executor)
        .handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for (lines, expected) in COOKIES {
        let mut request = Request::get("http://x/");
        for line in lines {
            request = request.header("cookie", *line);
        }
        let request = request.body(http_body_util::Empty::<Bytes>::new());
        let response = client.send_request(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), expected);
    }
}

#[tokio::test]
async fn fault_d44_refuses_chunk_lines_and_trailers_that_hyper_accepts() {
    let addr = echo().await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let next = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for body in [
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;bad[=x\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0;\r\n\r\n",
        // A proxy that takes a bare LF for a line end sees a second request here.
        "5\r\nhello\r\n0\r\na: b\n\n",
    ] {
        let response = exchange(addr, format!("{head}{body}{next}")).await;
        assert!(
            response.starts_with("HTTP/1.1 400 "),
            "{body:?}: {response}"
        );
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
    }
    for body in [
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\na: b\r\n\r\n",
    ] {
        let response = exchange(addr, format!("{head}{body}{next}")).await;
        assert_eq!(response.matches("HTTP/1.1 200 ").count(), 2, "{response}");
    }
}

#[tokio::test]
async fn fault_d44_padding_of_a_content_length_does_not_end_the_check() {
    let addr = echo().await;
    let chunked = "transfer-encoding: chunked\r\n";
    let next = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let padded = |padding: &str, length: &str| {
        let padding = padding.repeat(600);
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length:{padding}{length}\r\n")
    };
    let invalid =
        format!("POST / HTTP/1.1\r\nhost: x\r\n{chunked}\r\n5;\r\nhello\r\n0\r\n\r\n{next}");
    for (padding, length, data) in [
        (" ", "0", ""),
        ("\t", "0", ""),
        ("0", "41", "0123456789012345678901234567890123456789\n"),
    ] {
        let first = format!("{}\r\n{data}", padded(padding, length));
        let response = exchange(addr, format!("{first}{next}")).await;
        assert_eq!(response.matches("HTTP/1.1 200 ").count(), 2, "{response}");
        let response = exchange(addr, format!("{first}{invalid}")).await;
        assert_eq!(response.matches("HTTP/1.1 200 ").count(), 1, "{response}");
        assert_eq!(response.matches("HTTP/1.1 400 ").count(), 1, "{response}");
        let both = format!(
            "{}{chunked}\r\n5;\r\nhello\r\n0\r\n\r\n",
            padded(padding, length)
        );
        let response = exchange(addr, format!("{both}{next}")).await;
        assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
        assert_eq!(response.matches("HTTP/1.1 ").count(), 1, "{response}");
    }
}

#[tokio::test]
async fn fault_d45_counts_heads_that_are_not_valid() {
    let config = ServerConfig::default();
    let connections = config.connections.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let server = Server::new(config).unwrap();
    tokio::spawn(server.serve(listener, service, std::future::pending()));
    let many = "a: b\r\n".repeat(101);
    for (count, (request, status)) in [
        ("GET / HTTP/1.1\r\nhost : x\r\n\r\n", "400"),
        (&format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), "431"),
        ("GET /\r\n\r\n", "400"),
    ]
    .into_iter()
    .enumerate()
    {
        let response = exchange(addr, request).await;
        assert_eq!(response.get(9..12), Some(status), "{response}");
        while connections.open() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(connections.closed(CloseReason::Invalid), count as u64 + 1);
    }
}
