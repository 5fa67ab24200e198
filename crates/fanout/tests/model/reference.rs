//! A model of a run, event by event. It is written from the documentation and shares no code with
//! the crate.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use tower_fanout::{ReturnWhen, Strategy};

use crate::{
    case::{Case, Ends},
    choice::{Runs, Skipped, depends, is_sink, quorum, select},
};

/// The result of a node. Times are in milliseconds from the start of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) status: String,
    pub(crate) started: Option<u64>,
    pub(crate) ended: Option<u64>,
}

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The results of the nodes that the request asks for.
    pub(crate) fates: BTreeMap<usize, Fate>,
    pub(crate) elapsed: u64,
    pub(crate) success: bool,
}

/// Minimum time with which an optional node is started, in milliseconds.
const MIN_USEFUL: u64 = 10;

/// Returns the outcome of `case`, or `None` if the case cannot be run.
pub(crate) fn expect(case: &Case) -> Option<Outcome> {
    let (runs, skipped) = select(case)?;
    Some(Model::new(case, runs, skipped).run())
}

/// Returns the longest path of latencies through the whole plan.
pub(crate) fn critical_path(case: &Case) -> u64 {
    let before = |node: usize| {
        case.nodes[node]
            .dependencies
            .iter()
            .map(|one| one.0)
            .collect()
    };
    let latency = |node: usize| case.nodes[node].latency;
    let known = &mut Chains::new();
    let ends =
        (0..case.nodes.len()).map(|node| latency(node) + chain(node, &before, &latency, known).0);
    ends.max().unwrap_or(0)
}

/// The chains that were computed already.
type Chains = BTreeMap<usize, (u64, u32)>;

/// Returns the longest chain of nodes that follow `node` by `next`, without `node` itself, as its
/// duration and its number of nodes.
fn chain(
    node: usize,
    next: &impl Fn(usize) -> Vec<usize>,
    takes: &impl Fn(usize) -> u64,
    known: &mut Chains,
) -> (u64, u32) {
    if let Some(&chain) = known.get(&node) {
        return chain;
    }
    let chains = next(node).into_iter().map(|other| {
        let (time, nodes) = chain(other, next, takes, known);
        (time + takes(other), nodes + 1)
    });
    let longest = chains.max().unwrap_or_default();
    known.insert(node, longest);
    longest
}

/// The sort key of a ready node: required nodes first, then by priority, by the longest path, and
/// by declaration.
type SortKey = (bool, Reverse<u8>, Reverse<(u64, u32)>, usize);

struct Model<'c> {
    case: &'c Case,
    now: u64,
    /// The deadline of the branches, which is earlier than that of the request by the merge margin.
    end: Option<u64>,
    runs: Runs,
    sinks: BTreeSet<usize>,
    ready: BTreeSet<SortKey>,
    /// The running nodes, each with the time at which it must end.
    running: BTreeMap<usize, Option<u64>>,
    started: BTreeMap<usize, u64>,
    over: BTreeMap<usize, Fate>,
    ends: VecDeque<(usize, String)>,
    grace: Option<u64>,
    stopped: bool,
    paths: Chains,
    afters: Chains,
}

impl<'c> Model<'c> {
    fn new(case: &'c Case, runs: Runs, skipped: Skipped) -> Self {
        let fate = |reason| Fate {
            status: format!("skipped {reason}"),
            started: None,
            ended: None,
        };
        let over = skipped
            .into_iter()
            .map(|(node, reason)| (node, fate(reason)));
        let sinks = runs
            .keys()
            .copied()
            .filter(|&node| is_sink(case, &runs, node));
        Self {
            case,
            now: 0,
            end: case
                .deadline
                .map(|deadline| deadline - (deadline / 20).min(50)),
            sinks: sinks.collect(),
            ready: BTreeSet::new(),
            running: BTreeMap::new(),
            started: BTreeMap::new(),
            over: over.collect(),
            ends: VecDeque::new(),
            grace: None,
            stopped: false,
            paths: Chains::new(),
            afters: Chains::new(),
            runs,
        }
    }

