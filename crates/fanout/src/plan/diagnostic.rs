//! The problems of a plan.

use std::{error::Error, fmt, time::Duration};

use super::location::{PlanLocation, PlanPart, Severity};

/// A problem of a plan. [`Display`](fmt::Display) says what is wrong, [`place`](Self::place) where,
/// and [`help`](Self::help) how to fix it.
///
/// | code | severity | variant |
/// |---|---|---|
/// | `empty_plan` | error | [`Empty`](Self::Empty) |
/// | `duplicate_name` | error | [`DuplicateName`](Self::DuplicateName) |
/// | `unknown_node` | error | [`UnknownNode`](Self::UnknownNode) |
/// | `foreign_key` | error | [`ForeignKey`](Self::ForeignKey) |
/// | `not_a_dependency` | error | [`NotADependency`](Self::NotADependency) |
/// | `cycle` | error | [`Cycle`](Self::Cycle) |
/// | `unreachable` | error | [`Unreachable`](Self::Unreachable) |
/// | `conditional_dependency` | warning | [`ConditionalDependency`](Self::ConditionalDependency) |
/// | `worst_case` | warning | [`Late`](Self::Late) with `worst_case: true` |
/// | `expected_time` | warning | [`Late`](Self::Late) with `worst_case: false` |
/// | `max_concurrency` | warning | [`Crowded`](Self::Crowded) |
/// | `amplification` | warning | [`Amplification`](Self::Amplification) |
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanDiagnostic {
    /// The plan has no nodes.
    Empty,
    /// Two nodes have the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node depends on, or reads, a node that is not in the plan.
    UnknownNode {
        /// The reference.
        place: PlanLocation,
        /// The unknown name.
        name: String,
        /// The most similar name in the plan, if there is a similar one.
        nearest: Option<String>,
    },
    /// A node uses a key of another plan.
    ForeignKey {
        /// The reference.
        place: PlanLocation,
    },
    /// A node reads the answer of a node that it does not depend on.
    NotADependency {
        /// The reference.
        place: PlanLocation,
        /// The name of the node that is read.
        on: String,
        /// `true` if that node depends on the reading node, or is the reading node.
        circular: bool,
    },
    /// Nodes depend on each other.
    Cycle {
        /// The nodes along the cycle. Each depends on the next, and the last on the first.
        path: Vec<String>,
        /// The dependency to remove. It points to a node that is declared later, so it is the most
        /// likely mistake.
        place: PlanLocation,
        /// The name of the node that this dependency points to.
        on: String,
    },
    /// A required node needs nodes that have no tier in common.
    Unreachable {
        /// The name of the required node.
        node: String,
        /// The nodes it needs that are restricted to tiers, each with its tiers. Includes the node
        /// itself if it is restricted.
        needs: Vec<(String, Vec<String>)>,
    },
    /// An unconditional, required node needs a node that has a condition.
    ConditionalDependency {
        /// The dependency.
        place: PlanLocation,
        /// The name of the node with the condition.
        on: String,
    },
    /// A chain of dependent nodes takes longer than the deadline.
    Late {
        /// `true` if each node takes its longest time, `false` if it takes its expected time.
        worst_case: bool,
        /// The nodes of the chain, from the first to the last. The last one misses the deadline.
        path: Vec<String>,
        /// Duration of the chain. `None` if it is unbounded.
        takes: Option<Duration>,
        /// The deadline.
        deadline: Duration,
        /// The node of the chain that takes longest.
        longest: String,
    },
    /// Every chain of nodes meets the deadline, but with the limit on concurrent nodes the whole
    /// plan does not.
    Crowded {
        /// Longest time of all nodes together.
        takes: Duration,
        /// The deadline.
        deadline: Duration,
        /// Maximum number of nodes in flight.
        max_concurrency: usize,
    },
    /// One request may send too many attempts to one downstream.
    Amplification {
        /// The downstream.
        downstream: String,
        /// The nodes that call the downstream.
        nodes: Vec<String>,
        /// Maximum number of attempts, including retries and hedges.
        attempts: u32,
        /// Maximum number that is allowed.
        bound: u32,
    },
}

impl PlanDiagnostic {
    /// Returns the code of the problem, which programs can match on. See the
    /// [table](PlanDiagnostic) of codes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_plan",
            Self::DuplicateName { .. } => "duplicate_name",
            Self::UnknownNode { .. } => "unknown_node",
            Self::ForeignKey { .. } => "foreign_key",
            Self::NotADependency { .. } => "not_a_dependency",
            Self::Cycle { .. } => "cycle",
            Self::Unreachable { .. } => "unreachable",
            Self::ConditionalDependency { .. } => "conditional_dependency",
            Self::Late {
                worst_case: true, ..
            } => "worst_case",
            Self::Late { .. } => "expected_time",
            Self::Crowded { .. } => "max_concurrency",
            Self::Amplification { .. } => "amplification",
        }
    }

    /// Returns the severity. See the [table](PlanDiagnostic) of codes.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::ConditionalDependency { .. }
            | Self::Late { .. }
            | Self::Crowded { .. }
            | Self::Amplification { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }

    /// Returns the location in the plan.
    #[must_use]
    pub fn place(&self) -> PlanLocation {
        match self {
            Self::Empty | Self::Crowded { .. } => PlanLocation::default(),
            Self::DuplicateName { name } => PlanLocation::node(name),
            Self::UnknownNode { place, .. }
            | Self::ForeignKey { place }
            | Self::NotADependency { place, .. }
            | Self::Cycle { place, .. }
            | Self::ConditionalDependency { place, .. } => place.clone(),
            Self::Unreachable { node, .. } => PlanLocation::part(node, PlanPart::Tiers),
            Self::Late { path, .. } => at_last(path),
            Self::Amplification { nodes, .. } => at_last(nodes),
        }
    }
}

/// Returns the location of the last of `nodes`.
fn at_last(nodes: &[String]) -> PlanLocation {
    let last = nodes.last().map(String::as_str);
    last.map_or_else(PlanLocation::default, PlanLocation::node)
}

/// The errors of an invalid plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    pub(super) problems: Vec<PlanDiagnostic>,
}

impl PlanError {
    /// Returns the problems. The list is never empty.
    #[must_use]
    pub fn diagnostics(&self) -> &[PlanDiagnostic] {
        &self.problems
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Error for PlanError {}
