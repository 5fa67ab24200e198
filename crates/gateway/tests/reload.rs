//! SIGHUP: certificates, CAs and keys are read again while the gateway runs.
#![allow(missing_docs)]

mod common;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use common::{issuer::Issuer, *};
use http::{Method, Request};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_fanout_http::{
    client::{Client, ClientConfig, Identity},
    jwt::{Algorithm, sign},
};
use tower_fanout_testkit::fault_server::{
    Fault, FaultServer,
    tls::{Certificate, CertificateAuthority, ServerTls},
};

/// Temporary files of one test, removed on drop.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("fanout-reload-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Writes a file. Returns its path as it is written in a configuration.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        format!("\"{}\"", path.display())
    }

    /// Writes a certificate and its key. Returns the configuration keys that name the two files.
    fn pair(&self, name: &str, of: &Certificate) -> String {
        let cert = self.write(&format!("{name}.crt"), &of.chain_pem);
        let key = self.write(&format!("{name}.key"), &of.key_pem);
        format!("cert_file: {cert}, key_file: {key}")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sends SIGHUP and returns the next log line about the files of the key `key`.
async fn reload(gateway: &mut Gateway, key: &str) -> Value {
    let server = gateway.server.as_mut().unwrap();
    server.signal("HUP");
    loop {
        let line: Value = serde_json::from_str(&server.line().await).unwrap();
        if line.to_string().contains(&format!("\"{key}\"")) {
            return line;
        }
    }
}

async fn metrics(gateway: &Gateway) -> String {
    let admin = Gateway::at(gateway.server.as_ref().unwrap().admin);
    admin.send(Method::GET, "/metrics", &[], "").await.text
}

fn page(url: &str, more: &str, service: &str, auth: &str) -> String {
    format!(
        "version: 1
{more}
policies: {{ p: {{ retry: off, attempt_timeout: 5s }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"{url}\" }}], policy: p, connect_timeout: 5s, {service} }} }}
routes:
  - name: page
    match: {{ path: / }}
    {auth}
    plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }}
"
    )
}

#[tokio::test]
async fn fault_j24_sighup_replaces_the_cas_for_client_certificates() {
    let (files, authority) = (Files::new("clients"), CertificateAuthority::new());
    let (old, new) = (CertificateAuthority::new(), CertificateAuthority::new());
    let pair = files.pair("server", &authority.issue(&["localhost"]));
    let ca = files.write("clients.crt", &old.ca_pem());
    let server = format!("server: {{ tls: {{ {pair}, client_ca_file: {ca} }} }}");
    let mut gateway = Gateway::from_text(&page("http://up", &server, "", "")).await;
    let address = gateway.addr;
    let admits = async |clients: &CertificateAuthority| {
        let ada = clients.issue_client("ada");
        let mut config = ClientConfig::default();
        config.tls.ca = Some(authority.ca_pem().into());
        config.tls.identity = Some(Identity::new(ada.chain_pem, ada.key_pem));
        let endpoint = format!("https://localhost:{}", address.port());
        let client = Client::new(&endpoint.parse().unwrap(), config).unwrap();
        client
            .oneshot(Request::get("/livez").body(Bytes::new()).unwrap())
            .await
            .is_ok()
    };
    assert_eq!((admits(&old).await, admits(&new).await), (true, false));

    files.write("clients.crt", "cut short");
    let failed = reload(&mut gateway, "server.tls").await;
    assert_eq!(failed["level"], "WARN");
    assert!(
        failed
            .to_string()
            .contains("must contain certificates in PEM format"),
        "{failed}"
    );
    assert_eq!((admits(&old).await, admits(&new).await), (true, false));

    files.write("clients.crt", &new.ca_pem());
    assert_eq!(reload(&mut gateway, "server.tls").await["level"], "INFO");
    assert_eq!((admits(&old).await, admits(&new).await), (false, true));
}

#[tokio::test]
async fn fault_j24_sighup_replaces_identity_and_cas_for_services() {
    let files = Files::new("services");
    let (authority, clients) = (CertificateAuthority::new(), CertificateAuthority::new());
    let other = CertificateAuthority::new();
    let tls = ServerTls::new(&authority.issue(&["localhost"])).require_client_cert(&clients);
    let up = FaultServer::with_tls(&tls, |_| Fault::json("{}")).await;
    let pair = files.pair("client", &other.issue_client("gateway"));
    let ca = files.write("ca.crt", &other.ca_pem());
    let service = format!("tls: {{ ca_file: {ca}, {pair} }}");
    let mut gateway = Gateway::from_text(&page(&up.url(), "", &service, "")).await;
    let status = async |gateway: &Gateway| gateway.send(Method::GET, "/", &[], "").await.status;
    assert_eq!(status(&gateway).await, 502, "neither side trusts the other");

    files.write("ca.crt", &authority.ca_pem());
    let key = "downstreams.up.tls";
    assert_eq!(reload(&mut gateway, key).await["level"], "INFO");
    assert_eq!(
        status(&gateway).await,
        502,
        "the service does not trust the gateway"
    );

    files.pair("client", &clients.issue_client("gateway"));
    files.write("client.key", "cut short");
    let failed = reload(&mut gateway, key).await;
    assert_eq!(failed["level"], "WARN");
    assert!(
        failed
            .to_string()
            .contains("downstreams.up.tls.key_file: must contain a private key in PEM format"),
        "{failed}"
    );
    assert_eq!(status(&gateway).await, 502);

    files.pair("client", &clients.issue_client("gateway"));
    assert_eq!(reload(&mut gateway, key).await["level"], "INFO");
    assert_eq!(status(&gateway).await, 200);
}

fn issuer(keys: &str, algorithm: &str) -> String {
    format!(
        "auth: {{ jwt: {{ main: {{ keys: [{keys}], issuers: [main], audiences: [fanout], algorithms: [{algorithm}] }} }} }}"
    )
}

fn claims() -> Value {
    json!({"iss": "main", "aud": "fanout", "sub": "ada", "exp": 4_000_000_000_u64})
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    let headers = [("authorization", format!("Bearer {token}"))];
    gateway
        .send(Method::GET, "/", &headers, "")
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn fault_j24_sighup_replaces_jwt_secrets() {
    let (up, _) = stub(quick).await;
    let files = Files::new("secrets");
    let secrets = ["first".repeat(8), "second".repeat(8)];
    let file = files.write("jwt.secret", &format!("{}\n", secrets[0]));
    let keys = issuer(
        &format!("{{ secret_file: {file} }}, {{ secret: \"{SECRET}\", kid: fixed }}"),
        "HS256",
    );
    let mut gateway = Gateway::from_text(&page(
        &format!("http://{up}"),
        &keys,
        "",
        "auth: { jwt: main }",
    ))
    .await;
    let token = |secret: &str| sign(Algorithm::HS256, secret.as_bytes(), &claims()).unwrap();
    let tokens = [token(&secrets[0]), token(&secrets[1]), token(SECRET)];
    let accepted = async |gateway: &Gateway| {
        let mut all = Vec::new();
        for token in &tokens {
            all.push(status(gateway, token).await);
        }
        all
    };
    assert_eq!(accepted(&gateway).await, [200, 401, 200]);

    files.write("jwt.secret", "short");
    let failed = reload(&mut gateway, "auth.jwt.main.keys").await;
    assert_eq!(
        (&failed["level"], failed.to_string().contains("short\"")),
        (&json!("WARN"), false),
        "{failed}"
    );
    assert_eq!(accepted(&gateway).await, [200, 401, 200]);

    files.write("jwt.secret", &secrets[1]);
    assert_eq!(
        reload(&mut gateway, "auth.jwt.main.keys").await["level"],
        "INFO"
    );
    assert_eq!(accepted(&gateway).await, [401, 200, 200]);
    fs::remove_dir_all(&files.0).unwrap();
    let failed = reload(&mut gateway, "auth.jwt.main.keys").await;
    assert!(
        failed
            .to_string()
            .contains("auth.jwt.main.keys[0].secret_file: cannot read"),
        "{failed}"
    );
    assert_eq!(accepted(&gateway).await, [401, 200, 200]);
}

/// Opens a FIFO for writing, as soon as the gateway has opened it for reading.
async fn opened(fifo: &Path) -> fs::File {
    let fifo = fifo.to_owned();
    let open = move || fs::File::options().write(true).open(fifo);
    tokio::task::spawn_blocking(open).await.unwrap().unwrap()
}

#[tokio::test]
async fn fault_j24_a_read_that_hangs_stops_nothing_else() {
    let (up, _) = stub(quick).await;
    let files = Files::new("fifo");
    let secrets = ["first".repeat(8), "second".repeat(8)];
    let file = files.write("jwt.secret", &secrets[0]);
    let keys = issuer(&format!("{{ secret_file: {file} }}"), "HS256");
    let keys = format!("server: {{ drain: {{ delay: 0s }} }}\n{keys}");
    let url = format!("http://{up}");
    let mut gateway = Gateway::from_text(&page(&url, &keys, "", "auth: { jwt: main }")).await;
    let path = files.0.join("jwt.secret");
    fs::remove_file(&path).unwrap();
    let created = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(created.unwrap().success());
    gateway.server.as_ref().unwrap().signal("HUP");
    let mut writer = opened(&path).await;
    let tokens =
        secrets.map(|secret| sign(Algorithm::HS256, secret.as_bytes(), &claims()).unwrap());
    assert_eq!(status(&gateway, &tokens[0]).await, 200);
    assert!(metrics(&gateway).await.contains("fanout_"));
    // Remembered until the first reload ends.
    gateway.server.as_ref().unwrap().signal("HUP");
    assert_eq!(status(&gateway, &tokens[1]).await, 401);
    writer.write_all(b"second".repeat(8).as_slice()).unwrap();
    drop(writer);
    while !gateway
        .server
        .as_mut()
        .unwrap()
        .line()
        .await
        .contains("keys reloaded")
    {}
    assert_eq!(status(&gateway, &tokens[1]).await, 200);
    let writer = opened(&path).await;
    let log = gateway.server.take().unwrap().stop().await;
    assert!(log.contains("\"stopped\""), "{log}");
    drop(writer);
}

#[tokio::test]
async fn fault_j24_sighup_replaces_public_keys() {
    let (up, _) = stub(quick).await;
    let files = Files::new("pem");
    let other = include_str!("../../http/src/jwt/test_keys/rsa.pub.pem");
    let file = files.write("jwt.pem", other);
    let keys = issuer(&format!("{{ pem_file: {file} }}"), "ES256, RS256");
    let mut gateway = Gateway::from_text(&page(
        &format!("http://{up}"),
        &keys,
        "",
        "auth: { jwt: main }",
    ))
    .await;
    let key = include_bytes!("../../http/src/jwt/test_keys/ec.pem");
    let header = Header::new(jsonwebtoken::Algorithm::ES256);
    let token = encode(&header, &claims(), &EncodingKey::from_ec_pem(key).unwrap()).unwrap();
    assert_eq!(status(&gateway, &token).await, 401);
    files.write(
        "jwt.pem",
        include_str!("../../http/src/jwt/test_keys/ec.pub.pem"),
    );
    assert_eq!(
        reload(&mut gateway, "auth.jwt.main.keys").await["level"],
        "INFO"
    );
    assert_eq!(status(&gateway, &token).await, 200);
}

#[tokio::test]
async fn fault_j24_sighup_replaces_the_cas_of_a_jwks_server() {
    let (up, _) = stub(quick).await;
    let (files, authority) = (Files::new("jwks"), CertificateAuthority::new());
    let server = ServerTls::new(&authority.issue(&["localhost"]));
    let server = FaultServer::with_tls(&server, |_| issuer::set(&["a"])).await;
    let ca = files.write("ca.crt", &CertificateAuthority::new().ca_pem());
    let jwks = format!(
        "{{ jwks: {{ {}, ca_file: {ca}, cooldown: 1s, timeout: 1s, start: degraded }} }}",
        issuer::url(&server)
    );
    let config = page(
        &format!("http://{up}"),
        &issuer(&jwks, "ES256"),
        "",
        "auth: { jwt: main }",
    );
    let mut gateway = Gateway::from_text(&config).await;
    let headers = issuer::headers("main", "a", &json!({}));
    assert_eq!(issuer::ask(&gateway, &headers).await.status, 503);
    files.write("ca.crt", &authority.ca_pem());
    assert_eq!(
        reload(&mut gateway, "auth.jwt.main.keys").await["level"],
        "INFO"
    );
    // The next fetch comes after the cooldown.
    while issuer::ask(&gateway, &headers).await.status != 200 {}
}

#[tokio::test]
async fn fault_j25_certificates_out_of_date_are_a_warning_and_a_metric() {
    let (files, authority) = (Files::new("expiry"), CertificateAuthority::new());
    let pair = files.pair("server", &authority.issue_expired(&["localhost"]));
    let ca = files.write("ca.crt", &authority.ca_pem());
    let server = format!("server: {{ tls: {{ {pair} }} }}");
    let service = format!("tls: {{ ca_file: {ca} }}");
    let config = page("https://localhost:1", &server, &service, "");
    let file = File::new("expiry.yaml", &config);
    let output = fanout_with(&["check", "--format", "json"], &file)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(
        report.contains("certificate_validity") && report.contains("the certificate expired at"),
        "{report}"
    );
    assert_eq!(
        report.matches("certificate_validity").count(),
        1,
        "{report}"
    );

    let mut gateway = Gateway::from_text(&config).await;
    let expiry = async |gateway: &Gateway, key: &str| {
        let page = metrics(gateway).await;
        let series = format!("fanout_certificate_expiry_timestamp_seconds{{key=\"{key}\"}} ");
        let (_, rest) = page
            .split_once(&series)
            .unwrap_or_else(|| panic!("no {series} in {page}"));
        rest.lines().next().unwrap().parse::<f64>().unwrap()
    };
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64();
    let cert = "server.tls.cert_file";
    assert!(expiry(&gateway, cert).await < now);
    assert!(expiry(&gateway, "downstreams.up.tls.ca_file").await > now);
    // An expired certificate is in use nevertheless, with a warning at each load.
    let mut lines = vec![reload(&mut gateway, cert).await];
    lines.push(reload(&mut gateway, "server.tls").await);
    assert!(
        lines[0].to_string().contains("the certificate expired at"),
        "{lines:?}"
    );
    files.pair("server", &authority.issue(&["localhost"]));
    while expiry(&gateway, cert).await < now {
        reload(&mut gateway, "server.tls").await;
    }
}

#[tokio::test]
async fn fault_j26_sighup_during_startup_does_not_end_the_process() {
    // The first fetch of the keys hangs, so the gateway does not serve yet.
    let issuer = Issuer::new(Fault::never_respond()).await;
    let jwks = format!(
        "{{ jwks: {{ {}, timeout: 1s, start: degraded }} }}",
        issuer::url(&issuer.server)
    );
    let listen = "server: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\" }\n";
    let auth = listen.to_owned() + &self::issuer(&jwks, "ES256");
    let config = File::new(
        "startup.yaml",
        &page("http://127.0.0.1:1", &auth, "", "auth: { jwt: main }"),
    );
    let mut child = fanout_with(&["run"], &config);
    child.stderr(std::process::Stdio::piped());
    let mut child = child.spawn().unwrap();
    issuer.server.wait_for(|seen| seen.in_flight == 1).await;
    signal(&child, "HUP");
    let mut lines =
        tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stderr.take().unwrap()));
    let mut log = String::new();
    while !log.contains("serving") {
        let line = lines.next_line().await.unwrap();
        log += &line.unwrap_or_else(|| panic!("the process ended: {log}"));
    }
}
