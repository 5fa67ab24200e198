//! The routes of the gateway and the order of the layers around them.

use std::{convert::Infallible, error::Error, future::ready, sync::Arc};

use axum::{
    body::Body,
    extract::Path,
    response::{IntoResponse, Redirect},
    routing::{MethodFilter, get, on_service, post_service},
};
use bytes::Bytes;
use http::{Request, Response, header};
use metrics::counter;
use tower::{Service, ServiceBuilder};
use tower_fanout::layers::ConfigError;
use tower_fanout_http::{
    correlation::{CorrelationId, CorrelationLayer, Replaced},
    cors::CorsLayer,
    deadline::InboundDeadlineLayer,
    forward::LoopDetectionLayer,
    forwarded::ForwardedLayer,
    guard::{GuardConfig, GuardLayer, HeadError},
    problem::{Code, Problem, ProblemLayer},
    trace::TraceLayer,
};

use crate::{
    auth::Auth,
    backend::Backend,
    config::{Config, ORCHESTRATE, PlanConfig, Route as RouteConfig, RouteAuth, RouteTable},
    health::{self, Readiness},
    normalize::normalize_path,
    openapi,
    orchestrate::Endpoint,
    problem_log,
    route::{Backends, Route},
    router::{Handler, PathValues, Routes, router},
    telemetry,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// All routes and the downstreams that they share.
pub(crate) struct App {
    orchestrate: Option<(Option<RouteAuth>, Arc<Endpoint>)>,
    routes: Vec<(RouteConfig, Arc<Endpoint>)>,
    /// The routing table, with the indices of `routes`.
    table: RouteTable,
    backends: Vec<Arc<Backend>>,
    ready: Readiness,
    /// The OpenAPI document, which never changes while the process runs.
    document: Bytes,
    // The layers around the routes.
    correlation: CorrelationLayer,
    proxies: ForwardedLayer,
    trace: TraceLayer,
    cors: Option<CorsLayer>,
}

impl App {
    /// Builds routes and downstreams from `config`. Sends no requests.
    ///
    /// # Errors
    /// Returns an error if a client, a policy or the CORS rules cannot be built.
    pub(crate) fn new(config: &Config, ready: Readiness) -> Result<Self, BoxError> {
        // Layers look up their counters when they are built, so the recorder must be installed first.
        let _ = telemetry::metrics();
        let backends = config.downstreams.iter().map(|(name, downstream)| {
            let backend = Backend::new(name, downstream)?;
            Ok((name.clone(), Arc::new(backend)))
        });
        let backends = backends.collect::<Result<Backends, ConfigError>>()?;
        let tiers = Arc::new(config.tiers.clone());
        // The tiers are in order, from the lowest to the highest.
        let lowest_tier = tiers.first().map_or("default", |(name, _)| name);
        let lowest_tier = Arc::<str>::from(lowest_tier);
        let endpoint = |name: &str, plan: &PlanConfig| {
            Arc::new(Endpoint {
                route: Arc::new(Route::new(name, plan, &backends)),
                body: config.server.body,
                tiers: Arc::clone(&tiers),
                lowest_tier: Arc::clone(&lowest_tier),
                server_timing: config.server_timing,
            })
        };
        let orchestrate = config.orchestrate.as_ref();
        let routes = config.routes.iter();
        Ok(Self {
            orchestrate: orchestrate.map(|plan| (plan.auth.clone(), endpoint("orchestrate", plan))),
            routes: routes
                .map(|route| (route.clone(), endpoint(&route.name, &route.plan)))
                .collect(),
            table: config.table.clone(),
            backends: backends.into_values().collect(),
            ready,
            document: openapi::document(orchestrate, &config.routes)
                .to_string()
                .into(),
            correlation: CorrelationLayer::new(config.server.correlation)
                .on_replaced(count_replaced),
            proxies: config.server.proxies.clone(),
            trace: config.trace.clone(),
            cors: config.server.cors.clone().map(CorsLayer::new).transpose()?,
        })
    }

    /// Returns all downstreams.
    #[must_use]
    pub(crate) fn backends(&self) -> &[Arc<Backend>] {
        &self.backends
    }

    /// Returns the route of this name, and `true` if it is the built-in API. No configured route has the
    /// name `orchestrate`.
    #[must_use]
    pub(crate) fn endpoint(&self, route: &str) -> Option<(&Endpoint, bool)> {
        let built_in = self.orchestrate.as_ref().map(|(_, api)| (&**api, true));
        let mut configured = self.routes.iter();
        let configured = configured.find(|(config, _)| config.name == route);
        built_in
            .filter(|_| route == "orchestrate")
            .or(configured.map(|(_, endpoint)| (&**endpoint, false)))
    }

    /// Builds the public service: the routes, protected by `auth`, below the layers that every request
    /// passes through.
    ///
    /// The order of the layers is defined only here, outermost first.
    pub(crate) fn service<B>(
        &self,
        auth: &Auth,
    ) -> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
    + use<B>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        ServiceBuilder::new()
            // Outermost, so that every response, log line and error has the request id.
            .layer(self.correlation)
            // Before logging, which names the client. Layers below must not trust forwarding headers.
            .layer(self.proxies.clone())
            // Below the layer that knows the trusted proxies, and early, so that the time runs from the arrival.
            .layer(InboundDeadlineLayer::new().trust_proxies(true))
            // Next to the correlation id, because the trace context identifies the request too.
            .layer(self.trace.clone())
            // Above every layer that logs, and below the layers that provide its ids.
            .layer(telemetry::RequestFieldsLayer)
            // Above `ProblemLayer`, so that problems from panics are logged and counted too.
            .map_response(note_problem)
            // Above every layer that may panic.
            .layer(ProblemLayer::new())
            // Before routing, so that ambiguous requests are rejected before they have any effect.
            .layer(guard())
            // Before any downstream call, so that a request loop ends here.
            .layer(LoopDetectionLayer::new())
            // Below the guard, which responds to `OPTIONS *`. Above routing and authentication, because a
            // preflight request carries no token.
            .option_layer(self.cors.clone())
            // axum needs its own body type. The layers above accept any body.
            .map_request(|request: Request<B>| request.map(to_axum))
            // Next to the router, which compares paths byte by byte.
            .map_request(normalize_path)
            .map_err(|never: Infallible| -> tower_fanout::layers::Rejection { match never {} })
            // Authentication is per route: after routing, and before the body is read.
            .service(self.router(auth))
    }

    fn router(&self, auth: &Auth) -> Handler {
        let mut routes = Routes::new(self.table.clone());
        for (config, endpoint) in &self.routes {
            let handler = route_handler(endpoint, config);
            routes.push(auth.protect(config.plan.auth.as_ref(), handler));
        }
        router(self.built_in(auth), routes)
    }

    /// Builds the endpoints of the gateway itself. Their paths are those of `is_built_in`.
    fn built_in(&self, auth: &Auth) -> axum::Router {
        let document = (
            [(header::CONTENT_TYPE, "application/json")],
            self.document.clone(),
        );
        let ready = self.ready.clone();
        let mut router = axum::Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route(
                "/readyz",
                get(move |request| readyz(ready.clone(), request)),
            )
            .route("/openapi.json", get(document))
            .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
            .route("/docs/", get(|request| docs(String::new(), request)))
            .route(
                "/docs/{*file}",
                get(|Path(file): Path<String>, request| docs(file, request)),
            );
        if let Some((required, api)) = &self.orchestrate {
            router = router.merge(orchestrate(auth, required.as_ref(), api));
        }
        // axum adds the `allow` header to this response.
        router.method_not_allowed_fallback(|request| problem(Code::MethodNotAllowed, request))
    }
}

