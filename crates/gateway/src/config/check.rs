//! What can only be seen of a plan as a whole.

use indexmap::IndexMap;
use tower_fanout::{
    Bounds, Downstream, NodeSpec, Plan, PlanDiagnostic, PlanPart, Profile, Severity,
    layers::ClassifyHttp,
};
use tower_fanout_json::template::{Reference, RequestTemplate, Root};

use super::{FallbackTarget, Node, plan::Names, reader::ValueReader};

/// The nodes by name, as far as they could be read, and where they stand.
pub(super) type Nodes<'n, 'f> = IndexMap<String, (Option<Node>, &'n ValueReader<'f>)>;

/// Checks the plan at `field`, which is run within `bounds`, and returns it unless it has errors. The
/// `parameters` of its route are `None` if they could not be read.
pub(super) fn check_plan(
    field: &ValueReader<'_>,
    nodes: &Nodes<'_, '_>,
    parameters: Option<&[&str]>,
    bounds: &Bounds,
    names: &Names<'_>,
) -> Option<Plan> {
    let plan = check_graph(field, nodes, bounds, names);
    check_fallbacks(nodes);
    for (name, (node, field)) in nodes {
        let Some(node) = node else { continue };
        let unknown = |reference: &&Reference| {
            let known = |known: &[&str]| known.contains(&&*reference.path[0]);
            reference.root == Root::Route && !parameters.is_none_or(known)
        };
        for reference in node.request.references().filter(unknown) {
            let message = format!("{{{reference}}}: the path of the route has no such parameter");
            field.error("reference", message);
        }
        check_policy(field, name, node, names);
    }
    plan
}

fn check_policy(field: &ValueReader<'_>, name: &str, node: &Node, names: &Names<'_>) {
    let policy = &names.downstreams[&node.downstream].policy;
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
        node.flat_map(|node| instead(node).map(|other| (&*node.downstream, other)))
            .map(move |(from, to)| (from, to, field))
    });
    let instead: Vec<_> = named.collect();
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

/// The downstreams that answer instead of the node's own.
fn instead(node: &Node) -> impl Iterator<Item = &str> {
    node.fallback
        .iter()
        .filter_map(|fallback| match &fallback.target {
            FallbackTarget::Service(other) => Some(&**other),
            FallbackTarget::Static(_) => None,
        })
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

/// Builds the plan, and checks order, tiers, time and attempts. Time and attempts are only checked if
/// all of the plan, and of its downstreams, could be read.
fn check_graph(
    field: &ValueReader<'_>,
    nodes: &Nodes<'_, '_>,
    bounds: &Bounds,
    names: &Names<'_>,
) -> Option<Plan> {
    let specs = nodes.iter().map(|(name, (node, _))| match node {
        Some(node) => describe(name, node, names),
        None => NodeSpec::new(&**name).optional(),
    });
    let plan = Plan::new(specs);
    let known = names.sound && nodes.values().all(|(node, _)| node.is_some());
    let problems = match &plan {
        Ok(plan) if known => plan.check(bounds),
        Ok(_) => Vec::new(),
        Err(error) => error.diagnostics().to_vec(),
    };
    problems
        .iter()
        .for_each(|problem| report(field, nodes, problem));
    plan.ok()
}

/// Describes a node for its plan: the one place where the keys of a node become a part of the graph.
fn describe(name: &str, node: &Node, names: &Names<'_>) -> NodeSpec {
    let profile = |name: &str| {
        let policy = names.downstreams[name].policy.clone();
        Downstream::new(name, policy, ClassifyHttp::new())
            .expect("a policy with errors was replaced by the default when it was read")
            .profile()
    };
    let others = instead(node).map(profile);
    let profile = others.fold(profile(&node.downstream), Profile::fallback);
    let mut spec = NodeSpec::new(name)
        .worst_case(profile.worst_case().clone())
        .priority(node.priority)
        .tiers(node.tiers.iter().cloned());
    if !node.required {
        spec = spec.optional();
    }
    if !node.request.is_safe() {
        spec = spec.changes_state();
    }
    if node.when.is_some() {
        spec = spec.conditional();
    }
    for dependency in &node.depends_on {
        spec = if dependency.optional {
            spec.after_optional(&dependency.node)
        } else {
            spec.after(&dependency.node)
        };
    }
    answers(&node.request).fold(spec, |spec, (_, other)| spec.reads(other))
}

/// What a request reads of other nodes' answers, with their names.
fn answers(request: &RequestTemplate) -> impl Iterator<Item = (&Reference, &str)> {
    request
        .references()
        .filter_map(|reference| match &reference.root {
            Root::Node(other) => Some((reference, other.as_str())),
            _ => None,
        })
}

/// Complains about `problem` where it stands in the file.
fn report(field: &ValueReader<'_>, nodes: &Nodes<'_, '_>, problem: &PlanDiagnostic) {
    let place = problem.place();
    let (mut message, mut help) = (problem.to_string(), problem.help());
    let node = place.node.as_ref().and_then(|name| nodes.get(name));
    let at = match (node, place.part) {
        (None, _) => field.clone(),
        (Some((_, at)), Some(PlanPart::After(item))) => at.item("depends_on", item),
        (Some((_, at)), Some(PlanPart::Tiers)) => at.at("tiers"),
        (Some((node, at)), Some(PlanPart::Reads(item))) => {
            let reads = node
                .iter()
                .flat_map(|node| answers(&node.request))
                .nth(item);
            if let Some((reference, _)) = reads {
                message = format!("{{{reference}}}: {message}");
            }
            if matches!(problem, PlanDiagnostic::UnknownNode { nearest: None, .. }) {
                let roots = Root::RESERVED.join(", ");
                help = format!("a placeholder begins with {roots} or the name of a node");
            }
            (*at).clone()
        }
        (Some((_, at)), _) => (*at).clone(),
    };
    match problem.severity() {
        Severity::Warning => at.warning(problem.code(), message, &help),
        _ => at.error_with_help(problem.code(), message, Some(help)),
    }
}
