//! The allow list of caller headers that are forwarded to a service.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName,
    header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST},
};
use tower_fanout_layers::{
    config,
    config::{ConfigError, Validate},
};

use super::hop_by_hop::{is_hop_by_hop, nominated};
use crate::{
    attempt_headers::TIMEOUT,
    correlation::CORRELATION_ID,
    forwarded::Peer,
    trace::{BAGGAGE, TRACEPARENT, TRACESTATE},
};

/// Headers that are computed for each message.
static RECOMPUTED: [HeaderName; 5] = [HOST, CONTENT_LENGTH, EXPECT, ACCEPT_ENCODING, TIMEOUT];

/// Returns `true` if only the layers and the client of this crate may set the header.
///
/// - hop-by-hop headers: the names that [`strip`](super::strip) lists
/// - headers that are computed for each message: `host`, `content-length`, `expect`, `accept-encoding`,
///   `x-request-timeout-ms`
/// - the correlation id and the trace context: `x-correlation-id`, `traceparent`, `tracestate`, `baggage`
/// - names that begin with `x-fanout-`
#[must_use]
pub fn is_managed(name: &HeaderName) -> bool {
    is_per_message(name)
        || [CORRELATION_ID, TRACEPARENT, TRACESTATE, BAGGAGE].contains(name)
        || name.as_str().starts_with("x-fanout-")
}

/// Returns `true` for hop-by-hop headers and for headers that are computed for each message.
pub(crate) fn is_per_message(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || RECOMPUTED.contains(name)
}

/// Returns `true` if the header lets its holder act as the caller.
pub(crate) fn is_credential(name: &HeaderName) -> bool {
    [AUTHORIZATION, COOKIE].contains(name)
}

config! {
    /// The caller headers to forward to a service. Empty by default.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ForwardConfig {
        /// Headers other than `authorization` and `cookie`.
        pub headers: Vec<HeaderName> = Vec::new(),
        /// Credentials to forward: `authorization` or `cookie`. The service can then act as the caller.
        pub credentials: Vec<HeaderName> = Vec::new(),
    }
}

fn managed(name: &HeaderName) -> String {
    format!("the gateway sets the header \"{name}\" itself; remove it from the list")
}

impl Validate for ForwardConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let headers = self.headers.iter().filter_map(|name| match name {
            name if is_managed(name) => Some(managed(name)),
            name if is_credential(name) => Some(format!(
                "\"{name}\" is a credential; list it in \"credentials\""
            )),
            _ => None,
        });
        let headers = headers.map(|message| ConfigError::new("headers", message));
        let others = self.credentials.iter();
        let others = others.filter(|name| !is_credential(name)).map(|name| {
            let message = if is_managed(name) {
                managed(name)
            } else {
                format!(
                    "expected one of \"authorization\", \"cookie\", got \"{name}\"; list other headers in \"headers\""
                )
            };
            ConfigError::new("credentials", message)
        });
        headers.chain(others).collect()
    }
}

/// Forwards the listed headers of a caller to one service, and no others. The default list is empty.
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
/// allowed.copy(&caller, None, &mut sent);
/// assert_eq!((&sent[ACCEPT_LANGUAGE], sent.len()), (&"de".parse()?, 1));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardHeaders {
    names: Option<Arc<[HeaderName]>>,
}

impl ForwardHeaders {
    /// Creates the allow list of `config`.
    ///
    /// # Errors
    /// Returns an error if only this crate may set a listed header ([`is_managed`]), if a credential is
    /// listed in `headers`, or if another header is listed in `credentials`.
    pub fn new(config: ForwardConfig) -> Result<Self, ConfigError> {
        let ForwardConfig {
            mut headers,
            credentials,
        } = config.validated()?;
        headers.extend(credentials);
        Ok(Self {
            names: (!headers.is_empty()).then(|| headers.into()),
        })
    }

    /// Copies all values of the listed headers from the caller's request to `request`. A header that
    /// `request` already has is left unchanged. Headers that the caller's `Connection` nominates are
    /// not copied.
    ///
    /// With `peer`, a listed `X-Forwarded-For`, `X-Forwarded-Proto` or `Forwarded` is extended by the
    /// [`Peer`], even if `Connection` nominates it. [`ForwardedLayer`](crate::forwarded::ForwardedLayer) has
    /// removed what an untrusted peer sent in them.
    pub fn copy(&self, caller: &HeaderMap, peer: Option<&Peer>, request: &mut HeaderMap) {
        let Some(names) = self.names.as_deref() else {
            return;
        };
        // The caller may nominate many headers. Most callers nominate no listed one, so `hops` is
        // mostly empty.
        let hops: Vec<_> = nominated(caller)
            .filter(|hop| names.contains(hop))
            .collect();
        for name in names {
            if request.contains_key(name) {
                continue;
            }
            if !hops.contains(name) {
                for value in caller.get_all(name) {
                    request.append(name, value.clone());
                }
            }
            // The peer is a statement of the gateway, which the caller cannot prevent by a nomination.
            if let Some(peer) = peer {
                peer.append(name, request);
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
        allowed.copy(&headers(caller), None, &mut sent);
        sent
    }

    #[test]
    fn fault_i9_forwards_only_listed_headers_and_credentials_separately() {
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
        let refused = allow(name.clone()).unwrap_err();
        refused.message() == managed(&name)
    }

    #[test]
    fn fault_i10_rejects_headers_that_are_computed_per_message() {
        for name in [HOST, CONTENT_LENGTH, EXPECT, CORRELATION_ID] {
            assert!(is_refused_as_managed(name));
        }
    }

    #[test]
    fn fault_i11_a_caller_cannot_set_headers_of_the_gateway() {
        for name in ["x-fanout-depth", "x-fanout-completed", "x-fanout-"] {
            assert!(
                is_refused_as_managed(HeaderName::from_static(name)),
                "{name}"
            );
        }
        // A caller can neither replace nor extend a header that the gateway has set for the service.
        let user = HeaderName::from_static("x-user");
        let allowed = allow(user.clone()).unwrap();
        let mut request = headers(&[("x-user", "alice")]);
        allowed.copy(&headers(&[("x-user", "root")]), None, &mut request);
        assert!(request.get_all(&user).iter().eq(["alice"]));
    }

    #[test]
    fn fault_i8_does_not_copy_headers_that_connection_nominates() {
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
