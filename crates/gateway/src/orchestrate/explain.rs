//! Explanations of requests without running them.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde::Serialize;
use serde_json::value::RawValue;
use tower_fanout::{Choice, Explanation};
use tower_fanout_http::problem::Problem;

use super::{Endpoint, Job, RequestedOptions, json};
use crate::route::Route;

impl Endpoint {
    /// Explains a hypothetical request. `tier` is that of the caller, by default the tier of a caller
    /// without a token. `options` is `true` if the body holds options, as that of an orchestrate request.
    ///
    /// Parameters, query, headers and token are unknown, and so is the body if it is `None`. Unknown
    /// values that a node needs are not an error. A condition that reads one does not hold.
    ///
    /// # Errors
    /// Returns the problem for which the request would be rejected.
    pub(crate) fn explain(
        &self,
        tier: Option<String>,
        body: Option<Bytes>,
        options: bool,
    ) -> Result<Explanation, Problem> {
        let (parts, ()) = Request::new(()).into_parts();
        let mut inbound = self.inbound(parts)?;
        inbound.hypothetical = true;
        if let Some(tier) = tier {
            inbound.tier = tier.into();
        }
        inbound.body = body.map(json).transpose()?;
        let requested = match &inbound.body {
            Some(body) if options => self.requested(body)?,
            _ => RequestedOptions::default(),
        };
        let mut job = Job::new(self, inbound, &requested);
        let choices = job.choose()?;
        Ok(job.explain(choices))
    }
}

impl Job<'_> {
    /// Explains the request of this job, whose nodes are chosen.
    pub(super) fn explain(&self, choices: Vec<Choice>) -> Explanation {
        let deadline = Duration::from_millis(self.effective.timeout);
        let fan_out = &self.fan_out;
        let mut explanation = fan_out.explain_chosen(&self.inbound, choices, Some(deadline));
        // The library knows only the breakers of the downstreams themselves.
        for (node, backend) in explanation.nodes.iter_mut().zip(&self.route.backends) {
            node.breaker = backend.breaker_state_for(&self.inbound);
        }
        explanation
    }
}

/// The JSON form of an explanation: the members of the library and those of the gateway.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained<'e> {
    route: &'e str,
    plan_id: &'e str,
    #[serde(flatten)]
    explanation: &'e Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

/// Serializes `explanation` of a request to `route` as JSON. `result` is the JSON body of the response,
/// if the request was run too.
///
/// # Panics
/// Panics if `result` is not JSON.
#[must_use]
pub(crate) fn to_json(route: &Route, explanation: &Explanation, result: Option<Bytes>) -> String {
    let explained = Explained {
        route: &route.name,
        plan_id: &route.plan_id,
        explanation,
        // The body is a response of `Reply` or a problem document, and both are serialized JSON.
        result: result.map(|body| serde_json::from_slice(&body).expect("a response is JSON")),
    };
    // Serialization fails only for maps with keys that are not strings, and for I/O.
    serde_json::to_string(&explained).expect("an explanation serializes to JSON")
}
