//! Reads routes and their plans.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use http::Method;
use indexmap::IndexMap;
use tower_fanout::{Bounds, Plan, Profile};
use tower_fanout_http::guard::GuardConfig;
use tower_fanout_json::condition::Condition;
use tower_fanout_json::template::Root;
use uuid::Uuid;

use super::{
    Bound, DownstreamConfig, Jwt, Limits, Node, ORCHESTRATE, PlanConfig, RESERVED_NAMES, Route,
    RoutePath, RouteTable, Tier,
    aggregate::{Aggregate, check_quorum},
    auth::{RouteAuth, route_auth},
    check::{Nodes, check_plan},
    file,
    node::{method, node},
    placeholder::Known,
    reader::ValueReader,
    validate::conditions::{Outcomes, check_conditions},
    validate::keys::check_keys,
    validate::merge::check_conflicts,
    validate::noop::{check_effects, check_fallback_steps},
    validate::reach::{check_body, check_claims, check_failures},
    validate::texts::check_texts,
    validate::tiers::{check_dependencies, check_quorum_of_tiers, check_tiers, possible_tiers},
    value::bound,
};

/// Default and maximum of the limits of a plan. A plan can set both, up to this maximum.
pub(super) const LIMITS: Limits = Limits {
    deadline: Bound {
        default: Duration::from_secs(30),
        max: Duration::from_secs(120),
    },
    max_concurrency: Bound {
        default: 5,
        max: 10,
    },
    retries: Bound { default: 2, max: 5 },
};
pub(super) const SHORTEST_DEADLINE: Duration = Duration::from_millis(100);

/// The named definitions of the file that plans refer to.
pub(super) struct Names<'n> {
    pub(super) downstreams: &'n IndexMap<String, DownstreamConfig>,
    /// Profiles of the downstreams by name.
    pub(super) profiles: HashMap<&'n str, Profile>,
    /// Conditions by their texts. Nodes of many routes have the same ones.
    pub(super) conditions: RefCell<HashMap<String, Condition>>,
    pub(super) outcomes: Outcomes,
    pub(super) jwt: &'n IndexMap<String, Jwt>,
    pub(super) tiers: &'n IndexMap<String, Tier>,
    /// `true` if policies and downstreams have no errors, so that the worst-case time of a call is known.
    pub(super) sound: bool,
    /// `true` if CORS rules are set. Their layer then responds to every `OPTIONS` request.
    pub(super) has_cors: bool,
}

/// Reads the routes, and builds their routing table. `has_api` is `true` if the built-in API is served too.
pub(super) fn routes(
    files: &[file::Route],
    reader: &ValueReader<'_>,
    names: &Names<'_>,
    has_api: bool,
) -> (Vec<Route>, RouteTable) {
    // An item that is not a map is reported, and left out of `files`.
    let items = reader.items("routes").into_iter();
    let items = items.filter(|item| item.tree.members().is_some());
    let (mut routes, mut readers) = (Vec::new(), Vec::new());
    let (mut table, mut seen) = (RouteTable::default(), SeenRoutes::default());
    for (file, item) in files.iter().zip(items) {
        let Some(route) = route(file, &item, names) else {
            continue;
        };
        if RESERVED_NAMES.contains(&&*route.name) {
            let message = format!(
                "route name \"{}\" is used by the gateway itself",
                route.name
            );
            let help = Some("choose another name".into());
            item.at("name").error_with_help("reserved", message, help);
        }
        seen.check_unique(&item, &route, &routes, &readers);
        table.insert(&route.method, &route.path, routes.len());
        check_options(&item, &route, names);
        if has_api && route.path.is_below(ORCHESTRATE) {
            let message =
                format!("expected another path, as the gateway itself serves {ORCHESTRATE}");
            item.at("match.path").error("duplicate", message);
        }
        routes.push(route);
        readers.push(item);
    }
    (routes, table)
}

/// The indices of the first routes with a name, and with a method and path.
#[derive(Default)]
struct SeenRoutes {
    names: HashMap<String, usize>,
    matches: HashMap<(Method, String), usize>,
}

