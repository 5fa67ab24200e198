//! Ids that callers send with their requests.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_fanout_layers::labels;

use super::CorrelationId;
use crate::log::LogValue;

labels! {
    /// Reason for replacing the id of a caller.
    pub enum Replaced {
        /// The id has characters other than `[A-Za-z0-9._:-]`, or does not begin with a letter or a digit.
        Charset = "charset",
        /// The id is empty or longer than 128 bytes.
        Length = "length",
        /// The header has several values that differ.
        Duplicate = "duplicate",
    }
}

/// The id of a caller that is not trusted to choose the correlation id. For logs only: it is displayed
/// as a [`LogValue`].
#[derive(Clone)]
pub struct ClientRequestId(HeaderValue);

impl fmt::Display for ClientRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LogValue::new(&self.0).fmt(f)
    }
}

impl fmt::Debug for ClientRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the caller's id from the first of these headers that the request has, or `None` if it has
/// neither.
pub(super) fn inbound(
    headers: &HeaderMap,
    precedence: &[HeaderName; 2],
) -> Option<Result<CorrelationId, Replaced>> {
    let (value, mut others) = values(headers, precedence)?;
    // Repetitions of the same value are not ambiguous.
    if others.any(|other| other != value) {
        return Some(Err(Replaced::Duplicate));
    }
    Some(CorrelationId::accept(value))
}

/// Returns the caller's id without validation.
pub(super) fn untrusted(
    headers: &HeaderMap,
    precedence: &[HeaderName; 2],
) -> Option<ClientRequestId> {
    let (value, _) = values(headers, precedence)?;
    Some(ClientRequestId(value.clone()))
}

/// Returns the first value and the further values of the first of these headers that the request has.
fn values<'h>(
    headers: &'h HeaderMap,
    precedence: &[HeaderName; 2],
) -> Option<(&'h HeaderValue, impl Iterator<Item = &'h HeaderValue>)> {
    let name = precedence.iter().find(|name| headers.contains_key(*name))?;
    let mut values = headers.get_all(name).iter();
    Some((values.next()?, values))
}
