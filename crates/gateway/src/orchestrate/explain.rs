//! Explanations of requests without running them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower_fanout::{Explanation, layers::Call};
use tower_fanout_http::{
    correlation::CorrelationId, forward::HopCount, problem::Problem, trace::TraceContext,
};
use tower_fanout_json::wire::breaker_state;

use super::{Endpoint, Job, Reply, RequestedOptions, json};
use crate::{inbound::Inbound, route::Route};

/// A hypothetical request to explain.
#[derive(Clone, Debug)]
pub(crate) struct ExplainedRequest {
    /// Tier of the caller. `None` is the tier of a caller without a token.
    pub(crate) tier: Option<String>,
    /// Request body, if it is known.
    pub(crate) body: Option<Bytes>,
    /// `true` for an orchestrate request, whose body holds options.
    pub(crate) orchestrate: bool,
}

impl Endpoint {
    /// Explains a hypothetical request.
    ///
    /// Parameters, query, headers and token are unknown, and so is the body if it is `None`. Unknown
    /// values that a node needs are not an error. A condition that reads one does not hold.
    ///
    /// # Errors
    /// Returns the problem for which the request would be rejected.
    pub(crate) fn explain(&self, request: ExplainedRequest) -> Result<Explanation, Problem> {
        let tier = request.tier.as_deref().unwrap_or(&self.anonymous);
        let body = request.body.map(json).transpose()?;
        let requested = match &body {
            Some(body) if request.orchestrate => self.requested(body)?,
            _ => RequestedOptions::default(),
        };
        let inbound = Inbound {
            call: Call::NONE,
            correlation_id: CorrelationId::generate(),
            trace: TraceContext::generate(),
            depth: HopCount::default(),
            query: Vec::new(),
            headers: Arc::default(),
            route: Vec::new(),
            claims: None,
            tier: tier.into(),
            hypothetical: true,
            prepared: Vec::new(),
            body,
        };
        Job::new(&self.route, inbound, &requested).explain()
    }
}

impl Job<'_> {
    /// Explains the request of this job.
    pub(super) fn explain(&mut self) -> Result<Explanation, Problem> {
        let choices = self.choose()?;
        let deadline = Duration::from_millis(self.effective.timeout);
        let fan_out = self.fan_out();
        Ok(fan_out.explain_chosen(&self.inbound, choices, Some(deadline)))
    }
}

/// The JSON form of an explanation: the members of the library and those of the gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    #[serde(default)]
    route: String,
    #[serde(default)]
    plan_id: String,
    #[serde(flatten)]
    whole: IndexMap<String, Value>,
    services: IndexMap<String, IndexMap<String, Value>>,
}

/// Serializes `explanation` of a request to `route` as JSON.
///
/// # Panics
/// Never, as an explanation is an object with services.
#[must_use]
pub(crate) fn to_json(route: &Route, explanation: &Explanation) -> String {
    let library = to_string(explanation);
    // The library serializes an explanation as an object with these members.
    let mut explained: Explained =
        serde_json::from_str(&library).expect("an explanation is an object with services");
    explained.route.clone_from(&route.name);
    explained.plan_id = route.plan_id.to_string();
    for node in &explanation.nodes {
        let state = breaker_state(node.breaker).into();
        if let Some(service) = explained.services.get_mut(&*node.name) {
            service.insert("circuitBreakerState".into(), state);
        }
    }
    to_string(&explained)
}

fn to_string(value: &impl Serialize) -> String {
    // Serialization fails only for maps with keys that are not strings, and for I/O.
    serde_json::to_string(value).expect("an explanation serializes to JSON")
}

/// Builds the response with the explanation, and with the result of the run if there was one.
pub(super) fn reply(
    explained: &str,
    result: Option<Result<Reply, Problem>>,
    id: &CorrelationId,
) -> Reply {
    let mut body = explained.to_owned();
    if let Some(result) = result {
        let result = match result {
            Ok(reply) => reply.body,
            Err(problem) => problem.to_json(Some(id)),
        };
        // Adds the member `result` without parsing the explanation again: drops the last brace, and closes
        // the object after the result.
        body.pop();
        body.push_str(",\"result\":");
        body.push_str(&result);
        body.push('}');
    }
    Reply {
        body,
        completed: true,
        timing: None,
    }
}
