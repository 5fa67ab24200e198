//! Which nodes of a plan a request runs. Pure.

use std::{error::Error, fmt};

use crate::{outcome::SkipReason, plan::NodeInfo};

/// Which nodes a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// The plan's own, as required as the plan says.
    #[default]
    Plan,
    /// Exactly these nodes, by their index, and what they depend on.
    Named {
        /// The answer as a whole needs these.
        required: Vec<usize>,
        /// It can do without these.
        optional: Vec<usize>,
    },
}

impl Selection {
    /// The nodes at these places of the plan, and what they depend on.
    #[must_use]
    pub fn named(required: &[usize], optional: &[usize]) -> Self {
        Self::Named {
            required: required.to_vec(),
            optional: optional.to_vec(),
        }
    }
}

/// Why a selection cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectError {
    /// Nodes are required that the caller's tier does not have.
    TierForbidden {
        /// The nodes, by their index.
        nodes: Vec<usize>,
    },
    /// Nothing is left to run.
    Nothing,
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TierForbidden { .. } => "the caller's tier does not have a required service",
            Self::Nothing => "no service is left to ask",
        })
    }
}

impl Error for SelectError {}

/// What a request does with one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// It was not asked for.
    Out,
    /// It runs.
    Run {
        /// Whether the answer as a whole needs it.
        required: bool,
    },
    /// It was asked for, and is skipped.
    Skip(SkipReason),
}

/// Chooses among `nodes`, which stand in `order` after what they depend on.
///
/// What a chosen node depends on is chosen with it, and what a required node needs is required.
pub(crate) fn choose(
    nodes: &[NodeInfo],
    order: &[usize],
    selection: &Selection,
    tier: Option<&str>,
) -> Result<Vec<Choice>, SelectError> {
    let mut choices = asked_for(nodes, selection);
    for &node in order.iter().rev() {
        let Choice::Run { required } = choices[node] else {
            continue;
        };
        for dependency in &nodes[node].dependencies {
            let needed = required && dependency.hard;
            let known = choices[dependency.node] == Choice::Run { required: true };
            choices[dependency.node] = Choice::Run {
                required: needed || known,
            };
        }
    }
    let mut forbidden = Vec::new();
    for (node, choice) in choices.iter_mut().enumerate() {
        match *choice {
            Choice::Run { .. } if nodes[node].admits(tier) => {}
            Choice::Run { required: true } => forbidden.push(node),
            Choice::Run { required: false } => *choice = Choice::Skip(SkipReason::Tier),
            _ => {}
        }
    }
    if !forbidden.is_empty() {
        return Err(SelectError::TierForbidden { nodes: forbidden });
    }
    if !choices
        .iter()
        .any(|choice| matches!(choice, Choice::Run { .. }))
    {
        return Err(SelectError::Nothing);
    }
    Ok(choices)
}

fn asked_for(nodes: &[NodeInfo], selection: &Selection) -> Vec<Choice> {
    match selection {
        Selection::Plan => nodes
            .iter()
            .map(|node| Choice::Run {
                required: node.required,
            })
            .collect(),
        Selection::Named { required, optional } => {
            let mut choices = vec![Choice::Out; nodes.len()];
            for &node in optional {
                choices[node] = Choice::Run { required: false };
            }
            for &node in required {
                choices[node] = Choice::Run { required: true };
            }
            choices
        }
    }
}
