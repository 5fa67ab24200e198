//! Tests of TLS to a downstream.

use std::{
    error::Error as _,
    net::{IpAddr, Ipv4Addr},
};

use tower::ServiceExt;
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::{
    client::{
        Client, ClientConfig, ClientTlsConfig, Http2, Identity, Resolve, Resolving, TlsVersion,
        Verify,
    },
    log::ErrorChain,
};
use tower_fanout_json::branch_error;
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    h2::StreamFault,
    tls::{Certificate, CertificateAuthority, ServerTls},
};

use crate::{at, call_json, get, kind, send};

/// A resolver that resolves every name to the loopback address.
#[derive(Debug)]
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _: &str) -> Resolving {
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }
}

async fn server(tls: &ServerTls) -> FaultServer {
    FaultServer::with_tls(tls, |_| Fault::json("1")).await
}

/// Returns a client that trusts `authority`.
fn trusting(
    server: &FaultServer,
    authority: &CertificateAuthority,
    edit: impl FnOnce(&mut ClientTlsConfig),
) -> Client {
    at(&server.url(), |config| {
        config.resolver = std::sync::Arc::new(Loopback);
        config.tls.ca = Some(authority.ca_pem().into());
        edit(&mut config.tls);
    })
}

#[tokio::test]
async fn trusts_certificates_of_the_configured_ca() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    for tls in [tls.clone(), tls.tls_1_2()] {
        let server = server(&tls).await;
        let client = trusting(&server, &authority, |_| {});
        for _ in 0..2 {
            assert_eq!(call_json(&client).await.unwrap().as_raw(), "1");
        }
        assert_eq!(server.stats().connections, 1);
    }
}

/// Makes one call. Returns the kind of its error and the text of the cause.
async fn refusal(client: Client) -> (ErrorKind, String) {
    let error = client.oneshot(get("/")).await.unwrap_err();
    assert_eq!(error.failure(), Failure::Connect);
    let error = branch_error(error);
    let cause = ErrorChain(error.source().expect("a TLS error has a cause")).to_string();
    (error.kind(), cause)
}

#[tokio::test]
async fn fault_f36_f42_sends_nothing_without_a_valid_certificate() {
    let authority = CertificateAuthority::new();
    let names = &["localhost"];
    for (certificate, kind, cause) in [
        (
            authority.issue_expired(names),
            ErrorKind::TlsExpired,
            "certificate expired",
        ),
        (
            authority.issue_not_yet_valid(names),
            ErrorKind::TlsExpired,
            "certificate not valid yet",
        ),
        (
            authority.issue(&["elsewhere"]),
            ErrorKind::TlsWrongName,
            "not valid for name \"localhost\"",
        ),
        (
            Certificate::self_signed(names),
            ErrorKind::TlsUntrustedIssuer,
            "UnknownIssuer",
        ),
        (
            Certificate::self_signed_ca(names),
            ErrorKind::TlsUntrustedIssuer,
            "CaUsedAsEndEntity",
        ),
        (
            CertificateAuthority::new().issue(names),
            ErrorKind::TlsUntrustedIssuer,
            "UnknownIssuer",
        ),
        (
            authority.issue_client("localhost"),
            ErrorKind::TlsFailed,
            "extended key usage",
        ),
    ] {
        let server = server(&ServerTls::new(&certificate)).await;
        let (found, text) = refusal(trusting(&server, &authority, |_| {})).await;
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(cause), "{text}");
        assert!(server.stats().requests.is_empty());
    }
}

