//! The report of a run, with one entry per branch.

use std::time::Duration;

use tower_fanout_layers::{
    Class,
    breaker::State,
    event::{FallbackKind, RetryStopReason},
};

use crate::outcome::{BranchError, ErrorKind, SkipReason, Status};

/// The report entry of one node.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Branch {
    /// Index of the node in its plan.
    pub node: usize,
    /// `true` if the node was [required](crate::Strategy#required-and-optional-nodes) in this run.
    ///
    /// Always `true` for a node that runs under [`Strategy::All`](crate::Strategy::All), and always
    /// `false` under `First` and `Quorum`, and for a node that was skipped before the run started.
    /// Under `BestEffort`, the run may succeed although a required node has no answer.
    pub required: bool,
    /// `true` if no other node of the request depends on this one.
    pub is_sink: bool,
    /// Final status.
    pub status: Status,
    /// The error, if the branch failed, or if a fallback answered after a failure. For a
    /// [cut](crate::Cut) branch with a fallback, the reason for which its call was ended.
    pub error: Option<BranchError>,
    /// The reason, if the node was skipped, also if a fallback [answers for it](crate::Cut).
    pub skipped: Option<SkipReason>,
    /// Time from the start of the run to the start of the node. `None` if the node was not started.
    pub started: Option<Duration>,
    /// Duration of the branch, with all attempts and the pauses between them. `None` if the node
    /// was not started.
    ///
    /// The duration includes the time that other branches were polled in the same poll of the run.
    pub elapsed: Option<Duration>,
    /// Number of attempts that were sent, as counted by the retry or hedge layer, including those of
    /// the layers of a fallback service. Always 0 without such a layer. An attempt that a layer
    /// rejected locally is not counted.
    pub attempts: u32,
    /// Number of those attempts that were hedges.
    pub hedges: u32,
    /// Status of the last HTTP response that was reported by an
    /// [`Event::ResponseStatus`](tower_fanout_layers::Event::ResponseStatus), from the service or from
    /// a fallback service. `JsonLayer` of `tower-fanout-json` reports it. `None` without such an event.
    ///
    /// Other fallbacks send no event: then this is the status of the response that they replace.
    pub http_status: Option<u16>,
    /// Class of the last attempt of the node's own service that ended, as reported by the retry or
    /// hedge layer. `None` if no attempt ended.
    ///
    /// An attempt that a layer rejected locally, or that was cut before its end, has no effect: see
    /// [`Class::is_of_service`]. So [`Class::Failure`] says that the service itself has failed, whatever
    /// ended the branch.
    pub class: Option<Class>,
    /// State of the downstream's circuit breaker when the branch ended. `None` without a breaker.
    pub breaker: Option<State>,
    /// Total time that the attempts waited in the queue of a concurrency limit before they got a
    /// permit. [`elapsed`](Self::elapsed) includes these waits. With hedges, attempts may wait at
    /// the same time, so the total may exceed `elapsed`.
    pub queued: Duration,
    /// The rule that stopped the retries of the node's own service after at least one attempt.
    /// `None` if no rule did, if the last attempt was not a failure by the classifier, or if the service
    /// has no retry layer.
    ///
    /// A branch with an answer may have a rule too: if a fallback answered, or if a layer above
    /// accepted a response that the classifier counts as a failure. A
    /// [`Downstream`](crate::Downstream) with retries turned off has a rule too: the maximum of one attempt.
    pub stopped_by: Option<RetryStopReason>,
    /// The kind of fallback that answered. `None` if no fallback did.
    pub fallback: Option<FallbackKind>,
    /// `true` if the node is selected.
    pub(crate) chosen: bool,
    /// `true` if a layer counted the attempts.
    pub(crate) counted: bool,
}

impl Branch {
    pub(crate) fn new(node: usize) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    /// Returns the time from the start of the run to the end of the branch, or `None` if the node
    /// was not started.
    #[must_use]
    pub fn ended(&self) -> Option<Duration> {
        Some(self.started? + self.elapsed?)
    }

    /// Returns `true` if the node has no answer although it was to run: it failed, or it was cancelled
    /// or skipped during the run.
    pub(crate) fn has_failed(&self) -> bool {
        let in_run = |reason| matches!(reason, SkipReason::Dependency | SkipReason::NoTime);
        match self.status {
            Status::Failed | Status::Cancelled => true,
            Status::Skipped => self.skipped.is_some_and(in_run),
            _ => false,
        }
    }

    /// Returns `true` if anything was sent, to the node's service or to a fallback.
    ///
    /// With a retry or hedge layer, the attempts that the layer counted decide. Without such a layer,
    /// every started branch counts, unless its request could not be made, its call was rejected locally,
    /// or its code panicked.
    #[must_use]
    pub fn was_called(&self) -> bool {
        if self.started.is_none() || self.counted {
            return self.attempts > 0;
        }
        if matches!(
            self.fallback,
            Some(FallbackKind::Function | FallbackKind::Service)
        ) {
            return true;
        }
        let unsent = |error: &BranchError| {
            let kind = error.kind();
            kind.is_rejection() || matches!(kind, ErrorKind::Template | ErrorKind::Panic)
        };
        self.http_status.is_some() || !self.error.as_ref().is_some_and(unsent)
    }
}

/// The report of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The branches of the [selected](crate) nodes, in order of their nodes.
    pub branches: Vec<Branch>,
    /// Duration of the run.
    pub elapsed: Duration,
    /// The part of `elapsed` in which no node was in flight. It was spent in this process, for
    /// example on making requests.
    ///
    /// A node is in flight from its start to its end. Waits for the readiness of its service, in
    /// the queue of a concurrency limit, and between attempts are therefore not overhead.
    pub overhead: Duration,
    /// `true` if the deadline ended the run or one of its branches. Unlike
    /// [`Run::timed_out`](crate::Run::timed_out), this includes branches that failed with the kind
    /// [`Deadline`](ErrorKind::Deadline) in a run that ended in time.
    ///
    /// Under [`ReturnWhen::Deadline`](crate::ReturnWhen::Deadline), this includes a run that
    /// succeeded and in which the deadline only cancelled optional nodes.
    pub timed_out: bool,
    /// The node that ended last without being cancelled. The run waited for it. `None` if no such
    /// node was started.
    pub last: Option<usize>,
    /// The nodes that determined the duration of the run, from the first to the last: the last node
    /// to end, preceded by the dependency it waited for longest, and so on.
    pub critical_path: Vec<usize>,
}

impl Report {
    /// Returns the entry of the node with the index `node`, or `None` if the node is not selected.
    #[must_use]
    pub fn branch(&self, node: usize) -> Option<&Branch> {
        let found = self
            .branches
            .binary_search_by_key(&node, |branch| branch.node);
        found.ok().map(|index| &self.branches[index])
    }

    /// Returns the number of branches with the given status.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.branches
            .iter()
            .filter(|branch| branch.status == status)
            .count()
    }

    /// Returns `true` if every branch has an answer. Branches that were skipped for the caller's
    /// tier or for a condition are ignored.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let excused =
            |branch: &Branch| matches!(branch.skipped, Some(SkipReason::Tier | SkipReason::When));
        self.branches
            .iter()
            .all(|branch| branch.status.is_answered() || excused(branch))
    }
}
