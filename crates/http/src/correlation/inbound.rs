//! What a caller sent as the id of its request.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::CorrelationId;
use crate::log::LogValue;

/// Why the id of a caller was replaced by a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replaced {
    /// It has characters other than `[A-Za-z0-9._:-]`.
    Charset,
    /// It is empty, or longer than 128 bytes.
    Length,
    /// There are several that differ.
    Duplicate,
}

impl Replaced {
    /// All reasons, for whoever counts by them.
    pub const ALL: [Self; 3] = [Self::Charset, Self::Length, Self::Duplicate];

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Charset => "charset",
            Self::Length => "length",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id that a caller sent who is not trusted with the id of its request; for the log alone, which
/// is how it is [shown](LogValue).
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

/// The caller's id, if it sent any: of the first of these headers that the request has.
pub(super) fn inbound(
    headers: &HeaderMap,
    precedence: &[HeaderName; 2],
) -> Option<Result<CorrelationId, Replaced>> {
    let (value, mut others) = values(headers, precedence)?;
    if others.any(|other| other != value) {
        return Some(Err(Replaced::Duplicate));
    }
    Some(CorrelationId::accept(value.as_bytes()))
}

/// What the caller sent, whatever it is.
pub(super) fn untrusted(
    headers: &HeaderMap,
    precedence: &[HeaderName; 2],
) -> Option<ClientRequestId> {
    let (value, _) = values(headers, precedence)?;
    Some(ClientRequestId(value.clone()))
}

fn values<'h>(
    headers: &'h HeaderMap,
    precedence: &[HeaderName; 2],
) -> Option<(&'h HeaderValue, impl Iterator<Item = &'h HeaderValue>)> {
    let name = precedence.iter().find(|name| headers.contains_key(*name))?;
    let mut values = headers.get_all(name).iter();
    Some((values.next()?, values))
}
