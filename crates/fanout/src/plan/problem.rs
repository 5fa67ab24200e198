//! What can be wrong with a plan.

use std::{error::Error, fmt};

/// Something that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanProblem {
    /// It has no nodes.
    Empty,
    /// Two nodes have the same name.
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A node comes after one that is not there.
    UnknownDependency {
        /// The node.
        node: String,
        /// What it comes after.
        on: String,
    },
    /// A node reads the answer of one that it does not come after.
    NotADependency {
        /// The node.
        node: String,
        /// What it reads.
        on: String,
    },
    /// Nodes wait for each other.
    Cycle {
        /// The nodes along the cycle; each depends on the next, and the last on the first.
        path: Vec<String>,
    },
}

impl fmt::Display for PlanProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the plan has no nodes"),
            Self::DuplicateName { name } => write!(f, "two nodes are called \"{name}\""),
            Self::UnknownDependency { node, on } => {
                write!(
                    f,
                    "\"{node}\" depends on \"{on}\", which is not in the plan"
                )
            }
            Self::NotADependency { node, on } => {
                write!(f, "\"{node}\" reads \"{on}\", which it does not come after")
            }
            Self::Cycle { path } => {
                f.write_str("these nodes wait for each other: ")?;
                for node in path {
                    write!(f, "{node} → ")?;
                }
                f.write_str(path.first().map_or("", String::as_str))
            }
        }
    }
}

/// Everything that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    pub(super) problems: Vec<PlanProblem>,
}

impl PlanError {
    /// The problems, at least one.
    #[must_use]
    pub fn problems(&self) -> &[PlanProblem] {
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
