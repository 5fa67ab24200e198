//! Tests of HTTPS over real sockets.

use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_fanout_testkit::fault_server::tls::{Certificate, CertificateAuthority};

use super::*;

fn tls(certificate: &Certificate) -> ServerTls {
    ServerTls::new(
        certificate.chain_pem.as_bytes(),
        certificate.key_pem.as_bytes(),
    )
    .unwrap()
}

/// Starts an HTTPS server that responds with the scheme and version of the request.
async fn https(tls: ServerTls) -> (SocketAddr, Connections) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = ServerConfig {
        header_timeout: Duration::from_millis(500),
        tls: Some(tls),
        ..ServerConfig::default()
    };
    let connections = config.connections.clone();
    let service = service_fn(async |request: Request<Incoming>| {
        let scheme = request.extensions().get::<http::uri::Scheme>().cloned();
        let text = format!("{} {:?}", scheme.unwrap(), request.version());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, std::future::pending()),
    );
    (addr, connections)
}

/// Connects a client that trusts `authority`, with the client certificate `own` if it is `Some`.
async fn client(
    addr: SocketAddr,
    authority: &CertificateAuthority,
    own: Option<&Certificate>,
    edit: impl FnOnce(&mut ClientConfig),
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(authority.ca_pem().as_bytes());
    roots.add(trusted.unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12, &TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::from_pem_slice(own.chain_pem.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(own.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    edit(&mut config);
    let stream = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Sends a request over HTTP/1.1 and returns the response body.
async fn body_of(mut stream: TlsStream<TcpStream>) -> io::Result<String> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text.rsplit("\r\n\r\n").next().unwrap_or("").to_owned())
}

#[tokio::test]
async fn requests_over_tls_have_the_scheme_https() {
    let authority = CertificateAuthority::new();
    let (addr, _) = https(tls(&authority.issue(&["localhost"]))).await;
    let stream = client(addr, &authority, None, |_| {}).await.unwrap();
    assert_eq!(body_of(stream).await.unwrap(), "https HTTP/1.1");

    let h2 = |config: &mut ClientConfig| config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = client(addr, &authority, None, h2).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Empty::<Bytes>::new());
    let response = client.send_request(request.unwrap()).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "https HTTP/2.0");
}

#[tokio::test]
async fn replaces_certificates_for_new_connections() {
    let (old, new) = (CertificateAuthority::new(), CertificateAuthority::new());
    let (first, second) = (old.issue(&["localhost"]), new.issue(&["localhost"]));
    let tls = tls(&first);
    let (addr, _) = https(tls.clone()).await;
    let kept = client(addr, &old, None, |_| {}).await.unwrap();

    let (chain, key) = (second.chain_pem.as_bytes(), second.key_pem.as_bytes());
    for (chain, key, field, message) in [
        (
            chain,
            first.key_pem.as_bytes(),
            "key",
            "does not match the certificate",
        ),
        (b"", key, "chain", "certificates in PEM format"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            key,
            "chain",
            "certificates in PEM format",
        ),
        (chain, b"no key", "key", "private key in PEM format"),
    ] {
        let error = ServerTls::new(chain, key).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(error.message().contains(message), "{error}");
    }
    tls.replace(&ServerTls::new(chain, key).unwrap());
    assert!(client(addr, &old, None, |_| {}).await.is_err());
    assert!(client(addr, &new, None, |_| {}).await.is_ok());
    assert_eq!(body_of(kept).await.unwrap(), "https HTTP/1.1");

    // The client CA is replaced too.
    let ca = new.ca_pem();
    let strict = ServerTls::with_client_authority(chain, key, ca.as_bytes());
    tls.replace(&strict.unwrap());
    let ada = new.issue_client("ada");
    let stream = client(addr, &new, Some(&ada), |_| {}).await.unwrap();
    assert_eq!(body_of(stream).await.unwrap(), "https HTTP/1.1");
    // With TLS 1.3 a client without a certificate sees the rejection only when it reads.
    if let Ok(stream) = client(addr, &new, None, |_| {}).await {
        assert!(body_of(stream).await.is_err());
    }
}

#[tokio::test]
async fn accepts_only_clients_with_a_certificate_of_the_authority() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    let certificate = authority.issue(&["localhost"]);
    let (chain, key) = (
        certificate.chain_pem.as_bytes(),
        certificate.key_pem.as_bytes(),
    );
    let rejected = ServerTls::with_client_authority(chain, key, b"");
    assert_eq!(rejected.unwrap_err().field(), "authority");
    let tls = ServerTls::with_client_authority(chain, key, authority.ca_pem().as_bytes());
    let (addr, connections) = https(tls.unwrap()).await;
    for (own, accepted) in [
        (Some(authority.issue_client("ada")), true),
        (Some(other.issue_client("eve")), false),
        (None, false),
    ] {
        // With TLS 1.3 the client sees the rejection only when it reads.
        let response = match client(addr, &authority, own.as_ref(), |_| {}).await {
            Ok(stream) => body_of(stream).await,
            Err(error) => Err(error),
        };
        assert_eq!(response.is_ok(), accepted);
    }
    assert_eq!(connections.accepted(), 3);
}

