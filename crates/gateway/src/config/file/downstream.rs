//! The part `downstreams`.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_fanout::layers::config::schema::Limits;
use tower_fanout_http::client::{AddressPolicy, ClientConfig, TlsVersion, Verify};

use super::{
    super::text::{Parsed, Size, Url, host, port},
    SMALLEST_BODY, headers_except, managed, section,
};

/// Regular expression of the headers with credentials.
const CREDENTIALS: &str =
    "^([Aa][Uu][Tt][Hh][Oo][Rr][Ii][Zz][Aa][Tt][Ii][Oo][Nn]|[Cc][Oo][Oo][Kk][Ii][Ee])$";

/// Regular expression of the URL of a service.
const ENDPOINT: &str = concat!(
    "^[Hh][Tt][Tt][Pp][Ss]?://",
    host!(),
    "(:",
    port!(),
    ")?",
    r"(/(?!\.\.?(/|$))([^#{}?%\\/]|%[0-9A-Fa-f]{2})*)*$"
);

/// Returns the schema of headers that are forwarded, other than credentials.
fn forwarded() -> serde_json::Value {
    headers_except(managed().chain(super::CREDENTIALS))
}

section! {
    /// A service that nodes call.
    #[schemars(extend("x-planned" = { "health_check": "health checking" }))]
    #[schemars(extend("required" = ["endpoints"], "x-partial" = true))]
    #[schemars(transform = <ClientConfig as Limits>::add_limits)]
    Downstream {
        /// Endpoints of the service. For now, there must be exactly one.
        #[schemars(length(min = 1, max = 1))]
        endpoints: Vec<Endpoint> = Vec::new(),
        /// Name of a policy under `policies`. By default, all parts of a policy have their defaults.
        #[schemars(example = &"standard")]
        policy: Option<String> = None,
        /// Maximum size of a response body.
        #[schemars(extend("x-minimum" = SMALLEST_BODY))]
        max_response: Parsed<Size> = Parsed(Size(ClientConfig::default().max_response)),
        /// Maximum size of a response head.
        max_head: Parsed<Size> = Parsed(Size(ClientConfig::default().max_head)),
        /// Maximum time for a connection to be made, with name resolution and TLS.
        connect_timeout: Parsed<Duration> = Parsed(ClientConfig::default().connect_timeout),
        /// Time after which an unused connection is closed.
        idle_timeout: Parsed<Duration> = Parsed(ClientConfig::default().idle_timeout),
        /// Age from which an HTTP/1 connection is not used for another call. By default, there is no limit.
        #[schemars(example = &"10m")]
        max_age: Option<Parsed<Duration>> = None,
        /// Maximum number of open connections. By default, only the limit of concurrent calls applies.
        #[schemars(example = 200)]
        max_connections: Option<usize> = None,
        /// Addresses that the name of the service may resolve to.
        allow_addresses: AddressPolicy = AddressPolicy::default(),
        /// TLS options of an endpoint that begins with `https://`.
        tls: Option<ClientTls> = None,
        /// Use of HTTP/2.
        #[schemars(example = &"alpn")]
        http2: Http2 = Http2::default(),
        /// Number of HTTP/2 connections. Defaults to 1.
        #[schemars(range(min = 1, max = 64))]
        #[schemars(example = 2)]
        http2_connections: Option<u8> = None,
        /// Headers of the caller that are forwarded to the service.
        #[schemars(example = ["accept-language"], extend("items" = forwarded()))]
        forward_headers: Vec<Parsed<HeaderName>> = Vec::new(),
        /// Headers with credentials of the caller that are forwarded to the service, such as `authorization`.
        #[schemars(example = ["authorization"], inner(regex(pattern = CREDENTIALS)))]
        forward_credentials: Vec<Parsed<HeaderName>> = Vec::new(),
    }
}

/// An endpoint of a service.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-planned" = { "weight": "endpoint weighting" }))]
pub(in crate::config) struct Endpoint {
    /// Base URL, such as `http://users:8080`.
    #[schemars(example = &"http://users:8080", regex(pattern = ENDPOINT))]
    pub(in crate::config) url: Parsed<Url>,
}

/// Use of HTTP/2 to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Http2 {
    /// HTTP/1.1 only.
    #[default]
    Off,
    /// HTTP/2 without negotiation.
    PriorKnowledge,
    /// The protocol that the TLS handshake selects. Requires TLS.
    Alpn,
}

section! {
    /// TLS options of a service.
    #[schemars(extend("dependencies" = { "cert_file": ["key_file"], "key_file": ["cert_file"] }))]
    ClientTls {
        /// File with the CA certificates to trust, in PEM. By default, those of the system are trusted.
        #[schemars(example = &"/etc/fanout/ca.pem")]
        ca_file: Option<String> = None,
        /// File with the certificate chain of the gateway, in PEM. Requires `key_file`.
        #[schemars(example = &"/etc/fanout/client.crt")]
        cert_file: Option<String> = None,
        /// File with the private key of the gateway, in PEM. Requires `cert_file`.
        #[schemars(example = &"/etc/fanout/client.key")]
        key_file: Option<String> = None,
        /// Name in the certificate of the service. Defaults to the host of the endpoint.
        #[schemars(example = &"users.internal")]
        server_name: Option<String> = None,
        /// Lowest version of TLS.
        min_version: TlsVersion = TlsVersion::default(),
        /// Check of the certificate of the service.
        verify: Verify = Verify::default(),
    }
}
