//! Propagation of claims to the services behind this one, in request headers.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tower::Layer;
use tower_fanout_layers::{
    config,
    config::{ConfigError, ConfigErrors, Validate},
};

use super::{
    claims::{Claims, path},
    config::check_realm,
    reason::{Outcome, Reason},
};
use crate::{
    correlation::CorrelationId,
    forward::{is_credential, is_per_message, set},
    service::{CheckRequest, RequestCheck},
};

/// Maximum length of a header value, in bytes.
const MAX_VALUE: usize = 1 << 10;
/// All characters but the unreserved ones ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Writes claims into request headers. Apply it inside [`JwtLayer`](super::JwtLayer), which provides
/// the claims.
///
/// A configured header is always removed from the caller's request, even if the request has no token or
/// no such claim. The caller's `Connection` header cannot remove a claim. A request without [`Claims`], as without a `JwtLayer`, is passed on without these headers
/// and without an error. Strings, numbers and booleans are sent as written. A list of strings is joined with
/// commas. The following values cannot be sent unencoded: strings that are not printable ASCII or have
/// a space at either end, objects, other lists, and lists with a comma in an item. No value may exceed
/// 1 KiB. Empty and `null` claims are not sent and are not an error.
///
/// ```
/// use http::HeaderName;
/// use tower_fanout_http::jwt::{PropagateClaimsConfig, PropagateClaimsLayer};
///
/// let config = PropagateClaimsConfig::default()
///     .claim("sub", HeaderName::from_static("x-user-id"))
///     .encoded_claim("profile.name", HeaderName::from_static("x-user-name"));
/// let layer = PropagateClaimsLayer::new(config).unwrap();
/// # drop(layer);
/// ```
#[derive(Clone, Debug)]
pub struct PropagateClaimsLayer {
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Shared {
    config: PropagateClaimsConfig,
    /// The path of each claim in `config`.
    paths: Vec<Vec<String>>,
    on_outcome: fn(Outcome),
}

config! {
    /// Configuration of [`PropagateClaimsLayer`]: the claims to send in headers. Empty by default.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PropagateClaimsConfig {
        /// Claims with their headers. Each header carries one claim.
        pub claims: Vec<PropagatedClaim> = Vec::new(),
        /// Refuses a request with 401 `invalid_token` if a claim cannot be sent. `false`, the default, sends
        /// the request without the header.
        ///
        /// The status is 401 because the same request succeeds with a token whose claims can be sent.
        pub refuse: bool = false,
        /// Protection space in the `Bearer` challenge: printable ASCII without quotes and backslashes.
        /// Defaults to `fanout`.
        pub realm: String = "fanout".into(),
    }
}

/// A claim that is sent in a header. Created by [`PropagateClaimsConfig::claim`] and
/// [`PropagateClaimsConfig::encoded_claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PropagatedClaim {
    /// Claim to send: a path of names separated by dots, such as `profile.name`. A text with `://` is a
    /// URI and the name of a single top-level claim. Other names with a dot cannot be sent.
    pub claim: String,
    /// Header to send the claim in.
    ///
    /// The layer rejects `content-type`, `authorization`, `cookie`, `host`, `content-length`, `expect` and
    /// the hop-by-hop headers ([`strip`](crate::forward::strip)).
    pub header: HeaderName,
    /// Percent-encodes the claim in UTF-8. [`PropagateClaimsConfig::claim`] sets it to `false`, and
    /// [`encoded_claim`](PropagateClaimsConfig::encoded_claim) to `true`.
    ///
    /// A string is encoded as text. The items of a list of strings are encoded one by one and joined with
    /// commas, which are not encoded themselves. Objects and other lists are encoded as JSON.
    pub encode: bool,
}

impl PropagateClaimsConfig {
    /// Sends the claim at `path` in `header`.
    #[must_use]
    pub fn claim(self, path: impl Into<String>, header: HeaderName) -> Self {
        self.with(path.into(), header, false)
    }

    /// Sends the claim at `path` in `header`, [percent-encoded](PropagatedClaim::encode).
    #[must_use]
    pub fn encoded_claim(self, path: impl Into<String>, header: HeaderName) -> Self {
        self.with(path.into(), header, true)
    }

    fn with(mut self, claim: String, header: HeaderName, encode: bool) -> Self {
        self.claims.push(PropagatedClaim {
            claim,
            header,
            encode,
        });
        self
    }
}

