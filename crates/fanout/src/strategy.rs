//! Decides when a run succeeds, and when it responds.

use std::num::NonZeroUsize;

use tower_fanout_layers::Rejection;

use crate::{
    outcome::{SkipReason, Status},
    report::{Branch, Report},
};

/// The condition under which a run is a success.
///
/// For `First` and `Quorum`, only sinks count. A sink is a node on which no other node of the
/// request depends.
///
/// # Required and optional nodes
///
/// A node is required unless it is declared [`optional`](crate::Node::optional). The effect depends on
/// the strategy:
///
/// | strategy | the run succeeds if | required nodes | ends earlier than by [`ReturnWhen`] |
/// |---|---|---|---|
/// | `All` | every node that runs has an answer | all nodes that run; for an optional node, a caller whose tier excludes the node is not rejected, and the node is skipped | when a node has no answer |
/// | `Partial` | every required node has an answer; without required nodes, any node has an answer, or no node has failed | as declared | never |
/// | `BestEffort` | any node has an answer | as declared, but they may fail | never |
/// | `First`, `Quorum` | one sink, or the given number of sinks, has an answer | none; `optional()` has no effect | when the number is reached, or can no longer be reached |
///
/// A node has failed if it ran without an answer, or was cancelled or skipped during the run. A node
/// that was skipped before the run has not. Under `Partial`, no node is required if all are optional,
/// or if each required node was skipped before the run.
///
/// Under every strategy, required nodes start before optional ones, start with any time left, and are
/// not skipped under load. A request fails before it starts if the caller's tier excludes a required
/// node, or if the condition of a required node returns an error.
///
/// [`ReturnWhen`] adds the following:
///
/// | | `ReturnWhen::All` | `ReturnWhen::Required` | `ReturnWhen::Deadline` |
/// |---|---|---|---|
/// | `All` | waits for all nodes | like `ReturnWhen::All` | like `ReturnWhen::All` |
/// | `Partial`, `BestEffort` | waits for all nodes; those that are late fail | waits for the required nodes and the grace period, then cancels the others; without required nodes, waits for all nodes | waits for all nodes; late optional nodes are cancelled, and late required nodes fail |
/// | `First`, `Quorum` | waits until the strategy is decided; nodes that are late fail | like `ReturnWhen::All`, because no node is required | like `ReturnWhen::All`, but late nodes are cancelled |
///
/// A late node is one that has not ended at the deadline. If it was not started, it is skipped
/// instead of failed, with the reason [`NoTime`](SkipReason::NoTime).
///
/// With the feature `serde`, a strategy is written as `"all"`, `"partial"`, `"best_effort"`, `"first"`
/// or `{"quorum": 2}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum Strategy {
    /// Every node is required. The first node that fails cancels the others.
    All,
    /// Every required node must have an answer. Without required nodes, a run in which nodes failed
    /// must have at least one answer. A failure cancels no other node, so the error contains the
    /// answers of the others. This is the default.
    #[default]
    Partial,
    /// At least one node must have an answer. Unlike under [`partial`](Self::Partial), the run is a
    /// success even if required nodes have failed. A failure cancels no other node.
    BestEffort,
    /// One sink must have an answer. The first one cancels the other nodes.
    First,
    /// The given number of sinks must have an answer. When that number is reached, or can no longer
    /// be reached, the other nodes are cancelled.
    Quorum(NonZeroUsize),
}

impl Strategy {
    /// Returns the name that is used in responses: `all`, `partial`, `best_effort`, `first` or
    /// `quorum`, without the number of the quorum.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Partial => "partial",
            Self::BestEffort => "best_effort",
            Self::First => "first",
            Self::Quorum(_) => "quorum",
        }
    }

    /// Returns the number of answers that is enough, or `None` if the strategy does not count
    /// answers.
    pub(crate) const fn quorum(self) -> Option<usize> {
        match self {
            Self::First => Some(1),
            Self::Quorum(needed) => Some(needed.get()),
            _ => None,
        }
    }

    /// Returns the common cause of the failure if a run with this report is not a success, or
    /// `None` if the run is a success.
    #[must_use]
    pub fn verdict(self, report: &Report) -> Option<Verdict> {
        let branches = &report.branches;
        let answered = |branch: &Branch| branch.status.is_answered();
        let has_required = branches.iter().any(|branch| branch.required);
        // Without required nodes, `Partial` needs any answer, unless nothing failed.
        let any = match self {
            Self::All => false,
            Self::Partial => !has_required,
            _ => true,
        };
        let failed = match self.quorum() {
            Some(needed) => branches.iter().filter(|b| b.is_sink && answered(b)).count() < needed,
            None if self == Self::Partial && any => {
                branches.iter().any(Branch::has_failed) && !branches.iter().any(answered)
            }
            None if any => !branches.iter().any(answered),
            None => branches.iter().any(|b| b.required && !answered(b)),
        };
        let causes = branches
            .iter()
            .filter(|branch| (branch.required || any) && !answered(branch));
        failed.then(|| Verdict::of(causes, report.timed_out))
    }
}

