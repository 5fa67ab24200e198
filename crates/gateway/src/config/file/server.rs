//! The part `server`.

use std::{net::SocketAddr, time::Duration};

use http::{HeaderName, Method};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_fanout::layers::config::schema::Limits;
use tower_fanout_http::{
    body::BodyLimitConfig, correlation::CorrelationConfig, cors::CorsConfig,
    forwarded::ForwardedHeader, server::ServerConfig,
};

use super::{
    super::text::{Parsed, Size, port},
    SMALLEST_BODY, section,
};

section! {
    /// Listeners, limits of connections and requests, and the callers that are trusted.
    #[schemars(transform = <ServerConfig as Limits>::add_limits)]
    Server {
        /// Public address.
        listen: Parsed<SocketAddr> = Parsed(SocketAddr::from(([0, 0, 0, 0], 8080))),
        /// Address for health checks and metrics. It has no authentication, so other hosts must not reach it.
        admin: Parsed<SocketAddr> = Parsed(SocketAddr::from(([127, 0, 0, 1], 9901))),
        /// Certificate of the public address. Without it, the gateway serves plain HTTP.
        tls: Option<ServerTls> = None,
        /// Time limits of connections to the public address.
        timeouts: Timeouts = Timeouts::default(),
        /// Maximum number of open connections. Further ones wait to be accepted.
        max_connections: usize = ServerConfig::default().max_connections,
        /// Maximum size of a request head.
        max_head: Parsed<Size> = Parsed(Size(ServerConfig::default().max_head)),
        /// Maximum size of a request body.
        #[schemars(extend("x-minimum" = SMALLEST_BODY))]
        max_body: Parsed<Size> = Parsed(Size(BodyLimitConfig::default().max)),
        /// Decodes request bodies in gzip and Brotli. The limits apply to the decoded body.
        decode_bodies: bool = BodyLimitConfig::default().decode,
        /// Stop of the process after SIGTERM.
        drain: Drain = Drain::default(),
        /// Networks of proxies that may send forwarding headers and deadlines.
        #[schemars(example = ["10.0.0.0/8"])]
        trusted_proxies: Vec<Parsed<IpNet>> = Vec::new(),
        /// Header in which the trusted proxies send the address of the client.
        forwarded_header: ForwardedHeader = ForwardedHeader::default(),
        /// Requests that pages of other origins may send. Without it, browsers hide responses from them.
        cors: Option<Cors> = None,
        /// Correlation ids of callers.
        correlation: Correlation = Correlation::default(),
    }
}

/// The certificate of the public address.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct ServerTls {
    /// File with the certificate chain, in PEM.
    #[schemars(example = &"/etc/fanout/tls.crt")]
    pub(in crate::config) cert_file: String,
    /// File with the private key, in PEM.
    #[schemars(example = &"/etc/fanout/tls.key")]
    pub(in crate::config) key_file: String,
    /// File with the CA certificates that client certificates must come from, in PEM. If set, a client must have
    /// one.
    #[schemars(example = &"/etc/fanout/clients.pem")]
    pub(in crate::config) client_ca_file: Option<String>,
}

section! {
    /// Time limits of connections to the public address.
    Timeouts {
        /// Maximum time for a request head to arrive.
        #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1h"))]
        header: Parsed<Duration> = Parsed(ServerConfig::default().header_timeout),
        /// Maximum time for a request body to arrive.
        #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1h"))]
        body: Parsed<Duration> = Parsed(BodyLimitConfig::default().timeout),
        /// Maximum time between two requests on a connection.
        #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1h"))]
        idle: Parsed<Duration> = Parsed(ServerConfig::default().idle_timeout),
        /// Age after which a connection is closed once its requests have a response. By default, there is no limit.
        #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h"), example = &"10m")]
        max_age: Option<Parsed<Duration>> = None,
        /// Maximum time without write progress while a response is pending.
        #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "1h"))]
        write: Parsed<Duration> = Parsed(ServerConfig::default().write_timeout),
    }
}

section! {
    /// Stop of the process after SIGTERM.
    Drain {
        /// Time during which new requests are still accepted, while `/readyz` fails.
        #[schemars(extend("x-maximum" = "1h"))]
        delay: Parsed<Duration> = Parsed(Duration::from_secs(5)),
        /// Maximum time for requests in flight to complete after that.
        #[schemars(extend("x-maximum" = "1h"))]
        timeout: Parsed<Duration> = Parsed(ServerConfig::default().grace),
    }
}

/// Regular expression of an origin as browsers write it, or of every origin.
const ORIGIN: &str = concat!(
    r"^(\*|(http://(?!.*:80$)|https://(?!.*:443$))([-._~0-9a-z]{1,253}|\[[0-9a-f:.]+\])(:",
    port!(),
    ")?)$"
);

/// Returns the schema of a list without `*`.
fn no_star() -> Value {
    json!({ "not": { "contains": { "const": "*" } } })
}

section! {
    /// Requests that pages of other origins may send.
    #[schemars(extend("required" = ["origins"]), transform = <CorsConfig as Limits>::add_limits)]
    #[schemars(extend(
        "if" = json!({ "required": ["credentials"], "properties": { "credentials": { "const": true } } }),
        "then" = json!({ "properties": { "origins": no_star(), "headers": no_star(), "expose": no_star() } })
    ))]
    Cors {
        /// Allowed origins, such as `https://shop.example`, or only `*` for every origin.
        #[schemars(example = ["https://shop.example"], inner(regex(pattern = ORIGIN)))]
        #[schemars(extend(
            "if" = json!({ "contains": { "const": "*" } }),
            "then" = json!({ "maxItems": 1 })
        ))]
        origins: Vec<String> = Vec::new(),
        /// Allowed methods.
        methods: Vec<Parsed<Method>> = parsed(CorsConfig::default().methods),
        /// Allowed request headers.
        headers: Vec<Parsed<HeaderName>> = parsed(CorsConfig::default().headers),
        /// Response headers that pages may read.
        #[schemars(example = ["x-correlation-id"])]
        expose: Vec<Parsed<HeaderName>> = parsed(CorsConfig::default().expose),
        /// Allows browsers to send cookies and client certificates. Cannot be combined with `*`.
        credentials: bool = CorsConfig::default().credentials,
        /// Time for which a browser may cache the response to a preflight request.
        max_age: Parsed<Duration> = Parsed(CorsConfig::default().max_age),
    }
}

fn parsed<T>(values: Vec<T>) -> Vec<Parsed<T>> {
    values.into_iter().map(Parsed).collect()
}

section! {
    /// Correlation ids of callers.
    Correlation {
        /// Accepts the ids of callers. Otherwise each request gets a new one.
        trust: bool = CorrelationConfig::default().trust,
        /// Header whose id is used if a request has both.
        first: CorrelationHeader = CorrelationHeader::default(),
    }
}

/// A header with a correlation id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum CorrelationHeader {
    /// `X-Correlation-Id`.
    #[default]
    XCorrelationId,
    /// `X-Request-Id`.
    XRequestId,
}
