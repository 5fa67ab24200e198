//! The network features of the gateway: TLS and HTTP/2 on both sides, trusted proxies, CORS, and
//! forwarded headers.
#![allow(missing_docs)]

mod common;

use std::{fs, net::SocketAddr, path::PathBuf};

use bytes::Bytes;
use common::{frames::*, *};
use http::{Method, Request, StatusCode, Version};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::ServiceExt;
use tower_fanout_http::client::{
    Client, ClientConfig, ClientError, ClientErrorKind, Http2, Identity, TlsErrorKind,
};
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    h2::StreamFault,
    tls::{Certificate, CertificateAuthority, ServerTls},
};

/// Temporary files of one test, removed on drop.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("fanout-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Writes a certificate and its key. Returns the configuration keys that name the two files.
    fn pair(&self, name: &str, of: &Certificate) -> String {
        let cert = self.write(&format!("{name}.crt"), &of.chain_pem);
        let key = self.write(&format!("{name}.key"), &of.key_pem);
        format!("cert_file: \"{cert}\", key_file: \"{key}\"")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a gateway whose route `GET /page` calls the service at `url`. `service` and `server` are added
/// to the configuration of the downstream and of the server.
async fn gateway(url: &str, service: &str, server: &str) -> Gateway {
    Gateway::from_text(&file(url, service, server)).await
}

fn file(url: &str, service: &str, server: &str) -> String {
    format!(
        "version: 1
server: {{ {server} }}
policies: {{ p: {{ retry: off }} }}
downstreams:
  up: {{ endpoints: [{{ url: \"{url}\" }}], policy: p, connect_timeout: 5s, {service} }}
routes:
  - name: page
    match: {{ method: GET, path: /page }}
    plan: {{ up: {{ downstream: up, request: {{ path: / }} }} }}
"
    )
}

impl Gateway {
    async fn page(&self, headers: &[(&str, String)]) -> Answer {
        self.send(Method::GET, "/page", headers, "").await
    }

    /// Sends a request over TLS, as a client that trusts `authority`.
    async fn get_with_tls(
        &self,
        authority: &CertificateAuthority,
        edit: impl FnOnce(&mut ClientConfig),
    ) -> Result<(StatusCode, Version), ClientError> {
        let mut config = ClientConfig::default();
        config.tls.ca = Some(authority.ca_pem().into());
        edit(&mut config);
        let endpoint = format!("https://localhost:{}", self.addr.port());
        let client = Client::new(&endpoint.parse().unwrap(), config).unwrap();
        let request = Request::get("/livez").body(Bytes::new()).unwrap();
        let response = client.oneshot(request).await?;
        Ok((response.status(), response.version()))
    }
}

/// Makes a gateway reload its certificate. Returns the level of the log line.
async fn reload(gateway: &mut Gateway) -> Value {
    let server = gateway.server.as_mut().unwrap();
    server.signal("HUP");
    loop {
        let line = server.line().await;
        if line.contains("certificate") {
            return serde_json::from_str::<Value>(&line).unwrap()["level"].clone();
        }
    }
}

/// The error of a client that does not trust the CA of the gateway.
const UNTRUSTED: ClientErrorKind = ClientErrorKind::Tls(TlsErrorKind::UntrustedIssuer);

#[tokio::test]
async fn reloads_the_certificate_if_it_is_valid() {
    let (files, old, new) = (
        Files::new("reload"),
        CertificateAuthority::new(),
        CertificateAuthority::new(),
    );
    let pair = files.pair("server", &old.issue(&["localhost"]));
    let mut gateway = gateway("http://up", "", &format!("tls: {{ {pair} }}")).await;
    assert!(gateway.get_with_tls(&old, |_| {}).await.is_ok());

    files.write("server.crt", "cut short");
    assert_eq!(reload(&mut gateway).await, "WARN");
    assert!(gateway.get_with_tls(&old, |_| {}).await.is_ok());

    files.pair("server", &new.issue(&["localhost"]));
    assert_eq!(reload(&mut gateway).await, "INFO");
    assert!(gateway.get_with_tls(&new, |_| {}).await.is_ok());
    assert_eq!(
        gateway.get_with_tls(&old, |_| {}).await,
        Err(UNTRUSTED.into())
    );
}

#[tokio::test]
async fn the_listener_serves_https_over_http_1_and_http_2() {
    let (files, authority) = (Files::new("https"), CertificateAuthority::new());
    let pair = files.pair("server", &authority.issue(&["localhost"]));
    let gateway = gateway("http://up", "", &format!("tls: {{ {pair} }}")).await;
    for (http2, version) in [
        (Http2::Off, Version::HTTP_11),
        (Http2::Alpn { connections: 1 }, Version::HTTP_2),
    ] {
        let response = gateway.get_with_tls(&authority, |client| client.http2 = http2);
        assert_eq!(response.await, Ok((StatusCode::OK, version)));
    }
    let other = CertificateAuthority::new();
    let untrusted = gateway.get_with_tls(&other, |_| {}).await;
    assert_eq!(untrusted, Err(UNTRUSTED.into()));
    assert!(
        !raw(gateway.addr, "GET / HTTP/1.1\r\n\r\n")
            .await
            .contains("HTTP")
    );
}

#[tokio::test]
async fn the_listener_can_require_client_certificates() {
    let (files, authority, clients) = (
        Files::new("mtls"),
        CertificateAuthority::new(),
        CertificateAuthority::new(),
    );
    let pair = files.pair("server", &authority.issue(&["localhost"]));
    let ca = files.write("clients.crt", &clients.ca_pem());
    let tls = format!("tls: {{ {pair}, client_ca_file: \"{ca}\" }}");
    let gateway = gateway("http://up", "", &tls).await;
    for (client, accepted) in [
        (None, false),
        (Some(CertificateAuthority::new().issue_client("ada")), false),
        (Some(clients.issue_client("ada")), true),
    ] {
        let response = gateway.get_with_tls(&authority, |config| {
            config.tls.identity =
                client.map(|client| Identity::new(client.chain_pem, client.key_pem));
        });
        assert_eq!(response.await.is_ok(), accepted);
    }
}

#[tokio::test]
async fn fault_f36_calls_a_tls_service_only_with_a_valid_certificate() {
    let (files, authority, clients) = (
        Files::new("up"),
        CertificateAuthority::new(),
        CertificateAuthority::new(),
    );
    let ca = files.write("ca.crt", &authority.ca_pem());
    let pair = files.pair("client", &clients.issue_client("gateway"));
    let tls = format!("tls: {{ ca_file: \"{ca}\", min_version: \"1.3\", {pair} }}");
    let certificates = [
        (authority.issue(&["localhost"]), None),
        (authority.issue_expired(&["localhost"]), Some("tls_expired")),
        (authority.issue(&["elsewhere"]), Some("tls_wrong_name")),
        (
            CertificateAuthority::new().issue(&["localhost"]),
            Some("tls_untrusted_issuer"),
        ),
    ];
    for (certificate, kind) in certificates {
        let server = ServerTls::new(&certificate).require_client_cert(&clients);
        let server = FaultServer::with_tls(&server, |_| Fault::json("{}")).await;
        let answer = gateway(&server.url(), &tls, "").await.page(&[]).await;
        match kind {
            None => assert_eq!(answer.status, StatusCode::OK, "{}", answer.text),
            Some(kind) => assert_eq!(answer.service("up", "/error/kind"), kind),
        }
        assert_eq!(server.stats().requests.len(), usize::from(kind.is_none()));
    }
}

#[tokio::test]
async fn calls_a_service_over_http_2() {
    let (files, authority) = (Files::new("h2"), CertificateAuthority::new());
    let ca = files.write("ca.crt", &authority.ca_pem());
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let answer = |_: &_| StreamFault::json("{\"h2\": true}");
    for (server, service) in [
        (
            FaultServer::h2(answer).await,
            "http2: prior_knowledge".to_owned(),
        ),
        (
            FaultServer::h2_with_tls(&tls, answer).await,
            format!("http2: alpn, tls: {{ ca_file: \"{ca}\" }}"),
        ),
    ] {
        let gateway = gateway(&server.url(), &service, "").await;
        for _ in 0..3 {
            let answer = gateway.page(&[]).await;
            assert_eq!(answer.service("up", "/data/h2"), true, "{}", answer.text);
        }
        assert_eq!(server.stats().connections, 1);
    }
}

#[tokio::test]
async fn fault_i9_i11_forwards_only_the_headers_listed_per_service() {
    let first = FaultServer::start(Fault::response(500, &[], "")).await;
    let second = FaultServer::start(Fault::json("{}")).await;
    let (first_url, second_url) = (first.url(), second.url());
    let gateway = Gateway::from_text(&format!(
        "version: 1
policies: {{ p: {{ retry: off }} }}
downstreams:
  first: {{ endpoints: [{{ url: \"{first_url}\" }}], policy: p, forward_headers: [accept-language, x-hop], forward_credentials: [authorization] }}
  second: {{ endpoints: [{{ url: \"{second_url}\" }}], policy: p, forward_headers: [x-tenant, accept-language] }}
routes:
  - name: page
    match: {{ method: GET, path: /page }}
    plan:
      up: {{ downstream: first, fallback: [{{ service: second }}], request: {{ path: /, headers: {{ accept-language: fr }} }} }}
      own: {{ downstream: first, request: {{ path: / }} }}
"
    ))
    .await;
    let sent = [
        ("authorization", "Bearer x".to_owned()),
        ("cookie", "a=b".into()),
        ("accept-language", "de".into()),
        ("x-tenant", "7".into()),
        ("x-hop", "1".into()),
        ("connection", "x-hop".into()),
        ("x-fanout-depth", "1".into()),
        ("x-fanout-completed", "false".into()),
    ];
    let answer = gateway.page(&sent).await;
    assert_eq!(
        answer.service("up", "/status"),
        "fallback",
        "{}",
        answer.text
    );
    let seen = |server: &FaultServer, language: &str| {
        let requests = server.stats().requests;
        let request = requests
            .iter()
            .find(|request| request.header("accept-language") == Some(language));
        let request = request.unwrap_or_else(|| panic!("{requests:?}")).clone();
        let names = sent.iter().map(|(name, _)| *name);
        let passed = names.filter_map(|name| Some(format!("{name}: {}", request.header(name)?)));
        passed.collect::<Vec<_>>()
    };
    // A header of the template takes precedence, and the gateway increments the depth.
    let own = [
        "authorization: Bearer x",
        "accept-language: de",
        "x-fanout-depth: 2",
    ];
    let failed = [
        "authorization: Bearer x",
        "accept-language: fr",
        "x-fanout-depth: 2",
    ];
    let fallback = ["accept-language: fr", "x-tenant: 7", "x-fanout-depth: 2"];
    assert_eq!(seen(&first, "de"), own);
    assert_eq!(seen(&first, "fr"), failed);
    assert_eq!(seen(&second, "fr"), fallback);
}

#[tokio::test]
async fn fault_d36_responds_to_cors_preflight_requests() {
    let origin = ("origin", "https://shop.example".to_owned());
    let preflight = [
        origin.clone(),
        ("access-control-request-method", "GET".into()),
    ];
    let cors = "cors: { origins: [\"https://shop.example\"], methods: [GET], max_age: 1m }";
    let (up, seen) = stub(quick).await;
    let with = gateway(&format!("http://{up}"), "", cors).await;
    let answer = with.send(Method::OPTIONS, "/page", &preflight, "").await;
    let headers = [
        "access-control-allow-origin",
        "access-control-allow-methods",
        "access-control-max-age",
    ]
    .map(|name| answer.header(name));
    assert_eq!(headers, ["https://shop.example", "GET", "60"]);
    assert_eq!((answer.status.as_u16(), seen.calls()), (200, 0));
    for path in ["/page", "/nothing"] {
        let answer = with
            .send(Method::GET, path, std::slice::from_ref(&origin), "")
            .await;
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, "https://shop.example", "{path}");
    }
    let options_all = "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answer = raw(with.addr, options_all).await;
    assert!(
        answer.starts_with("HTTP/1.1 204") && answer.contains("allow: "),
        "{answer}"
    );
    // Without the key `cors`, no origin is allowed.
    let without = gateway(&format!("http://{up}"), "", "").await;
    let answer = without.send(Method::OPTIONS, "/page", &preflight, "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn fault_d37_accepts_forwarding_headers_only_from_trusted_proxies() {
    let service = "forward_headers: [x-forwarded-for, forwarded]";
    let sent = [
        ("x-forwarded-for", "203.0.113.7".to_owned()),
        ("forwarded", "for=203.0.113.8".to_owned()),
    ];
    let own = [Some("127.0.0.1"), Some("for=127.0.0.1;proto=http")];
    for (server, expected) in [
        ("", own),
        ("trusted_proxies: [10.0.0.0/8]", own),
        (
            "trusted_proxies: [127.0.0.0/8]",
            [
                Some("203.0.113.7, 127.0.0.1"),
                Some("for=127.0.0.1;proto=http"),
            ],
        ),
        (
            "trusted_proxies: [127.0.0.0/8], forwarded_header: forwarded",
            [
                Some("127.0.0.1"),
                Some("for=203.0.113.8, for=127.0.0.1;proto=http"),
            ],
        ),
    ] {
        let (up, seen) = stub(quick).await;
        let gateway = gateway(&format!("http://{up}"), service, server).await;
        gateway.page(&sent).await;
        let (_, headers) = seen.requests().remove(0);
        let passed = sent.each_ref().map(|(name, _)| headers.get(*name));
        let passed = passed.map(|value| value.map(|value| value.to_str().unwrap()));
        assert_eq!(passed, expected, "{server}");
    }
}

#[tokio::test]
async fn fault_d2_applies_the_configured_body_timeout() {
    let (up, seen) = stub(quick).await;
    let gateway = gateway(&format!("http://{up}"), "", "timeouts: { body: 50ms }").await;
    let head = "GET /page HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    let answer = raw(gateway.addr, head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
    assert_eq!(seen.calls(), 0);
}

#[tokio::test]
async fn fault_d25_decodes_bodies_if_configured() {
    const GZIP: [u8; 22] = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 174, 5, 0, 67, 191, 166, 163, 2, 0, 0, 0,
    ];
    let (up, _) = stub(quick).await;
    for (server, status) in [("", "415"), ("decode_bodies: true", "200")] {
        let gateway = gateway(&format!("http://{up}"), "", server).await;
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let head = "GET /page HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                    content-encoding: gzip\r\ncontent-length: 22\r\n\r\n";
        let request = [head.as_bytes(), &GZIP].concat();
        stream.write_all(&request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(&answer[9..12], status, "{answer}");
    }
}

/// Relays each connection of `listener` to the address `to`, which is known only later.
async fn relay(listener: TcpListener, to: SocketAddr) {
    while let Ok((mut from, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut to = TcpStream::connect(to).await.unwrap();
            let _ = copy_bidirectional(&mut from, &mut to).await;
        });
    }
}

#[tokio::test]
async fn fault_i16_ends_the_loop_of_a_gateway_that_calls_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let text = file(&format!("http://{own}"), "", "").replace(
        "request: { path: / }",
        "request: { path: /page }, response: { accept: [508] }",
    );
    let gateway = Gateway::from_text(&text).await;
    tokio::spawn(relay(listener, gateway.addr));
    let answer = gateway.page(&[]).await;
    // The gateway passes the request on three times and rejects it the fourth time.
    let inner = "/data/services/up/data".repeat(4);
    assert_eq!(
        answer.at(&format!("{inner}/status")),
        508,
        "{}",
        answer.text
    );
    assert_eq!(answer.at(&format!("{inner}/code")), "loop_detected");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_d33_a_reset_stream_cancels_its_calls_on_both_sides() {
    let plain = FaultServer::start(Fault::never_respond()).await;
    let two = FaultServer::h2(|_| StreamFault::never_respond()).await;
    for (server, service) in [(plain, ""), (two, "http2: prior_knowledge")] {
        let gateway = gateway(&server.url(), service, "").await;
        let mut client = TcpStream::connect(gateway.addr).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let begin = [preface, frame(SETTINGS, 0, 0, &[])].concat();
        client.set_nodelay(true).unwrap();
        client.write_all(&begin).await.unwrap();
        for (round, stream) in streams(5).enumerate() {
            client.write_all(&request(stream, "/page")).await.unwrap();
            server.wait_for(|seen| seen.in_flight == 1).await;
            let reset = Instant::now();
            let cancel = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            client.write_all(&cancel).await.unwrap();
            server.wait_for(|seen| seen.cancelled == round + 1).await;
            let took = reset.elapsed();
            println!("{service:?}: cancelled after {took:?}");
            assert!(took < ms(200), "{took:?}");
        }
        if !service.is_empty() {
            assert_eq!(
                server.stats().connections,
                1,
                "only the streams end, not their connection"
            );
        }
    }
}
