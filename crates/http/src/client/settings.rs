//! Where a downstream may be, what it may send, and what is kept for it.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "tls")]
use super::TlsSettings;
use super::{Reach, Resolve, resolve::System};

/// What one downstream may take, in time, bytes and connections.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// How long connecting may take, with the look-up of the name and the handshake of TLS; 1 s by
    /// default.
    pub connect_timeout: Duration,
    /// The largest body, in bytes; 2 MiB by default.
    pub max_response: usize,
    /// The largest head of an answer, in bytes; 128 KiB by default, and 8 KiB at least. In HTTP/1 it has
    /// at most 100 headers besides.
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
    /// Which addresses the name may stand for; [`Reach::Private`] by default.
    pub reach: Reach,
    /// What finds the addresses of a name; the system by default.
    pub resolver: Arc<dyn Resolve>,
    /// Whom to believe, where the address begins with `https`.
    #[cfg(feature = "tls")]
    pub tls: TlsSettings,
}

impl Default for ClientSettings {
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
            reach: Reach::default(),
            resolver: Arc::new(System),
            #[cfg(feature = "tls")]
            tls: TlsSettings::default(),
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
    /// HTTP/2 only, without asking, on so many connections; 0 is 1. Calls take them in turn.
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
            Self::PriorKnowledge { connections } | Self::Alpn { connections } => connections.max(1),
        }
    }

    pub(super) const fn is_certain(self) -> bool {
        matches!(self, Self::PriorKnowledge { .. })
    }
}
