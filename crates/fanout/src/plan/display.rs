//! The texts of plan problems: the message and the suggested fix.

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
            Self::DuplicateName { name } => format!("duplicate node name \"{name}\""),
            Self::UnknownNode { place, name, .. } => unknown(place, name),
            Self::ForeignKey { place } => {
                format!("\"{}\" uses a key of another plan", named(place))
            }
            Self::NotADependency { place, on, .. } => {
                let node = named(place);
                format!("\"{node}\" reads \"{on}\", but does not depend on it")
            }
            Self::Cycle { path, .. } => cycle(path),
            Self::Unreachable { node, needs } => unreachable(node, needs),
            Self::ConditionalDependency { place, on } => {
                let node = named(place);
                format!("\"{node}\" is required, but skipped if the condition of \"{on}\" is false")
            }
            Self::Late { worst_case, path, takes, deadline, .. } => {
                late(*worst_case, &path.join(" → "), *takes, *deadline)
            }
            Self::Crowded { takes, deadline, max_concurrency } => {
                let all = format!("all nodes, {max_concurrency} at once,");
                late(true, &all, Some(*takes), *deadline)
            }
            Self::Amplification { downstream, nodes, attempts, bound } => format!(
                "one request may send {attempts} attempts to \"{downstream}\" (nodes {}), the maximum is {bound}",
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
    format!("dependency cycle: {around}")
}

fn unreachable(node: &str, needs: &[(String, Vec<String>)]) -> String {
    let needs = needs
        .iter()
        .map(|(node, tiers)| format!("\"{node}\" ({})", tiers.join(", ")));
    let needs = needs.collect::<Vec<_>>().join(", ");
    format!("\"{node}\" is required, but no tier has all nodes that it needs: {needs}")
}

fn late(worst_case: bool, what: &str, takes: Option<Duration>, deadline: Duration) -> String {
    let time = if worst_case {
        "worst case"
    } else {
        "expected time"
    };
    let takes = takes.map_or_else(|| "unbounded".into(), |takes| written(takes).to_string());
    let deadline = written(deadline);
    format!("the {time} of {what} is {takes}, but the deadline is {deadline}")
}

impl PlanDiagnostic {
    /// Returns a suggestion how to fix the problem.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Empty => "add a node".into(),
            Self::DuplicateName { .. } => "rename one of the nodes".into(),
            Self::UnknownNode {
                nearest: Some(nearest),
                ..
            } => {
                format!("did you mean \"{nearest}\"?")
            }
            Self::UnknownNode { name, .. } => {
                format!("add a node \"{name}\", or remove this reference")
            }
            Self::ForeignKey { .. } => "use a key from the builder of this plan".into(),
            Self::NotADependency {
                on, circular: true, ..
            } => {
                format!("remove this reference: \"{on}\" has to wait for this node")
            }
            Self::NotADependency { place, on, .. } => {
                format!("make \"{}\" depend on \"{on}\"", named(place))
            }
            Self::Cycle { place, on, .. } => {
                format!("remove the dependency of \"{}\" on \"{on}\"", named(place))
            }
            Self::Unreachable { node, .. } => {
                format!("give these nodes a common tier, or make \"{node}\" optional")
            }
            Self::ConditionalDependency { on, .. } => {
                format!(
                    "make \"{on}\" an optional dependency, or give both nodes the same condition"
                )
            }
            Self::Late {
                worst_case,
                longest,
                takes,
                ..
            } => hurry(*worst_case, longest, *takes),
            Self::Crowded { .. } => "raise max_concurrency, or make the nodes faster".into(),
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
        format!("raise the deadline, or make \"{longest}\" faster")
    } else if takes.is_none() {
        format!("set attempt_timeout or total_timeout for the service of \"{longest}\"")
    } else {
        format!(
            "lower the attempt_timeout of \"{longest}\", set its total_timeout, or allow fewer attempts"
        )
    }
}

/// Returns how `nodes` nodes together can stay within `bound` attempts.
fn fewer(downstream: &str, nodes: usize, bound: u32) -> String {
    match bound as usize / nodes.max(1) {
        0 => format!("call \"{downstream}\" from at most {bound} nodes"),
        1 => format!("turn off retries and hedges for \"{downstream}\""),
        each => format!("limit a call of \"{downstream}\" to {each} attempts"),
    }
}

/// Returns the name of the node at `place`.
fn named(place: &PlanLocation) -> &str {
    place.node.as_deref().unwrap_or_default()
}