/// Returns the guard. It leaves `TRACE` to the router, which knows the methods of a resource.
fn guard() -> GuardLayer {
    let config = GuardConfig::default().pass_trace(true);
    GuardLayer::new(config).expect("the defaults are in range")
}

/// Builds the routes of the built-in API, protected by `required`.
fn orchestrate(auth: &Auth, required: Option<&RouteAuth>, api: &Arc<Endpoint>) -> axum::Router {
    let (run, test, route) = (Arc::clone(api), Arc::clone(api), Arc::clone(&api.route));
    let run = Handler::new(move |request| Arc::clone(&run).orchestrate(request));
    let test = Handler::new(move |request| Arc::clone(&test).test(request));
    let health = Handler::new(move |_| ready(health::of(&route).into_response()));
    let both = MethodFilter::GET.or(MethodFilter::POST);
    let at = |path| format!("{ORCHESTRATE}{path}");
    axum::Router::new()
        .route(ORCHESTRATE, post_service(auth.protect(required, run)))
        .route(&at("/test"), post_service(auth.protect(required, test)))
        .route(
            &at("/health"),
            on_service(both, auth.protect(required, health)),
        )
}

/// Builds the handler of a configured route.
fn route_handler(endpoint: &Arc<Endpoint>, config: &RouteConfig) -> Handler {
    let names: Vec<String> = config.path.parameters().into();
    let endpoint = Arc::clone(endpoint);
    Handler::new(move |mut request| {
        let values = match request.extensions_mut().remove() {
            Some(PathValues(values)) => values,
            None => Some(Vec::new()),
        };
        let route = values.map(|values| names.iter().cloned().zip(values).collect());
        Arc::clone(&endpoint).route_handler(request, route)
    })
}

