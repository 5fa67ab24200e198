//! Checks of a plan as a whole: graph, references, policies and fallbacks.

use std::collections::HashMap;

use indexmap::IndexMap;
use tower_fanout::{
    Bounds, Downstream, NodeSpec, Plan, PlanDiagnostic, PlanPart, Profile, Severity,
    layers::ClassifyHttp,
};
use tower_fanout_json::template::{Reference, RequestTemplate, Root};

use super::{
    DownstreamConfig, FallbackTarget, Node, locate::own_placeholder, plan::Names,
    reader::ValueReader, value::known_names,
};

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
    for (node, reader) in nodes.values() {
        let Some(node) = node else { continue };
        let unknown = |reference: &&Reference| {
            let known = |known: &[String]| known.contains(&reference.path[0]);
            // Without known parameters, the invalid path is already reported.
            reference.root == Root::Route && !parameters.is_none_or(known)
        };
        for reference in node.request.references().filter(unknown) {
            let known = parameters.unwrap_or_default().iter().map(String::as_str);
            let help = known_names(&reference.path[0], known);
            let all = node.request.references();
            let reader = own_placeholder(&reader.at("request"), reference, all);
            let message = reader.masked(&format!("unknown route parameter {{{reference}}}"));
            let help = help.or_else(|| Some("add the parameter to match.path".into()));
            reader.error_with_help("reference", message, help);
        }
        check_policy(reader, node, names);
    }
    plan
}

fn check_policy(reader: &ValueReader<'_>, node: &Node, names: &Names<'_>) {
    let policy = &names.downstreams[&node.downstream].policy;
    let retried = policy.retry.as_ref().is_some_and(|retry| retry.idempotent);
    let hedged = policy.hedge.as_ref().is_some_and(|hedge| hedge.idempotent);
    for (is_repeated, code, key) in [
        (retried, "unsafe_retry", "retry"),
        (hedged, "unsafe_hedge", "hedge"),
    ] {
        if is_repeated && !node.request.is_safe() {
            let (downstream, method) = (&node.downstream, node.request.method());
            reader.at("request.method").warning(
                code,
                format!(
                    "this {method} may be sent twice: the policy of \"{downstream}\" has {key}.idempotent: true"
                ),
                "use a policy without it, unless the request is safe to send twice",
            );
        }
    }
}

/// Reports cycles of fallbacks, in which the downstreams would wait for each other when all fail.
fn check_fallbacks(nodes: &Nodes<'_, '_>) {
    let edges: Vec<_> = nodes
        .values()
        .filter_map(|(node, reader)| Some((node.as_ref()?, reader)))
        .flat_map(|(node, reader)| {
            let steps = node.fallback.iter().enumerate();
            steps.filter_map(|(index, step)| match &step.target {
                FallbackTarget::Service(to) => {
                    let at = reader.item("fallback", index).at("service");
                    Some((&*node.downstream, &**to, at))
                }
                FallbackTarget::Static(_) => None,
            })
        })
        .collect();
    let mut reported: Vec<&str> = Vec::new();
    for (from, to, reader) in &edges {
        let Some(cycle) = find_cycle(&edges, vec![from, to], &mut Vec::new())
            .filter(|_| !reported.contains(from))
        else {
            continue;
        };
        let (message, help) = match cycle.as_slice() {
            [own, _] => (
                format!("\"{own}\" must not be its own fallback"),
                "remove this fallback",
            ),
            _ => (
                format!("fallback cycle: {}", cycle.join(" → ")),
                "remove this fallback, or another one of the cycle",
            ),
        };
        reader.error_with_help("cycle", message, Some(help.into()));
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

/// Returns the profiles of services, by their names.
pub(super) fn profiles(downstreams: &IndexMap<String, DownstreamConfig>) -> HashMap<&str, Profile> {
    let profiles = downstreams.iter().map(|(name, config)| {
        let policy = config.policy.clone();
        let service = Downstream::with_optional_breaker(name.as_str(), policy, ClassifyHttp::new())
            .expect("invalid policies are replaced by the default when they are read");
        (name.as_str(), service.profile())
    });
    profiles.collect()
}

/// Converts a node to its specification in the graph. No other code does this conversion.
fn describe(name: &str, node: &Node, names: &Names<'_>) -> NodeSpec {
    let profile = |name: &str| names.profiles[name].clone();
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

/// Returns the names of the nodes other than that of `problem`.
fn others<'n>(
    nodes: &'n Nodes<'_, '_>,
    problem: &'n PlanDiagnostic,
) -> impl Iterator<Item = &'n str> {
    let own = problem.location.node.as_deref();
    let names = nodes.keys().map(String::as_str);
    names.filter(move |name| Some(*name) != own)
}

/// Reports `problem` at the closest matching value of the file.
fn report(reader: &ValueReader<'_>, nodes: &Nodes<'_, '_>, problem: &PlanDiagnostic) {
    let (mut message, mut help) = (problem.message.clone(), problem.help.clone());
    let node = problem.location.node.as_ref();
    let node = node.and_then(|name| nodes.get(name));
    let at = match (node, problem.location.part) {
        (None, _) => reader.clone(),
        (Some((node, at)), Some(PlanPart::After(item))) => {
            let on = node.iter().flat_map(|node| &node.depends_on).nth(item);
            if let Some(on) = on.filter(|_| problem.code == "unknown_node") {
                help = known_names(&on.node, others(nodes, problem)).unwrap_or(help);
            }
            at.item("depends_on", item)
        }
        (Some((_, at)), Some(PlanPart::Tiers)) => at.at("tiers"),
        // `item` counts only the references to other nodes.
        (Some((node, at)), Some(PlanPart::Reads(item))) => {
            let reads = node
                .iter()
                .flat_map(|node| node_references(&node.request))
                .nth(item);
            let mut at = at.at("request");
            if let (Some(node), Some((reference, other))) = (node, reads) {
                at = own_placeholder(&at, reference, node.request.references());
                message = format!("{{{reference}}}: {message}");
                if problem.code == "unknown_node" {
                    let known = others(nodes, problem).chain(Root::RESERVED);
                    help = known_names(other, known).unwrap_or(help);
                }
            }
            at
        }
        (Some((_, at)), _) => (*at).clone(),
    };
    let (message, help) = (at.masked(&message), at.masked(&help));
    match problem.severity {
        Severity::Warning => at.warning(problem.code, message, &help),
        _ => at.error_with_help(problem.code, message, Some(help)),
    }
}
