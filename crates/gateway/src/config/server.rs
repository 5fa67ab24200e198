//! Reads the `server` part: listeners, limits, drain, proxies, CORS and correlation ids.

use std::{net::SocketAddr, time::Duration};

use tower_fanout::layers::config::Validate;
use tower_fanout_http::{
    body::BodyLimitConfig,
    correlation::CorrelationConfig,
    cors::CorsConfig,
    forwarded::{ForwardedHeader, ForwardedLayer},
    server::{ServerConfig, ServerTls},
};

use super::{
    node::method,
    reader::{MapReader, ValueReader},
    tls::{CertFile, CertKind, PairFiles, ReloadableCert},
    value::{address, duration, head_size, header_name, in_range, size, word},
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

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9901)),
            config: ServerConfig::default(),
            certificate: None,
            body: BodyLimitConfig::default(),
            drain_delay: Duration::from_secs(5),
            proxies: ForwardedLayer::default(),
            cors: None,
            correlation: CorrelationConfig::default(),
        }
    }
}

/// Maximum of `drain.delay`, for which the process serves after SIGTERM.
const LONGEST_DELAY: Duration = Duration::from_secs(3_600);

pub(super) fn server(reader: &ValueReader<'_>) -> Server {
    let mut server = Server::default();
    let mut map = reader.as_map();
    addresses(&mut map, &mut server);
    server.certificate = map.get("tls", tls);
    let certificate = server.certificate.as_ref();
    let config = &mut server.config;
    config.tls = certificate.map(|certificate| certificate.tls.clone());
    if let Some(reader) = map.take("timeouts") {
        timeouts(&reader, config, &mut server.body);
    }
    map.set(
        "max_connections",
        &mut config.max_connections,
        ValueReader::get,
    );
    map.set("max_head", &mut config.max_head, head_size);
    map.set("max_body", &mut server.body.max, size);
    map.set("decode_bodies", &mut server.body.decode, ValueReader::get);
    if let Some(drain) = map.take("drain") {
        let mut drain = drain.as_map();
        drain.set("delay", &mut server.drain_delay, |reader| {
            in_range(reader, duration(reader)?, Duration::ZERO, LONGEST_DELAY)
        });
        drain.set("timeout", &mut config.grace, duration);
        drain.finish();
    }
    for problem in config.errors() {
        let key = match problem.field() {
            // The field has another name and place in the file.
            "grace" => "drain.timeout",
            key => key,
        };
        let reader = reader.at(key);
        reader.error("invalid", reader.tree.quote_in(problem.message()));
    }
    server.proxies = proxies(&mut map);
    server.cors = map.get("cors", cors);
    if let Some(reader) = map.take("correlation") {
        server.correlation = correlation(&reader);
    }
    map.finish();
    server
}

fn addresses(map: &mut MapReader<'_>, server: &mut Server) {
    map.set("listen", &mut server.listen, address);
    map.set("admin", &mut server.admin, address);
    let (listen, admin) = (server.listen, server.admin);
    // An address that is not written has its default.
    let (at_listen, at_admin) = (map.take("listen"), map.take("admin"));
    if overlap(listen, admin) {
        if let Some(reader) = at_admin.or(at_listen) {
            let message = if listen == admin {
                format!("listen and admin must differ, got {admin} for both")
            } else {
                format!("listen {listen} and admin {admin} overlap; use another port")
            };
            reader.error("invalid", message);
        }
        return;
    }
    if let Some(reader) = at_admin
        && !admin.ip().is_loopback()
    {
        let message = format!(
            "the admin address {admin} is reachable from other hosts and has no authentication"
        );
        let help = "listen on 127.0.0.1, or restrict access by other means";
        reader.warning("open_admin", message, help);
    }
}

/// Returns `true` if only one of the addresses can be bound. An unspecified address, such as `0.0.0.0`, is
/// every address of its family. Port 0 binds a different free port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let unspecified = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_host = one.ip() == other.ip() || unspecified && one.is_ipv4() == other.is_ipv4();
    one.port() == other.port() && one.port() != 0 && same_host
}

/// Bounds of client timeouts. Shorter ones would cut well-behaved clients, longer ones would not
/// protect the server.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(3600);

/// Reads the certificate and the optional CA for client certificates.
fn tls(reader: &ValueReader<'_>) -> Option<ReloadableCert> {
    let mut map = reader.as_map();
    let (cert, key) = (map.require("cert_file"), map.require("key_file"));
    let clients = map.take("client_ca_file");
    map.finish();
    let authority = clients
        .as_ref()
        .map(|reader| CertFile::load(reader, CertKind::Authorities));
    let (cert, key) = (cert?, key?);
    let (pair, chain, secret) = PairFiles::load(&cert, &key)?;
    // An unreadable CA file must not become `None`, which admits every client.
    let authority = authority.map_or(Some(None), |authority| authority.map(Some))?;
    let tls = match &authority {
        None => ServerTls::new(&chain, &secret),
        Some((_, pem)) => ServerTls::with_client_authority(&chain, &secret, pem),
    };
    let tls = tls.map_err(|error| {
        let reader = clients.as_ref().unwrap_or(reader);
        reader.error("invalid", error.message());
    });
    Some(ReloadableCert {
        tls: tls.ok()?,
        pair,
        clients: authority.map(|(file, _)| file),
    })
}

fn timeouts(reader: &ValueReader<'_>, config: &mut ServerConfig, body: &mut BodyLimitConfig) {
    let mut map = reader.as_map();
    for (key, timeout) in [
        ("header", &mut config.header_timeout),
        ("body", &mut body.timeout),
        ("idle", &mut config.idle_timeout),
        ("write", &mut config.write_timeout),
    ] {
        map.set(key, timeout, |reader| {
            in_range(reader, duration(reader)?, SHORTEST, LONGEST)
        });
    }
    map.finish();
}

fn proxies(map: &mut MapReader<'_>) -> ForwardedLayer {
    let proxies = ForwardedLayer::new(map.each("trusted_proxies", |reader| {
        reader.parse("a network such as \"10.0.0.0/8\"", |text| text.parse().ok())
    }));
    let words = [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    match map.get("forwarded_header", |reader| word(reader, &words)) {
        Some(header) => proxies.header(header),
        None => proxies,
    }
}

fn cors(reader: &ValueReader<'_>) -> Option<CorsConfig> {
    let mut config = CorsConfig::default();
    let mut map = reader.as_map();
    let texts = |reader: &ValueReader<'_>| Some(reader.each(ValueReader::text));
    config.origins = map.get_required("origins", texts).unwrap_or_default();
    let headers = |reader: &ValueReader<'_>| Some(reader.each(header_name));
    map.set("methods", &mut config.methods, |reader| {
        Some(reader.each(method))
    });
    map.set("headers", &mut config.headers, headers);
    map.set("expose", &mut config.expose, headers);
    map.set("credentials", &mut config.credentials, ValueReader::get);
    map.set("max_age", &mut config.max_age, duration);
    map.finish();
    reader.check(&config).then_some(config)
}

fn correlation(reader: &ValueReader<'_>) -> CorrelationConfig {
    let mut config = CorrelationConfig::default();
    let mut map = reader.as_map();
    map.set("trust", &mut config.trust, ValueReader::get);
    let words = [("x-correlation-id", false), ("x-request-id", true)];
    map.set("first", &mut config.request_id_first, |reader| {
        word(reader, &words)
    });
    map.finish();
    config
}
