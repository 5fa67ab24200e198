//! Heads, and what becomes of them.

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

/// A request in HTTP/1.1 with these header lines.
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

/// A `GET` of `/` with `more` lines and a good host.
fn with(more: &[(HeaderName, &str)]) -> Result<(), Refused> {
    let mut request = request("GET", "/", more);
    let host = HeaderValue::from_static("shop.example");
    request.headers_mut().append(HOST, host);
    look(&request)
}

fn look(request: &Request<()>) -> Result<(), Refused> {
    check(request, &GuardConfig::default())
}

async fn answer(request: Request<()>) -> (StatusCode, HeaderMap, Bytes) {
    let inner = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("inside")))
    });
    let response = GuardLayer::default().layer(inner).oneshot(request).await;
    let (parts, body) = response.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, body)
}

#[tokio::test]
async fn fault_d7_a_target_over_8_kib_is_414() {
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    let host = [(HOST, "x")];
    assert_eq!(look(&request("GET", &path(8192), &host)), Ok(()));
    let (status, headers, body) = answer(request("GET", &path(8193), &host)).await;
    assert_eq!(status, 414);
    assert!(body.windows(12).any(|part| part == b"uri_too_long") && body.len() < 400);
    assert!(!headers.contains_key(CONNECTION));
    // The whole target counts, not its path alone.
    let absolute = format!("http://x{}", path(8185));
    let refused = look(&request("GET", &absolute, &host));
    assert_eq!(refused, Err(Refused::UriTooLong));
}

#[tokio::test]
async fn fault_d8_a_host_that_is_none_is_400_and_the_end() {
    assert_eq!(look(&request("GET", "/", &[])), Err(Refused::HostMissing));
    let two = [(HOST, "a.example"), (HOST, "a.example")];
    assert_eq!(look(&request("GET", "/", &two)), Err(Refused::HostTwice));
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
        let refused = look(&request("GET", "/", &[(HOST, bad)]));
        assert_eq!(refused, Err(Refused::HostSyntax), "{bad:?}");
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
            look(&request("GET", "/", &[(HOST, good)])),
            Ok(()),
            "{good:?}"
        );
    }
    let (status, headers, body) = answer(request("GET", "/", &[(HOST, "ada@a.example")])).await;
    assert_eq!(
        (status, &headers[CONNECTION]),
        (StatusCode::BAD_REQUEST, &HeaderValue::from_static("close"))
    );
    let body = std::str::from_utf8(&body).unwrap();
    assert!(body.contains("bad_host") && !body.contains("ada"), "{body}");
}

#[test]
fn fault_d8_http_2_has_its_host_in_the_target() {
    let two = |target, headers: &[(HeaderName, &str)]| {
        let mut request = request("GET", target, headers);
        *request.version_mut() = Version::HTTP_2;
        look(&request)
    };
    assert_eq!(two("https://a.example/", &[]), Ok(()));
    assert_eq!(two("https://a.example/", &[(HOST, "A.example")]), Ok(()));
    assert_eq!(two("/", &[(HOST, "a.example")]), Ok(()));
    assert_eq!(
        two("https://a.example/", &[(HOST, "b.example")]),
        Err(Refused::HostMismatch)
    );
    assert_eq!(two("https://ada@a.example/", &[]), Err(Refused::HostSyntax));
    assert_eq!(two("/", &[]), Err(Refused::HostMissing));
}

#[test]
fn fault_d9_a_target_has_one_form_and_one_host() {
    let host = [(HOST, "a.example:80")];
    assert_eq!(
        look(&request("GET", "http://A.example:80/x", &host)),
        Ok(())
    );
    for (method, target, refused) in [
        ("GET", "http://b.example/x", Refused::HostMismatch),
        ("GET", "http://a.example/x", Refused::HostMismatch),
        ("GET", "http://ada@a.example:80/x", Refused::HostSyntax),
        ("GET", "ftp://a.example:80/x", Refused::TargetForm),
        ("GET", "a.example:80", Refused::TargetForm),
        ("GET", "*", Refused::TargetForm),
        ("POST", "*", Refused::TargetForm),
        ("GET", "/a\\..\\b", Refused::TargetForm),
        ("GET", "/\u{e9}", Refused::TargetForm),
        ("CONNECT", "a.example:80", Refused::MethodNotAllowed),
    ] {
        assert_eq!(
            look(&request(method, target, &host)),
            Err(refused),
            "{method} {target}"
        );
    }
    let absolute = request("GET", "http://a.example/", &[]);
    assert_eq!(look(&absolute), Err(Refused::HostMissing));
}

