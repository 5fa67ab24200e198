//! What a request would do, without doing it.

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

/// What is known of a request that nobody has made.
#[derive(Clone, Debug)]
pub(crate) struct ExplainedRequest {
    /// The caller's tier; that of a caller without a token if none.
    pub(crate) tier: Option<String>,
    /// The body: of an orchestrate request, or of one to a configured route.
    pub(crate) body: Option<Bytes>,
    /// Whether it is an orchestrate request.
    pub(crate) orchestrate: bool,
}

impl Endpoint {
    /// Explains what a request would do that is only known as far as `supposed` says: it is not
    /// missed if parameters, query, headers and token have nothing of what its services need, nor the
    /// body if there is none. A condition that reads what is not there does not hold.
    ///
    /// # Errors
    /// The request could not be run.
    pub(crate) fn explain(&self, supposed: ExplainedRequest) -> Result<Explanation, Problem> {
        let tier = supposed.tier.as_deref().unwrap_or(&self.anonymous);
        let body = supposed.body.map(json).transpose()?;
        let requested = match &body {
            Some(body) if supposed.orchestrate => self.requested(body)?,
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
            supposed: true,
            prepared: Vec::new(),
            body,
        };
        Job::new(&self.route, inbound, &requested).explain()
    }
}

impl Job<'_> {
    /// Explains what it would do.
    pub(super) fn explain(&mut self) -> Result<Explanation, Problem> {
        let choices = self.choose()?;
        let deadline = Duration::from_millis(self.effective.timeout);
        let fan_out = self.fan_out();
        Ok(fan_out.explain_chosen(&self.inbound, choices, Some(deadline)))
    }
}

/// An explanation on the wire: what the library says, and what only a gateway knows.
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

/// `explanation` of a request to `route`, as JSON.
///
/// # Panics
/// Never: an explanation is an object with services.
#[must_use]
pub(crate) fn to_json(route: &Route, explanation: &Explanation) -> String {
    let library = to_string(explanation);
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
    serde_json::to_string(value).expect("plain values are always JSON")
}

/// The explanation on the wire, with what a run came to if there was one.
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
