//! What can be wrong with a plan.

use std::{error::Error, fmt, time::Duration};

use super::location::{PlanLocation, PlanPart, Severity};

/// Something that is wrong with a plan: what, as [`Display`](fmt::Display); where; and what to do
/// about it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanDiagnostic {
    /// It has no nodes.
    Empty,
    /// Two nodes have the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node comes after, or reads, one that is not there.
    UnknownNode {
        /// The node, and what of it.
        place: PlanLocation,
        /// What is not there.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A node comes after a key that another plan gave.
    ForeignKey {
        /// The node, and what of it.
        place: PlanLocation,
    },
    /// A node reads the answer of one that it does not come after.
    NotADependency {
        /// The node, and what of it.
        place: PlanLocation,
        /// What it reads.
        on: String,
        /// Whether that comes after the node itself, or is it.
        circular: bool,
    },
    /// Nodes wait for each other.
    Cycle {
        /// The nodes along the cycle; each depends on the next, and the last on the first.
        path: Vec<String>,
        /// The dependency to take out: the one that a node has on a later one.
        place: PlanLocation,
        /// What that node depends on.
        on: String,
    },
    /// No caller's tier has all that a required node needs.
    Unreachable {
        /// The node.
        node: String,
        /// The nodes it needs that only some tiers have, itself among them if it is one, each with
        /// its tiers.
        needs: Vec<(String, Vec<String>)>,
    },
    /// A node that is required, whatever the request, needs one that has a condition.
    ConditionalDependency {
        /// The node, and what of it.
        place: PlanLocation,
        /// What has the condition.
        on: String,
    },
    /// Nodes that wait for each other take longer than the deadline allows.
    Late {
        /// `true` if each node takes its longest time, `false` if it takes its expected time.
        worst_case: bool,
        /// The nodes, the first to start first. The last is the one that the deadline cuts.
        path: Vec<String>,
        /// How long they take; none if that has no end.
        takes: Option<Duration>,
        /// The deadline.
        deadline: Duration,
        /// The node of them that takes longest.
        longest: String,
    },
    /// No path of nodes is too long for the deadline, but so few run at once that all together
    /// take longer.
    Crowded {
        /// How long they take at most.
        takes: Duration,
        /// The deadline.
        deadline: Duration,
        /// How many run at once.
        max_concurrency: usize,
    },
    /// One request may send very many attempts to one downstream.
    Amplification {
        /// The downstream.
        downstream: String,
        /// The nodes that ask it.
        nodes: Vec<String>,
        /// The most attempts, retries and hedges included.
        attempts: u32,
        /// How many there should be at most.
        bound: u32,
    },
}

impl PlanDiagnostic {
    /// What kind of problem it is, for programs.
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

    /// How bad it is.
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

    /// Where it is.
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

fn at_last(nodes: &[String]) -> PlanLocation {
    let last = nodes.last().map(String::as_str);
    last.map_or_else(PlanLocation::default, PlanLocation::node)
}

/// Everything that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    pub(super) problems: Vec<PlanDiagnostic>,
}

impl PlanError {
    /// The problems, at least one.
    #[must_use]
    pub fn diagnostics(&self) -> &[PlanDiagnostic] {
        &self.problems
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if place == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl Error for PlanError {}
