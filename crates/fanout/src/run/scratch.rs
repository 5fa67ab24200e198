//! The working memory of a run, which is reused by later runs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use tower_fanout_layers::{Rejection, event::FallbackKind};

use super::{RunObserver, ready::Ready, wakers::NodeWakers};
use crate::{
    outcome::{BranchError, ErrorKind, SkipReason, Status},
    plan::{NodeOrder, PlanGraph},
    report::Branch,
    select::Choice,
    time_budget::reserves_time_for,
};

/// Maximum number of unused scratches in a pool. A burst of more concurrent runs allocates its own,
/// which are dropped afterwards.
const KEPT: usize = 64;

/// The state of one node in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeState {
    pub(super) phase: Phase,
    /// Number of dependencies that have not ended.
    pub(super) waits_for: u32,
    /// Expected time of the longest chain of dependents that the node reserves time for.
    pub(super) after: Duration,
    /// The time at which the node is ended, or `None` if it may run until the run ends.
    pub(super) due: Option<Instant>,
}

/// The phase of a node in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// The node is not selected, or its branch has ended.
    #[default]
    Done,
    /// The node has not been started.
    Pending,
    /// The call of the node is in flight.
    Running,
}

/// The reason for ending all branches that have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbortReason {
    /// The result is decided or the run was cancelled, so no further answer is needed.
    Unwanted,
    /// The grace period is over.
    Late,
    /// The deadline has passed.
    Deadline,
}

/// The end of a branch. The error of a failed branch is in its report entry already.
#[derive(Clone, Copy, Debug)]
pub(super) enum Completion {
    /// The call returned an answer.
    Answered,
    /// The call failed, or its request could not be made.
    Failed,
    /// The branch was ended by the deadline or by its own due time.
    Late,
    /// The node was not started.
    Skipped(SkipReason),
    /// The branch was ended, or not started, because its answer is no longer needed.
    Cancelled(AbortReason),
}

impl Completion {
    /// Writes the status, with its reason or error, into the report entry.
    pub(super) fn write(self, branch: &mut Branch) {
        branch.status = match self {
            Self::Answered if branch.fallback.is_some() => Status::Fallback,
            Self::Answered => Status::Success,
            Self::Failed => Status::Failed,
            Self::Late => {
                branch.error = Some(Rejection::Deadline.into());
                Status::Failed
            }
            Self::Skipped(reason) => {
                branch.skipped = Some(reason);
                Status::Skipped
            }
            Self::Cancelled(_) => Status::Cancelled,
        };
    }

    /// Turns the branch, which was [cut](Self::is_cut), into one that a static fallback answers.
    pub(super) fn write_fallback(self, branch: &mut Branch) {
        branch.status = Status::Fallback;
        branch.fallback = Some(FallbackKind::Static);
        // A cancelled branch has no error, so its answer would not say why it is a fallback.
        match self {
            Self::Cancelled(_) if branch.started.is_none() => {
                branch.skipped = Some(SkipReason::NoTime);
            }
            Self::Cancelled(AbortReason::Deadline) => {
                branch.error = Some(Rejection::Deadline.into());
            }
            Self::Cancelled(_) => {
                let late = "no answer within the grace period";
                branch.error = Some(BranchError::new(ErrorKind::Timeout, late));
            }
            _ => {}
        }
    }

    /// Returns `true` if the run ended the branch, and a fallback may answer for it.
    pub(super) const fn is_cut(self) -> bool {
        match self {
            Self::Answered | Self::Failed => false,
            Self::Late => true,
            Self::Skipped(reason) => {
                matches!(reason, SkipReason::Dependency | SkipReason::NoTime)
            }
            Self::Cancelled(why) => !matches!(why, AbortReason::Unwanted),
        }
    }
}

/// The working memory of one run. A [`ScratchPool`] keeps it for later runs, so that most runs
/// allocate none of it.
pub(super) struct Scratch {
    pub(super) wakers: NodeWakers,
    /// The state of each node, by index.
    pub(super) nodes: Vec<NodeState>,
    /// The nodes that are ready to start.
    pub(super) ready: Ready,
    /// Ends of nodes that were recorded but not processed, in the order in which they were
    /// recorded.
    pub(super) completions: VecDeque<(usize, Completion)>,
    /// Nodes whose end was processed but that the stream has not yielded yet.
    pub(super) completed: VecDeque<usize>,
}

