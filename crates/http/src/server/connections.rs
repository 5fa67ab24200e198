//! Counts connections and the reasons why they were closed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tower_fanout_layers::labels;

labels! {
    /// The reason why a connection was closed.
    pub enum CloseReason {
        /// The client or the server closed the connection normally. Includes connections that were
        /// closed because of [`ServerConfig::max_age`](super::ServerConfig::max_age) or a graceful
        /// shutdown.
        Done = "done",
        /// A request head or the TLS handshake took longer than the header timeout.
        Slow = "slow",
        /// The connection was idle for longer than the idle timeout.
        Idle = "idle",
        /// The client did not read its response within the write timeout.
        Stalled = "stalled",
        /// The connection or its TLS handshake failed, the client sent invalid HTTP, or the service
        /// panicked. Over HTTP/2 a panic resets its stream only and does not count.
        ///
        /// Also used if a PING was not answered in time, if the client exceeded a limit of resets
        /// (GOAWAY), and if the connection was aborted at the end of
        /// [`ServerConfig::grace`](super::ServerConfig::grace).
        Error = "error",
    }
}

/// Counters of a server's connections. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    /// One counter per reason, indexed by discriminant. `ALL` has every variant, so no index is out
    /// of range.
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl Connections {
    /// Returns the number of connections accepted since this value was created with `default`.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// Returns the number of connections closed for `reason` since this value was created with `default`.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.0.closed[reason as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn open(&self) -> u64 {
        let closed = CloseReason::ALL.iter().map(|reason| self.closed(*reason));
        self.accepted().saturating_sub(closed.sum())
    }

    /// Counts an accepted connection.
    pub(super) fn accept(&self) -> Counted {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone(), CloseReason::Error)
    }
}

/// A counted connection, open until this value is dropped. Without a call of [`close`](Self::close)
/// it counts as closed for [`CloseReason::Error`], as when its task panics.
#[derive(Debug)]
pub(super) struct Counted(Connections, CloseReason);

impl Counted {
    /// Counts the connection as closed for `reason`.
    pub(super) fn close(mut self, reason: CloseReason) {
        self.1 = reason;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.closed[self.1 as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_are_those_not_closed() {
        let connections = Connections::default();
        let (first, second) = (connections.accept(), connections.accept());
        assert_eq!((connections.accepted(), connections.open()), (2, 2));
        first.close(CloseReason::Slow);
        drop(second);
        assert_eq!((connections.accepted(), connections.open()), (2, 0));
        let closed = CloseReason::ALL.iter();
        let closed = closed.map(|&reason| (reason.as_str(), connections.closed(reason)));
        let expected = [
            ("done", 0),
            ("slow", 1),
            ("idle", 0),
            ("stalled", 0),
            ("error", 1),
        ];
        assert!(closed.eq(expected));
    }
}
