//! The state of a run's nodes, kept for the next run.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use tower_fanout_layers::Rejection;

use super::{RunObserver, ready::Ready, recorder::Watch, wakers::NodeWakers};
use crate::{
    outcome::{SkipReason, Status},
    plan::{NodeOrder, PlanGraph},
    report::Branch,
    select::Choice,
    time_budget::reserves_time_for,
};

/// More runs at once than this make rooms of their own.
const KEPT: usize = 64;

/// One node's place in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NodeState {
    pub(super) state: State,
    /// Dependencies that have not ended.
    pub(super) waits_for: u32,
    /// What is expected of the longest chain of nodes that come after it and that it makes room for.
    pub(super) after: Duration,
    /// When it is ended; none for the end of the run.
    pub(super) due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// It was not asked for, or has ended.
    #[default]
    Done,
    /// It has not been started.
    Pending,
    /// It runs.
    Running,
}

/// How a branch ended. Why it failed stands in the report already.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Answered,
    Failed,
    Late,
    Skipped(SkipReason),
    Cancelled,
}

impl End {
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
            Self::Cancelled => Status::Cancelled,
        };
    }
}

/// What a run works with: none of it is allocated anew for each.
pub(super) struct Scratch {
    pub(super) wakers: NodeWakers,
    pub(super) slots: Vec<NodeState>,
    pub(super) ready: Ready,
    /// Ends that were not taken note of yet.
    pub(super) completions: VecDeque<(usize, End)>,
    /// Nodes that ended, and were not told of yet.
    pub(super) completed: VecDeque<usize>,
}

impl Scratch {
    /// Takes note of what was chosen for each node, here and in `branches`. Returns the number of
    /// required nodes and the number of nodes on which no other node of the request depends.
    pub(super) fn take_choices(
        &mut self,
        plan: &PlanGraph,
        node_order: &NodeOrder,
        choices: &[Choice],
        branches: &mut [Branch],
    ) -> (usize, usize) {
        self.ready.reset(choices.len());
        let (mut required, mut last) = (0, 0);
        for &node in plan.order.iter().rev() {
            let needed = match choices[node] {
                Choice::Run { required } => required,
                Choice::Skip(reason) => {
                    self.slots[node].state = State::Pending;
                    self.completions.push_front((node, End::Skipped(reason)));
                    continue;
                }
                Choice::Out => continue,
            };
            let runs = |&other: &usize| matches!(choices[other], Choice::Run { .. });
            let is_sink = !plan.dependents[node].iter().any(runs);
            (branches[node].required, branches[node].is_sink) = (needed, is_sink);
            required += usize::from(needed);
            last += usize::from(is_sink);
            let dependencies = &plan.nodes[node].dependencies;
            let chosen = dependencies
                .iter()
                .filter(|dependency| choices[dependency.node] != Choice::Out);
            let slot = &mut self.slots[node];
            slot.state = State::Pending;
            slot.waits_for = chosen.count() as u32;
            if slot.waits_for == 0 {
                self.ready.insert(needed, node_order.rank[node]);
            }
            if node_order.knows {
                let chain = node_order.expected[node].saturating_add(slot.after);
                for dependency in dependencies {
                    let is_required = choices[dependency.node] == Choice::Run { required: true };
                    if reserves_time_for(is_required, needed) {
                        let before = &mut self.slots[dependency.node];
                        before.after = before.after.max(chain);
                    }
                }
            }
        }
        (required, last)
    }
}

/// Returns the room of a run.
pub(super) fn scratch_of(scratch: &mut Option<Scratch>) -> &mut Scratch {
    // A run takes its room when it is created and puts it back only when it is dropped.
    scratch
        .as_mut()
        .expect("a run has a scratch until it is dropped")
}

/// ScratchPool that are not in use.
pub(crate) struct ScratchPool {
    watch: Watch,
    kept: Mutex<Vec<Scratch>>,
}

impl ScratchPool {
    pub(crate) fn new(names: Arc<[Box<str>]>, observer: Option<Arc<dyn RunObserver>>) -> Self {
        Self {
            watch: Watch { observer, names },
            kept: Mutex::default(),
        }
    }

    pub(super) fn observer(&self) -> Option<&dyn RunObserver> {
        self.watch.observer.as_deref()
    }

    pub(super) fn take(&self) -> Scratch {
        let kept = self.lock().pop();
        kept.unwrap_or_else(|| {
            let nodes = self.watch.names.len();
            Scratch {
                wakers: NodeWakers::new(self.watch.clone()),
                slots: vec![NodeState::default(); nodes],
                ready: Ready::default(),
                completions: VecDeque::with_capacity(nodes),
                completed: VecDeque::with_capacity(nodes),
            }
        })
    }

    /// Takes back a room in which nothing runs any more.
    pub(super) fn put_back(&self, mut scratch: Scratch) {
        scratch.wakers.reset();
        scratch.slots.fill(NodeState::default());
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