impl Scratch {
    /// Initializes the nodes from the `choices` of the request, here and in `branches`. Returns the
    /// number of required nodes and the number of sinks. A sink is a node on which no other node of
    /// the request depends.
    pub(super) fn take_choices(
        &mut self,
        plan: &PlanGraph,
        node_order: &NodeOrder,
        choices: &[Choice],
        branches: &mut [Branch],
    ) -> (usize, usize) {
        self.ready.reset(choices.len());
        let (mut required, mut sinks) = (0, 0);
        // Dependents come before their dependencies here, so the chain after a node is complete
        // when the node is reached. `push_front` restores the order of the plan.
        for &node in plan.order.iter().rev() {
            let completion = match &choices[node] {
                Choice::Run { .. } => None,
                Choice::Skip(reason) => Some(Completion::Skipped(*reason)),
                Choice::Fail(error) => {
                    branches[node].error = Some(error.clone());
                    Some(Completion::Failed)
                }
                Choice::Out => continue,
            };
            if let Some(completion) = completion {
                // The node is processed like one that ends, so that it releases dependents and is
                // yielded by the stream.
                self.nodes[node].phase = Phase::Pending;
                self.completions.push_front((node, completion));
                continue;
            }
            let needed = choices[node].is_required();
            let is_sink = plan.is_sink(node, choices);
            (branches[node].required, branches[node].is_sink) = (needed, is_sink);
            required += usize::from(needed);
            sinks += usize::from(is_sink);
            let dependencies = &plan.nodes[node].dependencies;
            let chosen = dependencies
                .iter()
                .filter(|dependency| choices[dependency.node] != Choice::Out);
            let state = &mut self.nodes[node];
            state.phase = Phase::Pending;
            state.waits_for = chosen.count() as u32;
            if state.waits_for == 0 {
                self.ready.insert(needed, node_order.rank[node]);
            }
            // Without expected times all chains are zero.
            if node_order.has_estimates {
                let chain = node_order.expected[node].saturating_add(state.after);
                for dependency in dependencies {
                    if reserves_time_for(choices[dependency.node].is_required(), needed) {
                        let before = &mut self.nodes[dependency.node];
                        before.after = before.after.max(chain);
                    }
                }
            }
        }
        (required, sinks)
    }
}

/// Returns the scratch of a run.
pub(super) fn scratch_of(scratch: &mut Option<Scratch>) -> &mut Scratch {
    // `Run::new` takes the scratch from the pool, and only `Run::drop` returns it.
    scratch
        .as_mut()
        .expect("a run keeps its scratch until it is dropped")
}

/// A pool of scratches that are not in use.
pub(crate) struct ScratchPool {
    nodes: usize,
    observer: Option<Arc<dyn RunObserver>>,
    kept: Mutex<Vec<Scratch>>,
}

impl ScratchPool {
    /// Creates an empty pool for the runs of a plan with `nodes` nodes.
    pub(crate) fn new(nodes: usize, observer: Option<Arc<dyn RunObserver>>) -> Self {
        Self {
            nodes,
            observer,
            kept: Mutex::default(),
        }
    }

    /// Returns the observer, if one is set.
    pub(super) fn observer(&self) -> Option<&dyn RunObserver> {
        self.observer.as_deref()
    }

    /// Takes a scratch from the pool, or allocates one if the pool is empty.
    pub(super) fn take(&self) -> Scratch {
        let kept = self.lock().pop();
        kept.unwrap_or_else(|| {
            let nodes = self.nodes;
            Scratch {
                wakers: NodeWakers::new(nodes),
                nodes: vec![NodeState::default(); nodes],
                ready: Ready::default(),
                completions: VecDeque::with_capacity(nodes),
                completed: VecDeque::with_capacity(nodes),
            }
        })
    }

    /// Returns a scratch to the pool. All calls of its run must have been dropped.
    pub(super) fn put_back(&self, mut scratch: Scratch) {
        // Neither a wake nor an event of this run may reach the next one.
        scratch.wakers.reset();
        scratch.nodes.fill(NodeState::default());
        scratch.completions.clear();
        scratch.completed.clear();
        let mut kept = self.lock();
        if kept.len() < KEPT {
            kept.push(scratch);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
