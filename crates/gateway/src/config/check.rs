//! Checks of a plan as a whole: graph, references, policies and fallbacks.

use indexmap::IndexMap;
use tower_fanout::{
    Bounds, Downstream, NodeSpec, Plan, PlanDiagnostic, PlanPart, Profile, Severity,
    layers::ClassifyHttp, nearest_name,
};
use tower_fanout_json::template::{Reference, RequestTemplate, Root};

use super::{Node, plan::Names, reader::ValueReader};

/// Nodes by name with their readers. A node is `None` if it has errors.
pub(super) type Nodes<'n, 'f> = IndexMap<String, (Option<Node>, &'n ValueReader<'f>)>;

/// Checks the plan at `reader`, which runs within `bounds`. Returns `None` if its graph has errors.
/// `parameters` are the path parameters of its route, or `None` if the path is invalid.
pub(super) fn check_plan(
    reader: &ValueReader<'_>,
    nodes: &Nodes<'_, '_>,
    parameters: Option<&[String]>,
    bounds: &Bounds,
    names: &Names<'_>,
) -> Option<Plan> {
    let plan = check_graph(reader, nodes, bounds, names);
    check_fallbacks(nodes);
    for (name, (node, reader)) in nodes {
        let Some(node) = node else { continue };
        let unknown = |reference: &&Reference| {
            let known = |known: &[String]| known.contains(&reference.path[0]);
            // Without known parameters, the invalid path is already reported.
            reference.root == Root::Route && !parameters.is_none_or(known)
        };
        for reference in node.request.references().filter(unknown) {
            let message = format!("unknown route parameter {{{reference}}}");
            reader.error("reference", message);
        }
        check_policy(reader, name, node, names);
    }
    plan
}

fn check_policy(reader: &ValueReader<'_>, name: &str, node: &Node, names: &Names<'_>) {
    let policy = &names.downstreams[&node.downstream].policy;
    let retried = policy.retry.as_ref().is_some_and(|retry| retry.idempotent);
    let hedged = policy.hedge.as_ref().is_some_and(|hedge| hedge.idempotent);
    for (is_repeated, code, action) in [
        (retried, "unsafe_retry", "retries"),
        (hedged, "unsafe_hedge", "hedges"),
    ] {
        if is_repeated && !node.request.is_safe() {
            reader.warning(
                code,
                format!("the policy of \"{name}\" {action} a request that may change state"),
                "remove idempotent, unless the request is safe to send twice",
            );
        }
    }
}

/// Reports cycles of fallbacks, in which the downstreams would wait for each other when all fail.
fn check_fallbacks(nodes: &Nodes<'_, '_>) {
    let named = nodes.values().flat_map(|(node, reader)| {
        let node = node.iter();
        node.flat_map(|node| {
            node.fallback_services()
                .map(|other| (&*node.downstream, other))
        })
        .map(move |(from, to)| (from, to, reader))
    });
    let edges: Vec<_> = named.collect();
    let mut reported: Vec<&str> = Vec::new();
    for (from, to, reader) in &edges {
        let Some(cycle) = find_cycle(&edges, vec![from, to], &mut Vec::new())
            .filter(|_| !reported.contains(from))
        else {
            continue;
        };
        let message = format!("fallback cycle: {}", cycle.join(" → "));
        let help = Some("remove one of these fallbacks".into());
        reader.error_with_help("graph", message, help);
        // Each member of the cycle leads to the same cycle again.
        reported.extend(cycle);
    }
}

/// Extends `path` until it returns to its first element. Returns `None` if it never does. `seen` are
/// the elements that are already searched.
fn find_cycle<'n, T>(
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
        onwards.then(|| find_cycle(edges, [&path[..], &[to]].concat(), seen))?
    })
}

/// Builds the plan and checks order, tiers, time and attempts. Time and attempts are checked only if
/// no node, policy or downstream has errors.
fn check_graph(
    reader: &ValueReader<'_>,
    nodes: &Nodes<'_, '_>,
    bounds: &Bounds,
    names: &Names<'_>,
) -> Option<Plan> {
    let specs = nodes.iter().map(|(name, (node, _))| match node {
        Some(node) => describe(name, node, names),
        // An invalid node still exists, so that references to it are not reported as unknown.
        None => NodeSpec::new(&**name).optional(),
    });
    let plan = Plan::new(specs);
    // Times of invalid policies would be those of the defaults.
    let known = names.sound && nodes.values().all(|(node, _)| node.is_some());
    let problems = match &plan {
        Ok(plan) if known => plan.check(bounds),
        Ok(_) => Vec::new(),
        Err(error) => error.diagnostics().to_vec(),
    };
    problems
        .iter()
        .for_each(|problem| report(reader, nodes, problem));
    plan.ok()
}

/// Converts a node to its specification in the graph. No other code does this conversion.
fn describe(name: &str, node: &Node, names: &Names<'_>) -> NodeSpec {
    let profile = |name: &str| {
        let policy = names.downstreams[name].policy.clone();
        Downstream::with_optional_breaker(name, policy, ClassifyHttp::new())
            .expect("invalid policies are replaced by the default when they are read")
            .profile()
    };
    let others = node.fallback_services().map(profile);
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
    node_references(&node.request).fold(spec, |spec, (_, other)| spec.reads(other))
}

/// Returns the references of a request to responses of other nodes, with the names of those nodes.
fn node_references(request: &RequestTemplate) -> impl Iterator<Item = (&Reference, &str)> {
    request
        .references()
        .filter_map(|reference| match &reference.root {
            Root::Node(other) => Some((reference, other.as_str())),
            _ => None,
        })
}

/// Reports `problem` at the closest matching value of the file.
fn report(reader: &ValueReader<'_>, nodes: &Nodes<'_, '_>, problem: &PlanDiagnostic) {
    let (mut message, mut help) = (problem.message.clone(), problem.help.clone());
    let node = problem
        .location
        .node
        .as_ref()
        .and_then(|name| nodes.get(name));
    let at = match (node, problem.location.part) {
        (None, _) => reader.clone(),
        (Some((_, at)), Some(PlanPart::After(item))) => at.item("depends_on", item),
        (Some((_, at)), Some(PlanPart::Tiers)) => at.at("tiers"),
        // `item` counts only the references to other nodes.
        (Some((node, at)), Some(PlanPart::Reads(item))) => {
            let reads = node
                .iter()
                .flat_map(|node| node_references(&node.request))
                .nth(item);
            if let Some((reference, other)) = reads {
                message = format!("{{{reference}}}: {message}");
                let known = nodes.keys().map(|name| name.as_str());
                if problem.code == "unknown_node" && nearest_name(other, known).is_none() {
                    let roots = Root::RESERVED.join(", ");
                    help = format!("a placeholder must begin with {roots} or the name of a node");
                }
            }
            (*at).clone()
        }
        (Some((_, at)), _) => (*at).clone(),
    };
    match problem.severity {
        Severity::Warning => at.warning(problem.code, message, &help),
        _ => at.error_with_help(problem.code, message, Some(help)),
    }
}
