//! The config of a client: time limits, size limits, connections and allowed addresses.

use std::{sync::Arc, time::Duration};

use tower_fanout_layers::{
    config,
    config::{ConfigError, Validate},
};

#[cfg(feature = "tls")]
use super::ClientTlsConfig;
use super::{AddressPolicy, Resolve, resolve::System};
use crate::bounds::WAIT;

config! {
    /// Limits and connection settings of a [`Client`](super::Client) for one downstream.
    ///
    /// Times are 1 ms to 365 days.
    #[derive(Clone, Debug)]
    pub struct ClientConfig {
        /// Maximum time to connect, including the name lookup and the TLS handshake. Defaults to 1 s.
        pub connect_timeout: Duration = Duration::from_secs(1),
        /// Maximum size of a response body in bytes, at least 1. Defaults to 2 MiB.
        pub max_response: usize = 2 << 20,
        /// Maximum size of a response head in bytes, 8 KiB to 1 GiB. Defaults to 128 KiB.
        ///
        /// An HTTP/1 response is also limited to 100 headers.
        pub max_head: usize = 128 << 10,
        /// Time after which an idle connection is closed. Defaults to 90 s.
        pub idle_timeout: Duration = Duration::from_secs(90),
        /// Age from which an HTTP/1 connection is not used for another call. `None`, the default, sets no limit.
        ///
        /// The last response of a connection is received in full.
        pub max_age: Option<Duration> = None,
        /// Maximum number of idle connections that a client and its clones keep. Unlimited by default; 0
        /// disables reuse.
        ///
        /// At most [`max_connections`](field@Self::max_connections) are kept. With HTTP/2 the limit
        /// applies to each of the `connections` of [`Http2`] separately.
        pub max_idle: usize = usize::MAX,
        /// Maximum number of concurrent calls. With HTTP/1 each call uses its own connection.
        ///
        /// 1 to 1,000,000. `None`, the default, sets no limit; a concurrency limit above the client limits
        /// the calls too.
        ///
        /// Calls above the limit wait in the order of the first polls of their futures:
        /// `poll_ready` is always ready. The client does not limit the wait: place a layer with a timeout
        /// above the client, or a call may wait forever.
        ///
        /// With [`Http2::Alpn`] the limit applies to calls even if they share HTTP/2 connections. With
        /// [`Http2::PriorKnowledge`] it has no effect.
        pub max_connections: Option<usize> = None,
        /// HTTP version of the connections. Defaults to HTTP/1.1 only.
        pub http2: Http2 = Http2::default(),
        /// Interval between PING frames on each HTTP/2 connection. Defaults to 10 s.
        pub h2_ping_interval: Duration = Duration::from_secs(10),
        /// Maximum time to wait for the response to a PING. Defaults to 10 s.
        ///
        /// After this time the connection is closed, and all calls on it fail.
        pub h2_ping_timeout: Duration = Duration::from_secs(10),
        /// Addresses that the client may connect to. Defaults to [`AddressPolicy::Private`].
        pub allow_addresses: AddressPolicy = AddressPolicy::default(),
        /// Resolves the host name of the downstream. Defaults to the system resolver (`getaddrinfo`).
        pub resolver: Arc<dyn Resolve> = Arc::new(System),
        /// TLS settings, used if the endpoint begins with `https://` (feature `tls`).
        #[cfg(feature = "tls")]
        pub tls: ClientTlsConfig = ClientTlsConfig::default(),
    }
    limits {
        connect_timeout: within(WAIT),
        max_response: at_least(1_usize),
        max_head: within(8_usize << 10..=1 << 30),
        idle_timeout: within(WAIT),
        max_age: within(WAIT),
        max_connections: within(1_usize..=1_000_000),
    }
}

/// The certificates and keys in `tls` are not part of this check. [`Client::new`](super::Client::new)
/// checks them.
impl Validate for ClientConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits()
            .within("http2.connections", self.http2.connections(), 1..=1_000)
            .within("h2_ping_interval", self.h2_ping_interval, WAIT)
            .within("h2_ping_timeout", self.h2_ping_timeout, WAIT)
            .into_vec()
    }
}

/// The HTTP version of the connections to a downstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// HTTP/1.1 only. The default.
    #[default]
    Off,
    /// HTTP/2 only, without negotiation. Calls are spread over the connections in turn.
    ///
    /// With `https://` the TLS handshake offers only `h2`, and the client uses HTTP/2 even if the
    /// downstream selects no protocol.
    PriorKnowledge {
        /// Number of connections, 1 to 1,000.
        connections: usize,
    },
    /// HTTP/2 or HTTP/1.1, negotiated in the TLS handshake (ALPN,
    /// [RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)). With `http://`, which has no ALPN, the
    /// connections use HTTP/1.1.
    Alpn {
        /// Number of connections with HTTP/2, 1 to 1,000.
        connections: usize,
    },
}

impl Http2 {
    /// Number of pools that the client needs; each pool has one HTTP/2 connection.
    pub(super) fn connections(self) -> usize {
        match self {
            Self::Off => 1,
            Self::PriorKnowledge { connections } | Self::Alpn { connections } => connections,
        }
    }

    /// Returns `true` if every connection uses HTTP/2.
    pub(super) const fn is_prior_knowledge(self) -> bool {
        matches!(self, Self::PriorKnowledge { .. })
    }
}
