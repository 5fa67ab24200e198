//! Tests of the guard.

use std::convert::Infallible;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, Version,
    header::{ALLOW, CONNECTION, HOST},
};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use super::{host::is_authority, *};

/// Creates an HTTP/1.1 request with these header lines.
fn request(method: &str, target: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = target.parse().unwrap();
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        request.headers_mut().append(name, value);
    }
    request
}

/// Checks `GET /` with a valid host and the header lines `more`.
fn with(more: &[(HeaderName, &str)]) -> Result<(), HeadError> {
    let mut request = request("GET", "/", more);
    let host = HeaderValue::from_static("shop.example");
    request.headers_mut().append(HOST, host);
    check_default(&request)
}

fn check_default(request: &Request<()>) -> Result<(), HeadError> {
    check(request, &GuardConfig::default())
}

async fn respond(request: Request<()>) -> (StatusCode, HeaderMap, Bytes) {
    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("inside")))
    });
    let response = GuardLayer::default().layer(inner).oneshot(request).await;
    let (parts, body) = response.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, body)
}

#[tokio::test]
async fn fault_d7_responds_414_to_a_target_above_8_kib() {
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    let host = [(HOST, "x")];
    assert_eq!(check_default(&request("GET", &path(8192), &host)), Ok(()));
    let (status, headers, body) = respond(request("GET", &path(8193), &host)).await;
    assert_eq!(status, 414);
    assert!(body.windows(12).any(|part| part == b"uri_too_long") && body.len() < 400);
    assert!(!headers.contains_key(CONNECTION));
    // The whole target counts, not only its path.
    let absolute = format!("http://x{}", path(8185));
    let refused = check_default(&request("GET", &absolute, &host));
    assert_eq!(refused, Err(HeadError::UriTooLong));
}

#[tokio::test]
async fn fault_d8_responds_400_to_an_invalid_host_and_closes() {
    assert_eq!(
        check_default(&request("GET", "/", &[])),
        Err(HeadError::HostMissing)
    );
    let two = [(HOST, "a.example"), (HOST, "a.example")];
    assert_eq!(
        check_default(&request("GET", "/", &two)),
        Err(HeadError::DuplicateHost)
    );
    for bad in [
        "",
        "ada@a.example",
        "a.example/path",
        "a.example,b.example",
        "a b",
        "a.example ",
        "a:",
        "a:0",
        "a:65536",
        "a:+80",
        "a:8o",
        "a:80:80",
        ":80",
        "[::1",
        "::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "a%2eexample",
        "a.example?x",
        "a\\b",
        "a#b",
        "\u{e4}.example",
    ] {
        let refused = check_default(&request("GET", "/", &[(HOST, bad)]));
        assert_eq!(refused, Err(HeadError::HostSyntax), "{bad:?}");
    }
    for good in [
        "a",
        "a.example",
        "A_b-c.example.:8080",
        "127.0.0.1:1",
        "[::1]",
        "[2001:db8::1]:65535",
    ] {
        assert_eq!(
            check_default(&request("GET", "/", &[(HOST, good)])),
            Ok(()),
            "{good:?}"
        );
    }
    let (status, headers, body) = respond(request("GET", "/", &[(HOST, "ada@a.example")])).await;
    assert_eq!(
        (status, &headers[CONNECTION]),
        (StatusCode::BAD_REQUEST, &HeaderValue::from_static("close"))
    );
    let body = std::str::from_utf8(&body).unwrap();
    assert!(body.contains("bad_host") && !body.contains("ada"), "{body}");
}

#[test]
fn fault_d8_accepts_the_host_of_http_2_in_the_target() {
    let two = |target, headers: &[(HeaderName, &str)]| {
        let mut request = request("GET", target, headers);
        *request.version_mut() = Version::HTTP_2;
        check_default(&request)
    };
    assert_eq!(two("https://a.example/", &[]), Ok(()));
    assert_eq!(two("https://a.example/", &[(HOST, "A.example")]), Ok(()));
    assert_eq!(two("/", &[(HOST, "a.example")]), Ok(()));
    assert_eq!(
        two("https://a.example/", &[(HOST, "b.example")]),
        Err(HeadError::HostMismatch)
    );
    assert_eq!(
        two("https://ada@a.example/", &[]),
        Err(HeadError::HostSyntax)
    );
    assert_eq!(two("/", &[]), Err(HeadError::HostMissing));
}

#[test]
fn fault_d9_rejects_other_forms_of_target_and_other_hosts() {
    let host = [(HOST, "a.example:80")];
    assert_eq!(
        check_default(&request("GET", "http://A.example:80/x", &host)),
        Ok(())
    );
    for (method, target, refused) in [
        ("GET", "http://b.example/x", HeadError::HostMismatch),
        ("GET", "http://a.example/x", HeadError::HostMismatch),
        ("GET", "http://ada@a.example:80/x", HeadError::HostSyntax),
        ("GET", "ftp://a.example:80/x", HeadError::TargetForm),
        ("GET", "a.example:80", HeadError::TargetForm),
        ("GET", "*", HeadError::TargetForm),
        ("POST", "*", HeadError::TargetForm),
        ("GET", "/a\\..\\b", HeadError::TargetForm),
        ("GET", "/\u{e9}", HeadError::TargetForm),
        ("CONNECT", "a.example:80", HeadError::MethodNotAllowed),
    ] {
        assert_eq!(
            check_default(&request(method, target, &host)),
            Err(refused),
            "{method} {target}"
        );
    }
    let absolute = request("GET", "http://a.example/", &[]);
    assert_eq!(check_default(&absolute), Err(HeadError::HostMissing));
}

