//! HTTP/2 floods against the binary, in a short form. The tests of the server loop have more kinds.
#![allow(missing_docs)]

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{frames::*, *};
use http::Method;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};

/// Starts a gateway whose route `GET /slow` calls a service that does not respond.
async fn hanging_gateway() -> (Server, Seen) {
    gateway(hanging).await
}

/// Starts a gateway whose route `GET /slow` calls a service with this script.
async fn gateway(script: Script) -> (Server, Seen) {
    let (up, seen) = stub(script).await;
    let text = format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", drain: {{ delay: 0s, timeout: 5s }} }}
policies: {{ p: {{ retry: off }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p }}
routes:
  - name: slow
    match: {{ method: GET, path: /slow }}
    plan: {{ up: {{ downstream: up, request: {{ path: / }} }} }}
"
    );
    (start_server(&text).await.1, seen)
}

/// Returns the value of a line on the metrics page.
async fn metric(server: &Server, name: &str) -> Option<u64> {
    let head = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let page = raw(server.admin, head).await;
    let line = page.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// Asserts that the gateway still serves, and that SIGTERM stops it.
async fn serves_and_stops(server: Server) {
    let head = "GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let response = timeout(ms(2_000), raw(server.listen, head)).await.unwrap();
    assert!(response.ends_with("ok\n"), "{response}");
    server.stop().await;
}

#[tokio::test]
async fn fault_d41_the_binary_ends_a_connection_that_resets_its_calls() {
    let (server, seen) = hanging_gateway().await;
    let mut client = Client::connect(server.listen).await;
    let cancelling = async {
        for (begun, stream) in streams(2_000).enumerate() {
            client.send(&request(stream, "/slow")).await?;
            // A call that is reset before hyper takes it counts for a limit of h2 instead.
            let _ = timeout(ms(1_000), seen.until(|calls, _| calls > begun)).await;
            let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            client.send(&reset).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    assert!(cancelling.await.is_err());
    assert_eq!(client.end().await.goaway, Some(ENHANCE_YOUR_CALM));
    assert!(seen.calls() <= 300, "{} calls", seen.calls());
    let cancelled = metric(&server, "fanout_http_cancelled_total")
        .await
        .unwrap();
    assert!((100..=300).contains(&cancelled), "{cancelled} cancelled");
    // The server counts the connection shortly after the client sees its end.
    let counted =
        async { while metric(&server, "fanout_connections{state=\"resets\"}").await != Some(1) {} };
    timeout(ms(5_000), counted).await.unwrap();
    serves_and_stops(server).await;
}

/// Begins 400 calls per second over HTTP/2 until the task is aborted. Cancels each call if `cancels`. Opens
/// another connection whenever the server closes one.
async fn call_often(addr: SocketAddr, cancels: bool) {
    let mut tick = interval(Duration::from_micros(2_500));
    // Room for the response.
    let window = frame(WINDOW_UPDATE, 0, 0, &4_096u32.to_be_bytes());
    loop {
        let mut client = Client::connect(addr).await;
        for stream in streams(100_000) {
            tick.tick().await;
            let call = [request(stream, "/slow"), window.clone()].concat();
            let mut sent = client.send(&call).await.and(client.ping().await);
            if cancels && sent.is_ok() {
                let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
                sent = client.send(&reset).await;
            }
            if sent.is_err() {
                break;
            }
        }
    }
}

/// Returns the 99th percentile of a client's time for one call, beside two others that call often.
async fn p99_beside_two(addr: SocketAddr, cancel: bool) -> Duration {
    let mut others = JoinSet::new();
    for _ in 0..2 {
        others.spawn(call_often(addr, cancel));
    }
    let head = "GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut times = Vec::new();
    let mut tick = interval(ms(5));
    for _ in 0..200 {
        tick.tick().await;
        let begin = Instant::now();
        let response = raw(addr, head).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        times.push(begin.elapsed());
    }
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d42_cancelling_clients_slow_others_no_more_than_polite_ones() {
    let (server, seen) = gateway(|_| (ms(5), http::StatusCode::OK, json!({"ok": true}))).await;
    let (mut polite, mut cancelling) = (Vec::new(), Vec::new());
    // Both kinds by turns, since other programs may use the machine.
    for _ in 0..3 {
        polite.push(p99_beside_two(server.listen, false).await);
        cancelling.push(p99_beside_two(server.listen, true).await);
    }
    polite.sort();
    cancelling.sort();
    let ratio = cancelling[1].as_secs_f64() / polite[1].as_secs_f64();
    println!(
        "p99 beside polite clients {polite:?}, cancelling ones {cancelling:?}, ratio of the medians {ratio:.2}, \
         {} calls",
        seen.calls()
    );
    // The constant allows for the noise of a short run.
    assert!(cancelling[1] <= polite[1].mul_f64(1.5) + ms(10));
    serves_and_stops(server).await;
}

#[tokio::test]
async fn fault_d28_d29_d30_the_binary_withstands_floods_of_frames() {
    let (server, seen) = hanging_gateway().await;
    let mut post = get("/slow");
    post[0] = 0x83;
    let resets = streams(2_000).flat_map(|stream| {
        let reset = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        [request(stream, "/slow"), reset].concat()
    });
    let begun = |flags: u8, block: &[u8]| frame(HEADERS, flags, 1, block);
    let continuation = frame(CONTINUATION, 0, 1, &[]).repeat(10_000);
    let data = frame(DATA, 0, 1, &[]).repeat(50_000);
    for (kind, frames, ends) in [
        ("rapid reset", resets.collect(), true),
        (
            "CONTINUATION",
            [begun(END_STREAM, &get("/")), continuation].concat(),
            true,
        ),
        (
            "empty DATA",
            [begun(END_HEADERS, &post), data].concat(),
            true,
        ),
        ("PING", frame(PING, 0, 0, &[7; 8]).repeat(10_000), false),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]).repeat(10_000), false),
    ] {
        let sent = attack(server.listen, frames).await;
        let expected = ends.then_some(ENHANCE_YOUR_CALM);
        assert_eq!((sent.goaway, sent.closed), (expected, ends), "{kind}");
    }
    assert!(seen.calls() <= 100, "{} calls", seen.calls());
    serves_and_stops(server).await;
}

#[tokio::test]
async fn fault_d39_cookie_lines_reach_the_service_as_one() {
    let (up, seen) = stub(quick).await;
    let text = format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }}