#[tokio::test]
async fn fault_d9_the_options_of_the_server_are_its_methods() {
    let (status, headers, body) = answer(request("OPTIONS", "*", &[(HOST, "a.example")])).await;
    assert_eq!((status, body), (StatusCode::NO_CONTENT, Bytes::new()));
    assert_eq!(
        headers[ALLOW],
        "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    );
    let (status, _, body) = answer(request("OPTIONS", "/x", &[(HOST, "a.example")])).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"inside"[..]));
}

#[test]
fn fault_d12_the_only_transfer_coding_is_chunked() {
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
            Err(Refused::TransferCoding),
            "{bad:?}"
        );
    }
    let two = [coding("chunked"), coding("chunked")];
    assert_eq!(with(&two), Err(Refused::TransferCoding));
    assert!(Refused::TransferCoding.ends_connection());
}

#[test]
fn fault_d15_http_1_0_needs_no_host() {
    let mut old = request("GET", "/", &[]);
    *old.version_mut() = Version::HTTP_10;
    assert_eq!(look(&old), Ok(()));
    old.headers_mut()
        .insert(HOST, HeaderValue::from_static("a,b"));
    assert_eq!(look(&old), Err(Refused::HostSyntax));
}

#[test]
fn fault_d17_no_other_expectation_is_met() {
    let expect = |value| (header::EXPECT, value);
    assert_eq!(with(&[expect("100-Continue")]), Ok(()));
    for bad in ["200-ok", "", "100-continue, x"] {
        assert_eq!(with(&[expect(bad)]), Err(Refused::Expectation), "{bad:?}");
    }
    let one_of_two = [expect("100-continue"), expect("x")];
    assert_eq!(with(&one_of_two), Err(Refused::Expectation));
    assert_eq!(Refused::Expectation.code().status(), 417);
}

#[tokio::test]
async fn fault_d19_other_methods_are_405_or_501() {
    let host = [(HOST, "a.example")];
    for (method, wanted) in [
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
        let (status, headers, _) = answer(request(method, target, &host)).await;
        assert_eq!(
            (status.as_u16(), headers.contains_key(ALLOW)),
            (wanted, wanted == 405),
            "{method}"
        );
    }
    let config = GuardConfig {
        methods: vec![Method::GET],
        ..GuardConfig::default()
    };
    assert_eq!(
        check(&request("POST", "/", &host), &config),
        Err(Refused::MethodNotAllowed)
    );
}

proptest! {
    #[test]
    fn fault_d8_what_is_accepted_is_an_authority_to_others_too(text in "[\\[\\]a-zA-Z0-9.:,@/ _~%-]{0,40}") {
        if is_authority(text.as_bytes()) {
            let authority: http::uri::Authority = text.parse().unwrap();
            prop_assert!(!authority.host().is_empty() && !text.contains(['@', '/', ',', ' ', '%']));
            prop_assert_eq!(authority.port_u16().is_some(), !text.ends_with(']') && text.contains(':'));
        }
    }

    #[test]
    fn fault_d8_addresses_and_names_are_accepted(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr, port in 1_u16.., name in "[a-z]([a-z0-9-]{0,20}\\.){0,3}[a-z]{2,9}") {
        for host in [v4.to_string(), format!("[{v6}]"), name] {
            prop_assert!(is_authority(host.as_bytes()));
            let host_and_port = format!("{host}:{port}");
            prop_assert!(is_authority(host_and_port.as_bytes()));
        }
    }

    #[test]
    fn fault_d9_a_served_target_is_a_path(target in "[*/a-z:@.?#%]{1,30}", options: bool) {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let method = if options { "OPTIONS" } else { "GET" };
        let mut request = request(method, "/", &[(HOST, "a")]);
        *request.uri_mut() = uri;
        if look(&request).is_ok() {
            prop_assert!(request.uri().path().starts_with('/') || options && target == "*");
        }
    }
}
