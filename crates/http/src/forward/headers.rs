//! Which headers of a caller a service may see.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST},
};
use tower_fanout_layers::{
    config::{ConfigError, Validate},
    setters,
};

use super::hop_by_hop::{is_hop_by_hop, nominated};
use crate::{
    bounds::valid,
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

/// The headers of a caller that a service may see. There are none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardConfig {
    /// Headers other than credentials.
    pub headers: Vec<HeaderName>,
    /// `authorization` or `cookie`: the service can then act as the caller.
    pub credentials: Vec<HeaderName>,
}

setters! {
    ForwardConfig {
        headers: Vec<HeaderName>,
        credentials: Vec<HeaderName>,
    }
}

impl Validate for ForwardConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let headers = self.headers.iter().filter_map(|name| match name {
            name if is_managed(name) => Some("the header is set by the gateway itself"),
            name if CREDENTIALS.contains(name) => {
                Some("the header is a credential: say that it is meant")
            }
            _ => None,
        });
        let headers = headers.map(|message| ConfigError::new("headers", message));
        let others = self.credentials.iter();
        let others = others.filter(|name| !CREDENTIALS.contains(name));
        let others = others.map(|_| ConfigError::new("credentials", "the header is no credential"));
        headers.chain(others).collect()
    }
}

/// The headers of a caller that are sent on to one service: those that are listed, and no others.
/// There are none by default.
///
/// ```
/// use http::{HeaderMap, header::{ACCEPT_LANGUAGE, AUTHORIZATION}};
/// use tower_fanout_http::forward::{ForwardConfig, ForwardHeaders};
///
/// let config = ForwardConfig::default().headers([ACCEPT_LANGUAGE]).credentials([AUTHORIZATION]);
/// let allowed = ForwardHeaders::new(config)?;
/// assert!(ForwardHeaders::new(ForwardConfig::default().headers([AUTHORIZATION])).is_err());
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
    /// Sends on what `config` lists.
    ///
    /// # Errors
    /// A header is set by this crate alone, or is listed as a credential and is none, or the other way
    /// round.
    pub fn new(config: ForwardConfig) -> Result<Self, ConfigError> {
        let ForwardConfig {
            mut headers,
            credentials,
        } = valid(config)?;
        headers.extend(credentials);
        Ok(Self {
            names: (!headers.is_empty()).then(|| headers.into()),
        })
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
            let refused = allow(name.clone()).unwrap_err();
            assert!(refused.message().contains("credential"), "{refused}");
            let config = ForwardConfig::default().credentials([name.clone()]);
            let allowed = ForwardHeaders::new(config).unwrap();
            assert!(sent(&allowed, &caller).keys().eq([&name]));
        }
        let config = ForwardConfig::default().credentials([ACCEPT_LANGUAGE]);
        assert_eq!(
            ForwardHeaders::new(config).unwrap_err().field(),
            "credentials"
        );
        let allowed = allow(ACCEPT_LANGUAGE).unwrap();
        assert!(sent(&allowed, &caller).keys().eq([&ACCEPT_LANGUAGE]));
    }

    fn allow(name: HeaderName) -> Result<ForwardHeaders, ConfigError> {
        ForwardHeaders::new(ForwardConfig::default().headers([name]))
    }

    fn is_refused_as_managed(name: HeaderName) -> bool {
        let refused = allow(name).unwrap_err();
        refused.message() == "the header is set by the gateway itself"
    }

    #[test]
    fn fault_i10_what_is_made_anew_cannot_be_listed() {
        for name in [HOST, CONTENT_LENGTH, EXPECT, CORRELATION_ID] {
            assert!(is_refused_as_managed(name));
        }
    }

    #[test]
    fn fault_i11_a_caller_cannot_speak_for_the_gateway() {
        for name in ["x-fanout-depth", "x-fanout-completed", "x-fanout-"] {
            assert!(
                is_refused_as_managed(HeaderName::from_static(name)),
                "{name}"
            );
        }
        // What the gateway says of the user, the caller cannot say in its place, or add to.
        let user = HeaderName::from_static("x-user");
        let allowed = allow(user.clone()).unwrap();
        let mut request = headers(&[("x-user", "alice")]);
        allowed.copy(&headers(&[("x-user", "root")]), &mut request);
        assert!(request.get_all(&user).iter().eq(["alice"]));
    }

    #[test]
    fn fault_i8_what_a_caller_keeps_to_its_connection_is_left_behind() {
        let allowed = allow(HeaderName::from_static("x-hop")).unwrap();
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
