//! A route as it is served: plan, limits and downstreams.

use std::{sync::Arc, time::Duration};

use http::Method;
use indexmap::IndexMap;
use tower_fanout::{
    Answers, BoundNode, Branch, BranchError, Cut, FanOut, RunObserver, Strategy,
    layers::{
        ClassifyHttp, EventsLayer, event::MetricsSink, fallback::OutcomeSet, timeout::TimeoutConfig,
    },
    metrics::Metrics,
};
use tower_fanout_http::{attempt_headers::AttemptHeadersLayer, client::ClientError};
use tower_fanout_json::{
    Json,
    merge::{Merge, MergeMode},
    response::{AcceptLayer, JsonLayer, failure},
    template::{RequestTemplate, Root},
};

use crate::{
    backend::Backend,
    call_keys::CallKeys,
    config::{FallbackTarget, Limits, Node, PlanConfig},
    fallback_service::recorded,
    inbound::{Inbound, Source},
    outgoing::{DownstreamRequest, Outgoing},
};

/// Downstreams by name.
pub(crate) type Backends = IndexMap<String, Arc<Backend>>;

/// A route as it is served.
pub(crate) struct Route {
    /// Name of the route.
    pub(crate) name: String,
    /// Identifier of this version of the plan.
    pub(crate) plan_id: Arc<str>,
    /// The service that runs the plan.
    pub(crate) fan_out: FanOut<Box<Inbound>>,
    /// Downstreams, in the order of the nodes.
    pub(crate) backends: Vec<Arc<Backend>>,
    /// The downstreams of fallbacks.
    pub(crate) fallbacks: Backends,
    /// Request templates, in the order of the nodes.
    pub(crate) templates: Vec<Arc<RequestTemplate>>,
    /// Defaults and maxima of the options that a request may set.
    pub(crate) limits: Limits,
    /// Merge rules for the responses of the nodes.
    pub(crate) merge: Merge,
    /// Success criterion, unless the request chooses one.
    pub(crate) strategy: Strategy,
    /// `true` if a node, or the key of a call, reads the body of the caller's request.
    pub(crate) reads_body: bool,
}

/// A node of the configuration, and the downstreams by name.
pub(crate) struct RouteNode<'c> {
    route: &'c str,
    name: &'c str,
    config: &'c Node,
    merge: &'c Merge,
    backends: &'c Backends,
    template: Arc<RequestTemplate>,
}

impl Route {
    /// Builds the route named `route` from its configuration.
    #[must_use]
    pub(crate) fn new(route: &str, config: &PlanConfig, backends: &Backends) -> Self {
        let merge = &config.aggregate.merge;
        let nodes = config.nodes.iter();
        let nodes = nodes.map(|(name, node)| RouteNode::new(route, name, node, merge, backends));
        let nodes: Vec<_> = nodes.collect();
        let observer = Observer {
            metrics: Metrics::new(
                route,
                (config.nodes.iter()).map(|(name, node)| (&**name, &*node.downstream)),
            ),
            backends: nodes
                .iter()
                .map(|node| (node.name.into(), Arc::clone(node.backend())))
                .collect(),
        };
        // The graph was built from the same nodes in the same order, so the indices agree.
        let plan = config.graph.bind(|index, _| nodes[index].bind(index));
        Self {
            name: route.to_owned(),
            plan_id: plan_id(route, config).into(),
            backends: (observer.backends.iter())
                .map(|(_, backend)| Arc::clone(backend))
                .collect(),
            fallbacks: nodes
                .iter()
                .flat_map(RouteNode::fallback_backends)
                .collect(),
            fan_out: FanOut::new(plan)
                .observer(Arc::new(observer))
                .return_when(config.aggregate.return_when)
                .grace(config.aggregate.grace),
            templates: nodes.into_iter().map(|node| node.template).collect(),
            limits: config.limits,
            merge: config.aggregate.merge.clone(),
            strategy: config.aggregate.strategy,
            reads_body: config.nodes.values().any(|node| node.reads(&Root::Body)),
        }
    }

    /// Returns the names of the nodes.
    #[must_use]
    pub(crate) fn names(&self) -> &[Box<str>] {
        self.fan_out.plan().names()
    }
}

impl<'c> RouteNode<'c> {
    /// Creates the node `name` of `route`.
    pub(crate) fn new(
        route: &'c str,
        name: &'c str,
        config: &'c Node,
        merge: &'c Merge,
        backends: &'c Backends,
    ) -> Self {
        Self {
            route,
            name,
            config,
            merge,
            backends,
            template: Arc::new(config.request.clone()),
        }
    }