impl SeenRoutes {
    /// Reports the name, and the method and path of a route that an earlier one of `routes` has. `readers` read
    /// those.
    fn check_unique(
        &mut self,
        reader: &ValueReader<'_>,
        route: &Route,
        routes: &[Route],
        readers: &[ValueReader<'_>],
    ) {
        let own = routes.len();
        let first = *self.names.entry(route.name.clone()).or_insert(own);
        if first < own {
            let message = format!("duplicate route name \"{}\"", route.name);
            let first = readers[first].at("name").position;
            reader.at("name").duplicate(message, first);
        }
        let target = (route.method.clone(), route.path.pattern().to_owned());
        let first = *self.matches.entry(target).or_insert(own);
        if first < own {
            let message = format!(
                "route \"{}\" already matches {} {}",
                routes[first].name, route.method, route.path
            );
            let first = readers[first].at("match.path").position;
            reader.at("match.path").duplicate(message, first);
        }
    }
}

/// Reports a route for `OPTIONS` if the CORS layer responds in its place.
fn check_options(reader: &ValueReader<'_>, route: &Route, names: &Names<'_>) {
    if names.has_cors && route.method == Method::OPTIONS {
        let message = format!(
            "route \"{}\" is never used: with server.cors, the gateway responds to every OPTIONS request itself",
            route.name
        );
        let help = "remove the route, or server.cors".to_owned();
        let reader = reader.at("match.method");
        reader.error_with_help("never_runs", message, Some(help));
    }
}

fn route(file: &file::Route, reader: &ValueReader<'_>, names: &Names<'_>) -> Option<Route> {
    let (method, path) = (file.matched.as_ref())
        .map(|file| matched(file, &reader.at("match")))
        .unwrap_or_default();
    let parameters = path.as_ref().map(RoutePath::parameters);
    let plan = plan(&file.plan, reader, names, parameters, false);
    if let (Some(method), Some(plan)) = (&method, &plan) {
        check_body(reader, method, plan);
    }
    Some(Route {
        name: file.name.as_ref()?.0.0.clone(),
        method: method?,
        path: path?,
        plan: plan?,
    })
}

/// Returns the method and the path, each unless it is invalid.
fn matched(file: &file::Match, reader: &ValueReader<'_>) -> (Option<Method>, Option<RoutePath>) {
    let method = method(file.method.as_ref(), reader);
    let path = file.path.as_ref().and_then(|text| {
        let reader = reader.at("path");
        let report = |expected| {
            let help = RoutePath::suggestion(text);
            reader.error_with_help("invalid", reader.expected(expected), help);
        };
        let path = RoutePath::parse(text).map_err(report).ok()?;
        let (length, max) = (path.pattern().len(), GuardConfig::default().max_uri);
        if length > max {
            // A request with this target is rejected before it is routed.
            reader.error(
                "range",
                format!("must be <= {max} bytes, percent-encoded, got {length} bytes"),
            );
            return None;
        }
        Some(path)
    });
    (method, path)
}

/// Returns the digest of the nodes at `reader` as they are written. The values of variables differ between
/// machines and may be secret, so their names count in their place.
fn digest(reader: &ValueReader<'_>) -> Uuid {
    let text = serde_json::to_vec(reader.tree).expect("values of a file have texts as keys");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &text)
}

/// Returns the limits of a plan's runs.
fn limits(file: &file::Plan, reader: &ValueReader<'_>) -> Limits {
    let (deadline, calls) = (&file.deadline, &file.max_concurrency);
    let retries = &file.retry_attempts;
    let [default, max] = [deadline.default, deadline.max].map(|time| time.map(|time| time.0));
    Limits {
        deadline: bound(&reader.at("deadline"), default, max, LIMITS.deadline),
        max_concurrency: bound(
            &reader.at("max_concurrency"),
            calls.default,
            calls.max,
            LIMITS.max_concurrency,
        ),
        retries: bound(
            &reader.at("retry_attempts"),
            retries.default,
            retries.max,
            LIMITS.retries,
        ),
    }
}

/// Reports a node of the plan at `reader` whose name placeholders use.
fn check_node_name(reader: &ValueReader<'_>, name: &str) {
    if Root::RESERVED.contains(&name) {
        let message = format!("node name \"{name}\" is reserved for placeholders");
        let help = format!("choose another name than {}", Root::RESERVED.join(", "));
        let key = reader.at_key(name);
        key.error_with_help("reserved", message, Some(help));
    }
}

/// The nodes of a plan, with what their checks depend on.
struct PlanCheck<'p, 'f> {
    /// Reads the map that has the plan.
    route: &'p ValueReader<'f>,
    nodes: &'p Nodes<'p, 'f>,
    aggregate: &'p Aggregate,
    /// Path parameters of the route, or `None` if its path is invalid.
    parameters: Option<&'p [String]>,
    names: &'p Names<'p>,
    /// `true` if a request may select nodes and strategy.
    choose: bool,
}

