//! The handlers of the orchestrate API and of configured routes. They read the request, run the plan
//! and build the response.

pub(crate) mod explain;
mod merged;
mod missing_inputs;
mod reply;
pub(crate) mod request;

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, Uri, header, request::Parts, uri::Authority,
};
use http_body::Body as _;
use indexmap::IndexMap;
use tower_fanout::{
    Choice, FanOut, Run, SelectError, Strategy,
    layers::{Call, Deadline, clock},
};
use tower_fanout_http::{
    body::{BodyLimitConfig, read_body},
    correlation::CorrelationId,
    jwt::Claims,
    media_type::is_json,
    problem::{Code, FieldError, Problem},
    trace::TraceContext,
};
use tower_fanout_json::{
    Json,
    wire::{EffectiveLimits, ResponseFormat, RunMeta, RunStream, StreamFormat},
};

pub(crate) use self::reply::json_response;
use self::{
    merged::{has_merged_document, merged_document},
    reply::Reply,
    request::RequestedOptions,
};
use crate::{
    config::Tier, inbound::Inbound, outgoing::Caller, problem_log, query::Query, route::Route,
    telemetry::BodyWithRequestFields,
};

/// A route with the settings of its handlers.
pub(crate) struct Endpoint {
    /// The route to run.
    pub(crate) route: Arc<Route>,
    /// Limits for request bodies.
    pub(crate) body: BodyLimitConfig,
    /// Tiers by name.
    pub(crate) tiers: Arc<IndexMap<String, Tier>>,
    /// The tier of callers without a token.
    pub(crate) lowest_tier: Arc<str>,
    /// `true` to send the `server-timing` response header.
    pub(crate) server_timing: bool,
}

impl Endpoint {
    /// Handles an orchestrate request.
    pub(crate) async fn orchestrate(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let id = correlation_id(&parts);
        let result = self.run_requested(parts, body).await;
        vary_by_accept(result_to_response(result, &id))
    }

    async fn run_requested(&self, parts: Parts, body: Body) -> Result<Response<Body>, Problem> {
        let (inbound, requested) = self.read(parts, body).await?;
        self.respond(inbound, &requested).await
    }

    /// Explains an orchestrate request. With `?execute=true` also runs it, without nodes that change
    /// state.
    pub(crate) async fn test(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let id = correlation_id(&parts);
        let result = async {
            let execute = is_executed(&Query::of(&parts.uri))?;
            let (inbound, requested) = self.read(parts, body).await?;
            let mut job = Job::new(&self, inbound, &requested);
            // Skips nodes that change state.
            job.fan_out = job.fan_out.test(execute);
            let choices = job.choose()?;
            let explanation = job.explain(choices.clone());
            let result = if execute {
                // The response is 200 even if the run has failed.
                let mut started = job.start(&choices, false);
                started.end().await;
                let reply = started.reply().inspect_err(|problem| {
                    problem_log::record(problem.code());
                });
                Some(reply.map_or_else(
                    |problem| problem.to_json(Some(&id)).into(),
                    |reply| reply.body,
                ))
            } else {
                None
            };
            let explained = explain::to_json(&self.route, &explanation, result);
            Ok(json_response(explained))
        };
        result_to_response(result.await, &id)
    }

    /// Handles a request to a configured route, whose path parameters are `route`, or `None` if one of them is not UTF-8.
    /// Its body is passed to the plan, and does not hold options as that of an orchestrate request.
    pub(crate) fn route_handler(
        self: Arc<Self>,
        request: Request<Body>,
        route: Option<Vec<(String, String)>>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        let (parts, body) = request.into_parts();
        let id = correlation_id(&parts);
        // Not in the future, which would have room for the head of the request as long as the plan runs.
        let inbound = self.route_inbound(parts, route);
        async move {
            let result = match inbound {
                Ok(inbound) => self.run_route(inbound, body).await,
                Err(problem) => Err(problem),
            };
            vary_by_accept(result_to_response(result, &id))
        }
    }

