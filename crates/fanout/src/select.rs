//! Which nodes of a plan a request runs. Pure.

use std::{cmp::Reverse, error::Error, fmt};

use crate::{
    outcome::{BranchError, SkipReason},
    plan::NodeInfo,
};

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

/// How hard the process is pressed, and who asks: under pressure the answer goes without some of what
/// it can do without, before any request is refused.
///
/// An optional node is left out if it matters less than the pressure. It matters as much as its
/// priority in tenths and, as a fraction of a tenth, the tier_weight of the caller's tier say: at a
/// pressure of 0.35, priorities 0 to 2 are left out for all, and 3 for callers of a tier_weight below
/// one half. If nothing were left, the node that matters most would stay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brownout {
    load: f64,
    tier_weight: f64,
}

impl Brownout {
    /// A pressure from 0, none, to 1, at which all that is optional is left out. What is no number is
    /// none.
    #[must_use]
    pub fn new(load: f64) -> Self {
        Self {
            load: within(load, 1.0),
            tier_weight: 0.0,
        }
    }

    /// Sets how the caller's tier stands among all, from 0, the lowest (which is the default), to 1.
    #[must_use]
    pub fn tier_weight(mut self, tier_weight: f64) -> Self {
        self.tier_weight = within(tier_weight, 1.0 - f64::EPSILON);
        self
    }

    fn sheds(self, node: &NodeInfo) -> bool {
        (f64::from(node.priority.level()) + self.tier_weight) / 10.0 < self.load
    }
}

fn within(value: f64, max: f64) -> f64 {
    // What is no number is less than nothing.
    value.max(0.0).min(max)
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
    /// A node is named that the plan does not have.
    UnknownNode {
        /// What was given for its index.
        node: usize,
    },
    /// Nothing is left to run.
    Nothing,
    /// The strategy wants more answers than there are nodes that could give one.
    Quorum {
        /// How many it wants.
        needed: usize,
        /// How many there are.
        of: usize,
    },
    /// The conditions of required nodes returned errors.
    ConditionFailed {
        /// The nodes, by their index, in order of declaration, each with the error of its condition.
        failed: Vec<(usize, BranchError)>,
        /// What the request would do if these conditions held.
        choices: Vec<Choice>,
    },
    /// The condition of a node panicked.
    Condition {
        /// The node, by its index.
        node: usize,
    },
}

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TierForbidden { .. } => {
                f.write_str("the caller's tier does not have a required service")
            }
            Self::UnknownNode { node } => write!(f, "the plan has no node {node}"),
            Self::Nothing => f.write_str("no service is left to ask"),
            Self::Quorum { needed, of } => {
                write!(f, "{needed} answers are needed of {of} services")
            }
            Self::ConditionFailed { .. } => {
                f.write_str("the condition of a required service cannot be evaluated")
            }
            Self::Condition { .. } => f.write_str("the condition of a service panicked"),
        }
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

/// What of a request decides which nodes it runs.
pub(crate) struct RunOptions<'w> {
    pub(crate) selection: &'w Selection,
    pub(crate) tier: Option<&'w str>,
    /// How many answers are enough, if that is what counts: no node is required then.
    pub(crate) quorum: Option<usize>,
    /// Makes every node that runs required.
    pub(crate) all_required: bool,
    pub(crate) brownout: Brownout,
    /// Nodes that would change something are skipped.
    pub(crate) test: bool,
}

