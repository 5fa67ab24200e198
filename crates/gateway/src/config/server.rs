//! Reads the `server` part: listeners, limits, drain, proxies, CORS and correlation ids.

use std::{net::SocketAddr, time::Duration};

use tower_fanout_http::{
    body::BodyLimitConfig,
    correlation::CorrelationConfig,
    cors::CorsConfig,
    forwarded::ForwardedLayer,
    server::{ServerConfig, ServerTls},
};

use super::{
    file,
    reader::ValueReader,
    text::Parsed,
    tls::{CertFile, PairFiles, ReloadableCert},
};

/// The listeners and their limits.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// Public address. Defaults to `0.0.0.0:8080`.
    pub(crate) listen: SocketAddr,
    /// Admin address, for health checks and metrics. Defaults to `127.0.0.1:9901`.
    pub(crate) admin: SocketAddr,
    /// Limits of connections to the public address, and the time for requests in flight to complete
    /// during shutdown.
    pub(crate) config: ServerConfig,
    /// The certificate of the public address. `None` serves plain HTTP.
    pub(crate) certificate: Option<ReloadableCert>,
    /// Limits for request bodies.
    pub(crate) body: BodyLimitConfig,
    /// Time after the stop signal during which new requests are still accepted. Defaults to 5 s.
    pub(crate) drain_delay: Duration,
    /// Proxies whose forwarding headers are trusted.
    pub(crate) proxies: ForwardedLayer,
    /// CORS rules. `None` sends no CORS headers, so browsers hide responses from other origins.
    pub(crate) cors: Option<CorsConfig>,
    /// Rules for correlation ids that callers send.
    pub(crate) correlation: CorrelationConfig,
}

pub(super) fn server(file: file::Server, reader: &ValueReader<'_>) -> Server {
    check_addresses(reader, file.listen.0, file.admin.0);
    let certificate = file.tls.and_then(|_| certificate(&reader.at("tls")));
    let mut config = ServerConfig::default()
        .header_timeout(file.timeouts.header.0)
        .idle_timeout(file.timeouts.idle.0)
        .write_timeout(file.timeouts.write.0)
        .max_age(file.timeouts.max_age.map(|age| age.0))
        .max_connections(file.max_connections)
        .max_head(file.max_head.0.0)
        .grace(file.drain.timeout.0);
    config.tls = (certificate.as_ref()).map(|certificate| certificate.tls.clone());
    Server {
        listen: file.listen.0,
        admin: file.admin.0,
        config,
        certificate,
        body: BodyLimitConfig::default()
            .max(file.max_body.0.0)
            .timeout(file.timeouts.body.0)
            .decode(file.decode_bodies),
        drain_delay: file.drain.delay.0,
        proxies: ForwardedLayer::new(file.trusted_proxies.into_iter().map(|network| network.0))
            .header(file.forwarded_header),
        cors: file
            .cors
            .and_then(|cors| self::cors(cors, &reader.at("cors"))),
        correlation: CorrelationConfig::default()
            .trust(file.correlation.trust)
            .request_id_first(file.correlation.first == file::CorrelationHeader::XRequestId),
    }
}

/// Reports addresses that cannot both be bound, and an admin address that other hosts reach.
fn check_addresses(reader: &ValueReader<'_>, listen: SocketAddr, admin: SocketAddr) {
    // An address that is not written has its default.
    let at = |key: &str| reader.has(key).then(|| reader.at(key));
    // An invalid address is replaced by its default, which the file does not say.
    let keys = ["listen", "admin"];
    let is_known = keys.iter().all(|key| reader.at(key).is_sound());
    if is_known && overlap(listen, admin) {
        if let Some(reader) = at("admin").or_else(|| at("listen")) {
            let message = if listen == admin {
                format!("listen and admin must differ, got {admin} for both")
            } else {
                format!("listen {listen} and admin {admin} overlap; use another port")
            };
            reader.error("invalid", message);
        }
        return;
    }
    if let Some(reader) = at("admin")
        && !admin.ip().is_loopback()
    {
        let message = format!(
            "the admin address {admin} is reachable from other hosts and has no authentication"
        );
        let help = "listen on 127.0.0.1, or restrict access by other means";
        reader.warning("open_admin", message, help);
    }
}

/// Returns `true` if only one of the addresses can be bound. The address `0.0.0.0` is every address of IPv4, and `[::]` is
/// every address. Port 0 binds a different free port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    let same_host = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    one.port() == other.port() && one.port() != 0 && same_host
}

/// Key of the file with the CA certificates that client certificates must come from.
const CLIENT_CA: &str = "client_ca_file";

/// Reads the certificate and the optional CA for client certificates.
fn certificate(reader: &ValueReader<'_>) -> Option<ReloadableCert> {
    let (cert, key) = (reader.at("cert_file"), reader.at("key_file"));
    let authority = CertFile::load_authorities(reader, CLIENT_CA);
    let (pair, chain, secret) = PairFiles::load(&cert, &key)?;
    let authority = authority?;
    let tls = match &authority {
        None => ServerTls::new(&chain, &secret),
        Some((_, pem)) => ServerTls::with_client_authority(&chain, &secret, pem),
    };
    let tls = tls.map_err(|error| {
        let clients = authority.as_ref().map(|_| reader.at(CLIENT_CA));
        let reader = clients.as_ref().unwrap_or(reader);
        reader.error("invalid", error.message());
    });
    Some(ReloadableCert {
        tls: tls.ok()?,
        pair,
        clients: authority.map(|(file, _)| file),
    })
}

fn cors(file: file::Cors, reader: &ValueReader<'_>) -> Option<CorsConfig> {
    let config = CorsConfig::default()
        .origins(file.origins)
        .methods(values(file.methods))
        .headers(values(file.headers))
        .expose(values(file.expose))
        .credentials(file.credentials)
        .max_age(file.max_age.0);
    reader.check(&config).then_some(config)
}

fn values<T>(parsed: Vec<Parsed<T>>) -> Vec<T> {
    parsed.into_iter().map(|parsed| parsed.0).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Config, tests::env};

    #[test]
    fn connections_have_the_age_of_the_file() {
        let age = |server: &str| {
            let file = format!(
                "version: 1
server: {server}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://up:8080\" }}] }} }}
orchestrate: {{ plan: {{ a: {{ downstream: up, request: {{ path: / }} }} }} }}"
            );
            Config::parse("age.yaml", &file, &env())
                .unwrap()
                .server
                .config
                .max_age
        };
        assert_eq!(age("{}"), None);
        let ten = Some(Duration::from_secs(600));
        assert_eq!(age("{ timeouts: { max_age: 10m } }"), ten);
    }
}
