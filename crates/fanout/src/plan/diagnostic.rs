//! The problems of a plan.

use std::{error::Error, fmt};

/// A problem of a plan. [`Display`](fmt::Display) writes the [message](Self::message).
///
/// | code | severity | problem |
/// |---|---|---|
/// | `empty_plan` | error | The plan has no nodes. |
/// | `duplicate_name` | error | Two nodes have the same name. |
/// | `unknown_node` | error | A node depends on, or reads, a node that is not in the plan. |
/// | `foreign_key` | error | A node uses a key of another plan. |
/// | `not_a_dependency` | error | A node reads the answer of a node that it does not depend on. |
/// | `cycle` | error | Nodes depend on each other. |
/// | `unreachable` | error | A required node needs nodes that have no tier in common. |
/// | `conditional_dependency` | warning | An unconditional, required node needs a node that has a condition. |
/// | `worst_case` | warning | A chain of dependent nodes may take longer than the deadline. |
/// | `expected_time` | warning | A chain of dependent nodes is expected to take longer than the deadline. |
/// | `max_concurrency` | warning | Every chain of nodes meets the deadline, but with the limit on concurrent nodes the whole plan does not. |
/// | `amplification` | warning | One request may send too many attempts to one downstream. |
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PlanDiagnostic {
    /// The code of the problem, which programs can match on. See the [table](PlanDiagnostic) of
    /// codes.
    pub code: &'static str,
    /// The severity. See the [table](PlanDiagnostic) of codes.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub severity: Severity,
    /// The location in the plan.
    #[cfg_attr(feature = "serde", serde(rename = "place"))]
    pub location: PlanLocation,
    /// A description of the problem.
    pub message: String,
    /// A suggestion for fixing the problem.
    #[cfg_attr(feature = "serde", serde(rename = "fix"))]
    pub help: String,
}

impl PlanDiagnostic {
    pub(crate) fn new(
        severity: Severity,
        code: &'static str,
        location: PlanLocation,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity,
            location,
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for PlanDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The plan is invalid. [`Plan::new`](crate::Plan::new) rejects it.
    Error,
    /// The plan is valid, but may not behave as intended. [`Plan::check`](crate::Plan::check)
    /// returns such problems.
    Warning,
}

/// A location in a plan, written as `nodes`, `nodes.orders` or `nodes.orders.after[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlanLocation {
    /// The name of the node. `None` for the plan as a whole.
    pub node: Option<String>,
    /// The part of the node. `None` for the node as a whole.
    pub part: Option<PlanPart>,
}

/// A part of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanPart {
    /// A dependency, by its position in order of declaration, from 0.
    After(usize),
    /// A [read](crate::NodeSpec::reads) of an answer, by its position in order of declaration, from
    /// 0.
    Reads(usize),
    /// The tiers of the node.
    Tiers,
}

impl PlanLocation {
    /// Returns the location of the node named `name`, or of a part of it.
    pub(crate) fn of(name: &str, part: impl Into<Option<PlanPart>>) -> Self {
        Self {
            node: Some(name.to_owned()),
            part: part.into(),
        }
    }
}

impl fmt::Display for PlanLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nodes")?;
        if let Some(node) = &self.node {
            write!(f, ".{node}")?;
        }
        match self.part {
            None => Ok(()),
            Some(PlanPart::After(position)) => write!(f, ".after[{position}]"),
            Some(PlanPart::Reads(position)) => write!(f, ".reads[{position}]"),
            Some(PlanPart::Tiers) => f.write_str(".tiers"),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for PlanLocation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
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
