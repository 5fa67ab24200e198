//! Checks of a plan as a whole: graph, references, policies and fallbacks.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use tower_fanout::{
    Bounds, Downstream, NodeSpec, Plan, PlanDiagnostic, PlanPart, Profile, Severity,
    layers::ClassifyHttp,
};
use tower_fanout_json::template::{Reference, RequestTemplate, Root};

use super::{
    DownstreamConfig, FallbackTarget, Node, locate::placeholders, plan::Names, reader::ValueReader,
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
        let all = || node.request.references();
        let places = match all().any(|reference| unknown(&reference)) {
            true => placeholders(&reader.at("request"), all()),
            false => Vec::new(),
        };
        for (reference, reader) in all().zip(places).filter(|(one, _)| unknown(one)) {
            let known = parameters.unwrap_or_default();
            let names = known.iter().map(String::as_str);
            let help = reader.known_names(&reference.path[0], known.len(), names);
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
    let known = nodes.values();
    let known = known.filter_map(|(node, reader)| Some((node.as_ref()?, reader)));
    let mut edges: IndexMap<&str, IndexMap<&str, ValueReader<'_>>> = IndexMap::new();
    for (node, reader) in known {
        for (index, step) in node.fallback.iter().enumerate() {
            if let FallbackTarget::Service(to) = &step.target {
                let own = edges.entry(&*node.downstream).or_default();
                own.entry(to)
                    .or_insert_with(|| reader.item("fallback", index).at("service"));
            }
        }
    }
    for cycle in cycles(&edges) {
        let (message, help) = match cycle.as_slice() {
            [own] => (
                format!("\"{own}\" must not be its own fallback"),
                "remove this fallback",
            ),
            _ => (
                format!("fallback cycle: {} → {}", cycle.join(" → "), cycle[0]),
                "remove this fallback, or another one of the cycle",
            ),
        };
        let next = cycle.get(1).unwrap_or(&cycle[0]);
        edges[cycle[0]][next].error_with_help("cycle", message, Some(help.into()));
    }
}

/// Returns cycles, in each of which every member has an edge to the next one, and the last one to the first. Each member is
/// in one of them at most.
fn cycles<'n, T>(edges: &IndexMap<&'n str, IndexMap<&'n str, T>>) -> Vec<Vec<&'n str>> {
    let mut found = Vec::new();
    // The members of the path, and those behind it, with their places in the path.
    let mut places: HashMap<&str, Option<usize>> = HashMap::new();
    for start in edges.keys() {
        if places.contains_key(start) {
            continue;
        }
        places.insert(start, Some(0));
        let mut path = vec![(*start, 0)];
        while let Some((member, next)) = path.last_mut() {
            let to = edges.get(member).and_then(|to| to.get_index(*next));
            *next += 1;
            match to.map(|(to, _)| (*to, places.get(to).copied())) {
                Some((to, None)) => {
                    places.insert(to, Some(path.len()));
                    path.push((to, 0));
                }
                Some((_, Some(Some(place)))) => {
                    // The members of a cycle are left, so that they lead to no other one.
                    let cycle = path.drain(place..).map(|(member, _)| member);
                    let cycle: Vec<_> = cycle.collect();
                    places.extend(cycle.iter().map(|member| (*member, None)));
                    found.push(cycle);
                }
                Some((_, Some(None))) => {}
                None => {
                    places.insert(member, None);
                    path.pop();
                }
            }
        }
    }
    found
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
    let (mut reads, mut unknown) = (HashMap::new(), HashSet::new());
    for problem in &problems {
        report(reader, nodes, problem, (&mut reads, &mut unknown));
    }
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

/// The placeholder of a reference to the response of another node, and the name of that node.
type Read<'n, 'f> = (ValueReader<'f>, &'n Reference, &'n str);

/// Returns the references of `node` to responses of other nodes.
fn reads<'n, 'f>(node: Option<&'n Node>, reader: &ValueReader<'f>) -> Vec<Read<'n, 'f>> {
    let request = node.map(|node| &node.request);
    let all = || request.into_iter().flat_map(RequestTemplate::references);
    let places = placeholders(&reader.at("request"), all());
    let reads = places.into_iter().zip(all());
    let reads = reads.filter_map(|(place, reference)| match &reference.root {
        Root::Node(other) => Some((place, reference, other.as_str())),
        _ => None,
    });
    reads.collect()
}

/// Reports `problem` at the closest matching value of the file. `found` are the references of the nodes that earlier
/// problems are about, and `unknown` the names of nodes that are reported.
fn report<'n, 'f>(
    reader: &ValueReader<'f>,
    nodes: &'n Nodes<'_, 'f>,
    problem: &'n PlanDiagnostic,
    (found, unknown): (
        &mut HashMap<&'n str, Vec<Read<'n, 'f>>>,
        &mut HashSet<&'n str>,
    ),
) {
    let (mut message, mut help) = (problem.message.clone(), problem.help.clone());
    let is_unknown = problem.code == "unknown_node";
    let name = problem.location.node.as_deref();
    let node = name.and_then(|name| Some((name, nodes.get(name)?)));
    let known = || {
        nodes
            .keys()
            .map(String::as_str)
            .filter(|one| Some(*one) != name)
    };
    let at = match (node, problem.location.part) {
        (None, _) => reader.clone(),
        (Some((_, (node, at))), Some(PlanPart::After(item))) => {
            let on = node.iter().flat_map(|node| &node.depends_on).nth(item);
            if let Some(on) = on.filter(|_| is_unknown) {
                // A node that has another name now may be named many times.
                if !unknown.insert(&on.node) {
                    return;
                }
                help = at
                    .known_names(&on.node, nodes.len(), known())
                    .unwrap_or(help);
            }
            at.item("depends_on", item)
        }
        (Some((_, (_, at))), Some(PlanPart::Tiers)) => at.at("tiers"),
        // `item` counts only the references to other nodes.
        (Some((name, (node, at))), Some(PlanPart::Reads(item))) => {
            // Nothing is known of wrong dependencies.
            if problem.code == "not_a_dependency" && !at.at("depends_on").is_sound() {
                return;
            }
            let reads = found
                .entry(name)
                .or_insert_with(|| reads(node.as_ref(), at));
            match reads.get(item) {
                Some((_, _, other)) if is_unknown && !unknown.insert(other) => return,
                None => at.at("request"),
                Some((at, reference, other)) => {
                    message = format!("{{{reference}}}: {message}");
                    if is_unknown {
                        let known = known().chain(Root::RESERVED);
                        help = at.known_names(other, nodes.len(), known).unwrap_or(help);
                    }
                    at.clone()
                }
            }
        }
        (Some((_, (_, at))), _) => (*at).clone(),
    };
    let (message, help) = (at.masked(&message), at.masked(&help));
    match problem.severity {
        Severity::Warning => at.warning(problem.code, message, &help),
        _ => at.error_with_help(problem.code, message, Some(help)),
    }
}
