//! The location and the severity of a problem in a plan.

use std::fmt;

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
    pub(super) fn node(name: &str) -> Self {
        let node = Some(name.to_owned());
        Self { node, part: None }
    }

    pub(super) fn part(name: &str, part: PlanPart) -> Self {
        let (node, part) = (Some(name.to_owned()), Some(part));
        Self { node, part }
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