    fn route_inbound(
        &self,
        parts: Parts,
        route: Option<Vec<(String, String)>>,
    ) -> Result<Box<Inbound>, Problem> {
        // A value that is not UTF-8 when decoded cannot be sent on.
        let route = route.ok_or_else(|| Problem::new(Code::BadParam))?;
        let mut inbound = self.inbound(parts)?;
        inbound.route = route;
        Ok(inbound)
    }

    async fn run_route(
        &self,
        mut inbound: Box<Inbound>,
        body: Body,
    ) -> Result<Response<Body>, Problem> {
        inbound.body = self.route_body(&inbound, body).await?;
        self.respond(inbound, &RequestedOptions::default()).await
    }

    /// Runs the plan with the requested options. Responds in the format that the caller accepts.
    async fn respond(
        &self,
        inbound: Box<Inbound>,
        requested: &RequestedOptions,
    ) -> Result<Response<Body>, Problem> {
        let format = ResponseFormat::of(&inbound.caller.headers);
        let mut job = Job::new(self, inbound, requested);
        let choices = job.choose()?;
        let mut started = match format {
            ResponseFormat::Json => job.start(&choices, self.server_timing),
            ResponseFormat::Stream(format) => return Ok(job.stream(&choices, format)),
        };
        started.end().await;
        started.reply().map(Reply::into_response)
    }

    /// Reads the body of a request to a configured route. Returns `None` for an empty body, and for one that
    /// the plan does not read.
    async fn route_body(&self, inbound: &Inbound, body: Body) -> Result<Option<Json>, Problem> {
        // A client that waits for `100 Continue` must not send a body of another type.
        if self.route.reads_body && body.size_hint().lower() > 0 {
            check_media_type(inbound)?;
        }
        // A body that is not used is read too, because its limits protect the connection.
        let bytes = self.body(inbound, body).await?;
        if bytes.is_empty() || !self.route.reads_body {
            return Ok(None);
        }
        check_media_type(inbound)?;
        json(bytes).map(Some)
    }

    async fn read(
        &self,
        parts: Parts,
        body: Body,
    ) -> Result<(Box<Inbound>, RequestedOptions), Problem> {
        let mut inbound = self.inbound(parts)?;
        check_media_type(&inbound)?;
        let bytes = self.body(&inbound, body).await?;
        let body = json(bytes)?;
        let requested = self.requested(&body)?;
        inbound.body = Some(body);
        Ok((inbound, requested))
    }

    fn requested(&self, body: &Json) -> Result<RequestedOptions, Problem> {
        let plan = self.route.fan_out.plan();
        request::read(body.as_raw().as_bytes(), |name| plan.index_of(name))
    }

    async fn body(&self, inbound: &Inbound, body: Body) -> Result<Bytes, Problem> {
        let headers = &inbound.caller.headers;
        // Nothing is left to read or to decode.
        if body.is_end_stream() && !headers.contains_key(header::CONTENT_ENCODING) {
            return Ok(Bytes::new());
        }
        // Boxed, because most requests have no body, and the future that reads it is large.
        let read = Box::pin(read_body(headers, body, &self.body));
        read.await.map_err(Problem::from)
    }

    /// Creates the request that the plan reads, without its body.
    ///
    /// # Errors
    /// Returns a problem if `authorization` is repeated, because the readers of the header could choose
    /// different values. `JwtLayer` refuses that on routes with authentication.
    fn inbound(&self, parts: Parts) -> Result<Box<Inbound>, Problem> {
        if parts.headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
            return Err(Problem::new(Code::InvalidRequest)
                .detail("The authorization header must not be repeated."));
        }
        let claims = parts.extensions.get::<Claims>().cloned();
        // Callers without a token are in the lowest tier.
        let tier = match &claims {
            Some(claims) => claims.tier().into(),
            None => Arc::clone(&self.lowest_tier),
        };
        // The job sets the limits later, when it knows the requested options.
        let mut call = Call::NONE;
        call.deadline = parts.extensions.get().and_then(|call: &Call| call.deadline);
        // Boxed, because it is moved from future to future.
        Ok(Box::new(Inbound {
            call,
            body: None,
            query: Query::of(&parts.uri),
            route: Vec::new(),
            tier,
            hypothetical: false,
            prepared: Vec::new(),
            claims,
            caller: Arc::new(caller(parts)),
        }))
    }
}

