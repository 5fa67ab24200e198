//! Which headers of a caller a service may see.

use std::{fmt, sync::Arc};

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST},
};

use super::hop_by_hop::{is_hop_by_hop, nominated};
use crate::{
    correlation::CORRELATION_ID,
    trace::{BAGGAGE, TRACEPARENT, TRACESTATE},
};

/// Headers that are made anew for each message.
static RECOMPUTED: [HeaderName; 3] = [HOST, CONTENT_LENGTH, EXPECT];

/// Headers that say who a caller is, to whoever holds them.
static CREDENTIALS: [HeaderName; 2] = [AUTHORIZATION, COOKIE];

/// Returns `true` if only the layers and the client of this crate may set the header: one of a connection,
/// one that is computed for each message, the correlation id, the trace context, or one of `x-fanout-…`.
#[must_use]
pub fn is_managed(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || RECOMPUTED.contains(name)
        || [CORRELATION_ID, TRACEPARENT, TRACESTATE, BAGGAGE].contains(name)
        || name.as_str().starts_with("x-fanout-")
}

/// The headers of a caller that are sent on to one service: those that are listed, and no others.
/// There are none by default.
///
/// ```
/// use http::{HeaderMap, header::{ACCEPT_LANGUAGE, AUTHORIZATION}};
/// use tower_fanout_http::forward::ForwardHeaders;
///
/// let allowed = ForwardHeaders::default()
///     .allow(ACCEPT_LANGUAGE)?
///     .allow_credential(AUTHORIZATION)?;
/// assert!(ForwardHeaders::default().allow(AUTHORIZATION).is_err());
///
/// let (mut caller, mut sent) = (HeaderMap::new(), HeaderMap::new());
/// caller.insert(ACCEPT_LANGUAGE, "de".parse()?);
/// caller.insert("x-user", "root".parse()?);
/// allowed.copy(&caller, &mut sent);
/// assert_eq!((&sent[ACCEPT_LANGUAGE], sent.len()), (&"de".parse()?, 1));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardHeaders {
    names: Option<Arc<[HeaderName]>>,
}

impl ForwardHeaders {
    /// Also sends `name` on.
    ///
    /// # Errors
    /// The header is set here alone, or it is `authorization` or `cookie`, which
    /// [`allow_credential`](Self::allow_credential) is for.
    pub fn allow(self, name: HeaderName) -> Result<Self, NotForwarded> {
        match name {
            name if is_managed(&name) => Err(NotForwarded::Managed),
            name if CREDENTIALS.contains(&name) => Err(NotForwarded::Credential),
            name => Ok(self.with(name)),
        }
    }

    /// Also sends `authorization` or `cookie` on: the service can then act as the caller.
    ///
    /// # Errors
    /// The header is none of the two.
    pub fn allow_credential(self, name: HeaderName) -> Result<Self, NotForwarded> {
        match CREDENTIALS.contains(&name) {
            true => Ok(self.with(name)),
            false => Err(NotForwarded::NoCredential),
        }
    }

    fn with(self, name: HeaderName) -> Self {
        let names = self.names.iter().flat_map(|names| names.iter()).cloned();
        Self {
            names: Some(names.chain([name]).collect()),
        }
    }

    /// Copies what is listed, all lines of it, from a caller's headers to those of a request. What the
    /// request has already stays as it is, and what the caller's `Connection` names is left behind.
    pub fn copy(&self, caller: &HeaderMap, request: &mut HeaderMap) {
        let names = self.names.as_deref().unwrap_or_default();
        // They may be many, and are looked at once; most callers name none that is listed.
        let hops: Vec<_> = nominated(caller)
            .filter(|hop| names.contains(hop))
            .collect();
        for name in names {
            if request.contains_key(name) || hops.contains(name) {
                continue;
            }
            for value in caller.get_all(name) {
                request.append(name, value.clone());
            }
        }
    }
}

/// A header that cannot be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotForwarded {
    /// It is set here alone.
    Managed,
    /// It says who the caller is, and was not listed as such.
    Credential,
    /// It was listed as one that says who the caller is, and does not.
    NoCredential,
}

impl fmt::Display for NotForwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Managed => "the header is set by the gateway itself",
            Self::Credential => "the header is a credential: say that it is meant",
            Self::NoCredential => "the header is no credential",
        })
    }
}

impl std::error::Error for NotForwarded {}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::ACCEPT_LANGUAGE};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    fn sent(allowed: &ForwardHeaders, caller: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut sent = HeaderMap::new();
        allowed.copy(&headers(caller), &mut sent);
        sent
    }

    #[test]
    fn fault_i9_only_listed_headers_go_down_and_credentials_by_their_own_word() {
        let caller = [
            ("accept-language", "de"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
        ];
        let none = ForwardHeaders::default();
        assert!(sent(&none, &caller).is_empty());
        for name in [AUTHORIZATION, COOKIE] {
            assert_eq!(
                none.clone().allow(name.clone()),
                Err(NotForwarded::Credential)
            );
            let allowed = none.clone().allow_credential(name.clone()).unwrap();
            assert!(sent(&allowed, &caller).keys().eq([&name]));
        }
        assert_eq!(
            none.clone().allow_credential(ACCEPT_LANGUAGE),
            Err(NotForwarded::NoCredential)
        );
        let allowed = none.allow(ACCEPT_LANGUAGE).unwrap();
        assert!(sent(&allowed, &caller).keys().eq([&ACCEPT_LANGUAGE]));
    }

    #[test]
    fn fault_i10_what_is_made_anew_cannot_be_listed() {
        for name in [HOST, CONTENT_LENGTH, EXPECT, CORRELATION_ID] {
            let listed = ForwardHeaders::default().allow(name);
            assert_eq!(listed, Err(NotForwarded::Managed));
        }
    }

    #[test]
    fn fault_i11_a_caller_cannot_speak_for_the_gateway() {
        for name in ["x-fanout-depth", "x-fanout-completed", "x-fanout-"] {
            let listed = ForwardHeaders::default().allow(HeaderName::from_static(name));
            assert_eq!(listed, Err(NotForwarded::Managed), "{name}");
        }
        // What the gateway says of the user, the caller cannot say in its place, or add to.
        let user = HeaderName::from_static("x-user");
        let allowed = ForwardHeaders::default().allow(user.clone()).unwrap();
        let mut request = headers(&[("x-user", "alice")]);
        allowed.copy(&headers(&[("x-user", "root")]), &mut request);
        assert!(request.get_all(&user).iter().eq(["alice"]));
    }

    #[test]
    fn fault_i8_what_a_caller_keeps_to_its_connection_is_left_behind() {
        let allowed = ForwardHeaders::default()
            .allow(HeaderName::from_static("x-hop"))
            .unwrap();
        let twice = [("x-hop", "1"), ("x-hop", "2")];
        assert!(
            sent(&allowed, &twice)
                .get_all("x-hop")
                .iter()
                .eq(["1", "2"])
        );
        let named = [("connection", "close, X-Hop"), ("x-hop", "1")];
        assert!(sent(&allowed, &named).is_empty());
    }
}
