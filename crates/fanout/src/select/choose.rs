//! The order in which the rules of a selection apply.

use std::{cmp::Reverse, mem};

use super::{Choice, SelectError, SelectOptions, Selection};
use crate::{
    outcome::{BranchError, SkipReason},
    plan::{NodeInfo, PlanGraph},
    strategy::Strategy,
};

/// Decides which nodes of `plan` run. `holds` evaluates the condition of a node and is called at
/// most once per node.
///
/// - A dependency of a chosen node is chosen too. If a required node needs its answer, it is
///   required.
/// - A node that needs the answer of a skipped node is skipped for the same reason.
/// - An optional node whose condition is an error fails.
/// - A node that was chosen only as a dependency of skipped nodes is not chosen.
pub(crate) fn choose(
    plan: &PlanGraph,
    options: &SelectOptions,
    strategy: Strategy,
    holds: impl Fn(usize) -> Result<Result<bool, BranchError>, SelectError>,
) -> Result<Vec<Choice>, SelectError> {
    if let Selection::Named { required, optional } = &options.selection {
        let mut named = required.iter().chain(optional);
        if let Some(&node) = named.find(|&&node| node >= plan.nodes.len()) {
            return Err(SelectError::UnknownNode { node });
        }
    }
    let mut chooser = Chooser {
        plan,
        options,
        strategy,
        choices: Vec::new(),
    };
    chooser.choices = chooser.asked_for();
    let failed = chooser.apply_conditions(holds)?;
    chooser.follow_skips();
    // After the conditions: a node that its condition skips cannot make the request forbidden.
    chooser.check_tier()?;
    // After the tiers: a test run is forbidden for the same callers as a real one.
    if options.test {
        for (choice, node) in chooser.choices.iter_mut().zip(&plan.nodes) {
            if choice.runs() && !node.safe {
                *choice = Choice::Skip(SkipReason::Test);
            }
        }
    }
    chooser.shed();
    chooser.follow_skips();
    // Last: a node whose condition failed does no harm if something else skips it.
    chooser.refuse_failed(failed)?;
    chooser.finish()
}

/// The choices of a request, as far as they are made.
struct Chooser<'c> {
    plan: &'c PlanGraph,
    options: &'c SelectOptions,
    strategy: Strategy,
    /// One entry per node of the plan, so that indexing by a node cannot fail.
    choices: Vec<Choice>,
}

