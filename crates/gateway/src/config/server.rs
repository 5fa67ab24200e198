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
    tls::{ReloadableCert, pair},
    value::{
        Span, address, file, header_name, in_range, is_on_unless_off, size, size_from, span,
        within, word,
    },
};

/// Minimum limit for request heads, in bytes.
const MIN_HEAD: usize = 8 << 10;

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

pub(super) fn server(reader: Option<ValueReader<'_>>) -> Server {
    let mut server = Server::default();
    let Some(reader) = reader else { return server };
    let mut map = reader.as_map();
    addresses(&mut map, &mut server);
    let Server {
        config,
        certificate,
        body,
        drain_delay,
        ..
    } = &mut server;
    *certificate = map.take("tls").and_then(|reader| tls(&reader));
    config.tls = certificate
        .as_ref()
        .map(|certificate| certificate.tls.clone());
    if let Some(reader) = map.take("timeouts") {
        timeouts(&reader, config, body);
    }
    config.max_connections = map
        .take("max_connections")
        .and_then(|reader| within(&reader, 1, 1_000_000))
        .unwrap_or(config.max_connections);
    config.max_head = size_from(map.take("max_head"), MIN_HEAD, config.max_head);
    body.max = size(map.take("max_body"), body.max);
    body.decode = map.is_on("decode_bodies");
    if let Some(drain) = map.take("drain") {
        let mut drain = drain.as_map();
        *drain_delay = span(drain.take("delay"), *drain_delay);
        config.grace = span(drain.take("timeout"), config.grace);
        drain.finish();
    }
    // The other fields are already checked against narrower bounds.
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
    server.cors = map.take("cors").and_then(|reader| cors(&reader));
    if let Some(reader) = map.take("correlation") {
        server.correlation = correlation(&reader);
    }
    map.finish();
    server
}

fn addresses(map: &mut MapReader<'_>, server: &mut Server) {
    server.listen = address(map.take("listen"), server.listen);
    let admin = map.take("admin");
    server.admin = address(admin.clone(), server.admin);
    let Some(admin) = admin else { return };
    // Port 0 binds a different free port each time.
    if server.admin == server.listen && server.admin.port() != 0 {
        let message = format!(
            "listen and admin must differ, got {} for both",
            server.admin
        );
        admin.error("invalid", message);
    } else if !server.admin.ip().is_loopback() {
        let message = format!(
            "the admin address {} is reachable from other hosts and has no authentication",
            server.admin
        );
        let help = "listen on 127.0.0.1, or restrict access by other means";
        admin.warning("open_admin", message, help);
    }
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
    let authority = clients.as_ref().map(file);
    let (cert, key) = (cert?, key?);
    let (chain, secret) = pair(&cert, &key)?;
    let tls = match authority {
        None => ServerTls::new(&chain, &secret),
        Some(authority) => ServerTls::with_client_authority(&chain, &secret, &authority?),
    };
    let tls = tls.map_err(|error| {
        let reader = clients.as_ref().unwrap_or(reader);
        reader.error("invalid", error.message());
    });
    Some(ReloadableCert {
        tls: tls.ok()?,
        cert: cert.text()?.into(),
        key: key.text()?.into(),
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
        if let Some(reader) = map.take(key)
            && let Some(Span(read)) = reader.get()
        {
            let read = in_range(&reader, read, SHORTEST, LONGEST);
            *timeout = read.unwrap_or(*timeout);
        }
    }
    map.finish();
}

fn proxies(map: &mut MapReader<'_>) -> ForwardedLayer {
    let items = map.items("trusted_proxies");
    let proxies = ForwardedLayer::new(items.iter().filter_map(|reader| {
        reader.parse("a network such as \"10.0.0.0/8\"", |text| text.parse().ok())
    }));
    let words = [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    let header = map.take("forwarded_header");
    match header.and_then(|reader| word(&reader, &words)) {
        Some(header) => proxies.header(header),
        None => proxies,
    }
}

fn cors(reader: &ValueReader<'_>) -> Option<CorsConfig> {
    let mut config = CorsConfig::default();
    let mut map = reader.as_map();
    if let Some(reader) = map.require("origins") {
        config.origins = reader.texts();
    }
    if let Some(reader) = map.take("methods") {
        config.methods = reader.list().iter().filter_map(method).collect();
    }
    for (key, headers) in [
        ("headers", &mut config.headers),
        ("expose", &mut config.expose),
    ] {
        if let Some(reader) = map.take(key) {
            *headers = reader.list().iter().filter_map(header_name).collect();
        }
    }
    config.credentials = map.is_on("credentials");
    config.max_age = span(map.take("max_age"), config.max_age);
    map.finish();
    reader.check(&config).then_some(config)
}

fn correlation(reader: &ValueReader<'_>) -> CorrelationConfig {
    let mut map = reader.as_map();
    let trust = is_on_unless_off(map.take("trust"));
    let words = [("x-correlation-id", false), ("x-request-id", true)];
    let first = map.take("first");
    let request_id_first = first.and_then(|reader| word(&reader, &words));
    map.finish();
    CorrelationConfig::default()
        .trust(trust)
        .request_id_first(request_id_first.unwrap_or_default())
}
