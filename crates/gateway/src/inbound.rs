//! A client request, as the branches of its run see it.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use http::Request;
use tower_fanout::{
    Answers,
    layers::{Call, CallContext},
};
use tower_fanout_http::jwt::Claims;
use tower_fanout_json::{
    Json,
    condition::{Condition, EvalError},
    template::{Found, Lookup, Reference, Root},
};

use crate::{outgoing::Caller, query::Query};

/// A client request. `Debug` prints ids and the tier, but no other data of the client.
#[derive(Clone)]
pub(crate) struct Inbound {
    /// Deadline, number of retries and fallback switch.
    pub(crate) call: Call,
    /// The parts that requests to downstreams take from it: headers and ids.
    pub(crate) caller: Arc<Caller>,
    /// JSON body, or `None` if the body is empty.
    pub(crate) body: Option<Json>,
    /// Query parameters.
    pub(crate) query: Query,
    /// Decoded path parameters.
    pub(crate) route: Vec<(String, String)>,
    /// Claims of the verified token, or `None` if the route requires none.
    pub(crate) claims: Option<Claims>,
    /// Tier of the caller.
    pub(crate) tier: Arc<str>,
    /// `true` for a hypothetical request of an explanation. Only its tier is known, and its body if it
    /// has one.
    pub(crate) hypothetical: bool,
    /// Downstream requests rendered during validation, by node: those of required nodes that read no
    /// responses of other nodes. Empty before validation, and if no node reads a value of the request.
    pub(crate) prepared: Vec<Option<Arc<Request<Bytes>>>>,
}

impl Inbound {
    /// Returns `true` if a real request may have a value that this one does not have.
    #[must_use]
    pub(crate) fn is_unknown(&self, root: &Root) -> bool {
        self.hypothetical && (*root != Root::Body || self.body.is_none())
    }

    /// Evaluates a node's condition. A condition that reads an [unknown](Self::is_unknown) value does
    /// not hold.
    ///
    /// # Errors
    /// Returns the condition's error.
    pub(crate) fn holds(&self, condition: &Condition) -> Result<bool, EvalError> {
        let source = Source {
            inbound: self,
            answers: None,
        };
        match condition.holds(&source) {
            // In an explanation, a missing value is not a mistake of the caller.
            Err(EvalError::Missing(reference)) if self.is_unknown(&reference.root) => Ok(false),
            result => result,
        }
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("call", &self.call)
            .field("correlation_id", &self.caller.correlation_id)
            .field("trace", &self.caller.trace)
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

/// The values of placeholders: the client request, and the responses of the nodes that a node depends
/// on.
#[derive(Clone, Copy)]
pub(crate) struct Source<'s> {
    /// The client request.
    pub(crate) inbound: &'s Inbound,
    /// The responses of other nodes. `None` before the run.
    pub(crate) answers: Option<&'s Answers>,
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
            Root::Query => self.inbound.query.values(name()?).next()?,
            Root::Route => Some(route_value(&self.inbound.route, name()?)?.into()),
            Root::Header => self
                .inbound
                .caller
                .headers
                .get(name()?)?
                .to_str()
                .ok()
                .map(Cow::from),
            Root::Tier => Some((&*self.inbound.tier).into()),
        };
        Some(text.map_or(Found::Unusable, Found::Text))
    }
}

fn in_json<'j>(json: &'j Json, reference: &Reference) -> Option<Found<'j>> {
    json.get(&reference.path).map(Found::Json)
}

fn route_value<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    let (_, value) = pairs.iter().find(|(own, _)| own == name)?;
    Some(value)
}