impl Chooser<'_> {
    /// Returns the choices of the selection itself, without dependencies.
    fn asked_for(&self) -> Vec<Choice> {
        // If the strategy counts answers, no node is required.
        let counts = self.strategy.quorum().is_some();
        let run = |required: bool| Choice::Run {
            required: required && !counts,
        };
        let nodes = &self.plan.nodes;
        match &self.options.selection {
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

    fn is_required(&self, node: usize) -> bool {
        match self.strategy {
            Strategy::All => self.choices[node].runs(),
            _ => self.choices[node].is_required(),
        }
    }

    /// Skips the nodes whose condition is false, and fails the optional nodes whose condition failed.
    /// Chooses the dependencies of the others. Returns the nodes whose condition failed and that
    /// were required at that time, in reverse topological order.
    ///
    /// These nodes are not skipped yet. Their dependencies are evaluated too, because the request is
    /// only rejected if nothing else skips the node.
    fn apply_conditions(
        &mut self,
        holds: impl Fn(usize) -> Result<Result<bool, BranchError>, SelectError>,
    ) -> Result<Vec<(usize, BranchError)>, SelectError> {
        let mut failed = Vec::new();
        // Dependents first: a dependency is evaluated only if a node that runs still wants it.
        for &node in self.plan.order.iter().rev() {
            if !self.choices[node].runs() {
                continue;
            }
            match holds(node)? {
                Ok(true) => {}
                Err(error) if self.is_required(node) => failed.push((node, error)),
                Ok(false) => {
                    self.choices[node] = Choice::Skip(SkipReason::When);
                    continue;
                }
                Err(error) => {
                    self.choices[node] = Choice::Fail(error);
                    continue;
                }
            }
            let is_required = self.choices[node].is_required();
            pull_in(&self.plan.nodes[node], is_required, &mut self.choices);
        }
        Ok(failed)
    }

    /// Skips nodes that need the answer of a skipped node. Nodes that were chosen, or required, only
    /// because of skipped nodes are not chosen, or optional, afterwards.
    fn follow_skips(&mut self) {
        if !(self.choices.iter()).any(|choice| matches!(choice, Choice::Skip(_))) {
            return;
        }
        let nodes = &self.plan.nodes;
        for &node in &self.plan.order {
            let mut hard = nodes[node].hard_dependencies();
            let skipped = hard.find(|&on| matches!(self.choices[on], Choice::Skip(_)));
            if let (true, Some(on)) = (self.choices[node].runs(), skipped) {
                self.choices[node] = self.choices[on].clone();
            }
        }
        // The choices are derived again from the selection, now through the running nodes only.
        let mut needed = self.asked_for();
        for &node in self.plan.order.iter().rev() {
            if !self.choices[node].runs() {
                continue;
            }
            self.choices[node] = needed[node].clone();
            if needed[node].runs() {
                let is_required = needed[node].is_required();
                pull_in(&nodes[node], is_required, &mut needed);
            }
        }
    }

    /// Skips the optional nodes that are not available to the tier. Returns an error if a required
    /// one is not available.
    fn check_tier(&mut self) -> Result<(), SelectError> {
        let tier = self.options.tier.as_deref();
        let mut forbidden = Vec::new();
        for (node, choice) in self.choices.iter_mut().enumerate() {
            match choice {
                Choice::Run { .. } if self.plan.nodes[node].admits(tier) => {}
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

    /// Skips the optional nodes whose priority is too low for the load. A node that stays keeps the
    /// nodes it needs, and enough nodes stay for the request to succeed.
    fn shed(&mut self) {
        let (plan, brownout) = (self.plan, self.options.brownout);
        // If every node is required, none can be shed.
        if brownout.load <= 0.0 || self.strategy == Strategy::All {
            return;
        }
        let nodes = self.choices.iter().zip(&plan.nodes);
        let mut stays: Vec<bool> = nodes
            .map(|(choice, node)| choice.is_required() || choice.runs() && !brownout.sheds(node))
            .collect();
        self.keep_enough(&mut stays);
        for &node in plan.order.iter().rev() {
            if !self.choices[node].runs() {
                continue;
            }
            if stays[node] {
                let hard = plan.nodes[node].hard_dependencies();
                hard.for_each(|on| stays[on] = true);
            } else {
                self.choices[node] = Choice::Skip(SkipReason::Brownout);
            }
        }
    }

    /// Keeps the nodes of the highest priority until enough are left for the request to succeed. A
    /// quorum counts only sinks; without a quorum, one node is enough.
    fn keep_enough(&self, stays: &mut [bool]) {
        let quorum = self.strategy.quorum();
        let counts = |&node: &usize| {
            let is_sink = || self.plan.is_sink(node, &self.choices);
            self.choices[node].runs() && (quorum.is_none() || is_sink())
        };
        let (staying, mut others): (Vec<usize>, Vec<usize>) = (0..stays.len())
            .filter(counts)
            .partition(|&node| stays[node]);
        others.sort_by_key(|&node| Reverse(self.plan.nodes[node].priority));
        others.truncate(quorum.unwrap_or(1).saturating_sub(staying.len()));
        others.into_iter().for_each(|node| stays[node] = true);
    }

    /// Returns an error if a node whose condition `failed` is still required. The others fail alone:
    /// they were required only by nodes that are skipped by now.
    fn refuse_failed(&mut self, mut failed: Vec<(usize, BranchError)>) -> Result<(), SelectError> {
        if failed.is_empty() {
            return Ok(());
        }
        for (node, error) in &failed {
            if self.choices[*node].runs() && !self.is_required(*node) {
                self.choices[*node] = Choice::Fail(error.clone());
            }
        }
        failed.retain(|(node, _)| self.choices[*node].runs());
        self.follow_skips();
        if failed.is_empty() {
            return Ok(());
        }
        failed.sort_by_key(|(node, _)| *node);
        Err(self.condition_failed(failed))
    }

    fn condition_failed(&mut self, failed: Vec<(usize, BranchError)>) -> SelectError {
        SelectError::ConditionFailed {
            failed,
            choices: mem::take(&mut self.choices),
        }
    }

    /// Returns the choices, or an error if they cannot be a success.
    fn finish(mut self) -> Result<Vec<Choice>, SelectError> {
        let running = |node: &usize| self.choices[*node].runs();
        let running = (0..self.choices.len()).filter(running);
        let fails = self
            .choices
            .iter()
            .any(|one| matches!(one, Choice::Fail(_)));
        match self.strategy.quorum() {
            _ if fails && running.clone().next().is_none() => {
                return Err(self.condition_failed(Vec::new()));
            }
            _ if running.clone().next().is_none() => return Err(SelectError::Nothing),
            // A quorum that cannot be reached fails here, before any service is called.
            Some(needed) => {
                let sinks = running.filter(|&node| self.plan.is_sink(node, &self.choices));
                let of = sinks.count();
                if of < needed && fails {
                    return Err(self.condition_failed(Vec::new()));
                }
                if of < needed {
                    return Err(SelectError::Quorum { needed, of });
                }
            }
            None => {}
        }
        if self.strategy == Strategy::All {
            let running = self.choices.iter_mut().filter(|choice| choice.runs());
            running.for_each(|choice| *choice = Choice::Run { required: true });
        }
        Ok(self.choices)
    }
}

/// Chooses the dependencies of `node`, which runs. `is_required` is `true` if the node is required.
fn pull_in(node: &NodeInfo, is_required: bool, choices: &mut [Choice]) {
    for dependency in &node.dependencies {
        let needed = dependency.hard && is_required;
        let known = choices[dependency.node].is_required();
        choices[dependency.node] = Choice::Run {
            required: needed || known,
        };
    }
}
