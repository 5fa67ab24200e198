//! Counts connections, and why they were closed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// One of the two sides had no more use for it.
    Done,
    /// A head did not come in time.
    Slow,
    /// It was kept alive and not used.
    Idle,
    /// The client did not take its answer.
    Stalled,
    /// It broke, or what came was no HTTP.
    Error,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Done,
        Self::Slow,
        Self::Idle,
        Self::Stalled,
        Self::Error,
    ];

    /// The reason as the label of a metric.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Error => "error",
        }
    }
}

/// The counts of a server's connections. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    /// One count per reason, by its discriminant: `ALL` has every variant, so an index is in range.
    closed: [AtomicU64; CloseReason::ALL.len()],
}

impl Connections {
    /// How many were accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Ordering::Relaxed)
    }

    /// How many were closed since the start, for this reason.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.0.closed[reason as usize].load(Ordering::Relaxed)
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        let closed: u64 = CloseReason::ALL
            .map(|reason| self.closed(reason))
            .iter()
            .sum();
        self.accepted().saturating_sub(closed)
    }

    /// One more is accepted.
    pub(super) fn accept(&self) -> Counted {
        self.0.accepted.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone(), CloseReason::Error)
    }
}

/// A connection that is open until this is dropped; what is dropped unsaid broke.
#[derive(Debug)]
pub(super) struct Counted(Connections, CloseReason);

impl Counted {
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
    fn what_is_open_is_what_is_not_closed() {
        let connections = Connections::default();
        let (first, second) = (connections.accept(), connections.accept());
        assert_eq!((connections.accepted(), connections.open()), (2, 2));
        first.close(CloseReason::Slow);
        drop(second);
        assert_eq!((connections.accepted(), connections.open()), (2, 0));
        let closed = CloseReason::ALL.map(|reason| (reason.as_str(), connections.closed(reason)));
        let expected = [
            ("done", 0),
            ("slow", 1),
            ("idle", 0),
            ("stalled", 0),
            ("error", 1),
        ];
        assert_eq!(closed, expected);
    }
}
