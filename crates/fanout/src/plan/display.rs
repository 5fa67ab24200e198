//! Problems of a plan in words: what is wrong, and what to do about it.

use std::{fmt, time::Duration};

use tower_fanout_layers::config::duration::written;

use super::{
    diagnostic::PlanDiagnostic,
    location::{PlanLocation, PlanPart},
};

impl fmt::Display for PlanDiagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Empty => "the plan has no nodes".into(),
            Self::DuplicateName { name } => format!("two nodes are called \"{name}\""),
            Self::UnknownNode { place, name, .. } => unknown(place, name),
            Self::ForeignKey { place } => {
                format!("\"{}\" depends on a key of another plan", named(place))
            }
            Self::NotADependency { place, on, .. } => {
                let node = named(place);
                format!("\"{node}\" reads \"{on}\", which it does not come after")
            }
            Self::Cycle { path, .. } => cycle(path),
            Self::Unreachable { node, needs } => unreachable(node, needs),
            Self::ConditionalDependency { place, on } => {
                let node = named(place);
                format!("\"{node}\" is required, but skipped where the condition of \"{on}\" does not hold")
            }
            Self::Late { worst_case, path, takes, deadline, .. } => {
                late(*worst_case, &path.join(" → "), *takes, *deadline)
            }
            Self::Crowded { takes, deadline, max_concurrency } => {
                let all = format!("all nodes, {max_concurrency} at once,");
                late(true, &all, Some(*takes), *deadline)
            }
            Self::Amplification { downstream, nodes, attempts, bound } => format!(
                "one request may send {attempts} attempts to \"{downstream}\", by {}: more than {bound}",
                nodes.join(", ")
            ),
        })
    }
}

fn unknown(place: &PlanLocation, name: &str) -> String {
    let node = named(place);
    let does = match place.part {
        Some(PlanPart::Reads(_)) => "reads",
        _ => "depends on",
    };
    format!("\"{node}\" {does} \"{name}\", which is not in the plan")
}

fn cycle(path: &[String]) -> String {
    let around = path.iter().chain(path.first()).map(String::as_str);
    let around = around.collect::<Vec<_>>().join(" → ");
    format!("these nodes wait for each other: {around}")
}

fn unreachable(node: &str, needs: &[(String, Vec<String>)]) -> String {
    let needs = needs
        .iter()
        .map(|(node, tiers)| format!("\"{node}\" ({})", tiers.join(", ")));
    let needs = needs.collect::<Vec<_>>().join(", ");
    format!("\"{node}\" is required, and no tier has all that it needs: {needs}")
}

fn late(worst_case: bool, what: &str, takes: Option<Duration>, deadline: Duration) -> String {
    let time = if worst_case {
        "worst case"
    } else {
        "expected time"
    };
    let takes = takes.map_or_else(|| "without end".into(), |takes| written(takes).to_string());
    let deadline = written(deadline);
    format!("the {time} of {what} is {takes}, and the deadline {deadline}")
}

impl PlanDiagnostic {
    /// What to do about it.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Empty => "declare a node".into(),
            Self::DuplicateName { .. } => "call one of them otherwise".into(),
            Self::UnknownNode {
                nearest: Some(nearest),
                ..
            } => {
                format!("did you mean \"{nearest}\"?")
            }
            Self::UnknownNode { name, .. } => {
                format!("declare a node \"{name}\", or take this out")
            }
            Self::ForeignKey { .. } => "take a key that the builder of this plan gave".into(),
            Self::NotADependency {
                on, circular: true, ..
            } => {
                format!("do not read \"{on}\", which has to wait for this one")
            }
            Self::NotADependency { place, on, .. } => {
                format!("let \"{}\" come after \"{on}\"", named(place))
            }
            Self::Cycle { place, on, .. } => {
                format!("let \"{}\" not come after \"{on}\"", named(place))
            }
            Self::Unreachable { node, .. } => {
                format!("give them a tier in common, or make \"{node}\" optional")
            }
            Self::ConditionalDependency { on, .. } => {
                format!("make \"{on}\" an optional dependency, or take its condition for both")
            }
            Self::Late {
                worst_case,
                longest,
                takes,
                ..
            } => hurry(*worst_case, longest, *takes),
            Self::Crowded { .. } => "let more nodes run at once, or each take less time".into(),
            Self::Amplification {
                downstream,
                nodes,
                bound,
                ..
            } => fewer(downstream, nodes.len(), *bound),
        }
    }
}

fn hurry(worst_case: bool, longest: &str, takes: Option<Duration>) -> String {
    if !worst_case {
        format!("give the request more time, or make \"{longest}\" faster")
    } else if takes.is_none() {
        format!("set an attempt_timeout or a total_timeout for what \"{longest}\" asks")
    } else {
        format!(
            "shorten the attempt_timeout of \"{longest}\", set its total_timeout, or try it less often"
        )
    }
}

/// How `nodes` nodes send no more than `bound` attempts.
fn fewer(downstream: &str, nodes: usize, bound: u32) -> String {
    match bound as usize / nodes.max(1) {
        0 => format!("ask \"{downstream}\" from {bound} nodes at most"),
        1 => format!("neither retry nor hedge \"{downstream}\""),
        each => format!("let a call of \"{downstream}\" make {each} attempts at most"),
    }
}

/// The name of the node at `place`.
fn named(place: &PlanLocation) -> &str {
    place.node.as_deref().unwrap_or_default()
}