/// Chooses among `nodes`, which stand in `order` after what they depend on; `holds` evaluates the
/// condition of a node, at most once for each.
///
/// What a chosen node depends on is chosen with it, and what a required node needs is required. What
/// needs a node that is skipped is skipped for the same reason, and what was chosen only for its sake
/// is not chosen.
pub(crate) fn choose(
    nodes: &[NodeInfo],
    order: &[usize],
    options: &RunOptions<'_>,
    holds: impl Fn(usize) -> Result<Result<bool, BranchError>, SelectError>,
) -> Result<Vec<Choice>, SelectError> {
    if let Selection::Named { required, optional } = options.selection
        && let Some(&node) = (required.iter().chain(optional)).find(|&&node| node >= nodes.len())
    {
        return Err(SelectError::UnknownNode { node });
    }
    // From here on all indices are of nodes of the plan, for each of which there is a choice.
    let mut choices = asked_for(nodes, options);
    let failed = apply_conditions(nodes, order, options, holds, &mut choices)?;
    follow_skips(nodes, order, options, &mut choices);
    check_tier(nodes, options.tier, &mut choices)?;
    if options.test {
        let changing = choices.iter_mut().zip(nodes).filter(|(_, node)| !node.safe);
        let running = changing.filter(|(choice, _)| runs(choice));
        running.for_each(|(choice, _)| *choice = Choice::Skip(SkipReason::Test));
    }
    shed(nodes, order, options, &mut choices);
    follow_skips(nodes, order, options, &mut choices);
    refuse_failed(nodes, order, options, failed, &mut choices)?;
    if !choices.iter().any(runs) {
        return Err(SelectError::Nothing);
    }
    if options.all_required {
        let running = choices.iter_mut().filter(|choice| runs(choice));
        running.for_each(|choice| *choice = Choice::Run { required: true });
    }
    Ok(choices)
}

/// Skips the nodes whose condition does not hold, and chooses what the others depend on. Returns the
/// nodes whose condition failed and that were required when it was evaluated, from the last to the
/// first.
///
/// These nodes are not skipped: the request is refused unless something else skips them, so what they
/// need is looked at too.
fn apply_conditions(
    nodes: &[NodeInfo],
    order: &[usize],
    options: &RunOptions<'_>,
    holds: impl Fn(usize) -> Result<Result<bool, BranchError>, SelectError>,
    choices: &mut [Choice],
) -> Result<Vec<(usize, BranchError)>, SelectError> {
    let mut failed = Vec::new();
    for &node in order.iter().rev() {
        if !runs(&choices[node]) {
            continue;
        }
        match holds(node)? {
            Ok(true) => {}
            Err(error) if is_required(choices[node], options) => failed.push((node, error)),
            Ok(false) | Err(_) => {
                choices[node] = Choice::Skip(SkipReason::When);
                continue;
            }
        }
        pull_in(&nodes[node], choices[node], choices);
    }
    Ok(failed)
}

/// Returns an error if a node is still required whose condition `failed`. The others are skipped: they
/// were required only for the sake of nodes that are skipped.
fn refuse_failed(
    nodes: &[NodeInfo],
    order: &[usize],
    options: &RunOptions<'_>,
    mut failed: Vec<(usize, BranchError)>,
    choices: &mut Vec<Choice>,
) -> Result<(), SelectError> {
    if failed.is_empty() {
        return Ok(());
    }
    for (node, _) in &failed {
        if runs(&choices[*node]) && !is_required(choices[*node], options) {
            choices[*node] = Choice::Skip(SkipReason::When);
        }
    }
    failed.retain(|(node, _)| runs(&choices[*node]));
    follow_skips(nodes, order, options, choices);
    if failed.is_empty() {
        return Ok(());
    }
    failed.sort_by_key(|(node, _)| *node);
    Err(SelectError::ConditionFailed {
        failed,
        choices: std::mem::take(choices),
    })
}

fn is_required(choice: Choice, options: &RunOptions<'_>) -> bool {
    matches!(choice, Choice::Run { required } if required || options.all_required)
}

fn runs(choice: &Choice) -> bool {
    matches!(choice, Choice::Run { .. })
}

fn asked_for(nodes: &[NodeInfo], options: &RunOptions<'_>) -> Vec<Choice> {
    let run = |required: bool| Choice::Run {
        required: required && options.quorum.is_none(),
    };
    match options.selection {
        Selection::Plan => nodes.iter().map(|node| run(node.required)).collect(),
        Selection::Named { required, optional } => {
            let mut choices = vec![Choice::Out; nodes.len()];
            for &node in optional {
                choices[node] = run(false);
            }
            for &node in required {
                choices[node] = run(true);
            }
            choices
        }
    }
}

