//! Where in a plan something is wrong, and how bad it is.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The plan cannot be run: [`Plan::new`](crate::Plan::new) refuses it.
    Error,
    /// The plan can be run, but perhaps not as it was meant: [`Plan::check`](crate::Plan::check)
    /// says so.
    Warning,
}

/// A place in a plan, written as `nodes`, `nodes.orders` or `nodes.orders.after[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlanLocation {
    /// The name of the node; none for the plan as a whole.
    pub node: Option<String>,
    /// What of the node; none for all of it.
    pub part: Option<PlanPart>,
}

/// A part of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanPart {
    /// What it comes after, in the order in which that was declared, from 0.
    After(usize),
    /// What it [reads](crate::NodeSpec::reads), in the order in which that was declared, from 0.
    Reads(usize),
    /// Its tiers.
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
            Some(PlanPart::After(place)) => write!(f, ".after[{place}]"),
            Some(PlanPart::Reads(place)) => write!(f, ".reads[{place}]"),
            Some(PlanPart::Tiers) => f.write_str(".tiers"),
        }
    }
}
