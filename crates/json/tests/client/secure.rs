//! TLS to a downstream.

use std::net::{IpAddr, Ipv4Addr};

use tower::ServiceExt;
use tower_fanout::{
    ErrorKind,
    layers::{AsRejection, Failure},
};
use tower_fanout_http::client::{
    Client, ClientConfig, ClientError, ClientTlsConfig, Http2, Identity, Resolve, Resolving,
    TlsVersion, Verify,
};
use tower_fanout_json::branch_error;
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    h2::StreamFault,
    tls::{Certificate, CertificateAuthority, ServerTls},
};

use crate::{ask, at, get, kind};

/// Any name is this machine.
#[derive(Debug)]
struct Here;

impl Resolve for Here {
    fn resolve(&self, _: &str) -> Resolving {
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }
}

async fn server(tls: &ServerTls) -> FaultServer {
    FaultServer::with_tls(tls, |_| Fault::json("1")).await
}

/// A client that believes `authority`.
fn trusting(
    server: &FaultServer,
    authority: &CertificateAuthority,
    edit: impl FnOnce(&mut ClientTlsConfig),
) -> Client {
    at(&server.url(), |config| {
        config.resolver = std::sync::Arc::new(Here);
        config.tls.ca = Some(authority.ca_pem().into());
        edit(&mut config.tls);
    })
}

#[tokio::test]
async fn a_certificate_of_ones_own_authority_is_believed() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    for tls in [tls.clone(), tls.tls_1_2()] {
        let server = server(&tls).await;
        let client = trusting(&server, &authority, |_| {});
        for _ in 0..2 {
            assert_eq!(ask(&client).await.unwrap().as_raw(), "1");
        }
        assert_eq!(server.stats().connections, 1);
    }
}

#[tokio::test]
async fn fault_f36_who_cannot_be_believed_is_not_asked() {
    let authority = CertificateAuthority::new();
    let good = authority.issue(&["localhost"]);
    for wrong in [
        ServerTls::new(&authority.issue_expired(&["localhost"])),
        ServerTls::new(&authority.issue(&["elsewhere"])),
        ServerTls::new(&Certificate::self_signed(&["localhost"])),
        ServerTls::new(&CertificateAuthority::new().issue(&["localhost"])),
        ServerTls::new(&authority.issue_client("localhost")),
        ServerTls::protocol_version_alert(),
        ServerTls::plain_http(),
        ServerTls::reset(),
    ] {
        let server = server(&wrong).await;
        let client = trusting(&server, &authority, |_| {});
        let error = client.oneshot(get("/")).await.unwrap_err();
        assert_eq!(
            (error, error.failure()),
            (ClientError::Tls, Failure::Connect),
            "{wrong:?}"
        );
        assert_eq!(branch_error(error).kind(), ErrorKind::TlsFailed);
        assert!(server.stats().requests.is_empty());
    }
    let old = server(&ServerTls::new(&good).tls_1_2()).await;
    let client = trusting(&old, &authority, |tls| tls.min_version = TlsVersion::V1_3);
    assert_eq!(kind(&client).await, ErrorKind::TlsFailed);
    // Nor does the system believe an authority that was made up.
    let unknown = server(&ServerTls::new(&good)).await;
    let config = ClientConfig::default();
    if let Ok(client) = Client::new(&unknown.url().parse().unwrap(), config) {
        assert_eq!(kind(&client).await, ErrorKind::TlsFailed);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f36_a_handshake_takes_no_longer_than_connecting_may() {
    let server = server(&ServerTls::stall()).await;
    let client = trusting(&server, &CertificateAuthority::new(), |_| {});
    assert_eq!(kind(&client).await, ErrorKind::TlsFailed);
}

#[tokio::test]
async fn fault_f36_verification_is_skipped_only_by_its_word() {
    let server = server(&ServerTls::new(&Certificate::self_signed(&["elsewhere"]))).await;
    let client = trusting(&server, &CertificateAuthority::new(), |tls| {
        tls.verify = Verify::DangerouslySkip;
    });
    assert_eq!(ask(&client).await.unwrap().as_raw(), "1");
}

#[tokio::test]
async fn the_name_that_a_certificate_bears_can_be_told() {
    let authority = CertificateAuthority::new();
    let server = server(&ServerTls::new(&authority.issue(&["users.internal"]))).await;
    let client = trusting(&server, &authority, |tls| {
        tls.server_name = Some("users.internal".to_owned());
    });
    assert_eq!(ask(&client).await.unwrap().as_raw(), "1");
}

#[tokio::test]
async fn fault_f36_a_service_may_want_to_know_who_asks() {
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client_cert(&clients);
    for tls in [tls.clone(), tls.tls_1_2()] {
        let server = server(&tls).await;
        for (who, expected) in [
            (None, Err(ErrorKind::TlsFailed)),
            (
                Some(CertificateAuthority::new().issue_client("gateway")),
                Err(ErrorKind::TlsFailed),
            ),
            (Some(clients.issue_client("gateway")), Ok(())),
        ] {
            let client = trusting(&server, &authority, |tls| {
                tls.identity = who.map(|who| Identity::new(who.chain_pem, who.key_pem));
            });
            let result = ask(&client).await.map(drop).map_err(|error| error.kind());
            assert_eq!(result, expected);
        }
    }
}

#[tokio::test]
async fn the_handshake_says_whether_http_2_is_spoken() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let two = FaultServer::h2_with_tls(&tls, |_| StreamFault::json("2")).await;
    for (server, expected) in [(server(&tls).await, "1"), (two, "2")] {
        let client = at(&server.url(), |config| {
            config.http2 = Http2::Alpn { connections: 1 };
            config.tls.ca = Some(authority.ca_pem().into());
        });
        for _ in 0..2 {
            assert_eq!(ask(&client).await.unwrap().as_raw(), expected);
        }
        assert_eq!(server.stats().connections, 1);
    }
}

#[test]
fn what_cannot_be_used_is_told_when_the_client_is_made() {
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
        "the CA is not in PEM"
    );
    assert_eq!(
        with(&|tls| tls.identity = identity("no PEM", &one.key_pem)),
        "the certificate of the client is not in PEM"
    );
    assert_eq!(
        with(&|tls| tls.identity = identity(&one.chain_pem, "no PEM")),
        "the key of the client is not in PEM"
    );
    assert_eq!(
        with(&|tls| tls.identity = identity(&one.chain_pem, &other.key_pem)),
        "the key of the client does not fit its certificate"
    );
    assert_eq!(
        with(&|tls| tls.server_name = Some("not a name".to_owned())),
        "the name of the server is none"
    );
}

#[test]
fn fault_i17_a_key_is_not_shown() {
    let mut config = ClientConfig::default();
    config.tls.identity = Some(Identity::new("chain", "canary"));
    let canary = format!("{:?}", b"canary");
    let told = format!("{config:?}");
    assert!(!told.contains("canary") && !told.contains(&canary));
}
