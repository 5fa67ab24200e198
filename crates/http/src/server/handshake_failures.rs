//! Counts and logs the clients that the TLS handshake turned away.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{log::RateLimit, tls_error::TlsErrorKind};

/// The failed handshakes of a server by kind.
pub(super) struct HandshakeFailures([OfKind; TlsErrorKind::ALL.len()]);

struct OfKind {
    count: AtomicU64,
    /// Any stranger can cause these lines, so each kind has one per second.
    lines: RateLimit,
}

impl HandshakeFailures {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| OfKind {
            count: AtomicU64::new(0),
            lines: RateLimit::new(Duration::from_secs(1)),
        }))
    }

    /// Counts and logs the failed handshake of the client at `peer`.
    pub(super) fn record(&self, peer: Option<SocketAddr>, error: &io::Error) {
        let kind = TlsErrorKind::of_io(error);
        // `ALL` has every kind, so the index is in range.
        let of_kind = &self.0[kind as usize];
        of_kind.count.fetch_add(1, Ordering::Relaxed);
        if let Some(suppressed) = of_kind.lines.admit() {
            let (kind, peer) = (kind.as_str(), peer.map(tracing::field::display));
            tracing::info!(kind, peer, %error, suppressed, "TLS handshake with a client failed");
        }
    }

    pub(super) fn count(&self, kind: TlsErrorKind) -> u64 {
        self.0[kind as usize].count.load(Ordering::Relaxed)
    }
}