#[tokio::test]
async fn fault_d9_responds_to_options_of_the_server_with_allow() {
    let (status, headers, body) = respond(request("OPTIONS", "*", &[(HOST, "a.example")])).await;
    assert_eq!((status, body), (StatusCode::NO_CONTENT, Bytes::new()));
    assert_eq!(
        headers[ALLOW],
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    );
    let (status, _, body) = respond(request("OPTIONS", "/x", &[(HOST, "a.example")])).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"inside"[..]));
}

#[test]
fn fault_d12_accepts_only_the_transfer_coding_chunked() {
    let coding = |value| (header::TRANSFER_ENCODING, value);
    assert_eq!(with(&[coding("chunked")]), Ok(()));
    assert_eq!(with(&[coding("Chunked")]), Ok(()));
    for bad in [
        "gzip, chunked",
        "chunked, chunked",
        "identity",
        "",
        "xchunked",
        "chunked;x=1",
        "chunked\t",
    ] {
        assert_eq!(
            with(&[coding(bad)]),
            Err(HeadError::TransferCoding),
            "{bad:?}"
        );
    }
    let two = [coding("chunked"), coding("chunked")];
    assert_eq!(with(&two), Err(HeadError::TransferCoding));
    assert!(HeadError::TransferCoding.ends_connection());
}

#[test]
fn fault_d15_accepts_http_1_0_without_host() {
    let mut old = request("GET", "/", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(check_default(&old), Ok(()));
    old.headers_mut()
        .insert(HOST, HeaderValue::from_static("a,b"));
    assert_eq!(check_default(&old), Err(HeadError::HostSyntax));
}

#[test]
fn fault_d17_rejects_expectations_other_than_100_continue() {
    let expect = |value| (header::EXPECT, value);
    assert_eq!(with(&[expect("100-Continue")]), Ok(()));
    for bad in ["200-ok", "", "100-continue, x"] {
        assert_eq!(with(&[expect(bad)]), Err(HeadError::Expectation), "{bad:?}");
    }
    let one_of_two = [expect("100-continue"), expect("x")];
    assert_eq!(with(&one_of_two), Err(HeadError::Expectation));
    assert_eq!(HeadError::Expectation.code().status(), 417);
}

#[tokio::test]
async fn fault_d19_responds_405_or_501_to_other_methods() {
    let host = [(HOST, "a.example")];
    for (method, expected) in [
        ("TRACE", 405),
        ("CONNECT", 405),
        ("BREW", 501),
        ("get", 501),
        ("PROPFIND", 501),
    ] {
        let target = if method == "CONNECT" {
            "a.example:80"
        } else {
            "/"
        };
        let (status, headers, _) = respond(request(method, target, &host)).await;
        assert_eq!(
            (status.as_u16(), headers.contains_key(ALLOW)),
            (expected, expected == 405),
            "{method}"
        );
    }
    let config = GuardConfig {
        methods: vec![Method::GET],
        ..GuardConfig::default()
    };
    assert_eq!(
        check(&request("POST", "/", &host), &config),
        Err(HeadError::MethodNotAllowed)
    );
    let config = config.pass_trace(true);
    for (method, target, expected) in [
        ("TRACE", "/", Ok(())),
        ("TRACE", "*", Err(HeadError::TargetForm)),
        ("CONNECT", "a.example:80", Err(HeadError::MethodNotAllowed)),
        ("POST", "/", Err(HeadError::MethodNotAllowed)),
    ] {
        assert_eq!(check(&request(method, target, &host), &config), expected);
    }
}

proptest! {
    #[test]
    fn fault_d8_accepted_hosts_parse_as_authorities(text in "[\\[\\]a-zA-Z0-9.:,@/ _~%-]{0,40}") {
        if is_authority(text.as_bytes()) {
            let authority: http::uri::Authority = text.parse().unwrap();
            prop_assert!(!authority.host().is_empty() && !text.contains(['@', '/', ',', ' ', '%']));
            prop_assert_eq!(authority.port_u16().is_some(), !text.ends_with(']') && text.contains(':'));
        }
    }

    #[test]
    fn fault_d8_accepts_addresses_and_names(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, port in 1_u16.., name in "[a-z]([a-z0-9-]{0,20}\\.){0,3}[a-z]{2,9}") {
        for host in [v4.to_string(), format!("[{v6}]"), name] {
            prop_assert!(is_authority(host.as_bytes()));
            let host_and_port = format!("{host}:{port}");
            prop_assert!(is_authority(host_and_port.as_bytes()));
        }
    }

    #[test]
    fn fault_d9_accepts_only_paths_and_asterisk(target in "[*/a-z:@.?#%]{1,30}", options: bool) {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let method = if options { "OPTIONS" } else { "GET" };
        let mut request = request(method, "/", &[(HOST, "a")]);
        *request.uri_mut() = uri;
        if check_default(&request).is_ok() {
            prop_assert!(request.uri().path().starts_with('/') || options && target == "*");
        }
    }
}