#[tokio::test]
async fn fault_d1_d16_closes_stalled_and_invalid_handshakes() {
    let (addr, connections) = https(tls(&CertificateAuthority::new().issue(&["localhost"]))).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    rest(stream).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    send_request(&mut stream).await;
    rest(stream).await;
    while connections.open() > 0 {
        tokio::task::yield_now().await;
    }
    let counts = [CloseReason::Slow, CloseReason::Error].map(|reason| connections.closed(reason));
    assert_eq!(counts, [1, 1]);
}

#[tokio::test]
async fn fault_k1_k4_a_stalled_handshake_does_not_delay_the_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = ServerConfig {
        tls: Some(tls(&CertificateAuthority::new().issue(&["localhost"]))),
        ..ServerConfig::default()
    };
    let connections = config.connections.clone();
    let service = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let served = tokio::spawn(
        Server::new(config)
            .unwrap()
            .serve(listener, service, stopped),
    );
    let silent = TcpStream::connect(addr).await.unwrap();
    while connections.accepted() == 0 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    let served = timeout(Duration::from_secs(5), served).await.unwrap();
    assert_eq!(served.unwrap(), ShutdownOutcome::Drained);
    drop(silent);
}

#[tokio::test]
async fn fault_d40_the_protocol_of_alpn_is_binding() {
    let authority = CertificateAuthority::new();
    let (addr, connections) = https(tls(&authority.issue(&["localhost"]))).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (agreed, sent, expected) in [
        (Some("h2"), &request[..], ""),
        (Some("h2"), b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", ""),
        (Some("http/1.1"), preface, "HTTP/1.1 400 "),
        (Some("http/1.1"), request, "HTTP/1.1 200 "),
        (None, request, "HTTP/1.1 200 "),
    ] {
        let alpn = |config: &mut ClientConfig| {
            config.alpn_protocols = agreed.into_iter().map(Vec::from).collect();
        };
        let mut stream = client(addr, &authority, None, alpn).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut response = Vec::new();
        // The server may close the connection without an alert.
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut response))
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&response);
        assert!(
            !text.contains(" 200 ") || expected.contains(" 200 "),
            "{text}"
        );
        assert!(text.starts_with(expected), "{agreed:?}: {text}");
    }
    while connections.open() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(connections.closed(CloseReason::Error), 3);
}

#[tokio::test]
async fn fault_d40_without_alpn_the_preface_selects_http_2() {
    let authority = CertificateAuthority::new();
    let (addr, _) = https(tls(&authority.issue(&["localhost"]))).await;
    let stream = client(addr, &authority, None, |_| {}).await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/").body(Empty::<Bytes>::new());
    let response = client.send_request(request.unwrap()).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await;
    assert_eq!(body.unwrap().to_bytes(), "https HTTP/2.0");
}

#[tokio::test]
async fn fault_f47_counts_clients_that_the_handshake_turns_away_by_kind() {
    let (authority, other) = (CertificateAuthority::new(), CertificateAuthority::new());
    let certificate = authority.issue(&["localhost"]);
    let (chain, key) = (
        certificate.chain_pem.as_bytes(),
        certificate.key_pem.as_bytes(),
    );
    let tls = ServerTls::with_client_authority(chain, key, authority.ca_pem().as_bytes()).unwrap();
    let (addr, connections) = https(tls.clone()).await;
    let calls = [
        (&authority, None, TlsErrorKind::ClientCertRequired),
        (
            &authority,
            Some(other.issue_client("eve")),
            TlsErrorKind::UntrustedIssuer,
        ),
        // The client does not trust the server, and sends an alert.
        (&other, None, TlsErrorKind::Failed),
    ];
    for (trusted, own, _) in &calls {
        if let Ok(stream) = client(addr, trusted, own.as_ref(), |_| {}).await {
            assert!(body_of(stream).await.is_err());
        }
    }
    let mut plain = TcpStream::connect(addr).await.unwrap();
    send_request(&mut plain).await;
    rest(plain).await;
    while connections.open() > 0 {
        tokio::task::yield_now().await;
    }
    for kind in calls
        .map(|(_, _, kind)| kind)
        .into_iter()
        .chain([TlsErrorKind::NotTls])
    {
        assert_eq!(tls.handshake_failures(kind), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn fault_f47_a_client_that_sends_before_the_alert_receives_it() {
    let authority = CertificateAuthority::new();
    let certificate = authority.issue(&["localhost"]);
    let (chain, key) = (
        certificate.chain_pem.as_bytes(),
        certificate.key_pem.as_bytes(),
    );
    let tls = ServerTls::with_client_authority(chain, key, authority.ca_pem().as_bytes()).unwrap();
    let (addr, _) = https(tls.clone()).await;
    // With TLS 1.3 the client takes the handshake for complete before the server has checked it.
    let mut stream = client(addr, &authority, None, |_| {}).await.unwrap();
    stream.write_all(&[b'x'; 40_000]).await.unwrap();
    stream.flush().await.unwrap();
    while tls.handshake_failures(TlsErrorKind::ClientCertRequired) == 0 {
        tokio::task::yield_now().await;
    }
    stream.write_all(&[b'x'; 1_000]).await.unwrap();
    stream.flush().await.unwrap();
    let error = stream.read_u8().await.unwrap_err();
    let alert = error.get_ref().map(ToString::to_string);
    assert_eq!(
        alert.as_deref(),
        Some("received fatal alert: CertificateRequired")
    );
}
