//! Counts connections and the reasons why they were closed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tower_fanout_layers::labels;

use super::wait_queue::WaitQueue;

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
        ///
        /// Also used after 2 s with unread response bytes while the process holds more than 128 MiB of
        /// them.
        Stalled = "stalled",
        /// The client sent an HTTP/1 head that is not valid or exceeds a limit. hyper has responded with
        /// 400, 414 or 431, or not at all to HTTP/2.
        Invalid = "invalid",
        /// The client reset 200 or more requests before the end of their calls, and at least half of all
        /// (HTTP/2). The server has sent GOAWAY with ENHANCE_YOUR_CALM.
        Resets = "resets",        /// The connection or its TLS handshake failed, the client sent an invalid body
        /// or invalid frames, or the service
        /// panicked. Over HTTP/2 a panic resets its stream only and does not count.
        ///
        /// Also used if a PING was not answered in time, if the client exceeded a limit of h2 for
        /// resets and other frames (GOAWAY), if its protocol was not that of ALPN, and if the connection was aborted at the end of
        /// [`ServerConfig::grace`](super::ServerConfig::grace).
        Error = "error",
    }
}

/// Counters of a server's connections. Clones share the counters.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    accepted: AtomicU64,
    /// One counter per reason, indexed by discriminant. `ALL` has every variant, so no index is out
    /// of range.
    closed: [AtomicU64; CloseReason::ALL.len()],
    cancelled: AtomicU64,
    refused: AtomicU64,
    /// Number of response bytes of all connections that were produced and not sent.
    unsent: AtomicUsize,
    /// Moving average of the sizes of responses.
    typical_response: AtomicUsize,
    /// Number of unsent response bytes from which on no further response is accepted.
    max_unsent: usize,
    /// Connections that wait until fewer than half of `max_unsent` bytes are unsent.
    pressed: WaitQueue,
    /// Connections that wait until fewer than `max_unsent` bytes are unsent.
    full: WaitQueue,
}

/// The default of `max_unsent`.
const MAX_UNSENT: usize = 256 << 20;

impl Default for Counts {
    fn default() -> Self {
        Self::new(MAX_UNSENT)
    }
}

impl Counts {
    fn new(max_unsent: usize) -> Self {
        Self {
            accepted: AtomicU64::new(0),
            closed: Default::default(),
            cancelled: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
            typical_response: AtomicUsize::new(0),
            max_unsent,
            pressed: WaitQueue::default(),
            full: WaitQueue::default(),
        }
    }

    /// Returns the number of unsent bytes from which on slow readers are disconnected.
    const fn pressed_from(&self) -> usize {
        self.max_unsent / 2
    }
}

impl Connections {
    /// Creates counters of connections that together may have `max_unsent` unsent response bytes.
    #[cfg(test)]
    pub(super) fn with_max_unsent(max_unsent: usize) -> Self {
        Self(Arc::new(Counts::new(max_unsent)))
    }

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

    /// Returns the number of calls that clients cancelled since this value was created with `default`. A
    /// call is cancelled if its client resets the stream or closes the connection before the response, or
    /// before the end of a response that has no known size.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Returns the number of responses that were dropped because too many response bytes were unsent: 16 MiB
    /// on their connection, if its client does not read or all connections have 128 MiB, or 256 MiB on all.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Returns the number of response bytes that wait for clients to read them. A part of a response without
    /// a known size counts at least 256 KiB, for the parts that wait behind it.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.0.unsent.load(Ordering::Relaxed)
    }

    /// Returns `true` if slow readers are disconnected, because too many bytes are unsent.
    pub(super) fn is_pressed(&self) -> bool {
        self.unsent() >= self.0.pressed_from()
    }

    /// Returns `true` if no further response is accepted.
    pub(super) fn is_full(&self) -> bool {
        self.unsent() >= self.0.max_unsent
    }

    pub(super) fn add_unsent(&self, bytes: usize) {
        self.0.unsent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove_unsent(&self, bytes: usize) {
        let before = self.0.unsent.fetch_sub(bytes, Ordering::Relaxed);
        let falls_below = |limit| (before - bytes..before).contains(&(limit - 1));
        if falls_below(self.0.pressed_from()) {
            self.0.pressed.wake();
        }
        if falls_below(self.0.max_unsent) {
            self.0.full.wake();
        }
    }

    /// Waits until fewer bytes are unsent: less than the maximum or, if they are less already, half of it.
    /// Never returns below that.
    pub(super) async fn relieved(&self) {
        if self.is_full() {
            self.0.full.until(|| !self.is_full()).await;
        } else if self.is_pressed() {
            self.0.pressed.until(|| !self.is_pressed()).await;
        } else {
            std::future::pending().await
        }
    }

    pub(super) fn count_cancelled(&self) {
        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the moving average of the sizes of responses.
    pub(super) fn typical_response(&self) -> usize {
        self.0.typical_response.load(Ordering::Relaxed)
    }

    /// Adds the size of a response to the moving average. A concurrent addition may be lost.
    pub(super) fn record_response(&self, size: u64) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let average = self.typical_response();
        let average = average - average / 16 + size / 16;
        self.0.typical_response.store(average, Ordering::Relaxed);
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
            ("invalid", 0),
            ("resets", 0),
            ("error", 1),
        ];
        assert!(closed.eq(expected));
    }
}