policies: {{ p: {{ retry: off }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p, forward_credentials: [cookie] }}
routes:
  - name: page
    match: {{ method: GET, path: /page }}
    plan: {{ up: {{ downstream: up, request: {{ path: /, query: {{ cookie: \"{{header.cookie}}\" }} }} }} }}
"
    );
    let (addr, _server) = start_server(&text).await;
    let mut block = get("/page");
    // `cookie` is entry 32 of the static table (RFC 7541).
    for crumb in ["session=abc", "csrf=def"] {
        block.extend([0x0f, 0x11, u8::try_from(crumb.len()).unwrap()]);
        block.extend(crumb.as_bytes());
    }
    attack(addr, frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
    let lines = ["session=abc", "csrf=def"].map(|line| ("cookie", line.to_owned()));
    // HTTP/1.1
    Gateway::at(addr)
        .send(Method::GET, "/page", &lines, "")
        .await;
    let requests = seen.requests();
    assert_eq!(requests.len(), 2);
    for (target, headers) in requests {
        assert_eq!(target, "/?cookie=session%3Dabc%3B%20csrf%3Ddef");
        let lines: Vec<_> = headers.get_all("cookie").iter().collect();
        assert_eq!(lines, ["session=abc; csrf=def"]);
    }
}

#[tokio::test]
async fn fault_d45_the_log_names_the_peer_and_the_reason_of_an_invalid_head() {
    let (mut server, _) = hanging_gateway().await;
    let many = "a: b\r\n".repeat(101);
    let request = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    let response = raw(server.listen, &request).await;
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    let line = loop {
        let line = server.line().await;
        if line.contains("invalid request rejected") {
            break line;
        }
    };
    for part in ["127.0.0.1:", "\"max_headers\":100", "too large"] {
        assert!(line.contains(part), "{line}");
    }
    // The connection ends only after its client has closed its side too.
    let counted = async {
        while metric(&server, "fanout_connections{state=\"invalid\"}").await != Some(1) {}
    };
    timeout(ms(5_000), counted).await.unwrap();
}