/// Returns `body` as a body of axum, which has a box for a body that is not empty.
fn to_axum<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if body.is_end_stream() {
        Body::empty()
    } else {
        Body::new(body)
    }
}

async fn problem(code: Code, request: Request<Body>) -> Response<Body> {
    Problem::new(code).into_response(request.extensions().get::<CorrelationId>())
}

async fn readyz(ready: Readiness, request: Request<Body>) -> Response<Body> {
    if ready.is_ready() {
        "ok\n".into_response()
    } else {
        problem(Code::Stopping, request).await
    }
}

async fn docs(file: String, request: Request<Body>) -> Response<Body> {
    match openapi::page(&file) {
        Some(page) => page.map(Body::new),
        None => problem(Code::NotFound, request).await,
    }
}

/// Logs and counts a response with a problem.
fn note_problem(response: Response<Body>) -> Response<Body> {
    if let Some(code) = response.extensions().get::<Code>() {
        match response.extensions().get::<HeadError>() {
            // The guard has logged the reason.
            Some(_) => problem_log::count(*code),
            None => problem_log::record(*code),
        }
    }
    response
}

fn count_replaced(reason: Replaced) {
    counter!("fanout_corrid_replaced_total", "reason" => reason.as_str()).increment(1);
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tower::ServiceExt;
    use tower_fanout_http::{forward::HopCount, trace::TraceContext};

    use super::*;
    use crate::{
        config::Environment,
        outgoing::{Caller, Outgoing},
        route::RouteNode,
    };

    #[test]
    fn fault_g22_a_branch_of_a_route_uses_less_than_4_kib() {
        let text = "version: 1
policies:
  retried: { attempt_timeout: 1s, throttle: {} }
  hedged: { attempt_timeout: 1s, retry: off, hedge: { delay: 50ms } }
downstreams:
  one: { endpoints: [{ url: \"http://one:80\" }], policy: retried }
  two: { endpoints: [{ url: \"http://two:80\" }], policy: hedged }
orchestrate:
  plan:
    one: { downstream: one, request: { path: / }, fallback: [{ service: two }, { static: 1 }] }
    two: { downstream: two, request: { path: / }, response: { target: data, allow: [id] } }
";
        let config = Config::parse("page.yaml", text, &Environment::default()).unwrap();
        let backends = config.downstreams.iter().map(|(name, downstream)| {
            let backend = Backend::new(name, downstream).unwrap();
            (name.clone(), Arc::new(backend))
        });
        let backends: Backends = backends.collect();
        let plan = config.orchestrate.as_ref().unwrap();
        for (name, node) in &plan.nodes {
            let service =
                RouteNode::new("orchestrate", name, node, &plan.aggregate.merge, &backends)
                    .service();
            let caller = Caller {
                correlation_id: CorrelationId::generate(),
                trace: TraceContext::generate(),
                hops: HopCount::default(),
                headers: HeaderMap::new(),
                peer: None,
            };
            let request = Outgoing::call(Request::new(Bytes::new()).into(), caller.into());
            // A run allocates this future, and a tag, for each branch.
            let size = size_of_val(&service.oneshot(request));
            println!("{size} bytes");
            assert!((512..=4096).contains(&size), "{size} bytes");
        }
    }
}
