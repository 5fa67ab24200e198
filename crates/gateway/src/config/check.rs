//! What can only be seen of a plan as a whole.

use std::time::Duration;

use indexmap::IndexMap;
use tower_fanout::{Plan, PlanProblem, layers::Reject};
use tower_fanout_http::template::{Reference, Root};

use super::{
    Instead, Node,
    plan::Names,
    reader::{Field, nearest},
};

/// The nodes by name, as far as they could be read, and where they stand.
pub(super) type Nodes<'n, 'f> = IndexMap<String, (Option<Node>, &'n Field<'f>)>;

/// Checks a plan that stands at `field`; the parameters of its route are none if they could not be
/// read.
pub(super) fn check_plan(
    field: &Field<'_>,
    nodes: &Nodes<'_, '_>,
    parameters: Option<&[&str]>,
    deadline: Duration,
    names: &Names<'_>,
) {
    check_graph(field, nodes);
    check_fallbacks(nodes);
    for (name, (node, field)) in nodes {
        let Some(node) = node else { continue };
        for reference in node.request.references() {
            match &reference.root {
                Root::Node(other) => check_order(field, nodes, name, reference, other),
                Root::Route
                    if parameters.is_some_and(|known| !known.contains(&&*reference.path[0])) =>
                {
                    let message =
                        format!("{{{reference}}}: the path of the route has no such parameter");
                    field.error("reference", message);
                }
                _ => {}
            }
        }
        check_policy(field, name, node, names, deadline);
    }
}

/// A node may only read the answers of nodes that it comes after.
fn check_order(
    field: &Field<'_>,
    nodes: &Nodes<'_, '_>,
    name: &str,
    reference: &Reference,
    other: &str,
) {
    if comes_after(nodes, name, other) {
        return;
    }
    let help = if nodes.contains_key(other) {
        format!("add \"{other}\" to its depends_on")
    } else {
        "a placeholder begins with body, query, header, jwt, route, tier or the name of a node"
            .into()
    };
    let message =
        format!("{{{reference}}} reads \"{other}\", which \"{name}\" does not come after");
    field.error_with_help("reference", message, Some(help));
}

fn check_policy(field: &Field<'_>, name: &str, node: &Node, names: &Names<'_>, deadline: Duration) {
    let policy = &names.downstreams[&node.downstream].policy;
    let worst = policy.worst_case();
    if worst.is_none_or(|worst| worst > deadline) {
        let worst = worst.map_or_else(|| "without end".into(), |worst| format!("{worst:?}"));
        field.warning(
            "worst_case",
            format!("the worst case of \"{name}\" is {worst}, and the deadline {deadline:?}"),
            "shorten attempt_timeout, set total_timeout, or try less often",
        );
    }
    let retried = policy.retry.as_ref().is_some_and(|retry| retry.idempotent);
    let hedged = policy.hedge.as_ref().is_some_and(|hedge| hedge.idempotent);
    for (twice, code, does) in [
        (retried, "unsafe_retry", "tries it again"),
        (hedged, "unsafe_hedge", "hedges it"),
    ] {
        if twice && !node.request.is_safe() {
            field.warning(
                code,
                format!("\"{name}\" changes something, and its policy {does} as if it did not"),
                "leave out idempotent, unless sending twice is harmless",
            );
        }
    }
}

/// Downstreams that answer for each other in a circle would each wait for the other when both fail.
fn check_fallbacks(nodes: &Nodes<'_, '_>) {
    let named = nodes.values().flat_map(|(node, field)| {
        let node = node.iter();
        node.flat_map(|node| node.fallback.iter().map(move |fallback| (node, fallback)))
            .map(move |(node, fallback)| (node, fallback, field))
    });
    let instead: Vec<_> = named
        .filter_map(|(node, fallback, field)| match &fallback.by {
            Instead::Service(other) => Some((&*node.downstream, &**other, field)),
            Instead::Static(_) => None,
        })
        .collect();
    let mut told: Vec<&str> = Vec::new();
    for (from, to, field) in &instead {
        let Some(circle) =
            way(&instead, vec![from, to], &mut Vec::new()).filter(|_| !told.contains(from))
        else {
            continue;
        };
        let message = format!("these answer for each other: {}", circle.join(" → "));
        let help = Some("take out one of these fallbacks".into());
        field.error_with_help("graph", message, help);
        told.extend(circle);
    }
}

/// How `path` goes on until it is back where it began, if it ever is. Who was `seen` leads nowhere.
fn way<'n, T>(
    edges: &[(&'n str, &'n str, T)],
    path: Vec<&'n str>,
    seen: &mut Vec<&'n str>,
) -> Option<Vec<&'n str>> {
    let last = *path.last()?;
    if last == path[0] {
        return Some(path);
    }
    seen.push(last);
    edges.iter().find_map(|(from, to, _)| {
        let onwards = *from == last && !seen.contains(to);
        onwards.then(|| way(edges, [&path[..], &[to]].concat(), seen))?
    })
}

/// Names and cycles, by the same rules as any plan.
fn check_graph(field: &Field<'_>, nodes: &Nodes<'_, '_>) {
    let mut plan = Plan::<()>::builder();
    for (name, (node, _)) in nodes {
        let service = tower::service_fn(|(): ()| async { Ok::<(), Reject>(()) });
        let mut added = plan.node(name, service, |(), _| Ok(()));
        for dependency in node.iter().flat_map(|node| &node.depends_on) {
            added = added.after_named(&dependency.node);
        }
    }
    let problems = plan.build().err();
    for problem in problems.iter().flat_map(|error| error.problems()) {
        let (at, help) = match problem {
            PlanProblem::UnknownDependency { node, on } => {
                let near = nearest(on, nodes.keys().map(String::as_str));
                (
                    Some(node),
                    near.map(|near| format!("did you mean \"{near}\"?")),
                )
            }
            PlanProblem::Cycle { path } => (
                path.first(),
                Some("take out one of these dependencies".into()),
            ),
            _ => (None, None),
        };
        let at = at
            .and_then(|name| nodes.get(name))
            .map_or(field, |(_, field)| field);
        at.error_with_help("graph", problem, help);
    }
}

/// Whether the node `name` starts only after `other` has ended.
fn comes_after(nodes: &Nodes<'_, '_>, name: &str, other: &str) -> bool {
    let mut seen = vec![name];
    let mut next = 0;
    while let Some(node) = seen.get(next).copied() {
        next += 1;
        let Some((Some(node), _)) = nodes.get(node) else {
            continue;
        };
        for dependency in &node.depends_on {
            if dependency.node == other {
                return true;
            }
            if !seen.contains(&dependency.node.as_str()) {
                seen.push(&dependency.node);
            }
        }
    }
    false
}
