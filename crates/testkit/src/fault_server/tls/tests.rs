//! What a client of rustls says to each handshake.

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// A connection that trusts `authority`, shows `certificate` if it has one, and offers `protocols`.
pub(in crate::fault_server) async fn client(
    authority: &Authority,
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

/// The whole answer to one request, or what went wrong.
async fn fetch(
    authority: &Authority,
    certificate: Option<Certificate>,
    server: &FaultServer,
) -> std::io::Result<String> {
    let mut stream = client(authority, certificate, &[b"http/1.1"], server).await?;
    stream.write_all(GET).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The error of a client that trusts `authority`, when the handshake is as `tls` says.
async fn refused(authority: &Authority, tls: &ServerTls) -> String {
    let server = FaultServer::with_tls(tls, |_| Fault::json("{}")).await;
    let error = fetch(authority, None, &server).await.unwrap_err();
    let seen = server.wait_for(|seen| seen.failed_handshakes == 1).await;
    assert_eq!((seen.connections, seen.requests.len()), (1, 0));
    error.to_string()
}

#[tokio::test]
async fn a_good_handshake_carries_faults_as_a_plain_connection_does() {
    let authority = Authority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    for tls in [tls.clone(), tls.tls_1_2()] {
        let server = FaultServer::with_tls(&tls, |_| Fault::json("{}")).await;
        let answer = fetch(&authority, None, &server).await.unwrap();
        assert!(answer.ends_with("\r\n\r\n{}"));
        let seen = server.seen();
        assert_eq!((seen.requests.len(), seen.failed_handshakes), (1, 0));

        let server = FaultServer::with_tls(&tls, |_| Fault::reset_in_body()).await;
        let error = fetch(&authority, None, &server).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_close_is_announced_unless_it_is_cut() {
    let authority = Authority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"]));
    let server = FaultServer::connections_with_tls(
        &tls,
        [
            Connection::new([Fault::until_close("{}")]),
            Connection::new([Fault::until_close("{}").cut()]),
            Connection::refuse(),
        ],
    )
    .await;
    let answer = fetch(&authority, None, &server).await.unwrap();
    assert!(answer.ends_with("\r\n\r\n{}"));
    for kind in [
        std::io::ErrorKind::UnexpectedEof,
        std::io::ErrorKind::ConnectionReset,
    ] {
        let error = fetch(&authority, None, &server).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    assert_eq!(server.seen().failed_handshakes, 0);
}

#[tokio::test]
async fn each_wrong_certificate_is_refused_for_its_own_reason() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (certificate, reason) in [
        (authority.expired(&["localhost"]), "certificate expired"),
        (authority.issue(&["elsewhere.test"]), "not valid for name"),
        (Certificate::self_signed(&["localhost"]), "UnknownIssuer"),
        (other.issue(&["localhost"]), "UnknownIssuer"),
        (authority.client("localhost"), "extended key usage"),
    ] {
        let error = refused(&authority, &ServerTls::new(&certificate)).await;
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn each_broken_handshake_is_counted() {
    let authority = Authority::new();
    for (tls, reason) in [
        (ServerTls::old_version(), "ProtocolVersion"),
        (ServerTls::garbage(), "corrupt message"),
        (ServerTls::reset(), "reset by peer"),
    ] {
        let error = refused(&authority, &tls).await;
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_stalled_handshake_is_over_when_the_client_leaves() {
    let server = FaultServer::with_tls(&ServerTls::stall(), |_| Fault::json("{}")).await;
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    server.wait_for(|seen| seen.connections == 1).await;
    assert_eq!(server.seen().failed_handshakes, 0);
    drop(stream);
    server.wait_for(|seen| seen.failed_handshakes == 1).await;
}

#[tokio::test]
async fn a_client_needs_a_certificate_of_the_right_authority_if_asked_for_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client(&authority);
    let server = FaultServer::with_tls(&tls, |_| Fault::json("{}")).await;
    for certificate in [None, Some(other.client("ada"))] {
        fetch(&authority, certificate, &server).await.unwrap_err();
    }
    fetch(&authority, Some(authority.client("ada")), &server)
        .await
        .unwrap();
    let seen = server.wait_for(|seen| seen.failed_handshakes == 2).await;
    assert_eq!(seen.requests.len(), 1);
}
