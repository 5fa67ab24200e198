//! The part `downstreams`.

use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_fanout_http::client::{AddressPolicy, ClientConfig};

use super::{
    super::text::{Parsed, Size, Url},
    section,
};

section! {
    /// A service that nodes call.
    #[schemars(extend("x-planned" = { "health_check": "health checking" }))]
    #[schemars(extend("required" = ["endpoints"], "x-partial" = true))]
    Downstream {
        /// Endpoints of the service. For now, there must be exactly one.
        endpoints: Vec<Endpoint> = Vec::new(),
        /// Name of a policy under `policies`. By default, all parts of a policy have their defaults.
        policy: Option<String> = None,
        /// Maximum size of a response body.
        max_response: Parsed<Size> = Parsed(Size(ClientConfig::default().max_response)),
        /// Maximum size of a response head.
        #[schemars(extend("x-minimum" = "8KiB"))]
        max_head: Parsed<Size> = Parsed(Size(ClientConfig::default().max_head)),
        /// Maximum time for a connection to be made, with name resolution and TLS.
        connect_timeout: Parsed<Duration> = Parsed(ClientConfig::default().connect_timeout),
        /// Time after which an unused connection is closed.
        idle_timeout: Parsed<Duration> = Parsed(ClientConfig::default().idle_timeout),
        /// Maximum number of open connections. By default, only the limit of concurrent calls applies.
        #[schemars(range(min = 1, max = 1_000_000))]
        max_connections: Option<usize> = None,
        /// Addresses that the name of the service may resolve to.
        allow_addresses: Addresses = Addresses::default(),
        /// TLS options of an endpoint that begins with `https://`.
        tls: Option<ClientTls> = None,
        /// Use of HTTP/2.
        http2: Http2 = Http2::default(),
        /// Number of HTTP/2 connections. Defaults to 1.
        #[schemars(range(min = 1, max = 64))]
        http2_connections: Option<u8> = None,
        /// Headers of the caller that are forwarded to the service.
        forward_headers: Vec<Parsed<HeaderName>> = Vec::new(),
        /// Headers with credentials of the caller that are forwarded to the service, such as `authorization`.
        forward_credentials: Vec<Parsed<HeaderName>> = Vec::new(),
    }
}

/// An endpoint of a service.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-planned" = { "weight": "endpoint weighting" }))]
pub(in crate::config) struct Endpoint {
    /// Base URL, such as `http://users:8080`.
    pub(in crate::config) url: Parsed<Url>,
}

/// Addresses that the name of a service may resolve to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Addresses {
    /// Public addresses only.
    Public,
    /// Public and private addresses, and loopback.
    #[default]
    Private,
    /// All addresses, link-local ones included.
    LinkLocal,
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
    ClientTls {
        /// File with the CA certificates to trust, in PEM. By default, those of the system are trusted.
        ca_file: Option<String> = None,
        /// File with the certificate chain of the gateway, in PEM. Requires `key_file`.
        cert_file: Option<String> = None,
        /// File with the private key of the gateway, in PEM. Requires `cert_file`.
        key_file: Option<String> = None,
        /// Name in the certificate of the service. Defaults to the host of the endpoint.
        server_name: Option<String> = None,
        /// Lowest version of TLS.
        min_version: TlsVersion = TlsVersion::default(),
        /// Check of the certificate of the service.
        verify: Verify = Verify::default(),
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub(in crate::config) enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Check of the certificate of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Verify {
    /// The certificate must come from a trusted CA, be valid now, and have the name of the service.
    #[default]
    Full,
    /// Any certificate is accepted. An attacker on the network can read and change the traffic.
    DangerouslySkip,
}

impl From<Addresses> for AddressPolicy {
    fn from(addresses: Addresses) -> Self {
        match addresses {
            Addresses::Public => Self::Public,
            Addresses::Private => Self::Private,
            Addresses::LinkLocal => Self::LinkLocal,
        }
    }
}