/// Returns what the requests to downstreams take from a request.
fn caller(parts: Parts) -> Caller {
    Caller {
        correlation_id: correlation_id(&parts),
        trace: trace(&parts),
        hops: parts.extensions.get().copied().unwrap_or_default(),
        peer: parts.extensions.get().cloned(),
        headers: with_host(parts.headers, &parts.uri),
    }
}

/// Returns `headers` with the host of an HTTP/2 request, which is in its target
/// ([RFC 9113 §8.3.1](https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1)).
fn with_host(mut headers: HeaderMap, uri: &Uri) -> HeaderMap {
    let host = uri.authority().map(Authority::as_str);
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    if let (Some(host), false) = (host, headers.contains_key(header::HOST)) {
        headers.insert(header::HOST, host);
    }
    headers
}

/// Returns the correlation id set by the outer layer, or a new one.
fn correlation_id(parts: &Parts) -> CorrelationId {
    parts
        .extensions
        .get()
        .cloned()
        .unwrap_or_else(CorrelationId::generate)
}

/// Returns the trace context set by the outer layer, or a new one.
fn trace(parts: &Parts) -> TraceContext {
    let context = parts.extensions.get().cloned();
    context.unwrap_or_else(TraceContext::generate)
}

/// Returns the value of the query parameter `execute`, which defaults to `false`.
fn is_executed(query: &Query) -> Result<bool, Problem> {
    let mut values = query.values("execute");
    let refuse = |code, detail| {
        let error = FieldError::new("/query/execute", code, detail);
        Err(Problem::new(Code::Validation).errors(vec![error]))
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some(_), Some(_)) => refuse("duplicate", "duplicate parameter"),
        (Some(value), None) => match value.as_deref().map(str::parse) {
            Some(Ok(execute)) => Ok(execute),
            _ => refuse("type", "must be true or false"),
        },
    }
}

/// Requires exactly one `content-type` header, for JSON in UTF-8.
fn check_media_type(inbound: &Inbound) -> Result<(), Problem> {
    let mut types = inbound.caller.headers.get_all(header::CONTENT_TYPE).iter();
    let media_type = types.next().and_then(|value| value.to_str().ok());
    if media_type.is_some_and(is_json) && types.next().is_none() {
        Ok(())
    } else {
        Err(Problem::new(Code::UnsupportedMediaType))
    }
}

fn json(bytes: Bytes) -> Result<Json, Problem> {
    Json::parse(bytes)
        .map_err(|_| Problem::new(Code::MalformedJson).detail("The body is not valid JSON."))
}

/// A request with its effective options, ready to run.
struct Job<'r> {
    route: &'r Route,
    inbound: Box<Inbound>,
    fan_out: FanOut<Box<Inbound>>,
    strategy: Strategy,
    sequential: bool,
    effective: EffectiveLimits,
}

impl<'r> Job<'r> {
    /// Creates a job with the requested options, limited by the route and the tier.
    fn new(
        endpoint: &'r Endpoint,
        mut inbound: Box<Inbound>,
        requested: &RequestedOptions,
    ) -> Self {
        let route = &*endpoint.route;
        let limits = &route.limits;
        let timeout = requested
            .timeout
            .map(|millis| Duration::from_millis(millis.into()));
        let now = clock::now();
        let remaining = inbound
            .call
            .deadline
            .map(|deadline| deadline.remaining(now));
        let timeout = limits.deadline.clamp(timeout);
        // The time that a trusted caller has left can only shorten the run.
        let timeout = remaining.map_or(timeout, |remaining| timeout.min(remaining));
        let retries = limits.retries.clamp(requested.retry_attempts);
        let sequential = requested.parallel == Some(false);
        let max_concurrency = limits.max_concurrency.clamp(requested.max_concurrency);
        let tier = endpoint.tiers.get(&*inbound.tier);
        let max_concurrency = match tier.and_then(|tier| tier.max_concurrency) {
            // The tier can only lower the limit.
            Some(limit) => max_concurrency.min(limit),
            None => max_concurrency,
        };
        inbound.call.deadline = Deadline::after(now, timeout);
        inbound.call.max_retries = Some(retries);
        inbound.call.fallback = requested.fallbacks.unwrap_or(true);
        let max_concurrency = if sequential { 1 } else { max_concurrency };
        let strategy = requested.strategy.unwrap_or(route.strategy);
        Self {
            fan_out: (route.fan_out.clone())
                .strategy(strategy)
                .selection(requested.selection())
                .tier(Arc::clone(&inbound.tier))
                .max_concurrency(max_concurrency.into()),
            strategy,
            sequential,
            effective: EffectiveLimits {
                max_concurrency,
                timeout: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
                retry_attempts: retries,
            },
            route,
            inbound,
        }
    }

