//! What a run should do, event by event: written from the documents, and apart from the crate.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
};

use tower_fanout::{ReturnWhen, Strategy};

use crate::{
    case::{Case, Ends},
    choice::{Runs, Skipped, depends, is_sink, quorum, select},
};

/// What became of a node; times are in milliseconds from the start of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) status: String,
    pub(crate) started: Option<u64>,
    pub(crate) ended: Option<u64>,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Of the nodes that were asked for.
    pub(crate) fates: BTreeMap<usize, Fate>,
    pub(crate) elapsed: u64,
    pub(crate) success: bool,
}

/// No node is started for less.
const USEFUL: u64 = 10;

/// The outcome of `case`; none if it cannot be run.
pub(crate) fn expect(case: &Case) -> Option<Outcome> {
    let (runs, skipped) = select(case)?;
    Some(Model::new(case, runs, skipped).run())
}

/// The longest path of latencies through the whole plan.
pub(crate) fn critical_path(case: &Case) -> u64 {
    let before = |node: usize| {
        case.nodes[node]
            .dependencies
            .iter()
            .map(|one| one.0)
            .collect()
    };
    let latency = |node: usize| case.nodes[node].latency;
    let known = &mut Known::new();
    let ends =
        (0..case.nodes.len()).map(|node| latency(node) + chain(node, &before, &latency, known).0);
    ends.max().unwrap_or(0)
}

/// Chains that were measured.
type Known = BTreeMap<usize, (u64, u32)>;

