//! Where a downstream may be, what it may send, and what is kept for it.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tower_fanout_layers::{
    config::{ConfigError, Validate},
    setters,
};

#[cfg(feature = "tls")]
use super::ClientTlsConfig;
use super::{AddressPolicy, Resolve, resolve::System};
use crate::bounds::{Bounds, WAIT};

/// What one downstream may take, in time, bytes and connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// How long connecting may take, with the look-up of the name and the handshake of TLS; 1 s by
    /// default.
    pub connect_timeout: Duration,
    /// The largest body, in bytes; 2 MiB by default.
    pub max_response: usize,
    /// The largest head of an answer, in bytes, 8 KiB to 1 GiB; 128 KiB by default. In HTTP/1 it has at
    /// most 100 headers besides.
    pub max_head: usize,
    /// How long an unused connection is kept; 90 s by default.
    pub idle_timeout: Duration,
    /// How many unused connections are kept; all by default.
    pub max_idle: usize,
    /// How many calls are under way at once, each on a connection of its own; no bound by default, since
    /// a concurrency limit above bounds them too. A call that does not fit waits within its own timeout.
    /// Of no meaning where [`http2`](Self::http2) is spoken.
    pub max_connections: Option<usize>,
    /// Whether HTTP/2 is spoken; not by default.
    pub http2: Http2,
    /// How often a service is asked over HTTP/2 whether it is still there; every 10 s by default.
    pub h2_ping_interval: Duration,
    /// How long it may take to say so before its connection is given up, with all calls on it; 10 s by
    /// default.
    pub h2_ping_timeout: Duration,
    /// Which addresses the name may stand for; [`AddressPolicy::Private`] by default.
    pub allow_addresses: AddressPolicy,
    /// What finds the addresses of a name; the system by default.
    pub resolver: Arc<dyn Resolve>,
    /// Whom to believe, where the address begins with `https`.
    #[cfg(feature = "tls")]
    pub tls: ClientTlsConfig,
}

setters! {
    ClientConfig {
        connect_timeout: Duration,
        max_response: usize,
        max_head: usize,
        idle_timeout: Duration,
        max_idle: usize,
        max_connections: Option<usize>,
        http2: Http2,
        h2_ping_interval: Duration,
        h2_ping_timeout: Duration,
        allow_addresses: AddressPolicy,
        resolver: Arc<dyn Resolve>,
    }
}

#[cfg(feature = "tls")]
setters! {
    without new ClientConfig {
        tls: ClientTlsConfig,
    }
}

/// What is given for TLS is checked when the client is built.
impl Validate for ClientConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Bounds::default()
            .time("connect_timeout", self.connect_timeout, WAIT)
            .unless(self.max_response > 0, "max_response", "0 is less than 1")
            .number("max_head", self.max_head, 8 << 10..=1 << 30)
            .time("idle_timeout", self.idle_timeout, WAIT)
            .number(
                "max_connections",
                self.max_connections,
                1..=Semaphore::MAX_PERMITS,
            )
            .number("http2.connections", self.http2.connections(), 1..=1_000)
            .time("h2_ping_interval", self.h2_ping_interval, WAIT)
            .time("h2_ping_timeout", self.h2_ping_timeout, WAIT)
            .into_vec()
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            max_response: 2 << 20,
            max_head: 128 << 10,
            idle_timeout: Duration::from_secs(90),
            max_idle: usize::MAX,
            max_connections: None,
            http2: Http2::default(),
            h2_ping_interval: Duration::from_secs(10),
            h2_ping_timeout: Duration::from_secs(10),
            allow_addresses: AddressPolicy::default(),
            resolver: Arc::new(System),
            #[cfg(feature = "tls")]
            tls: ClientTlsConfig::default(),
        }
    }
}

/// Whether HTTP/2 is spoken to a downstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// HTTP/1.1 only.
    #[default]
    Off,
    /// HTTP/2 only, without asking, on 1 to 1,000 connections. Calls take them in turn.
    PriorKnowledge {
        /// How many connections.
        connections: usize,
    },
    /// What the service chooses in the handshake of TLS (ALPN,
    /// [RFC 7301](https://www.rfc-editor.org/rfc/rfc7301)): HTTP/2 on so many connections, or HTTP/1.1.
    Alpn {
        /// How many connections.
        connections: usize,
    },
}

impl Http2 {
    pub(super) fn connections(self) -> usize {
        match self {
            Self::Off => 1,
            Self::PriorKnowledge { connections } | Self::Alpn { connections } => connections,
        }
    }

    pub(super) const fn is_certain(self) -> bool {
        matches!(self, Self::PriorKnowledge { .. })
    }
}
