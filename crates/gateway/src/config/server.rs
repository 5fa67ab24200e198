//! Reads where and how is listened.

use std::{net::SocketAddr, time::Duration};

use tower_fanout::layers::config::Validate;
use tower_fanout_http::{
    body::BodyLimitConfig,
    correlation::CorrelationConfig,
    cors::CorsConfig,
    forwarded::{ForwardedHeader, TrustedProxies},
    server::{ServerConfig, Tls},
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

/// The least that a head may be given, in bytes.
const MIN_HEAD: usize = 8 << 10;

/// Where and how is listened.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// The public address.
    pub(crate) listen: SocketAddr,
    /// The address for operators.
    pub(crate) admin: SocketAddr,
    /// How connections to the public address are treated, and how long requests in flight may go on
    /// after the stop.
    pub(crate) settings: ServerConfig,
    /// The certificate of the public address, if it is served by TLS.
    pub(crate) certificate: Option<ReloadableCert>,
    /// How bodies of requests are read.
    pub(crate) body: BodyLimitConfig,
    /// How long requests are still taken after the signal to stop.
    pub(crate) drain_delay: Duration,
    /// Who is believed about whom it speaks for.
    pub(crate) proxies: TrustedProxies,
    /// What pages of other origins may ask; browsers let them read nothing if none.
    pub(crate) cors: Option<CorsConfig>,
    /// Which ids of callers are kept.
    pub(crate) correlation: CorrelationConfig,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 9901)),
            settings: ServerConfig::default(),
            certificate: None,
            body: BodyLimitConfig::default(),
            drain_delay: Duration::from_secs(5),
            proxies: TrustedProxies::default(),
            cors: None,
            correlation: CorrelationConfig::default(),
        }
    }
}

pub(super) fn server(field: Option<ValueReader<'_>>) -> Server {
    let mut server = Server::default();
    let Some(field) = field else { return server };
    let mut section = field.section();
    addresses(&mut section, &mut server);
    let Server {
        settings,
        certificate,
        body,
        drain_delay,
        ..
    } = &mut server;
    *certificate = section.take("tls").and_then(|field| tls(&field));
    settings.tls = certificate.as_ref().map(|shown| shown.tls.clone());
    if let Some(field) = section.take("timeouts") {
        timeouts(&field, settings, body);
    }
    settings.max_connections = section
        .take("max_connections")
        .and_then(|field| within(&field, 1, 1_000_000))
        .unwrap_or(settings.max_connections);
    settings.max_head = size_from(section.take("max_head"), MIN_HEAD, settings.max_head);
    body.max = size(section.take("max_body"), body.max);
    body.decode = section.is_on("decode_bodies");
    if let Some(drain) = section.take("drain") {
        let mut drain = drain.section();
        *drain_delay = span(drain.take("delay"), *drain_delay);
        settings.grace = span(drain.take("timeout"), settings.grace);
        drain.finish();
    }
    // What else is bounded was held against narrower bounds above.
    for problem in settings.errors() {
        let key = match problem.field() {
            "grace" => "drain.timeout",
            key => key,
        };
        field.at(key).error("invalid", problem.message());
    }
    server.proxies = proxies(&mut section);
    server.cors = section.take("cors").and_then(|field| cors(&field));
    if let Some(field) = section.take("correlation") {
        server.correlation = correlation(&field);
    }
    section.finish();
    server
}

fn addresses(section: &mut MapReader<'_>, server: &mut Server) {
    server.listen = address(section.take("listen"), server.listen);
    let admin = section.take("admin");
    server.admin = address(admin.clone(), server.admin);
    let Some(admin) = admin else { return };
    if server.admin == server.listen && server.admin.port() != 0 {
        let message = format!("listen and admin are both {}", server.admin);
        admin.error("invalid", message);
    } else if !server.admin.ip().is_loopback() {
        let message = format!(
            "{} can be reached from outside, and asks for no token",
            server.admin
        );
        let help = "listen on 127.0.0.1, or guard it by other means";
        admin.warning("open_admin", message, help);
    }
}

/// Within which a client may be waited for: less cuts those that do nothing wrong, more is no bound.
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(3600);

/// The certificate that is shown, and whose clients are let in.
fn tls(field: &ValueReader<'_>) -> Option<ReloadableCert> {
    let mut section = field.section();
    let (cert, key) = (section.require("cert_file"), section.require("key_file"));
    let clients = section.take("client_ca_file");
    section.finish();
    let authority = clients.as_ref().map(file);
    let (cert, key) = (cert?, key?);
    let (chain, secret) = pair(&cert, &key)?;
    let tls = match authority {
        None => Tls::new(&chain, &secret),
        Some(authority) => Tls::with_client_authority(&chain, &secret, &authority?),
    };
    let tls = tls.map_err(|error| clients.as_ref().unwrap_or(field).error("invalid", error));
    Some(ReloadableCert {
        tls: tls.ok()?,
        cert: cert.text()?.into(),
        key: key.text()?.into(),
    })
}

fn timeouts(field: &ValueReader<'_>, settings: &mut ServerConfig, body: &mut BodyLimitConfig) {
    let mut section = field.section();
    for (key, timeout) in [
        ("header", &mut settings.header_timeout),
        ("body", &mut body.timeout),
        ("idle", &mut settings.idle_timeout),
        ("write", &mut settings.write_timeout),
    ] {
        if let Some(field) = section.take(key)
            && let Some(Span(read)) = field.get()
        {
            let read = in_range(&field, read, SHORTEST, LONGEST);
            *timeout = read.unwrap_or(*timeout);
        }
    }
    section.finish();
}

fn proxies(section: &mut MapReader<'_>) -> TrustedProxies {
    let items = section.items("trusted_proxies");
    let networks = items.iter().filter_map(|field| {
        let network = field.text()?.parse();
        network
            .map_err(|_| field.error("invalid", "this is no network such as \"10.0.0.0/8\""))
            .ok()
    });
    let proxies = TrustedProxies::new(networks);
    let words = [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    let header = section.take("forwarded_header");
    match header.and_then(|field| word(&field, &words)) {
        Some(header) => proxies.header(header),
        None => proxies,
    }
}

fn cors(field: &ValueReader<'_>) -> Option<CorsConfig> {
    let mut settings = CorsConfig::default();
    let mut section = field.section();
    if let Some(field) = section.require("origins") {
        settings.origins = field.texts();
    }
    if let Some(field) = section.take("methods") {
        settings.methods = field.list().iter().filter_map(method).collect();
    }
    for (key, headers) in [
        ("headers", &mut settings.headers),
        ("expose", &mut settings.expose),
    ] {
        if let Some(field) = section.take(key) {
            *headers = field.list().iter().filter_map(header_name).collect();
        }
    }
    settings.credentials = section.is_on("credentials");
    settings.max_age = span(section.take("max_age"), settings.max_age);
    section.finish();
    field.check(&settings).then_some(settings)
}

fn correlation(field: &ValueReader<'_>) -> CorrelationConfig {
    let mut section = field.section();
    let trust = is_on_unless_off(section.take("trust"));
    let words = [("x-correlation-id", false), ("x-request-id", true)];
    let first = section.take("first");
    let request_id_first = first.and_then(|field| word(&field, &words));
    section.finish();
    CorrelationConfig::default()
        .trust(trust)
        .request_id_first(request_id_first.unwrap_or_default())
}