impl<'f> PlanCheck<'_, 'f> {
    /// Checks what is the same for all callers. Returns `None` if the graph has errors.
    fn check(&self, limits: &Limits) -> Option<Plan> {
        let (nodes, deadline) = (self.nodes, limits.deadline.default);
        let bounds = Bounds::default()
            .deadline(deadline)
            .max_concurrency(limits.max_concurrency.default.into())
            .max_retries(limits.retries.default);
        let reader = self.route.at("plan");
        let graph = check_plan(&reader, nodes, self.parameters, &bounds, self.names);
        if let Some(reader) = &self.aggregate_reader() {
            check_effects(reader, self.aggregate, nodes, deadline, self.choose);
            check_quorum(reader, self.aggregate.strategy, nodes);
        }
        check_conflicts(self.aggregate, nodes, self.choose);
        check_texts(nodes, self.aggregate, self.choose);
        check_fallback_steps(nodes);
        graph
    }

    /// Checks what depends on the callers. `has_graph` is `false` if the graph has errors.
    fn check_callers(&self, auth: Option<&RouteAuth>, has_graph: bool) {
        let (nodes, names) = (self.nodes, self.names);
        check_keys(nodes, self.parameters, auth, names);
        let (reader, outcomes) = (self.route.at("plan"), &names.outcomes);
        let possible = possible_tiers(auth, names.jwt, names.tiers);
        // Nothing is known of the meaning of a plan with errors.
        if reader.is_sound() {
            check_failures(&reader, self.aggregate, nodes, &possible, outcomes);
        }
        check_tiers(nodes, auth, &possible);
        check_claims(nodes, auth);
        check_conditions(nodes, self.parameters, auth, &possible, names);
        // Unknown dependencies and cycles are reported already, and so are nodes that no caller reaches.
        if has_graph
            && check_dependencies(nodes, &possible, outcomes)
            && let Some(reader) = &self.aggregate_reader().filter(ValueReader::is_sound)
        {
            let strategy = self.aggregate.strategy;
            check_quorum_of_tiers(reader, strategy, nodes, &possible, outcomes);
        }
    }

    /// Returns a reader of `aggregate`, if the file has it.
    fn aggregate_reader(&self) -> Option<ValueReader<'f>> {
        let has_one = self.route.has("aggregate");
        has_one.then(|| self.route.at("aggregate"))
    }
}

/// Reads the nodes of a plan, of which `members` are the readers.
fn nodes<'m, 'f>(
    files: &IndexMap<String, file::Node>,
    members: &'m [(String, ValueReader<'f>)],
    parameters: Option<&[String]>,
    names: &Names<'_>,
) -> Nodes<'m, 'f> {
    let own: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
    let known = Known {
        parameters,
        nodes: &own,
    };
    let read = members.iter().map(|(name, reader)| {
        let file = files.get(name);
        let node = file.and_then(|file| node(file, reader, (known, names)));
        (name.clone(), (node, reader))
    });
    read.collect()
}

/// Returns the nodes with the indices of other nodes in place of their names, which are slower to look up per request.
/// Returns `None` if a node has errors.
fn resolved(nodes: Nodes<'_, '_>, graph: &Plan) -> Option<IndexMap<String, Node>> {
    let nodes = nodes.into_iter().map(|(name, (node, _))| {
        let mut node = node?;
        node.request.resolve(|name| graph.index_of(name));
        Some((name, node))
    });
    nodes.collect()
}

/// Checks a plan. `parameters` are the path parameters of its route, or `None` if the path is invalid.
/// `choose` is `true` if a request may select nodes and strategy. `route` reads the map that has the plan.
pub(super) fn plan(
    file: &file::Plan,
    route: &ValueReader<'_>,
    names: &Names<'_>,
    parameters: Option<&[String]>,
    choose: bool,
) -> Option<PlanConfig> {
    let auth = route.has("auth").then(|| route.at("auth"));
    let auth = auth.map(|reader| route_auth(file.auth.as_ref()?, &reader, names.jwt));
    let limits = limits(file, route);
    let aggregate = Aggregate::from(&file.aggregate);
    let files = file.plan.as_ref()?;
    let (reader, members) = (route.at("plan"), route.members("plan"));
    for (name, _) in &members {
        check_node_name(&reader, name);
    }
    let nodes = nodes(files, &members, parameters, names);
    let checks = PlanCheck {
        route,
        nodes: &nodes,
        aggregate: &aggregate,
        parameters,
        names,
        choose,
    };
    // All checks run before the first `?`, so that one run reports the errors of all of them.
    let graph = checks.check(&limits);
    // An invalid `auth` is reported already, and says nothing about the callers.
    if !matches!(auth, Some(None)) {
        checks.check_callers(auth.as_ref().and_then(Option::as_ref), graph.is_some());
    }
    let graph = graph?;
    Some(PlanConfig {
        // An invalid `auth` must not become `None`, which admits every caller.
        auth: auth.map_or(Some(None), |auth| auth.map(Some))?,
        limits,
        nodes: resolved(nodes, &graph)?,
        digest: digest(&reader),
        graph,
        aggregate,
    })
}
