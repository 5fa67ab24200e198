//! Reads routes and their plans.

use std::time::Duration;

use http::Method;
use indexmap::IndexMap;
use tower_fanout::Bounds;

use super::{
    Bound, DownstreamConfig, Jwt, PlanConfig, Route, Tier,
    aggregate::{aggregate, check_quorum},
    auth::route_auth,
    check::check_plan,
    node::{method, node},
    reader::{MapReader, ValueReader},
    validate::merge::check_conflicts,
    validate::noop::check_effects,
    value::{Span, bound, in_range},
};

/// What a request gets if its plan says nothing of it, and the most that a plan can give.
const DEADLINE: Bound<Duration> = Bound {
    default: Duration::from_secs(30),
    max: Duration::from_secs(120),
};
const SHORTEST_DEADLINE: Duration = Duration::from_millis(100);
const MAX_CONCURRENCY: Bound<u8> = Bound {
    default: 5,
    max: 10,
};
const RETRY_ATTEMPTS: Bound<u8> = Bound { default: 2, max: 5 };

/// What the file has given names to.
pub(super) struct Names<'n> {
    pub(super) downstreams: &'n IndexMap<String, DownstreamConfig>,
    pub(super) jwt: &'n IndexMap<String, Jwt>,
    pub(super) tiers: &'n IndexMap<String, Tier>,
    /// Whether what a service may take is known: nothing is wrong with policies and downstreams.
    pub(super) sound: bool,
}

pub(super) fn routes(field: Option<ValueReader<'_>>, names: &Names<'_>) -> Vec<Route> {
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

fn route(field: &ValueReader<'_>, names: &Names<'_>) -> Option<Route> {
    let mut section = field.section();
    let name = section.require("name").and_then(|field| field.text());
    let (method, path) = section
        .require("match")
        .map(|field| matched(&field))
        .unwrap_or_default();
    let parameters = path.as_deref().map(parameters);
    let plan = plan(&mut section, names, parameters.as_deref(), false);
    section.finish();
    Some(Route {
        name: name?,
        method: method?,
        path: path?,
        plan: plan?,
    })
}

pub(super) fn orchestrate(field: &ValueReader<'_>, names: &Names<'_>) -> Option<PlanConfig> {
    let mut section = field.section();
    let plan = plan(&mut section, names, Some(&[]), true);
    section.finish();
    plan
}

fn matched(field: &ValueReader<'_>) -> (Option<Method>, Option<String>) {
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

/// The names of the parameters of a path.
fn parameters(path: &str) -> Vec<&str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .collect()
}

/// A plan; the parameters of its route are none if they could not be read. Whether callers `choose`
/// services and strategy.
fn plan(
    section: &mut MapReader<'_>,
    names: &Names<'_>,
    parameters: Option<&[&str]>,
    choose: bool,
) -> Option<PlanConfig> {
    let auth = section
        .take("auth")
        .map(|field| route_auth(&field, names.jwt));
    let deadline = bound(section.take("deadline"), DEADLINE, |field| {
        let Span(deadline) = field.get()?;
        in_range(field, deadline, SHORTEST_DEADLINE, DEADLINE.max)
    });
    let max_concurrency = section.take("max_concurrency");
    let max_concurrency = bound(max_concurrency, MAX_CONCURRENCY, |field| {
        in_range(field, field.get()?, 1, MAX_CONCURRENCY.max)
    });
    let retry_attempts = section.take("retry_attempts");
    let retry_attempts = bound(retry_attempts, RETRY_ATTEMPTS, |field| {
        in_range(field, field.get()?, 0, RETRY_ATTEMPTS.max)
    });
    let aggregates = section.take("aggregate");
    let aggregate = aggregates.as_ref().map(aggregate).unwrap_or_default();
    let field = section.require("plan")?;
    let members = field.named();
    let nodes: IndexMap<_, _> = members
        .iter()
        .map(|(name, field)| (name.clone(), (node(field, name, names), field)))
        .collect();
    let bounds = Bounds::default()
        .deadline(deadline.default)
        .max_concurrency(max_concurrency.default.into())
        .max_retries(retry_attempts.default);
    let graph = check_plan(&field, &nodes, parameters, &bounds, names);
    if let Some(field) = &aggregates {
        check_effects(field, &aggregate, &nodes, deadline.default, choose);
        check_quorum(field, aggregate.strategy, &nodes);
    }
    check_conflicts(&aggregate, &nodes, choose);
    let graph = graph?;
    let nodes = nodes.into_iter().map(|(name, (node, _))| {
        let mut node = node?;
        node.request.resolve(|name| graph.index_of(name));
        Some((name, node))
    });
    Some(PlanConfig {
        // One that could not be read must not become none.
        auth: auth.map_or(Some(None), |auth| auth.map(Some))?,
        deadline,
        max_concurrency,
        retry_attempts,
        nodes: nodes.collect::<Option<_>>()?,
        graph,
        aggregate,
    })
}
