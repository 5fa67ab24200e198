//! Reads routes and their plans.

use std::{fmt::Display, time::Duration};

use http::Method;
use indexmap::IndexMap;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_fanout::{Plan, PlanProblem, Strategy, layers::Priority, layers::Reject};
use tower_fanout_http::{
    json::Json,
    template::{RequestTemplate, Root, TemplateError},
};

use super::{
    Bound, DependsOn, DownstreamConfig, Fallback, Jwt, Node, PlanConfig, Route, RouteAuth, Tier,
    read::span,
    reader::{Field, Section, nearest},
    tree::Kind,
};

/// What the file has given names to.
pub(super) struct Names<'n> {
    pub(super) downstreams: &'n IndexMap<String, DownstreamConfig>,
    pub(super) jwt: &'n IndexMap<String, Jwt>,
    pub(super) tiers: &'n IndexMap<String, Tier>,
}

/// A name that must be one of `names`.
pub(super) fn known<'n>(
    field: &Field<'_>,
    what: &str,
    names: impl Iterator<Item = &'n String> + Clone,
) -> Option<String> {
    let name = field.text()?;
    if names.clone().any(|known| *known == name) {
        return Some(name);
    }
    let help =
        nearest(&name, names.map(String::as_str)).map(|known| format!("did you mean \"{known}\"?"));
    field.error_with_help(
        "unknown_name",
        format!("there is no {what} \"{name}\""),
        help,
    );
    None
}

/// A number from `low` to `high`.
pub(super) fn within<T: DeserializeOwned + PartialOrd + Display>(
    field: &Field<'_>,
    low: T,
    high: T,
) -> Option<T> {
    let value: T = field.get()?;
    if low <= value && value <= high {
        return Some(value);
    }
    field.error("range", format!("{value} is not within {low} to {high}"));
    None
}

pub(super) fn routes(field: Option<Field<'_>>, names: &Names<'_>) -> Vec<Route> {
    let items = field.map(|field| field.list()).unwrap_or_default();
    let mut routes: Vec<Route> = Vec::new();
    for item in items {
        let Some(route) = route(&item, names) else {
            continue;
        };
        if routes.iter().any(|other| other.name == route.name) {
            item.error(
                "duplicate",
                format!("two routes are called \"{}\"", route.name),
            );
        }
        if routes
            .iter()
            .any(|other| other.method == route.method && shape(&other.path) == shape(&route.path))
        {
            item.error(
                "duplicate",
                format!("two routes answer {} {}", route.method, route.path),
            );
        }
        routes.push(route);
    }
    routes
}

/// A path without the names of its parameters.
fn shape(path: &str) -> Vec<&str> {
    path.split('/')
        .map(|segment| {
            if segment.starts_with('{') {
                "{}"
            } else {
                segment
            }
        })
        .collect()
}

fn route(field: &Field<'_>, names: &Names<'_>) -> Option<Route> {
    let mut section = field.section();
    let name = section.require("name").and_then(|field| field.text());
    let (method, path) = section
        .require("match")
        .map(|field| matched(&field))
        .unwrap_or_default();
    let parameters = path.as_deref().map(parameters);
    let plan = plan(&mut section, names, parameters.as_deref());
    section.finish();
    Some(Route {
        name: name?,
        method: method?,
        path: path?,
        plan: plan?,
    })
}

pub(super) fn orchestrate(field: &Field<'_>, names: &Names<'_>) -> Option<PlanConfig> {
    let mut section = field.section();
    let plan = plan(&mut section, names, Some(&[]));
    section.finish();
    plan
}

fn matched(field: &Field<'_>) -> (Option<Method>, Option<String>) {
    let mut section = field.section();
    let method = section
        .take("method")
        .map_or(Some(Method::GET), |field| method(&field));
    let path = section.require("path").and_then(|field| {
        let path = field.text()?;
        let segment = |segment: &str| match segment.strip_prefix('{') {
            Some(name) => name
                .strip_suffix('}')
                .is_some_and(|name| !name.is_empty() && !name.contains(['{', '}', '*'])),
            None => !segment.contains(['{', '}', '?', '#', '*']),
        };
        let sound = path
            .strip_prefix('/')
            .is_some_and(|path| path.split('/').all(segment));
        if !sound {
            field.error("invalid", "this is no path such as \"/pages/{id}\"");
        }
        sound.then_some(path)
    });
    section.finish();
    (method, path)
}

