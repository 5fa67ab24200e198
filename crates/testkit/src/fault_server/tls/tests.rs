//! Checks how a rustls client reacts to each handshake.

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// Connects with trust in `authority`, an optional client certificate and the ALPN `protocols`.
pub(in crate::fault_server) async fn client(
    authority: &CertificateAuthority,
    certificate: Option<Certificate>,
    protocols: &[&[u8]],
    server: &FaultServer,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&authority.ca_pem()));
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(Certificate { chain_pem, key_pem }) => {
            let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
            builder
                .with_client_auth_cert(certificates(&chain_pem), key)
                .unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(server.addr()).await?;
    let host = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(host, stream).await
}

/// Sends one request and returns the complete response.
async fn fetch(
    authority: &CertificateAuthority,
    certificate: Option<Certificate>,
    server: &FaultServer,
) -> std::io::Result<String> {
    let mut stream = client(authority, certificate, &[b"http/1.1"], server).await?;
    stream.write_all(GET).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

/// Returns the error of a client that trusts `authority` when its handshake fails.
async fn handshake_error(authority: &CertificateAuthority, tls: &ServerTls) -> String {
    let server = FaultServer::with_tls(tls, |_| Fault::json("{}")).await;
    let error = fetch(authority, None, &server).await.unwrap_err();
    let stats = server.wait_for(|stats| stats.failed_handshakes == 1).await;
    assert_eq!((stats.connections, stats.requests.len()), (1, 0));
    error.to_string()
}

#[tokio::test]
async fn faults_work_after_a_valid_handshake() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    for tls in [tls.clone(), tls.tls_1_2()] {
        let server = FaultServer::with_tls(&tls, |_| Fault::json("{}")).await;
        let response = fetch(&authority, None, &server).await.unwrap();
        assert!(response.ends_with("\r\n\r\n{}"));
        let stats = server.stats();
        assert_eq!((stats.requests.len(), stats.failed_handshakes), (1, 0));

        let server = FaultServer::with_tls(&tls, |_| Fault::reset_in_body()).await;
        let error = fetch(&authority, None, &server).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn close_without_notify_omits_close_notify() {
    let authority = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let whole = Fault::until_close("{}");
    for (fault, expected) in [
        (whole.clone(), None),
        (
            whole.close_without_notify(),
            Some(std::io::ErrorKind::UnexpectedEof),
        ),
        (
            Fault::reset_before_head(),
            Some(std::io::ErrorKind::ConnectionReset),
        ),
    ] {
        let server = FaultServer::with_tls(&tls, move |_| fault.clone()).await;
        match fetch(&authority, None, &server).await {
            Ok(response) => assert!(response.ends_with("\r\n\r\n{}") && expected.is_none()),
            Err(error) => assert_eq!(Some(error.kind()), expected),
        }
        assert_eq!(server.stats().failed_handshakes, 0);
    }
}

#[tokio::test]
async fn client_rejects_each_invalid_certificate_for_its_reason() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    for (certificate, reason) in [
        (
            authority.issue_expired(&["localhost"]),
            "certificate expired",
        ),
        (authority.issue(&["elsewhere.test"]), "not valid for name"),
        (Certificate::self_signed(&["localhost"]), "UnknownIssuer"),
        (other.issue(&["localhost"]), "UnknownIssuer"),
        (authority.issue_client("localhost"), "extended key usage"),
    ] {
        let error = handshake_error(&authority, &ServerTls::new(&certificate)).await;
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn counts_each_broken_handshake() {
    let authority = CertificateAuthority::new();
    for (tls, reason) in [
        (ServerTls::protocol_version_alert(), "ProtocolVersion"),
        (ServerTls::plain_http(), "corrupt message"),
        (ServerTls::reset(), "reset by peer"),
    ] {
        let error = handshake_error(&authority, &tls).await;
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn stalled_handshake_ends_when_the_client_leaves() {
    let server = FaultServer::with_tls(&ServerTls::stall(), |_| Fault::json("{}")).await;
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    server.wait_for(|stats| stats.connections == 1).await;
    assert_eq!(server.stats().failed_handshakes, 0);
    drop(stream);
    server.wait_for(|stats| stats.failed_handshakes == 1).await;
}

#[tokio::test]
async fn require_client_cert_rejects_other_authorities() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client_cert(&authority);
    let server = FaultServer::with_tls(&tls, |_| Fault::json("{}")).await;
    for certificate in [None, Some(other.issue_client("ada"))] {
        fetch(&authority, certificate, &server).await.unwrap_err();
    }
    fetch(&authority, Some(authority.issue_client("ada")), &server)
        .await
        .unwrap();
    let stats = server.wait_for(|stats| stats.failed_handshakes == 2).await;
    assert_eq!(stats.requests.len(), 1);
}