#[tokio::test]
async fn fault_f42_a_failed_handshake_has_its_kind_and_cause() {
    let authority = CertificateAuthority::new();
    let good = ServerTls::new(&authority.issue(&["localhost"]));
    let ssh = Fault::new().send("SSH-2.0-OpenSSH_9.6\r\n").close();
    let smtp = Fault::new().send("220 mail.example ESMTP\r\n").close();
    let handshake_failure = Fault::new().send([21, 3, 3, 0, 2, 2, 40]).close();
    for (tls, kind, cause) in [
        (
            ServerTls::protocol_version_alert(),
            ErrorKind::TlsProtocol,
            "ProtocolVersion",
        ),
        (
            ServerTls::broken(handshake_failure),
            ErrorKind::TlsProtocol,
            "HandshakeFailure",
        ),
        (good.tls_1_2(), ErrorKind::TlsProtocol, "ProtocolVersion"),
        (
            ServerTls::plain_http(),
            ErrorKind::TlsNotTls,
            "InvalidContentType",
        ),
        (
            ServerTls::broken(ssh),
            ErrorKind::TlsNotTls,
            "InvalidContentType",
        ),
        (
            ServerTls::broken(smtp),
            ErrorKind::TlsNotTls,
            "InvalidContentType",
        ),
        (ServerTls::reset(), ErrorKind::TlsFailed, "reset by peer"),
        (
            ServerTls::broken(Fault::new().close()),
            ErrorKind::TlsFailed,
            "handshake eof",
        ),
    ] {
        let server = server(&tls).await;
        let client = trusting(&server, &authority, |tls| {
            tls.min_version = TlsVersion::V1_3;
        });
        let (found, text) = refusal(client).await;
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(cause), "{text}");
    }
    // The root certificates of the system do not include the authority of this test either.
    let unknown = server(&ServerTls::new(&authority.issue(&["localhost"]))).await;
    let config = ClientConfig::default();
    if let Ok(client) = Client::new(&unknown.url().parse().unwrap(), config) {
        assert_eq!(kind(&client).await, ErrorKind::TlsUntrustedIssuer);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f36_f42_connect_timeout_limits_the_handshake() {
    let server = server(&ServerTls::stall()).await;
    let client = trusting(&server, &CertificateAuthority::new(), |_| {});
    let (kind, cause) = refusal(client).await;
    assert_eq!(kind, ErrorKind::TlsFailed);
    assert!(cause.contains("the handshake took longer"), "{cause}");
}

#[tokio::test]
async fn fault_f36_dangerously_skip_disables_verification() {
    let server = server(&ServerTls::new(&Certificate::self_signed(&["elsewhere"]))).await;
    let client = trusting(&server, &CertificateAuthority::new(), |tls| {
        tls.verify = Verify::DangerouslySkip;
    });
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "1");
}

#[tokio::test]
async fn server_name_overrides_the_host_of_the_endpoint() {
    let authority = CertificateAuthority::new();
    let server = server(&ServerTls::new(&authority.issue(&["users.internal"]))).await;
    let client = trusting(&server, &authority, |tls| {
        tls.server_name = Some("users.internal".to_owned());
    });
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "1");
}

#[tokio::test]
async fn fault_f36_f42_sends_the_client_certificate() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client_cert(&clients);
    for tls in [tls.clone(), tls.tls_1_2()] {
        let server = server(&tls).await;
        for (certificate, expected) in [
            (None, Err(ErrorKind::TlsClientCertRequired)),
            (
                Some(CertificateAuthority::new().issue_client("gateway")),
                Err(ErrorKind::TlsClientCertRequired),
            ),
            (Some(clients.issue_client("gateway")), Ok(())),
        ] {
            let client = trusting(&server, &authority, |tls| {
                tls.identity = certificate
                    .map(|certificate| Identity::new(certificate.chain_pem, certificate.key_pem));
            });
            let result = call_json(&client)
                .await
                .map(drop)
                .map_err(|error| error.kind());
            assert_eq!(result, expected);
        }
    }
}