/// The longest chain of what is `next` to a node, without the node: how long it takes, and how many
/// nodes that is.
fn chain(
    node: usize,
    next: &impl Fn(usize) -> Vec<usize>,
    takes: &impl Fn(usize) -> u64,
    known: &mut Known,
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

/// Required first, then by priority, by the longest path, and by declaration.
type Place = (bool, Reverse<u8>, Reverse<(u64, u32)>, usize);

struct Model<'c> {
    case: &'c Case,
    now: u64,
    /// When branches must have ended: some time is kept for merging.
    end: Option<u64>,
    runs: Runs,
    last: BTreeSet<usize>,
    ready: BTreeSet<Place>,
    /// What runs, and until when it may.
    running: BTreeMap<usize, Option<u64>>,
    started: BTreeMap<usize, u64>,
    over: BTreeMap<usize, Fate>,
    ends: VecDeque<(usize, String)>,
    grace: Option<u64>,
    stopped: bool,
    paths: Known,
    afters: Known,
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
        let last = runs
            .keys()
            .copied()
            .filter(|&node| is_sink(case, &runs, node));
        Self {
            case,
            now: 0,
            end: case
                .deadline
                .map(|deadline| deadline - (deadline / 20).min(50)),
            last: last.collect(),
            ready: BTreeSet::new(),
            running: BTreeMap::new(),
            started: BTreeMap::new(),
            over: over.collect(),
            ends: VecDeque::new(),
            grace: None,
            stopped: false,
            paths: Known::new(),
            afters: Known::new(),
            runs,
        }
    }

    fn run(mut self) -> Outcome {
        let all: Vec<usize> = self.runs.keys().copied().collect();
        all.iter().for_each(|&node| self.look_at(node));
        loop {
            let ended = |node: &usize| self.ends_at(*node) == Some(self.now);
            let ended: Vec<usize> = self.running.keys().copied().filter(ended).collect();
            ended.into_iter().for_each(|node| self.ended(node));
            self.settle();
            while self.start_ready() {
                self.settle();
            }
            if !self.is_over() && !self.limits() {
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

    /// When something happens next.
    fn next(&self) -> u64 {
        let ends = self.running.keys().filter_map(|&node| self.ends_at(node));
        let dues = self.running.values().filter_map(|due| *due);
        let limits = self.grace.into_iter().chain(self.case.deadline);
        let next = ends
            .chain(dues)
            .chain(limits)
            .filter(|&time| time > self.now)
            .min();
        next.expect("something is to come")
    }

    /// A node ended by itself. Where that may decide the run, it does at once.
    fn ended(&mut self, node: usize) {
        if !self.running.contains_key(&node) {
            return;
        }
        let status = match self.case.nodes[node].ends {
            Ends::Answers => "success",
            Ends::Fails => "failed status",
            Ends::Panics => "failed panic",
            Ends::Never => unreachable!("it does not end"),
        };
        self.ends.push_back((node, status.into()));
        let strategy = self.case.strategy;
        let failed = strategy == Strategy::All && status != "success";
        if failed || quorum(strategy).is_some() {
            self.settle();
        }
    }

    /// Takes note of all ends, and of what follows.
    fn settle(&mut self) {
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
            self.judge(node);
            if !self.stopped {
                let waiting: Vec<usize> = self.waiting().collect();
                let of_it = |other: &usize| depends(self.case, *other, node);
                let of_it: Vec<usize> = waiting.into_iter().filter(of_it).collect();
                of_it.into_iter().for_each(|other| self.look_at(other));
            }
        }
        if self.grace.is_some_and(|grace| grace <= self.now) {
            self.cut(|_, _| "cancelled");
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
            .is_some_and(|fate| fate.status == "success")
    }

    /// What the end of `node` means for the others.
    fn judge(&mut self, node: usize) {
        let left = self
            .last
            .iter()
            .filter(|last| !self.over.contains_key(last))
            .count();
        let answered = self
            .last
            .iter()
            .filter(|&&last| self.answered(last))
            .count();
        let strategy = self.case.strategy;
        let stops = match quorum(strategy) {
            Some(needed) => answered >= needed || answered + left < needed,
            None => strategy == Strategy::All && self.runs[&node] && !self.answered(node),
        };
        if stops {
            self.cut(|_, _| "cancelled");
        }
        let mut required = self.runs.iter().filter(|run| *run.1);
        let complete = required.all(|run| self.over.contains_key(run.0));
        if self.runs[&node] && complete && self.case.return_when == ReturnWhen::Required {
            self.grace = self.grace.or(Some(self.now + self.case.grace));
        }
    }

    /// Ends all that is not over, by whether it runs and is required.
    fn cut(&mut self, status: impl Fn(bool, bool) -> &'static str) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.ready.clear();
        for (&node, &required) in &self.runs {
            let status = status(self.running.contains_key(&node), required);
            self.ends.push_back((node, status.into()));
        }
        self.settle();
    }

    /// Whether a node can start now that something it comes after is over, or never can.
    fn look_at(&mut self, node: usize) {
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
            self.ends.push_back((node, "skipped dependency".into()));
            return;
        }
        let path = Reverse(self.path(node));
        let place = (!self.runs[&node], Reverse(is.priority), path, node);
        self.ready.insert(place);
    }

    fn expected(&self, node: usize) -> u64 {
        self.case.nodes[node].expected.unwrap_or(0)
    }

    /// How long it takes from the start of each node to the end of the plan.
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

    /// What is expected of what comes after `node`; of a required one, only of what is required.
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
            let needed = self.expected(node).max(USEFUL);
            if !self.runs[&node] && left.is_some_and(|left| left < needed) {
                self.ends.push_back((node, "skipped no_time".into()));
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

    /// Ends what time ends now; whether that was anything.
    fn limits(&mut self) -> bool {
        if self.case.deadline == Some(self.now) {
            let gives_all = self.case.return_when == ReturnWhen::Deadline;
            self.cut(|runs, required| match runs {
                _ if gives_all && !required => "cancelled",
                true => "failed deadline",
                false => "skipped no_time",
            });
            return true;
        }
        let due = self
            .running
            .iter()
            .filter(|one| one.1.is_some_and(|due| due <= self.now));
        let due: Vec<usize> = due.map(|one| *one.0).collect();
        self.ends
            .extend(due.iter().map(|&node| (node, "failed deadline".into())));
        self.settle();
        !due.is_empty()
    }

    fn outcome(self) -> Outcome {
        let answers = |node: &&usize| self.answered(**node);
        let success = match quorum(self.case.strategy) {
            Some(needed) => self.last.iter().filter(answers).count() >= needed,
            None if self.case.strategy == Strategy::BestEffort => {
                self.runs.keys().any(|node| self.answered(*node))
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