    fn run(mut self) -> Outcome {
        let all: Vec<usize> = self.runs.keys().copied().collect();
        all.iter().for_each(|&node| self.update_pending(node));
        loop {
            let ended = |node: &usize| self.ends_at(*node) == Some(self.now);
            let ended: Vec<usize> = self.running.keys().copied().filter(ended).collect();
            ended.into_iter().for_each(|node| self.ended(node));
            self.drain_ends();
            while self.start_ready() {
                self.drain_ends();
            }
            if !self.is_over() && !self.apply_time_limits() {
                self.now = self.next();
            }
            if self.is_over() {
                break self.outcome();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.runs.keys().all(|node| self.over.contains_key(node))
    }

    fn ends_at(&self, node: usize) -> Option<u64> {
        let is = &self.case.nodes[node];
        (is.ends != Ends::Never).then(|| self.started[&node] + is.latency)
    }

    /// Returns the time of the next event.
    fn next(&self) -> u64 {
        let ends = self.running.keys().filter_map(|&node| self.ends_at(node));
        let dues = self.running.values().filter_map(|due| *due);
        let limits = self.grace.into_iter().chain(self.case.deadline);
        let next = ends
            .chain(dues)
            .chain(limits)
            .filter(|&time| time > self.now)
            .min();
        next.expect("an event is due while the run is not over")
    }

    /// Records that a node ended by itself. The end is processed at once if it may decide the run.
    fn ended(&mut self, node: usize) {
        if !self.running.contains_key(&node) {
            return;
        }
        let status = match self.case.nodes[node].ends {
            Ends::Answers => "success",
            Ends::Fails => "failed status",
            Ends::Panics => "failed panic",
            Ends::Never => unreachable!("the node never ends"),
        };
        self.ends.push_back((node, status.into()));
        let strategy = self.case.strategy;
        let failed = strategy == Strategy::All && status != "success";
        if failed || quorum(strategy).is_some() {
            self.drain_ends();
        }
    }

    /// Processes all recorded ends and their effects.
    fn drain_ends(&mut self) {
        while let Some((node, status)) = self.ends.pop_front() {
            if self.over.contains_key(&node) {
                continue;
            }
            self.running.remove(&node);
            let started = self.started.get(&node).copied();
            let fate = Fate {
                status,
                started,
                ended: started.map(|_| self.now),
            };
            self.over.insert(node, fate);
            self.apply_strategy(node);
            if !self.stopped {
                let waiting: Vec<usize> = self.waiting().collect();
                let dependents = |other: &usize| depends(self.case, *other, node);
                let dependents: Vec<usize> = waiting.into_iter().filter(dependents).collect();
                dependents
                    .into_iter()
                    .for_each(|other| self.update_pending(other));
            }
        }
        if self.grace.is_some_and(|grace| grace <= self.now) {
            self.abort(|_, _| "cancelled", "fallback timeout");
        }
    }

    fn waiting(&self) -> impl Iterator<Item = usize> {
        let waits =
            |node: &usize| !self.over.contains_key(node) && !self.started.contains_key(node);
        self.runs.keys().copied().filter(waits)
    }

    fn answered(&self, node: usize) -> bool {
        self.over
            .get(&node)
            .is_some_and(|fate| fate.status == "success" || fate.status.starts_with("fallback"))
    }

    /// Applies the strategy and `return_when` after the end of `node`.
    fn apply_strategy(&mut self, node: usize) {
        let left = self
            .sinks
            .iter()
            .filter(|node| !self.over.contains_key(node))
            .count();
        let answered = self
            .sinks
            .iter()
            .filter(|&&node| self.answered(node))
            .count();
        let strategy = self.case.strategy;
        let stops = match quorum(strategy) {
            Some(needed) => answered >= needed || answered + left < needed,
            None => strategy == Strategy::All && self.runs[&node] && !self.answered(node),
        };
        if stops {
            self.abort(|_, _| "cancelled", "cancelled");
        }
        let mut required = self.runs.iter().filter(|run| *run.1);
        let complete = required.all(|run| self.over.contains_key(run.0));
        if self.runs[&node] && complete && self.case.return_when == ReturnWhen::Required {
            self.grace = self.grace.or(Some(self.now + self.case.grace));
        }
    }

    /// Returns the status of a node that was cut.
    fn cut(&self, node: usize, status: &str) -> String {
        match status.split_once(' ') {
            Some((_, why)) if self.case.nodes[node].fallback => format!("fallback {why}"),
            _ => status.into(),
        }
    }

    /// Ends all nodes that have not ended. `status` gets whether the node is running, and whether
    /// it is required. A cancelled node with a fallback gets `replaced`.
    fn abort(&mut self, status: impl Fn(bool, bool) -> &'static str, replaced: &str) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.ready.clear();
        for (&node, &required) in &self.runs {
            let status = status(self.running.contains_key(&node), required);
            let is_cut = self.case.nodes[node].fallback && replaced != "cancelled";
            let status = match status {
                "cancelled" if is_cut && !self.started.contains_key(&node) => {
                    "fallback no_time".into()
                }
                "cancelled" if self.case.nodes[node].fallback => replaced.into(),
                _ => self.cut(node, status),
            };
            self.ends.push_back((node, status));
        }
        self.drain_ends();
    }

    /// Makes a node ready, or skips it, if all of its dependencies have ended.
    fn update_pending(&mut self, node: usize) {
        let is = &self.case.nodes[node];
        let known = |one: &(usize, bool)| self.over.contains_key(&one.0);
        if self.over.contains_key(&node) || !is.dependencies.iter().all(known) {
            return;
        }
        if is
            .dependencies
            .iter()
            .any(|one| one.1 && !self.answered(one.0))
        {
            let status = self.cut(node, "skipped dependency");
            self.ends.push_back((node, status));
            return;
        }
        let path = Reverse(self.path(node));
        let key = (!self.runs[&node], Reverse(is.priority), path, node);
        self.ready.insert(key);
    }

    fn expected(&self, node: usize) -> u64 {
        self.case.nodes[node].expected.unwrap_or(0)
    }

    /// Returns the longest chain from the start of `node` to the end of the plan.
    fn path(&mut self, node: usize) -> (u64, u32) {
        let case = self.case;
        let all = 0..case.nodes.len();
        let next = |node| {
            all.clone()
                .filter(|&other| depends(case, other, node))
                .collect()
        };
        let takes = |node: usize| case.nodes[node].expected.unwrap_or(0);
        let (time, nodes) = chain(node, &next, &takes, &mut self.paths);
        (time + takes(node), nodes)
    }

    /// Returns the expected time of the longest chain after `node`. A required node counts only
    /// required nodes.
    fn after(&mut self, node: usize) -> u64 {
        let (case, runs) = (self.case, &self.runs);
        let next = |node| {
            let counts = |other: &usize| runs[other] || !runs[&node];
            let after = runs
                .keys()
                .copied()
                .filter(|&other| depends(case, other, node));
            after.filter(counts).collect()
        };
        let takes = |node: usize| case.nodes[node].expected.unwrap_or(0);
        chain(node, &next, &takes, &mut self.afters).0
    }

    fn start_ready(&mut self) -> bool {
        let mut any = false;
        while self.running.len() < self.case.max_concurrency
            && let Some((.., node)) = self.ready.pop_first()
        {
            any = true;
            let left = self.end.map(|end| end.saturating_sub(self.now));
            let needed = self.expected(node).max(MIN_USEFUL);
            if !self.runs[&node] && left.is_some_and(|left| left < needed) {
                let status = self.cut(node, "skipped no_time");
                self.ends.push_back((node, status));
                continue;
            }
            let after = self.after(node);
            let keeps = after > 0 && left.is_some_and(|left| left >= after + needed);
            let due = self.end.filter(|_| keeps).map(|end| end - after);
            self.running.insert(node, due);
            self.started.insert(node, self.now);
            if self.ends_at(node) == Some(self.now) {
                self.ended(node);
            }
        }
        any
    }

    /// Ends the nodes whose time is over. Returns `true` if it ended any.
    fn apply_time_limits(&mut self) -> bool {
        if self.case.deadline == Some(self.now) {
            let gives_all = self.case.return_when == ReturnWhen::Deadline;
            let status = |runs: bool, required: bool| match runs {
                _ if gives_all && !required => "cancelled",
                true => "failed deadline",
                false => "skipped no_time",
            };
            self.abort(status, "fallback deadline");
            return true;
        }
        let due = self
            .running
            .iter()
            .filter(|one| one.1.is_some_and(|due| due <= self.now));
        let due: Vec<usize> = due.map(|one| *one.0).collect();
        let late = due
            .iter()
            .map(|&node| (node, self.cut(node, "failed deadline")));
        let late: Vec<_> = late.collect();
        self.ends.extend(late);
        self.drain_ends();
        !due.is_empty()
    }

    fn outcome(self) -> Outcome {
        let answers = |node: &&usize| self.answered(**node);
        let success = match quorum(self.case.strategy) {
            Some(needed) => self.sinks.iter().filter(answers).count() >= needed,
            None if self.case.strategy == Strategy::BestEffort => {
                self.runs.keys().any(|node| self.answered(*node))
            }
            None if self.case.strategy == Strategy::Partial && !self.runs.values().any(|r| *r) => {
                self.runs.is_empty() || self.runs.keys().any(|node| self.answered(*node))
            }
            None => self
                .runs
                .iter()
                .all(|(node, required)| !required || self.answered(*node)),
        };
        Outcome {
            fates: self.over,
            elapsed: self.now,
            success,
        }
    }
}