    fn backend(&self) -> &Arc<Backend> {
        &self.backends[&self.config.downstream]
    }

    /// Binds the node at `index` of the plan. Its request is rendered from its template and sent through
    /// the whole stack of its downstream.
    fn bind(&self, index: usize) -> BoundNode<Box<Inbound>> {
        let template = Arc::clone(&self.template);
        let fallbacks = self.fallback_backends().map(|(_, other)| other);
        let keys = CallKeys::new(Arc::clone(self.backend()), fallbacks);
        let fixed = template.fixed().map(Arc::new);
        #[expect(clippy::borrowed_box, reason = "the request of the plan is a box")]
        let render = move |inbound: &Box<Inbound>, answers: &Answers| {
            // A required node may be rendered already, by the check for missing input.
            let prepared = inbound.prepared.get(index).and_then(Option::as_ref);
            let request = match fixed.as_ref().or(prepared) {
                Some(request) => Arc::clone(request),
                None => Arc::new(template.render(&Source {
                    inbound,
                    answers: Some(answers),
                })?),
            };
            let request = Outgoing::call(request, Arc::clone(&inbound.caller));
            Ok(keys.add(request, inbound))
        };
        let profile = self.backend().downstream.profile();
        let answers = self.static_fallbacks();
        let mut node = BoundNode::new(self.service(), render).downstream(profile);
        if !answers.is_empty() {
            node = node.cut_fallback(move |cut| {
                let mut steps = answers.iter();
                let step = steps.find(|(on, _)| match cut {
                    Cut::Running => on.timeout,
                    // Nothing was sent, as for a call that a layer rejects.
                    _ => on.local,
                });
                step.map(|(_, answer)| answer.clone())
            });
        }
        match self.config.when.clone() {
            Some(condition) => node.when(move |inbound| Ok(inbound.holds(&condition)?)),
            None => node,
        }
    }

    /// Returns the static fallbacks with their outcomes.
    fn static_fallbacks(&self) -> Vec<(OutcomeSet, Json)> {
        let steps = self.config.fallback.iter();
        let fixed = steps.filter_map(|step| match &step.target {
            FallbackTarget::Static(answer) => Some((step.on.clone(), answer.clone())),
            FallbackTarget::Service(_) => None,
        });
        fixed.collect()
    }

    /// Returns the downstreams of the fallbacks, with their names.
    fn fallback_backends(&self) -> impl Iterator<Item = (String, Arc<Backend>)> {
        let names = self.config.fallback_services();
        names.map(|name| (name.to_owned(), Arc::clone(&self.backends[name])))
    }

    /// Returns the time to reserve for one attempt of a fallback: the longest of their attempt timeouts.
    fn reserve(&self) -> Duration {
        self.fallback_backends()
            .filter_map(|(_, other)| other.downstream.policy().attempt_timeout)
            .max()
            // Without an attempt timeout, no time can be reserved.
            .unwrap_or_default()
    }

    pub(crate) fn service(
        &self,
    ) -> impl tower::Service<DownstreamRequest, Response = Json, Error = BranchError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let backend = self.backend();
        let sink = self.sink(backend);
        let chain = backend.downstream.fallback().reserve(self.reserve());
        let chain = chain.events(sink.clone());
        let chain = chain.describe_failure(|result| Box::new(failure(result)));
        // Fallback services get the same filter, because their responses replace that of the node.
        let mut json = JsonLayer::new()
            .filter(self.config.filter.clone(), self.config.accept.clone())
            .head(self.config.request.method() == Method::HEAD);
        // In group mode there is no document that could nest too deeply.
        if self.merge.config().mode != MergeMode::Group {
            json = json.merge(self.merge.clone());
        }
        let fallback = self.config.fallback.iter().fold(chain, |chain, fallback| {
            let chain = chain.on(fallback.on.clone());
            match &fallback.target {
                FallbackTarget::Static(answer) => {
                    chain.response(http::Response::new(answer.clone()))
                }
                FallbackTarget::Service(name) => {
                    let other = &self.backends[name];
                    let last = other.downstream.fallback();
                    let stack = downstream_stack(other, self.sink(other), json.clone(), last);
                    chain.service(recorded(Arc::clone(other), self.name, stack))
                }
            }
        });
        tower::ServiceBuilder::new()
            // Outermost, so that retries and fallbacks see the original status.
            .layer(AcceptLayer::new(self.config.accept.clone()))
            .service(downstream_stack(backend, sink, json, fallback))
    }

    /// Returns a sink that counts the events of `backend` for this node.
    fn sink(&self, backend: &Backend) -> MetricsSink {
        MetricsSink::with_labels([
            ("route", self.route),
            ("node", self.name),
            ("downstream", &backend.name),
        ])
    }
}