fn method(field: &Field<'_>) -> Option<Method> {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let name = field.text()?;
    if known.contains(&name.as_str()) {
        return name.parse().ok();
    }
    let help = nearest(&name, known).map(|known| format!("did you mean \"{known}\"?"));
    field.error_with_help("invalid", "there is no such method", help);
    None
}

/// The names of the parameters of a path.
fn parameters(path: &str) -> Vec<&str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .collect()
}

/// A plan; the parameters of its route are none if they could not be read.
fn plan(
    section: &mut Section<'_>,
    names: &Names<'_>,
    parameters: Option<&[&str]>,
) -> Option<PlanConfig> {
    let auth = section.take("auth").map(|field| auth(&field, names));
    let second = Duration::from_secs(1);
    let deadline = bound(
        section.take("deadline"),
        Bound {
            default: 30 * second,
            max: 120 * second,
        },
        |field| {
            let limits = Duration::from_millis(100)..=120 * second;
            let deadline = span(Some(field.clone()), 30 * second);
            if !limits.contains(&deadline) {
                field.error(
                    "range",
                    format!(
                        "{deadline:?} is not within {:?} to {:?}",
                        limits.start(),
                        limits.end()
                    ),
                );
            }
            Some(deadline)
        },
    );
    let max_concurrency = bound(
        section.take("max_concurrency"),
        Bound {
            default: 5,
            max: 10,
        },
        |field| within(field, 1, 10),
    );
    let retry_attempts = bound(
        section.take("retry_attempts"),
        Bound { default: 2, max: 5 },
        |field| within(field, 0, 5),
    );
    let strategy = section
        .take("aggregate")
        .map(|field| aggregate(&field))
        .unwrap_or_default();
    let field = section.require("plan")?;
    let members = field.named();
    let nodes: IndexMap<_, _> = members
        .iter()
        .map(|(name, field)| (name.clone(), (node(field, name, names), field)))
        .collect();
    check_plan(&field, &nodes, parameters, deadline.default, names);
    let auth = match auth {
        Some(None) => return None,
        auth => auth.flatten(),
    };
    let nodes: Option<IndexMap<_, _>> = nodes
        .into_iter()
        .map(|(name, (node, _))| Some((name, node?)))
        .collect();
    Some(PlanConfig {
        auth,
        deadline,
        max_concurrency,
        retry_attempts,
        nodes: nodes?,
        strategy,
    })
}

fn auth(field: &Field<'_>, names: &Names<'_>) -> Option<RouteAuth> {
    let mut section = field.section();
    let jwt = section
        .require("jwt")
        .and_then(|field| known(&field, "jwt", names.jwt.keys()));
    let any_role = section
        .take("any_role")
        .map(|field| field.texts())
        .unwrap_or_default();
    section.finish();
    Some(RouteAuth {
        jwt: jwt?,
        any_role,
    })
}

