//! When a run is a success, and when its answer leaves.

use std::num::NonZeroUsize;

use crate::{
    outcome::SkipReason,
    report::{Branch, Report},
};

/// When a run is a success.
///
/// With `First` and `Quorum` those nodes count on which no other node of the request depends, and
/// no node is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Strategy {
    /// Every node counts as required; the first failure cancels the rest.
    All,
    /// Every required node must have an answer. Nothing is cancelled when one has none: what the others
    /// answer stands in the error.
    #[default]
    Partial,
    /// Any answer will do; all are awaited.
    BestEffort,
    /// The first answer will do, and cancels the rest.
    First,
    /// So many answers will do, and cancel the rest. As soon as there cannot be so many, it has
    /// failed, and the rest is cancelled too.
    Quorum(NonZeroUsize),
}

impl Strategy {
    /// The name on the wire.
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

    /// How many answers are enough, if that is what counts.
    pub(crate) const fn quorum(self) -> Option<usize> {
        match self {
            Self::First => Some(1),
            Self::Quorum(needed) => Some(needed.get()),
            _ => None,
        }
    }

    /// Why a run with this report is no success; none if it is one.
    #[must_use]
    pub fn verdict(self, report: &Report) -> Option<Verdict> {
        let branches = &report.branches;
        let answered = |branch: &&Branch| branch.status.is_answered();
        let any = !matches!(self, Self::All | Self::Partial);
        let failed = match self.quorum() {
            Some(needed) => branches.iter().filter(|b| b.is_sink && answered(b)).count() < needed,
            None if any => !branches.iter().any(|branch| answered(&branch)),
            None => branches.iter().any(|b| b.required && !answered(&b)),
        };
        let causes = branches.iter().filter(|branch| branch.required || any);
        failed.then(|| Verdict::of(causes))
    }
}

/// When the answer of a run leaves, if its strategy has not ended it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum ReturnWhen {
    /// When every node has ended. What has not at the deadline has failed.
    #[default]
    All,
    /// When every required node has ended, and the grace is over. Without required nodes, when every
    /// node has ended.
    Required,
    /// When every node has ended, or at the deadline: optional nodes that have not ended then are
    /// `cancelled` and not `failed`, since they were given all the time there was.
    Deadline,
}

/// What all causes of a failed run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Time ran out for all of them.
    Timeout,
    /// We refused all of them.
    Unavailable {
        /// When it is worth asking again: when the last of them is.
        retry_after: Option<std::time::Duration>,
    },
    /// Neither.
    Failed,
}

impl Verdict {
    /// The verdict on `branches`, of which those that failed or had no time are the causes.
    fn of<'b>(branches: impl Iterator<Item = &'b Branch>) -> Self {
        let (mut timeouts, mut refusals, mut others) = (0, 0, 0);
        let mut retry_after = None;
        for branch in branches {
            match (&branch.error, branch.skipped) {
                (_, Some(SkipReason::NoTime)) => timeouts += 1,
                (Some(error), _) if error.kind().is_timeout() => timeouts += 1,
                (Some(error), _) if error.kind().is_refusal() => {
                    refusals += 1;
                    retry_after = retry_after.max(error.wait());
                }
                (Some(_), _) => others += 1,
                _ => {}
            }
        }
        match (timeouts, refusals, others) {
            (1.., 0, 0) => Self::Timeout,
            (0, 1.., 0) => Self::Unavailable { retry_after },
            _ => Self::Failed,
        }
    }
}