impl Validate for PropagateClaimsConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let mut errors = check_realm(ConfigErrors::default(), &self.realm);
        for (index, PropagatedClaim { header, .. }) in self.claims.iter().enumerate() {
            let mut before = self.claims.iter().take(index);
            let reserved =
                is_per_message(header) || is_credential(header) || header == CONTENT_TYPE;
            if reserved {
                let message = format!("a claim must not be sent in the header \"{header}\"");
                errors = errors.unless(false, "claims", message);
            }
            if let Some(other) = before.find(|other| other.header == *header) {
                let claim = &other.claim;
                let message = format!("header \"{header}\" already carries the claim \"{claim}\"");
                errors = errors.unless(false, "claims", message);
            }
        }
        errors.into_vec()
    }
}

impl PropagateClaimsLayer {
    /// Creates a layer that sends the claims of `config`.
    ///
    /// # Errors
    /// Returns the first invalid value of `config`.
    pub fn new(config: PropagateClaimsConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        let paths = config
            .claims
            .iter()
            .map(|propagated| path(&propagated.claim));
        let shared = Shared {
            paths: paths.collect(),
            config,
            on_outcome: |_| {},
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Calls `observer` with the outcome of each refused request, for metrics.
    #[must_use]
    pub fn on_outcome(mut self, observer: fn(Outcome)) -> Self {
        Arc::make_mut(&mut self.shared).on_outcome = observer;
        self
    }
}

impl Shared {
    /// Writes the headers. Returns an error if a claim cannot be sent in its header.
    fn write(&self, claims: Option<&Claims>, headers: &mut HeaderMap) -> Result<(), Reason> {
        let mut result = Ok(());
        for (PropagatedClaim { header, encode, .. }, path) in
            self.config.claims.iter().zip(&self.paths)
        {
            // A header from the caller must not pass for a claim, even if no claim replaces it.
            headers.remove(header);
            let Some(claim) = claims.and_then(|claims| claims.get(path)) else {
                continue;
            };
            match text(claim, *encode).and_then(|text| value(&text)) {
                // An empty header would only look like a claim.
                Some(value) if value.is_empty() => {}
                Some(value) => set(headers, header, value),
                None => result = Err(Reason::ClaimValue),
            }
        }
        result
    }
}

/// Returns the claim as text, or `None` if it cannot be sent unencoded.
fn text(claim: &Value, encode: bool) -> Option<Cow<'_, str>> {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    match claim {
        Value::Null => Some("".into()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string().into()),
        Value::String(text) if encode => Some(encoded(text).into()),
        Value::String(text) => Some(text.into()),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let mut items = items.iter().filter_map(Value::as_str);
            if encode {
                return Some(items.map(encoded).collect::<Vec<_>>().join(",").into());
            }
            // A comma within an item would be read as a separator.
            let safe = items
                .clone()
                .all(|item| !item.contains(',') && value(item).is_some());
            safe.then(|| items.by_ref().collect::<Vec<_>>().join(",").into())
        }
        other => encode.then(|| encoded(&other.to_string()).into()),
    }
}

/// Returns `text` as a header value, or `None` if recipients could read it differently.
fn value(text: &str) -> Option<HeaderValue> {
    // Recipients strip surrounding spaces and disagree about characters outside ASCII.
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let safe = printable && text.len() <= MAX_VALUE && text.trim_ascii().len() == text.len();
    safe.then(|| HeaderValue::from_str(text).ok()).flatten()
}

impl<S> Layer<S> for PropagateClaimsLayer {
    type Service = CheckRequest<Self, S>;

    fn layer(&self, inner: S) -> Self::Service {
        let layer = self.clone();
        CheckRequest { layer, inner }
    }
}

impl<B> RequestCheck<B> for PropagateClaimsLayer {
    fn check<R: From<Bytes>>(&self, request: &mut Request<B>) -> Option<Response<R>> {
        let Shared {
            config, on_outcome, ..
        } = &*self.shared;
        let claims = request.extensions().get::<Claims>().cloned();
        let written = self.shared.write(claims.as_ref(), request.headers_mut());
        let reason = written.err()?;
        let id = request.extensions().get::<CorrelationId>();
        tracing::debug!(
            reason = reason.as_str(),
            correlation_id = id.map(CorrelationId::as_str),
            "claim not propagated: its value does not fit in a header"
        );
        config.refuse.then(|| {
            on_outcome(Outcome::Rejected(reason));
            reason.problem(&config.realm, "").into_response(id)
        })
    }
}
