//! A route as it is served: its plan, its limits, and whom it asks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request};
use tower_fanout::{
    Answers, BoundNode, Branch, BranchError, Downstream, FanOut, RunObserver, Strategy,
    layers::{ClassifyHttp, Event, WithCall, fallback::OutcomeSet},
    metrics::Metrics,
    stack::stack,
};
use tower_fanout_http::{
    attempt_headers::AttemptHeadersLayer, client::ClientError, correlation::CORRELATION_ID,
    forward::ForwardHeaders,
};
use tower_fanout_json::{
    Json,
    filter::FieldFilterLayer,
    merge::Merge,
    response::{AcceptLayer, JsonLayer},
    template::RequestTemplate,
};

use crate::{
    backend::Backend,
    config::{Bound, FallbackTarget, Node, PlanConfig},
    inbound::{Inbound, Source},
};

/// What a downstream is sent: the facts of the call stand beside it.
type DownstreamRequest = WithCall<Request<Bytes>>;

/// The headers of a caller, in the extensions of a request whose service may see some of them.
#[derive(Clone)]
struct Caller(Arc<HeaderMap>);

/// A route as it is served.
pub(crate) struct Route {
    /// Its name.
    pub(crate) name: String,
    /// Names this version of its plan.
    pub(crate) plan_id: Arc<str>,
    /// What runs it.
    pub(crate) fan_out: FanOut<Inbound>,
    /// Per node, whom it asks.
    pub(crate) backends: Vec<Arc<Backend>>,
    /// Per node, how its request is made.
    pub(crate) templates: Vec<Arc<RequestTemplate>>,
    /// What callers may ask for.
    pub(crate) limits: Limits,
    /// How the services' answers are merged.
    pub(crate) merge: Merge,
    /// When a run is a success, unless the caller says otherwise.
    pub(crate) strategy: Strategy,
    /// Per tier, the most services at once, where that is limited.
    pub(crate) tiers: Vec<(String, u8)>,
}

/// What callers get if they do not say, and at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The deadline.
    pub(crate) deadline: Bound<Duration>,
    /// Services at once.
    pub(crate) max_concurrency: Bound<u8>,
    /// Retries per service.
    pub(crate) retries: Bound<u8>,
}

/// A node of a plan, as the configuration has it, with whom it asks.
struct Planned<'c> {
    config: &'c Node,
    backend: Arc<Backend>,
    template: Arc<RequestTemplate>,
    fallbacks: Vec<(OutcomeSet, Step)>,
}

/// What answers instead of a node's downstream.
enum Step {
    Answer(Json),
    Ask(Arc<Backend>),
}

impl Route {
    /// Builds the route `name` from its configuration; `backend` finds a downstream by name.
    #[must_use]
    pub(crate) fn new(
        name: &str,
        config: &PlanConfig,
        tiers: Vec<(String, u8)>,
        backend: impl Fn(&str) -> Arc<Backend>,
    ) -> Self {
        let nodes = config.nodes.values();
        let nodes: Vec<_> = nodes.map(|node| Planned::new(node, &backend)).collect();
        let backends: Vec<_> = nodes.iter().map(|node| Arc::clone(&node.backend)).collect();
        let observer = Observer::new(config.graph.names(), &backends);
        // The plan was built from the same nodes, in the same order.
        let plan = config.graph.bind(|index, _| nodes[index].bind(index));
        Self {
            name: name.to_owned(),
            plan_id: plan_id(name, config).into(),
            fan_out: FanOut::new(plan)
                .observer(Arc::new(observer))
                .return_when(config.aggregate.return_when)
                .grace(config.aggregate.grace),
            templates: nodes.into_iter().map(|node| node.template).collect(),
            backends,
            limits: Limits {
                deadline: config.deadline,
                max_concurrency: config.max_concurrency,
                retries: config.retry_attempts,
            },
            merge: config.aggregate.merge.clone(),
            strategy: config.aggregate.strategy,
            tiers,
        }
    }

    /// The most services at once that this tier may ask for, if that is limited.
    #[must_use]
    pub(crate) fn tier_limit(&self, tier: &str) -> Option<u8> {
        self.tiers
            .iter()
            .find(|(name, _)| name == tier)
            .map(|(_, limit)| *limit)
    }

    /// The names of its nodes.
    #[must_use]
    pub(crate) fn names(&self) -> &[Box<str>] {
        self.fan_out.plan().names()
    }
}

impl<'c> Planned<'c> {
    fn new(config: &'c Node, backend: &impl Fn(&str) -> Arc<Backend>) -> Self {
        let fallbacks = config.fallback.iter().map(|fallback| {
            let step = match &fallback.target {
                FallbackTarget::Static(answer) => Step::Answer(answer.clone()),
                FallbackTarget::Service(name) => Step::Ask(backend(name)),
            };
            (fallback.on.clone(), step)
        });
        Self {
            config,
            backend: backend(&config.downstream),
            template: Arc::new(config.request.clone()),
            fallbacks: fallbacks.collect(),
        }
    }

