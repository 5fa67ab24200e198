//! Requests of callers: media types, repeated headers, schemes, forwarding headers and remaining time.
#![allow(missing_docs)]

mod common;

use bytes::Bytes;
use common::{frames::*, *};
use http::{Method, Request, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;
use tower_fanout_http::client::{Client, ClientConfig, Http2};

/// Starts a gateway with a route that reads its body, one that does so in a condition, and one that reads
/// none. `service` and `server` are added to the downstream and to the server.
async fn gateway(service: &str, server: &str) -> (Gateway, Seen) {
    let (up, seen) = stub(quick).await;
    let gateway = Gateway::from_text(&format!(
        "version: 1
server: {{ {server} }}
policies: {{ p: {{ retry: off }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p, {service} }}
routes:
  - name: reads
    match: {{ method: POST, path: /reads }}
    plan: {{ up: {{ downstream: up, required: true, request: {{ method: POST, path: /, body: {{ to: \"{{body.to|none}}\" }} }} }} }}
  - name: conditional
    match: {{ method: POST, path: /conditional }}
    plan: {{ up: {{ downstream: up, request: {{ path: / }}, when: \"body.to == 'ada'\" }}, other: {{ downstream: up, request: {{ path: / }} }} }}
  - name: ignores
    match: {{ method: POST, path: /ignores }}
    plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }}
"
    ))
    .await;
    (gateway, seen)
}

async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    gateway.send(Method::POST, path, &headers, body).await
}

#[tokio::test]
async fn fault_d26_a_configured_route_takes_only_json_bodies() {
    let (gateway, seen) = gateway("", "").await;
    let body = r#"{"to": "malory"}"#;
    for path in ["/reads", "/conditional"] {
        for media_type in [
            "text/plain",
            "text/xml",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-7",
            "application/json; charset",
            "application/json, application/json",
            "application/jsonp",
            "",
        ] {
            let answer = post(&gateway, path, &[("content-type", media_type)], body).await;
            let refused = (answer.status.as_u16(), answer.at("/code"));
            assert_eq!(
                refused,
                (415, json!("unsupported_media_type")),
                "{path} {media_type:?}"
            );
        }
        let untyped = post(&gateway, path, &[], body).await;
        assert_eq!(untyped.status, 415, "{path}");
        assert_eq!(seen.calls(), 0);
    }
    for media_type in [
        "application/json",
        "application/json; charset=UTF-8",
        "application/merge-patch+json",
    ] {
        let answer = post(&gateway, "/reads", &[("content-type", media_type)], body).await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "{media_type}: {}",
            answer.text
        );
    }
    // Without a body, no type is needed, and another one is no fault.
    for headers in [&[][..], &[("content-type", "text/plain")]] {
        assert_eq!(
            post(&gateway, "/reads", headers, "").await.status,
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn fault_d26_a_route_that_reads_no_body_ignores_its_type() {
    let (gateway, _) = gateway("", "").await;
    for (media_type, body) in [
        ("text/plain", "hello"),
        ("application/json", "{"),
        ("image/png", "\0"),
    ] {
        let answer = post(&gateway, "/ignores", &[("content-type", media_type)], body).await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "{media_type}: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn fault_d26_a_wrong_type_is_refused_before_the_body_is_sent() {
    let (gateway, _) = gateway("", "").await;
    let head = "POST /reads HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n\
                content-length: 9\r\nexpect: 100-continue\r\n\r\n";
    let answer = raw(gateway.addr, head).await;
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");
    // The length of a chunked body is not announced, so its type is checked when it has arrived.
    for (chunks, status) in [("2\r\n{}\r\n0\r\n\r\n", "415"), ("0\r\n\r\n", "200")] {
        let request = format!(
            "POST /reads HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
        );
        let answer = raw(gateway.addr, &request).await;
        assert_eq!(&answer[9..12], status, "{answer}");
    }
}

#[tokio::test]
async fn fault_d50_repeated_credentials_and_media_types_are_refused() {
    let service = "forward_headers: [content-type], forward_credentials: [authorization]";
    let (gateway, seen) = gateway(service, "").await;
    let json = ("content-type", "application/json");
    for headers in [
        &[json, json][..],
        &[json, ("content-type", "text/plain")],
        &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
        &[
            ("authorization", "Basic a"),
            json,
            ("authorization", "Bearer b"),
        ],
        &[("authorization", ""), ("authorization", "")],
    ] {
        for path in ["/reads", "/ignores"] {
            let answer = post(&gateway, path, headers, "").await;
            let refused = (answer.status.as_u16(), answer.at("/code"));
            assert_eq!(
                refused,
                (400, json!("invalid_request")),
                "{path} {headers:?}"
            );
        }
    }
    assert_eq!(seen.calls(), 0);
    let once = post(
        &gateway,
        "/reads",
        &[json, ("authorization", "Bearer a")],
        "{}",
    )
    .await;
    assert_eq!((once.status.as_u16(), seen.calls()), (200, 1));
}

#[tokio::test]
async fn fault_a5_an_empty_bearer_token_says_so() {
    let (up, _) = stub(quick).await;
    let gateway = Gateway::start(
        &[("up", up)],
        "    up: { downstream: up, request: { path: / } }\n",
        "",
    )
    .await;
    for value in ["Bearer", "Bearer ", "bearer    "] {
        let answer = post(&gateway, ORCHESTRATE, &[("authorization", value)], "{}").await;
        assert_eq!(
            (answer.status.as_u16(), answer.at("/code")),
            (400, json!("invalid_request"))
        );
        assert_eq!(answer.at("/detail"), "The bearer token is empty.");
    }
    let metrics = Gateway::at(gateway.server.as_ref().unwrap().admin);
    let page = metrics.send(Method::GET, "/metrics", &[], "").await.text;
    let count = "fanout_auth_total{outcome=\"rejected\",reason=\"empty_token\"} 3";
    assert!(page.contains(count), "{page}");
}

fn get_page(target: &str, headers: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn fault_d51_https_targets_over_plain_text_are_misdirected() {
    let trusted = "trusted_proxies: [127.0.0.0/8]";
    let forwarded = "trusted_proxies: [127.0.0.0/8], forwarded_header: forwarded";
    for (server, headers, status) in [
        ("", "", "421"),
        ("", "x-forwarded-proto: https\r\n", "421"),
        (trusted, "", "421"),
        (trusted, "x-forwarded-proto: http\r\n", "421"),
        (trusted, "x-forwarded-proto: HTTPS\r\n", "200"),
        // The proxy next to the client decides, not what the client sent before it.
        (trusted, "x-forwarded-proto: https, http\r\n", "421"),
        (
            trusted,
            "x-forwarded-for: 203.0.113.7, 127.0.0.2\r\nx-forwarded-proto: https, http\r\n",
            "200",
        ),
        (trusted, "forwarded: for=203.0.113.7;proto=https\r\n", "421"),
        (
            forwarded,
            "forwarded: for=203.0.113.7;proto=https\r\n",
            "200",
        ),
        (forwarded, "x-forwarded-proto: https\r\n", "421"),
    ] {
        let (gateway, _) = gateway("", server).await;
        let answer = raw(gateway.addr, &get_page("https://x/ignores", headers)).await;
        assert_eq!(&answer[9..12], status, "{server} {headers} {answer}");
        assert_eq!(
            answer.contains("\"code\":\"misdirected\""),
            status == "421",
            "{answer}"
        );
        let plain = raw(gateway.addr, &get_page("http://x/ignores", "")).await;
        assert!(plain.starts_with("HTTP/1.1 200"), "{plain}");
    }
}

#[tokio::test]
async fn fault_d51_the_scheme_of_http_2_must_be_that_of_the_connection() {
    let (gateway, _) = gateway("", "").await;
    // The first byte after the method is the index of `:scheme`: 0x86 is http, 0x87 is https.
    for (scheme, status) in [(0x86, 0x88), (0x87, 0x48)] {
        let mut head = get("/livez");
        head[1] = scheme;
        let mut stream = tokio::net::TcpStream::connect(gateway.addr).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &head);
        let frames = [preface, frame(SETTINGS, 0, 0, &[]), request].concat();
        stream.write_all(&frames).await.unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS {
                // 0x88 is the status 200, and 0x48 begins a literal status.
                assert_eq!(payload[0], status, "{payload:?}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn fault_d52_the_peer_is_appended_to_forwarding_headers() {
    let service =
        "forward_headers: [x-forwarded-for, x-forwarded-proto, forwarded, x-forwarded-host]";
    let sent = [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.8"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=203.0.113.9;proto=https"),
    ];
    let own = ["127.0.0.1", "http", "for=127.0.0.1;proto=http"];
    for (server, expected, host) in [
        ("", own, None),
        ("trusted_proxies: [10.0.0.0/8]", own, None),
        (
            "trusted_proxies: [127.0.0.0/8]",
            [
                "203.0.113.7, 203.0.113.8, 127.0.0.1",
                "https, http",
                "for=127.0.0.1;proto=http",
            ],
            Some("shop.example"),
        ),
        (
            "trusted_proxies: [127.0.0.0/8], forwarded_header: forwarded",
            [
                "127.0.0.1",
                "https, http",
                "for=203.0.113.9;proto=https, for=127.0.0.1;proto=http",
            ],
            Some("shop.example"),
        ),
    ] {
        let (gateway, seen) = gateway(service, server).await;
        assert_eq!(
            post(&gateway, "/ignores", &sent, "").await.status,
            StatusCode::OK
        );
        let (_, headers) = seen.requests().remove(0);
        let received = ["x-forwarded-for", "x-forwarded-proto", "forwarded"].map(|name| {
            let values: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{name} is one line");
            values[0].to_str().unwrap().to_owned()
        });
        assert_eq!(received, expected, "{server}");
        assert_eq!(
            headers
                .get("x-forwarded-host")
                .map(|host| host.to_str().unwrap()),
            host
        );
    }
    // A service that does not ask for them gets none.
    let (gateway, seen) = gateway("forward_headers: [x-forwarded-for]", "").await;
    post(&gateway, "/ignores", &sent, "").await;
    let (_, headers) = seen.requests().remove(0);
    assert_eq!(headers["x-forwarded-for"], "127.0.0.1");
    assert!(!headers.contains_key("forwarded") && !headers.contains_key("x-forwarded-proto"));
}

#[tokio::test]
async fn fault_d52_no_caller_removes_the_peer_by_a_nomination() {
    let names = ["x-forwarded-for", "x-forwarded-proto", "forwarded"];
    let service = format!("forward_headers: [{}]", names.join(", "));
    let nominating = names.join(", ");
    for server in ["", "trusted_proxies: [127.0.0.0/8]"] {
        let (gateway, seen) = gateway(&service, server).await;
        let sent = [
            ("connection", &*nominating),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        let answer = post(&gateway, "/ignores", &sent, "").await;
        assert_eq!(answer.status, StatusCode::OK);
        let (_, headers) = seen.requests().remove(0);
        let received = names.map(|name| headers[name].to_str().unwrap());
        let own = ["127.0.0.1", "http", "for=127.0.0.1;proto=http"];
        assert_eq!(received, own, "{server}");
    }
}

#[tokio::test]
async fn fault_d53_remaining_time_is_honoured_from_trusted_peers_only() {
    let (up, seen) = stub(hanging).await;
    let text = |server: &str| {
        format!(
            "version: 1
server: {{ {server} }}
policies: {{ p: {{ retry: off, attempt_timeout: 2s }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}], policy: p, forward_headers: [grpc-timeout] }} }}
routes:
  - name: page
    match: {{ path: / }}
    deadline: {{ default: 300ms }}
    plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }}
"
        )
    };
    let trusting = Gateway::from_text(&text("trusted_proxies: [127.0.0.0/8]")).await;
    let other = Gateway::from_text(&text("")).await;
    let effective = async |gateway: &Gateway, name: &str, value: &str| {
        let headers = [(name, value.to_owned())];
        let answer = gateway.send(Method::GET, "/", &headers, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.at("/code")),
            (504, json!("upstream_timeout")),
            "{}",
            answer.text
        );
        answer.at("/meta/effective/timeout").as_u64().unwrap()
    };
    for (name, value) in [
        ("x-request-timeout-ms", "90"),
        ("grpc-timeout", "90m"),
        ("x-request-timeout-ms", "0"),
    ] {
        assert!(
            effective(&trusting, name, value).await <= 90,
            "{name}: {value}"
        );
        assert_eq!(effective(&other, name, value).await, 300, "{name}: {value}");
    }
    // The time of the route is the upper bound, and a value that is not valid is ignored.
    for (name, value) in [
        ("x-request-timeout-ms", "60000"),
        ("grpc-timeout", "1H"),
        ("x-request-timeout-ms", "soon"),
    ] {
        assert_eq!(
            effective(&trusting, name, value).await,
            300,
            "{name}: {value}"
        );
    }
    // One value that is not valid makes all of them untrustworthy.
    let both = [("x-request-timeout-ms", "90"), ("grpc-timeout", "soon")];
    let both = both.map(|(name, value)| (name, value.to_owned()));
    let answer = trusting.send(Method::GET, "/", &both, "").await;
    assert_eq!(answer.at("/meta/effective/timeout"), json!(300));
    // The header of the caller is never sent on.
    assert!(
        seen.requests()
            .iter()
            .all(|(_, headers)| !headers.contains_key("grpc-timeout"))
    );
}

#[tokio::test]
async fn fault_d39_the_authority_of_http_2_is_the_host() {
    let (up, seen) = stub(quick).await;
    let gateway = Gateway::from_text(&format!(
        "version: 1
server: {{ listen: \"127.0.0.1:0\" }}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://{up}\" }}] }} }}
routes:
  - name: host
    match: {{ path: /host }}
    plan:
      sent: {{ downstream: up, required: true, request: {{ path: \"/{{header.Host}}\" }} }}
      local: {{ downstream: up, depends_on: [sent], request: {{ path: /local }}, when: \"header.host.startsWith('127.')\" }}
"
    ))
    .await;
    let endpoint = format!("http://{}", gateway.addr);
    for http2 in [Http2::Off, Http2::PriorKnowledge { connections: 1 }] {
        let config = ClientConfig::default().http2(http2);
        let client = Client::new(&endpoint.parse().unwrap(), config).unwrap();
        let request = Request::get("/host").body(Bytes::new()).unwrap();
        let response = client.oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{http2:?}");
        let sent: Vec<_> = seen
            .requests()
            .into_iter()
            .map(|request| request.0)
            .collect();
        let host = gateway.addr.to_string().replace(':', "%3A");
        assert_eq!(
            sent[sent.len() - 2..],
            [format!("/{host}"), "/local".to_owned()]
        );
    }
}
