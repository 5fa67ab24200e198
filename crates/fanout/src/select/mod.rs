//! Decides which nodes of a plan a request runs. Pure.

mod choose;

use std::{error::Error, fmt, sync::Arc};

pub(crate) use self::choose::choose;

use crate::{
    outcome::{BranchError, SkipReason},
    plan::{NodeInfo, PlanGraph},
};

/// The nodes that a request selects by name. Their direct and indirect dependencies are selected too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// All nodes of the plan, required or optional as declared in the plan. An optional node is
    /// required too if a required node needs its answer. This is the default.
    #[default]
    Plan,
    /// The named nodes, by index, and their dependencies.
    Named {
        /// The nodes whose answers the request needs.
        required: Vec<usize>,
        /// The nodes whose answers the request can do without.
        optional: Vec<usize>,
    },
}

impl Selection {
    /// Creates a selection of the nodes with these indices. A node in both lists is required.
    ///
    /// Their direct and indirect dependencies are selected too. Such a dependency is required if a
    /// required node needs its answer, and optional otherwise. The plan's own distinction of required
    /// and optional nodes is ignored.
    #[must_use]
    pub fn named(required: &[usize], optional: &[usize]) -> Self {
        Self::Named {
            required: required.to_vec(),
            optional: optional.to_vec(),
        }
    }
}

/// Load shedding by node priority. Under load, optional nodes are skipped before any request is
/// rejected.
///
/// An optional node is skipped if its weight is less than the load, or if the load is 1. The weight is `(priority + tier
/// weight) / 10`. At a load of 0.35, all callers lose the nodes of priority 0 to 2, and callers
/// with a tier weight below 0.5 also lose those of priority 3.
///
/// Enough nodes stay for the request to succeed, those of the highest priority first: one node, or as
/// many as [`Strategy::Quorum`](crate::Strategy::Quorum) counts. Under
/// [`Strategy::All`](crate::Strategy::All), every node is required and none is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brownout {
    load: f64,
    tier_weight: f64,
}

impl Brownout {
    /// Creates a `Brownout` with this load, from 0 to 1. Values outside are clamped, and NaN counts
    /// as 0.
    ///
    /// The load is that of your process, and you measure it: for example, the requests in flight
    /// divided by their maximum. This crate measures no load.
    ///
    /// At 0, no node is skipped. At 1, every optional node is skipped, except those that have to stay
    /// for the request to succeed.
    #[must_use]
    pub fn new(load: f64) -> Self {
        Self {
            load: within_one(load),
            tier_weight: 0.0,
        }
    }

    /// Sets the weight of the caller's tier, from 0 (the lowest tier, and the default) to 1. Values
    /// outside are clamped, and NaN counts as 0.
    #[must_use]
    pub fn tier_weight(mut self, tier_weight: f64) -> Self {
        self.tier_weight = within_one(tier_weight);
        self
    }

    /// Returns `true` if the load is too high for `node`, if `node` is optional.
    fn sheds(self, node: &NodeInfo) -> bool {
        let weight = (f64::from(node.priority.level()) + self.tier_weight) / 10.0;
        // The highest weight is 1, which is not less than a full load.
        weight < self.load || self.load >= 1.0
    }
}

fn within_one(value: f64) -> f64 {
    if value.is_nan() {
        return 0.0;
    }
    value.clamp(0.0, 1.0)
}

/// The error of a selection that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectError {
    /// Required nodes are not available to the caller's tier.
    TierForbidden {
        /// The indices of these nodes.
        nodes: Vec<usize>,
    },
    /// The selection names a node that the plan does not have.
    UnknownNode {
        /// The index that was given.
        node: usize,
    },
    /// No node is left to run.
    Nothing,
    /// [`Strategy::First`](crate::Strategy::First) or
    /// [`Strategy::Quorum`](crate::Strategy::Quorum) needs more answers than nodes that count.
    Quorum {
        /// Number of answers that the strategy needs.
        needed: usize,
        /// Number of nodes that count: those that run and on which no other running node depends.
        of: usize,
    },
    /// The conditions of required nodes returned errors, or those of optional nodes did and too few nodes are left for
    /// the strategy.
    ConditionFailed {
        /// The indices of the required nodes, in order of declaration, each with the error of its
        /// condition. Empty if all nodes with errors are optional.
        failed: Vec<(usize, BranchError)>,
        /// The choices that the request would have if these conditions were `true`. The other nodes with errors are
        /// [`Choice::Fail`].
        choices: Vec<Choice>,
    },
    /// The condition of a node panicked.
    ConditionPanicked {
        /// The index of the node.
        node: usize,
    },
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TierForbidden { .. } => {
                f.write_str("a required service is not available to the caller's tier")
            }
            Self::UnknownNode { node } => write!(f, "the plan has no node with the index {node}"),
            Self::Nothing => f.write_str("no service is left to call"),
            Self::Quorum { needed, of } => {
                write!(
                    f,
                    "{needed} answers are needed, but only {of} services can provide one"
                )
            }
            Self::ConditionFailed { .. } => {
                f.write_str("the conditions of services returned errors, and too few are left")
            }
            Self::ConditionPanicked { .. } => f.write_str("the condition of a service panicked"),
        }
    }
}

impl Error for SelectError {}

/// The decision about one node of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The node is not selected: the [`Selection`] does not name it, and no node that runs depends on
    /// it. The node has no entry in the report. Never used with [`Selection::Plan`].
    Out,
    /// The node runs.
    Run {
        /// `true` if the node is [required](crate::Strategy#required-and-optional-nodes).
        required: bool,
    },
    /// The node is selected, but skipped. The reason is `tier`, `when`, `brownout` or `test`.
    Skip(SkipReason),
    /// The node is selected and optional, and its condition returned this error. The node fails with the error
    /// without a call.
    Fail(BranchError),
}

impl Choice {
    /// Returns `true` if the node runs.
    #[must_use]
    pub const fn runs(&self) -> bool {
        matches!(self, Self::Run { .. })
    }

    pub(crate) const fn is_required(&self) -> bool {
        matches!(self, Self::Run { required: true })
    }
}

impl PlanGraph {
    /// Returns `true` if no node that runs depends on `node`.
    pub(crate) fn is_sink(&self, node: usize, choices: &[Choice]) -> bool {
        !(self.dependents[node].iter()).any(|&dependent| choices[dependent].runs())
    }
}

/// The options of a request that decide which nodes run.
#[derive(Clone, Default)]
pub(crate) struct SelectOptions {
    pub(crate) selection: Selection,
    pub(crate) tier: Option<Arc<str>>,
    pub(crate) brownout: Brownout,
    /// Skips the nodes that may change state.
    pub(crate) test: bool,
}
