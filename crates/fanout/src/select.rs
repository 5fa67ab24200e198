//! Decides which nodes of a plan a request runs. Pure.

use std::{cmp::Reverse, error::Error, fmt};

use crate::{
    outcome::{BranchError, SkipReason},
    plan::NodeInfo,
};

/// The nodes that a request asks for.
///
/// A run also calls the direct and indirect dependencies of the nodes it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// All nodes of the plan, required or optional as the plan says.
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
/// An optional node is skipped if its weight is less than the load. The weight is `(priority + tier
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
    /// At 0, no node is skipped. At 1, every optional node is skipped. The only exception are nodes of
    /// priority 9 for a caller with a [tier weight](Self::tier_weight) of 1, because their weight of 1
    /// is not less than the load.
    #[must_use]
    pub fn new(load: f64) -> Self {
        Self {
            load: within(load, 1.0),
            tier_weight: 0.0,
        }
    }

    /// Sets the weight of the caller's tier, from 0 (the lowest tier, and the default) to 1. Values
    /// outside are clamped, and NaN counts as 0.
    #[must_use]
    pub fn tier_weight(mut self, tier_weight: f64) -> Self {
        self.tier_weight = within(tier_weight, 1.0 - f64::EPSILON);
        self
    }

    /// Returns `true` if the load is too high for `node`, if `node` is optional.
    fn sheds(self, node: &NodeInfo) -> bool {
        (f64::from(node.priority.level()) + self.tier_weight) / 10.0 < self.load
    }
}

fn within(value: f64, max: f64) -> f64 {
    // `f64::max` returns the other operand if one is NaN, so NaN becomes 0.
    value.max(0.0).min(max)
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
    /// The conditions of required nodes returned errors.
    ConditionFailed {
        /// The indices of these nodes, in order of declaration, each with the error of its
        /// condition.
        failed: Vec<(usize, BranchError)>,
        /// The choices of the request if these conditions were true.
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
                f.write_str("the condition of a required service returned an error")
            }
            Self::ConditionPanicked { .. } => f.write_str("the condition of a service panicked"),
        }
    }
}

impl Error for SelectError {}

/// The decision about one node of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// The request does not ask for the node: the [`Selection`] does not name it, and no node that
    /// runs depends on it. The node has no entry in the report.
    Out,
    /// The node runs.
    Run {
        /// `true` if the request needs the node's answer to succeed.
        required: bool,
    },
    /// The request asks for the node, but the node is skipped.
    Skip(SkipReason),
}

/// The options of a request that decide which nodes run.
pub(crate) struct RunOptions<'w> {
    pub(crate) selection: &'w Selection,
    pub(crate) tier: Option<&'w str>,
    /// The number of answers that is enough, if the strategy counts answers. Then no node is
    /// required.
    pub(crate) quorum: Option<usize>,
    /// Makes every node that runs required.
    pub(crate) all_required: bool,
    pub(crate) brownout: Brownout,
    /// Skips the nodes that may change state.
    pub(crate) test: bool,
}

/// Decides which of `nodes` run. `order` is their topological order. `holds` evaluates the
/// condition of a node and is called at most once per node.
///
/// - A dependency of a chosen node is chosen too. If a required node needs its answer, it is
///   required.
/// - A node that needs the answer of a skipped node is skipped for the same reason.
/// - A node that was chosen only as a dependency of skipped nodes is not chosen.
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
    // All indices are valid from here on: `choices` has one entry per node of the plan.
    let mut choices = asked_for(nodes, options);
    let failed = apply_conditions(nodes, order, options, holds, &mut choices)?;
    follow_skips(nodes, order, options, &mut choices);
    // After the conditions: a node that its condition skips cannot make the request forbidden.
    check_tier(nodes, options.tier, &mut choices)?;
    // After the tiers: a test run is forbidden for the same callers as a real one.
    if options.test {
        let changing = choices.iter_mut().zip(nodes).filter(|(_, node)| !node.safe);
        let running = changing.filter(|(choice, _)| runs(choice));
        running.for_each(|(choice, _)| *choice = Choice::Skip(SkipReason::Test));
    }
    shed(nodes, order, options, &mut choices);
    follow_skips(nodes, order, options, &mut choices);
    // Last: a node whose condition failed does no harm if something else skips it.
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

/// Skips the nodes whose condition is false, and the optional nodes whose condition failed. Chooses
/// the dependencies of the others. Returns the nodes whose condition failed and that were required
/// at that time, in reverse topological order.
///
/// These nodes are not skipped yet. Their dependencies are evaluated too, because the
/// request is only rejected if nothing else skips the node.
fn apply_conditions(
    nodes: &[NodeInfo],
    order: &[usize],
    options: &RunOptions<'_>,
    holds: impl Fn(usize) -> Result<Result<bool, BranchError>, SelectError>,
    choices: &mut [Choice],
) -> Result<Vec<(usize, BranchError)>, SelectError> {
    let mut failed = Vec::new();
    // Dependents first: a dependency is evaluated only if a node that runs still wants it.
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

/// Returns an error if a node whose condition `failed` is still required. The others are skipped:
/// they were required only by nodes that are skipped by now.
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

/// Returns the choices of the selection itself, without dependencies.
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

/// Chooses the dependencies of `node`, for which `choice` was made.
fn pull_in(node: &NodeInfo, choice: Choice, choices: &mut [Choice]) {
    for dependency in &node.dependencies {
        let needed = dependency.hard && choice == Choice::Run { required: true };
        let known = choices[dependency.node] == Choice::Run { required: true };
        choices[dependency.node] = Choice::Run {
            required: needed || known,
        };
    }
}

/// Skips the optional nodes that are not available to the tier. Returns an error if a required one
/// is not available.
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

/// Skips nodes that need the answer of a skipped node. Nodes that were chosen, or required, only
/// because of skipped nodes are not chosen, or optional, afterwards.
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
    // The choices are derived again from the selection, now through the running nodes only.
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

/// Skips the optional nodes whose priority is too low for the load. A node that stays keeps the
/// nodes it needs, and enough nodes stay for the request to succeed.
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

/// Keeps the nodes of the highest priority until enough are left for the request to succeed. A
/// quorum counts only sinks; without a quorum, one node is enough.
fn keep_enough(nodes: &[NodeInfo], quorum: Option<usize>, choices: &[Choice], stays: &mut [bool]) {
    let mut counts: Vec<bool> = choices.iter().map(runs).collect();
    if quorum.is_some() {
        let running = (0..nodes.len()).filter(|&node| runs(&choices[node]));
        let before = running.flat_map(|node| nodes[node].dependencies());
        before.for_each(|before| counts[before] = false);
    }
    let staying = (0..nodes.len()).filter(|&node| counts[node] && stays[node]);
    let missing = quorum.unwrap_or(1).saturating_sub(staying.count());
    let mut others: Vec<usize> = (0..nodes.len())
        .filter(|&node| counts[node] && !stays[node])
        .collect();
    others.sort_by_key(|&node| Reverse(nodes[node].priority));
    others.truncate(missing);
    others.into_iter().for_each(|node| stays[node] = true);
}
