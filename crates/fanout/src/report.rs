//! What happened in a run, branch by branch.

use std::time::Duration;

use tower_fanout_layers::{
    breaker::State,
    event::{FallbackKind, RetryStopReason},
};

use crate::outcome::{BranchError, ErrorKind, SkipReason, Status};

/// What happened to one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Branch {
    /// The place of the node in its plan.
    pub node: usize,
    /// Whether the answer as a whole needed it.
    pub required: bool,
    /// Whether no other node of the request depended on it.
    pub is_sink: bool,
    /// How it ended.
    pub status: Status,
    /// Why it has no answer, if it failed.
    pub error: Option<BranchError>,
    /// Why it was not started, if it was skipped.
    pub skipped: Option<SkipReason>,
    /// When it was started, counted from the start of the run; none if it never was.
    pub started: Option<Duration>,
    /// How long it took, with all its attempts and pauses, and with what else was polled in the same
    /// turn; none if it was not started.
    pub elapsed: Option<Duration>,
    /// How many attempts were sent, as its retry layer counts them.
    pub attempts: u32,
    /// How many of them were hedges.
    pub hedges: u32,
    /// The status of the last HTTP answer, if its service speaks HTTP and told of it.
    pub http_status: Option<u16>,
    /// The state of its downstream's breaker when it ended, if it has one.
    pub breaker: Option<State>,
    /// How long it waited for its turn at concurrency limits, all attempts together.
    pub queued: Duration,
    /// Which rule ended the retries of its own service, if one did after an attempt was sent.
    pub stopped_by: Option<RetryStopReason>,
    /// What kind of fallback answered, if one did.
    pub fallback: Option<FallbackKind>,
    pub(crate) chosen: bool,
    /// Whether anything counted its attempts.
    pub(crate) counted: bool,
}

impl Branch {
    pub(crate) const fn new(node: usize) -> Self {
        Self {
            node,
            required: false,
            is_sink: false,
            status: Status::Skipped,
            error: None,
            skipped: None,
            started: None,
            elapsed: None,
            attempts: 0,
            hedges: 0,
            http_status: None,
            breaker: None,
            queued: Duration::ZERO,
            stopped_by: None,
            fallback: None,
            chosen: false,
            counted: false,
        }
    }

    /// When it ended, counted from the start of the run.
    #[must_use]
    pub fn ended(&self) -> Option<Duration> {
        Some(self.started? + self.elapsed?)
    }

    /// Whether anything was sent, to its service or to one that is asked instead. Its retry layer
    /// knows; without one, all that was started counts, unless its request could not be made or was
    /// refused here, or something panicked.
    #[must_use]
    pub fn was_called(&self) -> bool {
        if self.started.is_none() || self.counted {
            return self.attempts > 0;
        }
        let unsent = |error: &BranchError| {
            let kind = error.kind();
            kind.is_refusal() || matches!(kind, ErrorKind::Template | ErrorKind::Panic)
        };
        self.http_status.is_some() || !self.error.as_ref().is_some_and(unsent)
    }
}

/// What happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The branches that were asked for, in order of their nodes.
    pub branches: Vec<Branch>,
    /// How long the run took.
    pub elapsed: Duration,
    /// For how much of that nothing was in flight: it was spent here and not by services.
    pub overhead: Duration,
    /// Whether the deadline ended it, or one of its branches.
    pub timed_out: bool,
    /// The node that was the last to end by itself: everything waited for it. What was cancelled was
    /// not waited for.
    pub last: Option<usize>,
    /// The nodes that decided how long it took: the last to end, what that waited for longest, and
    /// so on, from the first to the last.
    pub critical_path: Vec<usize>,
}

impl Report {
    /// The branch of the node at `node` of the plan, if it was asked for.
    #[must_use]
    pub fn branch(&self, node: usize) -> Option<&Branch> {
        let place = self
            .branches
            .binary_search_by_key(&node, |branch| branch.node);
        place.ok().map(|place| &self.branches[place])
    }

    /// How many branches ended as `status`.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.branches
            .iter()
            .filter(|branch| branch.status == status)
            .count()
    }

    /// Whether every branch has an answer, but for those that the caller's tier does not have or whose
    /// condition did not hold.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let excused =
            |branch: &Branch| matches!(branch.skipped, Some(SkipReason::Tier | SkipReason::When));
        self.branches
            .iter()
            .all(|branch| branch.status.is_answered() || excused(branch))
    }
}
