//! The calls of the hand-written fan-out as nodes of a plan.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt};
use tower_fanout::{
    Answers, BranchError, Downstream, FanOut, FanOutResponse, Key, Plan, Policy,
    layers::{ClassifyHttp, Deadline, EventsLayer, WithCall, event::MetricsSink},
    metrics::Metrics,
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

use crate::{ID, by_hand::splice};

/// The request of a caller. The plan reads only the correlation id.
type Inbound = WithCall<CorrelationId>;

/// The request that a node sends.
type OutgoingRequest = WithCall<Request<Bytes>>;

/// A route whose path has one parameter.
struct Route;

impl Lookup for Route {
    fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
        Some(Found::Text(ID.into()))
    }
}

/// Returns a function that makes a node's request as the gateway does.
fn template() -> impl Fn(&Inbound, &Answers) -> Result<OutgoingRequest, BranchError> + use<> {
    let template =
        RequestTemplate::new(Method::GET, "/data/{route.id}").expect("the template is valid");
    move |inbound, _| {
        let mut request = template.render(&Route)?;
        let id = inbound.get().header_value();
        request.headers_mut().insert(CORRELATION_ID, id);
        Ok(OutgoingRequest::from(request))
    }
}

/// The client of a downstream, and its policy and state.
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
            client: client.expect("the endpoint is valid"),
            downstream: Downstream::new("stub", policy, ClassifyHttp::new()).unwrap(),
        }
    }

    /// Returns the whole stack around the client, with a static fallback.
    fn service(
        &self,
    ) -> impl Service<OutgoingRequest, Response = Json, Error = BranchError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        let fallback = self
            .downstream
            .fallback()
            .response(Response::new(Json::NULL));
        ServiceBuilder::new()
            .layer(AcceptLayer::default())
            .layer(fallback)
            .layer(&self.downstream)
            .layer(AttemptHeadersLayer::new())
            .layer(JsonLayer::new())
            .service(self.client.clone())
    }
}

/// Returns a function that runs the plan and makes one document of the responses with `merge`.
fn run(
    fan_out: FanOut<Inbound>,
    merge: impl Fn(&FanOutResponse) -> Bytes,
) -> impl AsyncFn() -> Bytes {
    let id = CorrelationId::generate();
    async move || {
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(30));
        let request = WithCall::new(id.clone()).deadline(deadline.expect("30 s do not overflow"));
        let answer = fan_out
            .clone()
            .oneshot(request)
            .await
            .expect("the run succeeds");
        merge(&answer)
    }
}

/// Builds a plan with `nodes` nodes. The nodes call the services that `service` makes of `backends`, in turn.
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
    (FanOut::new(plan.build().expect("the plan is valid")), keys)
}

/// Returns a function that runs the plan and groups its responses by name.
fn run_merged(fan_out: FanOut<Inbound>, keys: Vec<Key<Json>>) -> impl AsyncFn() -> Bytes {
    let plan = fan_out.plan().clone();
    run(fan_out, move |answer| {
        let answers = keys.iter().map(|key| answer.get(*key));
        let answers = answers.map(|answer| answer.expect("each node responds"));
        let names = plan.names().iter().map(|name| &**name);
        let merged = Merge::default().merge(names.zip(answers));
        merged
            .expect("grouped responses do not conflict")
            .as_bytes()
            .clone()
    })
}

/// No policies: each node is a client, and its response is not parsed.
pub(crate) fn plain(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, |backend| {
        let client = backend.client.clone();
        ServiceBuilder::new().map_err(branch_error).service(client)
    });
    run(fan_out, move |answer| {
        let answers = keys.iter().map(|key| answer.get(*key));
        splice(answers.map(|answer| &answer.expect("each node responds").body()[..]))
    })
}

/// No policies, and each response is checked to be JSON.
pub(crate) fn checked(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, |backend| {
        let attempt = JsonLayer::new().layer(backend.client.clone());
        AcceptLayer::default().layer(attempt)
    });
    run_merged(fan_out, keys)
}

/// All policies, and each response is checked to be JSON.
pub(crate) fn whole(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let (fan_out, keys) = plan(&backends, nodes, Backend::service);
    run_merged(fan_out, keys)
}

/// The same as [`whole`], with metrics.
pub(crate) fn observed(endpoints: &[Uri], nodes: usize) -> impl AsyncFn() -> Bytes + use<> {
    let labels = [("route", ""), ("node", ""), ("downstream", "stub")];
    let sink = EventsLayer::new(MetricsSink::with_labels(labels));
    let backends: Vec<_> = endpoints.iter().map(Backend::new).collect();
    let counted = |backend: &Backend| sink.layer(backend.service());
    let (fan_out, keys) = plan(&backends, nodes, counted);
    let metrics = Metrics::new(
        "",
        fan_out.plan().names().iter().map(|name| (&**name, &**name)),
    );
    run_merged(fan_out.observer(Arc::new(metrics)), keys)
}
