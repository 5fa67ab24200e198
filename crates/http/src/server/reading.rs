//! Tells clients that read their responses from those that do not.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::time::Instant;
use tower_fanout_layers::clock;

/// Number of sent response bytes that show that the client reads: the default window of HTTP/2.
pub(super) const PROGRESS: usize = 64 << 10;

/// Maximum number of milliseconds between two signs that the client reads.
const READING: u64 = 1_000;

/// The last sign that the client of a connection reads: bytes were sent, or all were.
#[derive(Debug)]
pub(super) struct Reading {
    start: Instant,
    /// Milliseconds from the start to the last sign.
    last: AtomicU64,
    /// Number of bytes that were sent since then.
    sent: AtomicUsize,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
            sent: AtomicUsize::new(0),
        }
    }
}

impl Reading {
    fn now(&self) -> u64 {
        // A connection does not last 500 million years.
        clock::now().duration_since(self.start).as_millis() as u64
    }

    /// Records that `count` bytes were sent.
    pub(super) fn record_sent(&self, count: usize) {
        if self.sent.fetch_add(count, Relaxed) + count >= PROGRESS {
            self.record_sign();
        }
    }

    /// Records that the client reads.
    pub(super) fn record_sign(&self) {
        self.sent.store(0, Relaxed);
        self.last.store(self.now(), Relaxed);
    }

    /// Returns `true` if the client has read in the last second.
    pub(super) fn is_recent(&self) -> bool {
        self.now() < self.last.load(Relaxed) + READING
    }
}