/// Builds the whole stack of one downstream, with a fallback chain on top. `sink` counts its events.
fn downstream_stack(
    backend: &Backend,
    sink: MetricsSink,
    json: JsonLayer,
    fallback: tower_fanout::layers::FallbackLayer<
        ClassifyHttp,
        DownstreamRequest,
        http::Response<Json>,
        ClientError,
    >,
) -> impl tower::Service<
    DownstreamRequest,
    Response = http::Response<Json>,
    Error = ClientError,
    Future: Send,
>
+ Clone
+ Send
+ Sync
+ 'static
+ use<> {
    let allowed = backend.forward.clone();
    let policy = backend.downstream.policy();
    let timeout = policy.attempt_timeout.map(|timeout| {
        TimeoutConfig::new(timeout).last_attempt_uses_deadline(policy.last_attempt_uses_deadline)
    });
    let headers = AttemptHeadersLayer::new()
        .attempt_timeout(timeout)
        .trace_parent(false);
    tower::ServiceBuilder::new()
        .layer(fallback)
        // Below the fallback chain, because the service of a step has a sink of its own.
        .layer(EventsLayer::new(sink))
        .layer(&backend.downstream)
        // Below the retries, as each attempt has a trace parent of its own. Below the fallback chain, because a
        // fallback may receive other headers.
        .map_request(move |request: DownstreamRequest| {
            request.map(|outgoing| outgoing.attempt(&allowed))
        })
        // Below the attempt timeout, so that the remaining time of the attempt is exact.
        .layer(headers)
        .layer(json)
        .service(backend.client.clone())
}

/// Returns an identifier that depends only on the name of the route and the nodes of the plan as written, so
/// that it is the same on every machine and after a restart.
fn plan_id(name: &str, config: &PlanConfig) -> String {
    let text = format!("{name} {}", config.digest);
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).to_string()
}

/// Counts the branches of runs, and records failures for the health of downstreams.
struct Observer {
    metrics: Metrics,
    /// The names and downstreams of the nodes, in the order of the plan.
    backends: Vec<(Box<str>, Arc<Backend>)>,
}

impl RunObserver for Observer {
    fn on_end(&self, node: usize, branch: &Branch) {
        self.metrics.on_end(node, branch);
        if let Some((name, backend)) = self.backends.get(node) {
            backend.record(name, branch);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Environment};

    /// Returns the plan id of the route `name` with this request of its node.
    fn id(name: &str, request: &str, variable: &str) -> String {
        let text = format!(
            "version: 1
downstreams: {{ up: {{ endpoints: [{{ url: 'http://up:80' }}] }} }}
orchestrate: {{ plan: {{ up: {{ downstream: up, request: {{ {request} }} }} }} }}
"
        );
        let variables = ["NAME", "OTHER"].map(|name| (name.to_owned(), variable.to_owned()));
        let env = Environment::from_iter(variables);
        let config = Config::parse("a.yaml", &text, &env).unwrap();
        super::plan_id(name, &config.orchestrate.unwrap())
    }

    #[test]
    fn fault_e23_a_changed_literal_of_a_template_changes_the_plan_id() {
        let of = |request: &str| id("page", request, "a variable");
        let base = of("path: /users, query: { n: one }, headers: { x-a: '${NAME}' }");
        assert_eq!(
            base,
            of("path: /users, query: { n: one }, headers: { x-a: '${NAME}' }")
        );
        for changed in [
            "path: /orders, query: { n: one }, headers: { x-a: '${NAME}' }",
            "path: /users, query: { n: two }, headers: { x-a: '${NAME}' }",
            "path: /users, query: { n: one }, headers: { x-a: '${OTHER}' }",
            "path: /users, query: { n: '{query.n|one}' }, headers: { x-a: '${NAME}' }",
        ] {
            assert_ne!(base, of(changed), "{changed}");
        }
        let request = "path: /users, query: { n: one }, headers: { x-a: '${NAME}' }";
        assert_ne!(base, id("other", request, "a variable"));
        assert_eq!(base, id("page", request, "another value"));
    }
}