    /// Binds the node at `index` of the plan: its request is made by its template and sent through the
    /// whole stack of its downstream.
    fn bind(&self, index: usize) -> BoundNode<Inbound> {
        let template = Arc::clone(&self.template);
        let forwards = self.forwards();
        let make = move |inbound: &Inbound, answers: &Answers| {
            let prepared = inbound.prepared.get(index).and_then(Option::as_ref);
            let mut request = match prepared {
                Some(request) => request.clone(),
                None => template.render(&Source::with(inbound, answers))?,
            };
            let id = inbound.correlation_id.header_value();
            request.headers_mut().insert(CORRELATION_ID, id);
            inbound.trace.write(request.headers_mut());
            inbound.depth.stamp(request.headers_mut());
            if forwards {
                let caller = Caller(Arc::clone(&inbound.headers));
                request.extensions_mut().insert(caller);
            }
            Ok(DownstreamRequest::from(request))
        };
        let node =
            BoundNode::new(self.service(), make).downstream(self.backend.downstream.profile());
        match self.config.when.clone() {
            Some(condition) => node.when(move |inbound| Ok(inbound.holds(&condition)?)),
            None => node,
        }
    }

    /// The services that answer instead of its own.
    fn instead(&self) -> impl Iterator<Item = &Backend> {
        self.fallbacks.iter().filter_map(|(_, step)| match step {
            Step::Ask(other) => Some(&**other),
            Step::Answer(_) => None,
        })
    }

    fn others(&self) -> impl Iterator<Item = &Downstream<ClassifyHttp>> {
        self.instead().map(|other| &other.downstream)
    }

    /// Whether any service that is asked may see something of a caller's headers.
    fn forwards(&self) -> bool {
        let mut all = self.instead().chain([&*self.backend]);
        all.any(|backend| backend.forward != ForwardHeaders::default())
    }

    /// The time for one attempt of a service that answers instead.
    fn reserve(&self) -> Duration {
        let attempts = self
            .others()
            .filter_map(|other| other.policy().attempt_timeout);
        attempts.max().unwrap_or_default()
    }

    fn service(
        &self,
    ) -> impl tower::Service<DownstreamRequest, Response = Json, Error = BranchError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let downstream = &self.backend.downstream;
        let chain = downstream.fallback().reserve(self.reserve());
        let shape = FieldFilterLayer::new(self.config.shape.clone(), self.config.accept.clone());
        let fallback = self.fallbacks.iter().fold(chain, |chain, (on, step)| {
            let chain = chain.on(on.clone());
            match step {
                Step::Answer(answer) => chain.answer(http::Response::new(answer.clone())),
                Step::Ask(other) => chain.service(downstream_stack(
                    other,
                    shape.clone(),
                    other.downstream.fallback(),
                )),
            }
        });
        tower::ServiceBuilder::new()
            .layer(AcceptLayer::new(self.config.accept.clone()))
            .service(downstream_stack(&self.backend, shape, fallback))
    }
}

/// One downstream's whole stack, with a fallback chain on top.
fn downstream_stack(
    backend: &Backend,
    shape: FieldFilterLayer,
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
    let attempt = tower::ServiceBuilder::new()
        // Here, as one that answers instead may see other headers.
        .map_request(move |request| forward(&allowed, request))
        .layer(shape)
        .layer(JsonLayer::new())
        .service(backend.client.clone());
    stack(
        &backend.downstream,
        fallback,
        |request| AttemptHeadersLayer::new().write(request),
        attempt,
    )
}

/// The request, with what its service may see of the caller's headers.
fn forward(allowed: &ForwardHeaders, mut request: DownstreamRequest) -> DownstreamRequest {
    let sent = request.get_mut();
    if let Some(Caller(headers)) = sent.extensions_mut().remove() {
        allowed.copy(&headers, sent.headers_mut());
    }
    request
}

/// The same for the same plan, on every machine and after every restart.
fn plan_id(name: &str, config: &PlanConfig) -> String {
    let text = format!("{name} {:?}", config.nodes);
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).to_string()
}

/// Counts what happens in runs, and remembers failures for the health of downstreams.
struct Observer {
    metrics: Metrics,
    backends: Vec<(Box<str>, Arc<Backend>)>,
}

impl Observer {
    fn new(names: &[Box<str>], backends: &[Arc<Backend>]) -> Self {
        Self {
            metrics: Metrics::install(names.iter().map(|name| &**name)),
            backends: names
                .iter()
                .cloned()
                .zip(backends.iter().cloned())
                .collect(),
        }
    }
}

impl RunObserver for Observer {
    fn on_event(&self, node: &str, event: Event) {
        self.metrics.on_event(node, event);
    }

    fn on_end(&self, node: &str, branch: &Branch) {
        self.metrics.on_end(node, branch);
        if let Some((_, backend)) = self.backends.iter().find(|(name, _)| **name == *node) {
            backend.ended(branch);
        }
    }
}