/// A default and a maximum, each of which may be left out.
fn bound<T: Copy + PartialOrd + std::fmt::Debug>(
    field: Option<Field<'_>>,
    otherwise: Bound<T>,
    read: impl Fn(&Field<'_>) -> Option<T>,
) -> Bound<T> {
    let Some(field) = field else { return otherwise };
    if !matches!(field.tree.kind, Kind::Map(_)) {
        let help = Some("write it as { default: …, max: … }".to_owned());
        field.error_with_help(
            "type",
            format!("this is {}, not a map", field.tree.is()),
            help,
        );
        return otherwise;
    }
    let mut section = field.section();
    let default = section.take("default").and_then(|field| read(&field));
    let max = section
        .take("max")
        .and_then(|field| read(&field))
        .unwrap_or(otherwise.max);
    section.finish();
    if let Some(default) = default
        && default > max
    {
        field.error(
            "invalid",
            format!("default {default:?} is more than max {max:?}"),
        );
    }
    let fallback = if otherwise.default > max {
        max
    } else {
        otherwise.default
    };
    Bound {
        default: default.unwrap_or(fallback),
        max,
    }
}

fn aggregate(field: &Field<'_>) -> Strategy {
    let mut section = field.section();
    let strategy = section
        .take("strategy")
        .and_then(|field| match field.text()?.as_str() {
            "first" | "quorum" => {
                field.not_built("this strategy");
                None
            }
            _ => field.get(),
        });
    let words = [
        ("merge", "group", "this way of merging"),
        ("on_conflict", "error", "this way out of a conflict"),
        ("return_when", "all", "answering before all have ended"),
    ];
    for (key, built, what) in words {
        if let Some(field) = section.take(key)
            && field.text().is_some_and(|word| word != built)
        {
            field.not_built(what);
        }
    }
    section.not_built(&[("grace", "a grace for late services")]);
    section.finish();
    strategy.unwrap_or_default()
}

fn node(field: &Field<'_>, name: &str, names: &Names<'_>) -> Option<Node> {
    if Root::RESERVED.contains(&name) {
        field.error(
            "reserved",
            format!("\"{name}\" cannot be the name of a node: placeholders use it"),
        );
    }
    let mut section = field.section();
    let downstream = section
        .require("downstream")
        .and_then(|field| known(&field, "downstream", names.downstreams.keys()));
    let depends_on = section
        .take("depends_on")
        .map(|field| field.list())
        .unwrap_or_default();
    let depends_on = depends_on.iter().filter_map(depends).collect();
    let required = section
        .take("required")
        .and_then(|field| field.get())
        .unwrap_or(false);
    let priority = section
        .take("priority")
        .and_then(|field| within(&field, 0, 9));
    let tiers = section
        .take("tiers")
        .map(|field| field.list())
        .unwrap_or_default();
    let tiers = tiers
        .iter()
        .filter_map(|field| known(field, "tier", names.tiers.keys()))
        .collect();
    let request = section.require("request").and_then(|field| request(&field));
    let accept = section
        .take("response")
        .map(|field| accept(&field))
        .unwrap_or_default();
    let fallback = section
        .take("fallback")
        .map(|field| field.list())
        .unwrap_or_default();
    let fallback = fallback
        .iter()
        .filter_map(|field| instead(field, names))
        .collect();
    section.not_built(&[
        ("when", "a condition of its own"),
        ("cache", "caching"),
        ("policy", "a policy of its own"),
    ]);
    section.finish();
    Some(Node {
        downstream: downstream?,
        depends_on,
        required,
        priority: priority.and_then(Priority::new).unwrap_or_default(),
        tiers,
        request: request?,
        accept,
        fallback,
    })
}

/// A name, or `{node: name, optional: true}`.
fn depends(field: &Field<'_>) -> Option<DependsOn> {
    if matches!(field.tree.kind, Kind::Scalar(_)) {
        let node = field.text()?;
        return Some(DependsOn {
            node,
            optional: false,
        });
    }
    let mut section = field.section();
    let node = section.require("node").and_then(|field| field.text());
    let optional = section
        .take("optional")
        .and_then(|field| field.get())
        .unwrap_or(false);
    section.finish();
    Some(DependsOn {
        node: node?,
        optional,
    })
}

fn request(field: &Field<'_>) -> Option<RequestTemplate> {
    let mut section = field.section();
    let method = section
        .take("method")
        .map_or(Some(Method::GET), |field| method(&field));
    let path = section.require("path");
    let query = section
        .take("query")
        .map(|field| field.named())
        .unwrap_or_default();
    let headers = section
        .take("headers")
        .map(|field| field.named())
        .unwrap_or_default();
    section.not_built(&[("body", "sending a body")]);
    section.finish();
    let path = path?;
    let mut template = tell(&path, RequestTemplate::new(method?, &path.text()?))?;
    for (name, field) in query {
        template = tell(&field, template.query(&name, &field.text()?))?;
    }
    for (name, field) in headers {
        template = tell(&field, template.header(&name, &field.text()?))?;
    }
    Some(template)
}

fn tell<T>(field: &Field<'_>, result: Result<T, TemplateError>) -> Option<T> {
    result.map_err(|error| field.error("template", error)).ok()
}

fn accept(field: &Field<'_>) -> Vec<u16> {
    let mut section = field.section();
    let statuses = section
        .take("accept")
        .map(|field| field.list())
        .unwrap_or_default();
    section.not_built(&[
        ("target", "taking a part of an answer"),
        ("allow", "choosing members of an answer"),
        ("deny", "leaving out members of an answer"),
        ("rename", "renaming members of an answer"),
    ]);
    section.finish();
    statuses
        .iter()
        .filter_map(|field| within(field, 400, 599))
        .collect()
}

fn instead(field: &Field<'_>, names: &Names<'_>) -> Option<Fallback> {
    let mut section = field.section();
    let fixed = section.take("static");
    let service = section.take("service");
    section.not_built(&[("stale", "falling back to a stale answer")]);
    section.finish();
    match (fixed, service) {
        (Some(fixed), None) => {
            let json: Value = fixed.tree.to_json();
            Json::parse(json.to_string().into())
                .ok()
                .map(Fallback::Static)
        }
        (None, Some(service)) => {
            known(&service, "downstream", names.downstreams.keys()).map(Fallback::Service)
        }
        _ => {
            field.error(
                "invalid",
                "a fallback is either \"static\" or a \"service\"",
            );
            None
        }
    }
}

/// What can only be seen of a plan as a whole.
fn check_plan(
    field: &Field<'_>,
    nodes: &IndexMap<String, (Option<Node>, &Field<'_>)>,
    parameters: Option<&[&str]>,
    deadline: Duration,
    names: &Names<'_>,
) {
    check_graph(field, nodes);
    for (name, (node, field)) in nodes {
        let Some(node) = node else { continue };
        for reference in node.request.references() {
            match &reference.root {
                Root::Node(other) if !comes_after(nodes, name, other) => {
                    let help = if nodes.contains_key(other) {
                        format!("add \"{other}\" to its depends_on")
                    } else {
                        "a placeholder begins with body, query, header, jwt, route, tier or the name of a node".into()
                    };
                    let message = format!(
                        "{{{reference}}} reads \"{other}\", which \"{name}\" does not come after"
                    );
                    field.error_with_help("reference", message, Some(help));
                }
                Root::Route
                    if parameters.is_some_and(|known| !known.contains(&&*reference.path[0])) =>
                {
                    field.error(
                        "reference",
                        format!("{{{reference}}}: the path of the route has no such parameter"),
                    );
                }
                _ => {}
            }
        }
        let policy = &names.downstreams[&node.downstream].policy;
        if policy.worst_case().is_none_or(|worst| worst > deadline) {
            let worst = policy
                .worst_case()
                .map_or_else(|| "without end".into(), |worst| format!("{worst:?}"));
            let message =
                format!("the worst case of \"{name}\" is {worst}, and the deadline {deadline:?}");
            field.warning(
                "worst_case",
                message,
                "shorten attempt_timeout, set total_timeout, or try less often",
            );
        }
        if !node.request.is_safe() && policy.retry.as_ref().is_some_and(|retry| retry.idempotent) {
            let message = format!(
                "\"{name}\" changes something, and its policy tries it again as if it did not"
            );
            field.warning(
                "unsafe_retry",
                message,
                "leave out idempotent, unless sending twice is harmless",
            );
        }
    }
}

/// Names and cycles, by the same rules as any plan.
fn check_graph(field: &Field<'_>, nodes: &IndexMap<String, (Option<Node>, &Field<'_>)>) {
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
fn comes_after(
    nodes: &IndexMap<String, (Option<Node>, &Field<'_>)>,
    name: &str,
    other: &str,
) -> bool {
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
