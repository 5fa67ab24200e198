//! One request of a client, as its branches see it.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request};
use tower_fanout::{
    Answers,
    layers::{Call, CallContext},
};
use tower_fanout_http::{
    correlation::CorrelationId, forward::HopCount, jwt::Claims, trace::TraceContext,
};
use tower_fanout_json::{
    Json,
    condition::{Condition, EvalError},
    template::{Found, Lookup, Reference, Root},
};

/// One request of a client. Its `Debug` has nothing that the client sent but for ids.
#[derive(Clone)]
pub(crate) struct Inbound {
    /// Deadline, retries and fallbacks.
    pub(crate) call: Call,
    /// Its id.
    pub(crate) correlation_id: CorrelationId,
    /// Its place in its trace.
    pub(crate) trace: TraceContext,
    /// How many gateways it has come through.
    pub(crate) depth: HopCount,
    /// Its body, if it had one.
    pub(crate) body: Option<Json>,
    /// Its query, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Its headers.
    pub(crate) headers: Arc<HeaderMap>,
    /// The parameters in its path, decoded.
    pub(crate) route: Vec<(String, String)>,
    /// What its token says, if the route asks for one.
    pub(crate) claims: Option<Claims>,
    /// The caller's tier.
    pub(crate) tier: Box<str>,
    /// `true` if nobody has made the request: only its tier is known, and its body if it has one.
    pub(crate) supposed: bool,
    /// The requests that were made while the request was checked, by node: those of required nodes that
    /// read no answers of other nodes. Empty before the check.
    pub(crate) prepared: Vec<Option<Request<Bytes>>>,
}

impl Inbound {
    /// Returns `true` if a real request may have a value that this one does not have.
    #[must_use]
    pub(crate) fn is_unknown(&self, root: &Root) -> bool {
        self.supposed && (*root != Root::Body || self.body.is_none())
    }

    /// Evaluates a node's condition. A condition that reads an [unknown](Self::is_unknown) value does
    /// not hold.
    ///
    /// # Errors
    /// Returns the condition's error.
    pub(crate) fn holds(&self, condition: &Condition) -> Result<bool, EvalError> {
        match condition.holds(&Source::of(self)) {
            Err(EvalError::Missing(reference)) if self.is_unknown(&reference.root) => Ok(false),
            result => result,
        }
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("call", &self.call)
            .field("correlation_id", &self.correlation_id)
            .field("trace", &self.trace)
            .field("tier", &self.tier)
            .finish_non_exhaustive()
    }
}

impl CallContext for Inbound {
    fn call(&self) -> &Call {
        &self.call
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        Some(&mut self.call)
    }
}

/// Where placeholders of one node find their values: in the request, and in the answers of the
/// nodes it comes after.
#[derive(Clone, Copy)]
pub(crate) struct Source<'s> {
    inbound: &'s Inbound,
    answers: Option<&'s Answers>,
}

impl<'s> Source<'s> {
    /// The request alone.
    #[must_use]
    pub(crate) const fn of(inbound: &'s Inbound) -> Self {
        let answers = None;
        Self { inbound, answers }
    }

    /// The request, and the answers of nodes.
    #[must_use]
    pub(crate) const fn with(inbound: &'s Inbound, answers: &'s Answers) -> Self {
        let answers = Some(answers);
        Self { inbound, answers }
    }
}

impl Lookup for Source<'_> {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        let name = || reference.path.first().map(String::as_str);
        let text = match &reference.root {
            Root::Body => return in_json(self.inbound.body.as_ref()?, reference),
            Root::Node(_) => return in_json(self.answers?.at(reference.node?)?, reference),
            Root::Jwt => {
                let claims = self.inbound.claims.as_ref()?;
                return claims.get(&reference.path).map(Found::Tree);
            }
            Root::Query => pair(&self.inbound.query, name()?)?,
            Root::Route => pair(&self.inbound.route, name()?)?,
            Root::Header => self.inbound.headers.get(name()?)?.to_str().ok()?,
            Root::Tier => &self.inbound.tier,
        };
        Some(Found::Text(Cow::Borrowed(text)))
    }
}

fn in_json<'j>(json: &'j Json, reference: &Reference) -> Option<Found<'j>> {
    json.get(&reference.path).map(Found::Json)
}

fn pair<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let (_, value) = pairs.iter().find(|(own, _)| own == name)?;
    Some(value)
}