#[tokio::test]
async fn fault_f42_http2_calls_report_a_refused_client_certificate() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client_cert(&clients);
    let server = FaultServer::h2_with_tls(&tls, |_| StreamFault::json("1")).await;
    let with = |certificate: Option<Certificate>, connections| {
        at(&server.url(), |config| {
            config.http2 = Http2::Alpn { connections };
            config.tls.ca = Some(authority.ca_pem().into());
            config.tls.identity = certificate
                .map(|certificate| Identity::new(certificate.chain_pem, certificate.key_pem));
        })
    };
    let wrong = || Some(CertificateAuthority::new().issue_client("gateway"));
    for (certificate, alert) in [(None, "CertificateRequired"), (wrong(), "UnknownCA")] {
        let client = with(certificate, 1);
        for _ in 0..20 {
            // The second call may wait for the connection of the first.
            let calls = [refusal(client.clone()), refusal(client.clone())];
            for (kind, cause) in futures_util::future::join_all(calls).await {
                assert_eq!(kind, ErrorKind::TlsClientCertRequired, "{cause}");
                assert!(cause.contains(alert), "{cause}");
            }
        }
    }
    assert!(server.stats().requests.is_empty());
    let client = with(Some(clients.issue_client("gateway")), 1);
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "1");
}

#[tokio::test]
async fn fault_f42_a_large_body_does_not_hide_a_refused_client_certificate() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client_cert(&clients);
    let server = server(&tls).await;
    let client = trusting(&server, &authority, |_| {});
    for size in [150_000, 1 << 20, 8 << 20] {
        for _ in 0..10 {
            let request = http::Request::post("/").body(vec![b'x'; size].into());
            let error = send(&client, request.unwrap()).await.unwrap_err();
            let cause = error.source().map(|source| ErrorChain(source).to_string());
            assert_eq!(error.kind(), ErrorKind::TlsClientCertRequired, "{cause:?}");
        }
    }
}

#[tokio::test]
async fn alpn_chooses_the_http_version() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let h2 = FaultServer::h2_with_tls(&tls, |_| StreamFault::json("2")).await;
    for (server, expected) in [(server(&tls).await, "1"), (h2, "2")] {
        let client = at(&server.url(), |config| {
            config.http2 = Http2::Alpn { connections: 1 };
            config.tls.ca = Some(authority.ca_pem().into());
        });
        for _ in 0..2 {
            assert_eq!(call_json(&client).await.unwrap().as_raw(), expected);
        }
        assert_eq!(server.stats().connections, 1);
    }
}

#[test]
fn invalid_tls_settings_are_errors_of_the_constructor() {
    let endpoint = "https://localhost".parse().unwrap();
    let (one, other) = (
        CertificateAuthority::new().issue_client("a"),
        CertificateAuthority::new().issue_client("b"),
    );
    let with = |edit: &dyn Fn(&mut ClientTlsConfig)| {
        let mut config = ClientConfig::default();
        config.tls.ca = Some(CertificateAuthority::new().ca_pem().into());
        edit(&mut config.tls);
        let error = Client::new(&endpoint, config).unwrap_err();
        error.message().to_owned()
    };
    let identity = |chain: &str, key: &str| Some(Identity::new(chain, key));
    assert_eq!(
        with(&|tls| tls.ca = Some(b"no PEM".to_vec())),
        "must contain certificates in PEM format"
    );
    assert_eq!(
        with(&|tls| tls.identity = identity("no PEM", &one.key_pem)),
        "certificate chain must be in PEM format and not empty"
    );
    assert_eq!(
        with(&|tls| tls.identity = identity(&one.chain_pem, "no PEM")),
        "private key must be in PEM format"
    );
    assert_eq!(
        with(&|tls| tls.identity = identity(&one.chain_pem, &other.key_pem)),
        "private key does not match the certificate"
    );
    assert_eq!(
        with(&|tls| tls.server_name = Some("not a name".to_owned())),
        "expected a DNS name or an IP address, got \"not a name\""
    );
}

#[test]
fn fault_i17_debug_does_not_show_the_key() {
    let mut config = ClientConfig::default();
    config.tls.identity = Some(Identity::new("chain", "canary"));
    let canary = format!("{:?}", b"canary");
    let shown = format!("{config:?}");
    assert!(!shown.contains("canary") && !shown.contains(&canary));
}
