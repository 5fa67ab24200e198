//! What happened in a run, branch by branch.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tower_fanout_layers::{
    Class, Event, Observe,
    observe::{FallbackKind, StoppedBy},
};

use crate::outcome::{BranchError, SkipReason, Status};

/// What happened to one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Branch {
    /// The place of the node in its plan.
    pub node: usize,
    /// Whether the answer as a whole needed it.
    pub required: bool,
    /// How it ended.
    pub status: Status,
    /// Why it has no answer, if it failed.
    pub error: Option<BranchError>,
    /// Why it was not started, if it was skipped.
    pub skipped: Option<SkipReason>,
    /// When it was started, counted from the start of the run; none if it never was.
    pub started: Option<Duration>,
    /// How long it took, with all its attempts and pauses; none if it was not started.
    pub elapsed: Option<Duration>,
    /// How many attempts were sent, as its retry layer counts them.
    pub attempts: u32,
    /// How long it waited for its turn at concurrency limits, all attempts together.
    pub queued: Duration,
    /// Which rule ended its retries, if one did.
    pub stopped_by: Option<StoppedBy>,
    /// What kind of fallback answered, if one did.
    pub fallback: Option<FallbackKind>,
}

impl Branch {
    pub(crate) const fn new(node: usize) -> Self {
        Self {
            node,
            required: false,
            status: Status::Skipped,
            error: None,
            skipped: None,
            started: None,
            elapsed: None,
            attempts: 0,
            queued: Duration::ZERO,
            stopped_by: None,
            fallback: None,
        }
    }

    /// When it ended, counted from the start of the run.
    #[must_use]
    pub fn ended(&self) -> Option<Duration> {
        Some(self.started? + self.elapsed?)
    }
}

/// What happened in a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The branches that were asked for, in order of their nodes.
    pub branches: Vec<Branch>,
    /// How long the run took.
    pub elapsed: Duration,
    /// Whether the deadline ended it, or one of its branches.
    pub timed_out: bool,
    /// The nodes that decided how long it took: the last to end, what that waited for longest, and
    /// so on, from the first to the last.
    pub critical_path: Vec<usize>,
}

impl Report {
    /// The branch of the node at `node` of the plan, if it was asked for.
    #[must_use]
    pub fn branch(&self, node: usize) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.node == node)
    }

    /// How many branches ended as `status`.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.branches
            .iter()
            .filter(|branch| branch.status == status)
            .count()
    }

    /// Whether every branch that the caller's tier has, has an answer.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.branches
            .iter()
            .all(|branch| branch.status.is_answered() || branch.skipped == Some(SkipReason::Tier))
    }
}

/// Collects the events of one branch.
#[derive(Default)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    forward: Option<Forward>,
}

/// Who else is told of a branch's events.
pub(crate) struct Forward {
    pub(crate) observer: Arc<dyn crate::run::RunObserver>,
    pub(crate) names: Arc<[Box<str>]>,
    pub(crate) node: usize,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    attempts: u32,
    queued: Duration,
    stopped_by: Option<StoppedBy>,
    fallback: Option<FallbackKind>,
}

impl Recorder {
    pub(crate) fn new(forward: Option<Forward>) -> Self {
        Self {
            seen: Mutex::default(),
            forward,
        }
    }

    /// Writes what was seen into the branch's part of the report.
    pub(crate) fn write(&self, branch: &mut Branch) {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        branch.attempts = seen.attempts;
        branch.queued = seen.queued;
        branch.stopped_by = seen.stopped_by;
        branch.fallback = seen.fallback;
    }
}

impl Observe for Recorder {
    fn on(&self, event: Event) {
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Event::Attempt { .. } => seen.attempts += 1,
                // An attempt that was refused on our side was never sent.
                Event::AttemptEnded {
                    class: Class::Local(_),
                    ..
                } => seen.attempts -= 1,
                Event::Admitted { waited } => seen.queued += waited,
                Event::RetryStopped { by } => seen.stopped_by = Some(by),
                Event::FallbackUsed { kind, .. } => seen.fallback = Some(kind),
                _ => {}
            }
        }
        if let Some(Forward {
            observer,
            names,
            node,
        }) = &self.forward
        {
            observer.on_event(&names[*node], event);
        }
    }
}