/// The time at which a run responds, unless its [strategy](Strategy) ends the run earlier.
///
/// The documentation of the strategy has a [table](Strategy#required-and-optional-nodes) of all combinations.
///
/// With the feature `serde`, the variants are written as `"all"`, `"required"` and `"deadline"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum ReturnWhen {
    /// When every node has ended. A node that is in flight at the deadline fails, and a node that was
    /// not started is skipped. This is the default.
    #[default]
    All,
    /// When every required node has ended and the grace period is over. Without required nodes,
    /// when every node has ended.
    ///
    /// With [`Strategy::All`], every node is required, and with [`Strategy::First`] and
    /// [`Strategy::Quorum`], no node is. Under these strategies, this variant is the same as
    /// [`All`](Self::All).
    Required,
    /// When every node has ended, or at the deadline. Optional nodes that have not ended by then
    /// are `cancelled` and not `failed`, because they had all the time that was available.
    ///
    /// This applies to calls that are still pending at the deadline of the request. Layers that enforce
    /// the deadline themselves, such as those of a [`Downstream`](crate::Downstream), end their
    /// call slightly earlier, because the deadline of a branch leaves time to merge the answers. Such a node
    /// has `failed`.
    Deadline,
}

/// The common cause of the failures of a run.
///
/// The causes are branches without an answer that failed, that were skipped for lack of time, or that
/// the deadline cancelled. Under [`Strategy::All`], and under [`Strategy::Partial`] with a required
/// node, only required nodes can be causes. Otherwise, all nodes can. Branches that were cancelled in a
/// run that did not time out, or skipped for another reason, are not causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// All causes are timeouts: errors of the kind `timeout` or `deadline`, skips for lack of time, and
    /// nodes that the deadline cancelled.
    Timeout,
    /// All causes are local rejections ([`ErrorKind::is_rejection`](crate::ErrorKind::is_rejection)):
    /// no call was sent, or its last attempt was not.
    ///
    /// Contains the rejection of the run as a whole, a [`Rejection::CircuitOpen`] with the longest
    /// [`retry_after`](crate::BranchError::retry_after) of the causes. `None` if no cause has one.
    Unavailable(Rejection),
    /// Timeouts and local rejections together, at least one other failure, or no failure at all, for
    /// example because the needed nodes were skipped or cancelled.
    Failed,
}

impl Verdict {
    /// Returns the common cause of `branches`, which have no answer. `timed_out` is `true` if the
    /// deadline ended the run.
    fn of<'b>(branches: impl Iterator<Item = &'b Branch>, timed_out: bool) -> Self {
        let (mut timeouts, mut refusals, mut others) = (0, 0, 0);
        let mut retry_after = None;
        for branch in branches {
            match (&branch.error, branch.skipped) {
                (_, Some(SkipReason::NoTime)) => timeouts += 1,
                (None, None) if timed_out && branch.status == Status::Cancelled => timeouts += 1,
                (Some(error), _) if error.kind().is_timeout() => timeouts += 1,
                (Some(error), _) if error.kind().is_rejection() => {
                    refusals += 1;
                    // Before the longest wait is over, at least one branch would be rejected again.
                    retry_after = retry_after.max(error.retry_after());
                }
                (Some(_), _) => others += 1,
                _ => {}
            }
        }
        match (timeouts, refusals, others) {
            (1.., 0, 0) => Self::Timeout,
            (0, 1.., 0) => Self::Unavailable(Rejection::CircuitOpen { retry_after }),
            _ => Self::Failed,
        }
    }
}
