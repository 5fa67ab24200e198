//! The same calls as nodes of a plan.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_fanout::{
    Answer, Answers, BranchError, Downstream, FanOut, Key, Plan, Policy,
    layers::{ClassifyHttp, Deadline, WithCall},
    metrics::Metrics,
    stack::stack,
};
use tower_fanout_http::{
    attempt_headers::AttemptHeadersLayer,
    client::{Client, ClientConfig},
    correlation::{CORRELATION_ID, CorrelationId},
};
use tower_fanout_json::{
    Json, branch_error,
    merge::Merge,
    response::{AcceptLayer, JsonLayer},
    template::{Found, Lookup, Reference, RequestTemplate},
};

use crate::{ID, splice};

/// A request of a caller, as far as the plan reads it.
type Inbound = WithCall<CorrelationId>;

/// What a node sends.
type OutgoingRequest = WithCall<Request<Bytes>>;

/// Its path has one parameter.
struct Route;

impl Lookup for Route {
    fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
        Some(Found::Text(ID.into()))
    }
}

/// Makes a node's request as the gateway does.
fn template() -> impl Fn(&Inbound, &Answers) -> Result<OutgoingRequest, BranchError> + use<> {
    let template = RequestTemplate::new(Method::GET, "/data/{route.id}").expect("a template");
    move |inbound, _| {
        let mut request = template.render(&Route)?;
        let id = inbound.get().header_value();
        request.headers_mut().insert(CORRELATION_ID, id);
        Ok(OutgoingRequest::from(request))
    }
}

/// Each downstream with what belongs to it: its client, its policy, and its state.
struct Backend {
    client: Client,
    downstream: Downstream<ClassifyHttp>,
}

impl Backend {
    fn new(endpoint: &Uri) -> Self {
        let within = Some(Duration::from_secs(10));
        let policy = Policy::new().total_timeout(within);
        let client = Client::new(endpoint, ClientConfig::default());
        Self {
            client: client.expect("an address of a downstream"),
            downstream: Downstream::new("stub", policy, ClassifyHttp::new()).unwrap(),
        }
    }

    /// Its whole stack, with an answer to fall back to.
    fn service(
        &self,
    ) -> impl Service<OutgoingRequest, Response = Json, Error = BranchError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let fallback = self.downstream.fallback().answer(Response::new(Json::NULL));
        let attempt = JsonLayer::new().layer(self.client.clone());
        ServiceBuilder::new()
            .layer(AcceptLayer::default())
            .service(stack(
                &self.downstream,
                fallback,
                |request| AttemptHeadersLayer::new().write(request),
                attempt,
            ))
    }
}

/// Runs a plan, and makes one document of the answers.
fn run(fan_out: FanOut<Inbound>, merge: impl Fn(&Answer) -> Bytes) -> impl AsyncFn() -> Bytes {
    let id = CorrelationId::generate();
    async move || {
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(30));
        let request = WithCall::new(id.clone()).deadline(deadline.expect("it is soon"));
        let answer = fan_out.clone().oneshot(request).await.expect("an answer");
        merge(&answer)
    }
}

/// A plan with this many nodes, each of which asks one of `backends` by what `service` makes of it.
fn plan<S>(
    backends: &[Backend],
    nodes: usize,
    service: impl Fn(&Backend) -> S,
) -> (FanOut<Inbound>, Vec<Key<S::Response>>)
where
    S: Service<OutgoingRequest, Error: Into<BranchError>, Future: Send>,
    S: Clone + Send + Sync + 'static,
    S::Response: Send + Sync + 'static,
{
    let mut plan = Plan::builder();
    let nodes = backends.iter().cycle().take(nodes).enumerate();
    let keys = nodes.map(|(node, backend)| {
        plan.node(&format!("n{node}"), service(backend), template())
            .downstream(backend.downstream.profile())
            .key()
    });
    let keys = keys.collect();
    (FanOut::new(plan.build().expect("a plan")), keys)
}

/// Runs a plan, and groups its answers.
fn run_merged(fan_out: FanOut<Inbound>, keys: Vec<Key<Json>>) -> impl AsyncFn() -> Bytes {
    let plan = fan_out.plan().clone();
    run(fan_out, move |answer| {
        let answers = keys.iter().map(|key| answer.get(*key));
        let answers = answers.map(|answer| answer.expect("each answers"));
        let names = plan.names().iter().map(|name| &**name);
        let merged = Merge::default().merge(names.zip(answers));
        merged.expect("nothing is in conflict").as_bytes().clone()
    })
}

/// Without policies: each node is a client, and its answer is not read.
pub(crate) fn plain(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, |backend| {
        let client = backend.client.clone();
        ServiceBuilder::new().map_err(branch_error).service(client)
    });
    run(fan_out, move |answer| {
        let answers = keys.iter().map(|key| answer.get(*key));
        splice(answers.map(|answer| &answer.expect("each answers").body()[..]))
    })
}

/// Without policies, but all answers are checked.
pub(crate) fn checked(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, |backend| {
        let attempt = JsonLayer::new().layer(backend.client.clone());
        AcceptLayer::default().layer(attempt)
    });
    run_merged(fan_out, keys)
}

/// With every policy on, and all answers checked.
pub(crate) fn whole(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, Backend::service);
    run_merged(fan_out, keys)
}

/// The same, and what happens is counted.
pub(crate) fn observed(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, Backend::service);
    let metrics = Metrics::install(fan_out.plan().names().iter().map(|name| &**name));
    run_merged(fan_out.observer(Arc::new(metrics)), keys)
}