/// Chooses what `node` depends on, for which `choice` was made.
fn pull_in(node: &NodeInfo, choice: Choice, choices: &mut [Choice]) {
    for dependency in &node.dependencies {
        let needed = dependency.hard && choice == Choice::Run { required: true };
        let known = choices[dependency.node] == Choice::Run { required: true };
        choices[dependency.node] = Choice::Run {
            required: needed || known,
        };
    }
}

fn check_tier(
    nodes: &[NodeInfo],
    tier: Option<&str>,
    choices: &mut [Choice],
) -> Result<(), SelectError> {
    let mut forbidden = Vec::new();
    for (node, choice) in choices.iter_mut().enumerate() {
        match *choice {
            Choice::Run { .. } if nodes[node].admits(tier) => {}
            Choice::Run { required: true } => forbidden.push(node),
            Choice::Run { required: false } => *choice = Choice::Skip(SkipReason::Tier),
            _ => {}
        }
    }
    if forbidden.is_empty() {
        Ok(())
    } else {
        Err(SelectError::TierForbidden { nodes: forbidden })
    }
}

/// Skips what needs a node that is skipped, and takes back what was chosen, or required, only for the
/// sake of such nodes.
fn follow_skips(
    nodes: &[NodeInfo],
    order: &[usize],
    options: &RunOptions<'_>,
    choices: &mut [Choice],
) {
    if !(choices.iter()).any(|choice| matches!(choice, Choice::Skip(_))) {
        return;
    }
    for &node in order {
        let mut hard = nodes[node].dependencies.iter().filter(|one| one.hard);
        let reason = hard.find_map(|one| match choices[one.node] {
            Choice::Skip(reason) => Some(reason),
            _ => None,
        });
        if let (Choice::Run { .. }, Some(reason)) = (choices[node], reason) {
            choices[node] = Choice::Skip(reason);
        }
    }
    let mut needed = asked_for(nodes, options);
    for &node in order.iter().rev() {
        if !runs(&choices[node]) {
            continue;
        }
        choices[node] = needed[node];
        if runs(&needed[node]) {
            pull_in(&nodes[node], needed[node], &mut needed);
        }
    }
}

/// Leaves out what matters less than the pressure. What stays keeps what it needs, and enough stays for
/// an answer.
fn shed(nodes: &[NodeInfo], order: &[usize], options: &RunOptions<'_>, choices: &mut [Choice]) {
    if options.brownout.load <= 0.0 {
        return;
    }
    let stays = |node: usize| match choices[node] {
        Choice::Run { required } => required || !options.brownout.sheds(&nodes[node]),
        _ => false,
    };
    let mut stays: Vec<bool> = (0..nodes.len()).map(stays).collect();
    keep_enough(nodes, options.quorum, choices, &mut stays);
    for &node in order.iter().rev() {
        if !runs(&choices[node]) {
            continue;
        }
        if !stays[node] {
            choices[node] = Choice::Skip(SkipReason::Brownout);
            continue;
        }
        let hard = nodes[node].dependencies.iter().filter(|one| one.hard);
        hard.for_each(|one| stays[one.node] = true);
    }
}

/// Lets the nodes that matter most stay until there are as many as an answer takes: those of a quorum,
/// which counts nodes that no other depends on, or one.
fn keep_enough(nodes: &[NodeInfo], quorum: Option<usize>, choices: &[Choice], stays: &mut [bool]) {
    let mut counts: Vec<bool> = choices.iter().map(runs).collect();
    if quorum.is_some() {
        let running = (0..nodes.len()).filter(|&node| runs(&choices[node]));
        let before = running.flat_map(|node| nodes[node].dependencies());
        before.for_each(|before| counts[before] = false);
    }
    let there = (0..nodes.len()).filter(|&node| counts[node] && stays[node]);
    let lacks = quorum.unwrap_or(1).saturating_sub(there.count());
    let mut others: Vec<usize> = (0..nodes.len())
        .filter(|&node| counts[node] && !stays[node])
        .collect();
    others.sort_by_key(|&node| Reverse(nodes[node].priority));
    others.truncate(lacks);
    others.into_iter().for_each(|node| stays[node] = true);
}