    /// Decides for each node whether it runs, and prepares the downstream requests. Returns a problem if
    /// the request cannot run.
    fn choose(&mut self) -> Result<Vec<Choice>, Problem> {
        let (choices, failed) = match self.fan_out.choose(&self.inbound) {
            Ok(choices) => (choices, Vec::new()),
            Err(SelectError::ConditionFailed { failed, choices }) => (choices, failed),
            Err(error) => return Err(self.not_selected(&error)),
        };
        // `failed` conditions are errors too, so this returns a problem if there are any.
        self.inbound.prepared =
            missing_inputs::check(self.route, self.strategy, &self.inbound, &choices, failed)?;
        Ok(choices)
    }

    fn not_selected(&self, error: &SelectError) -> Problem {
        match error {
            SelectError::TierForbidden { nodes } => {
                let names = nodes
                    .iter()
                    .map(|&node| format!("\"{}\"", self.route.names()[node]));
                let names = names.collect::<Vec<_>>().join(", ");
                Problem::new(Code::TierForbidden)
                    .detail(format!("The caller's tier does not include {names}."))
            }
            _ => Problem::new(Code::NoServices),
        }
    }

    fn meta(&self) -> RunMeta {
        RunMeta {
            sequential: self.sequential,
            strategy: self.strategy,
            effective: self.effective,
            correlation_id: self.inbound.caller.correlation_id.clone(),
            tier: Arc::clone(&self.inbound.tier),
            plan_id: Arc::clone(&self.route.plan_id),
        }
    }

    /// Starts the plan. `timed` adds the `server-timing` header to the response.
    fn start(self, choices: &[Choice], timed: bool) -> Started<'r> {
        Started {
            meta: self.meta(),
            route: self.route,
            run: self.fan_out.run_chosen(self.inbound, choices),
            timed,
        }
    }

    /// Responds at once with a streaming body. The body runs the plan and sends a record for each node
    /// as it completes.
    fn stream(self, choices: &[Choice], format: StreamFormat) -> Response<Body> {
        let meta = self.meta();
        let run = self.fan_out.run_chosen(self.inbound, choices);
        let mut stream = RunStream::new(run, format, meta)
            .on_failure(|problem| problem_log::record(problem.code()));
        if has_merged_document(&self.route.merge) {
            let (merge, plan) = (self.route.merge.clone(), self.route.fan_out.plan().clone());
            stream = stream.merge(move |answer| merged_document(&merge, plan.names(), answer));
        }
        let response = stream.into_response();
        response.map(|body| Body::new(BodyWithRequestFields::current(Body::new(body))))
    }
}

/// A run of a plan that gets one response.
struct Started<'r> {
    meta: RunMeta,
    route: &'r Route,
    run: Run<Box<Inbound>>,
    timed: bool,
}

impl Started<'_> {
    /// Runs the plan to its end.
    async fn end(&mut self) {
        // The records of single nodes are not needed here, only the final report.
        while poll_fn(|cx| self.run.poll_next(cx)).await.is_some() {}
    }

    /// Builds the response of a run that has ended.
    fn reply(self) -> Result<Reply, Problem> {
        let answer = self.run.into_response();
        let verdict = self.meta.strategy.verdict(answer.report());
        Reply::of(&answer, verdict, &self.meta, self.route, self.timed)
    }
}

fn result_to_response(
    result: Result<Response<Body>, Problem>,
    id: &CorrelationId,
) -> Response<Body> {
    result.unwrap_or_else(|problem| problem.into_response(Some(id)))
}

/// Marks a response whose format depends on the `accept` header.
fn vary_by_accept(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    response
}
