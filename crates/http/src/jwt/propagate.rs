//! Propagation of claims to the services behind this one, in request headers.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, TE, TRAILER,
        TRANSFER_ENCODING, UPGRADE,
    },
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tower::Layer;
use tower_fanout_layers::{
    config::{ConfigError, ConfigErrors, Validate},
    setters,
};

use super::{
    claims::{Claims, path},
    config::check_realm,
    refusal::{Outcome, Reason, Refusal},
};
use crate::{
    correlation::CorrelationId,
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
/// Headers that frame, route or describe a message, or carry credentials. A claim must not replace
/// them.
const RESERVED: [HeaderName; 11] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Writes claims into request headers. Apply it inside [`JwtLayer`](super::JwtLayer), which provides
/// the claims.
///
/// A configured header is always removed from the caller's request, even if the request has no token or
/// no such claim. Strings, numbers and booleans are sent as written. A list of strings is joined with
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
    headers: Vec<Propagated>,
    refuse: bool,
    realm: String,
    on_outcome: fn(Outcome),
}

#[derive(Clone, Debug)]
struct Propagated {
    claim: Vec<String>,
    header: HeaderName,
    encode: bool,
}

/// Configuration of [`PropagateClaimsLayer`]: the claims to send in headers. Empty by default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PropagateClaimsConfig {
    /// Claims with their headers. Each header carries one claim.
    pub claims: Vec<PropagatedClaim>,
    /// Refuses a request with 401 `invalid_token` if a claim cannot be sent. `false`, the default, sends
    /// the request without the header.
    ///
    /// The status is 401 because the token is at fault: the same request succeeds with a token whose
    /// claims can be sent.
    pub refuse: bool,
    /// Protection space in the `Bearer` challenge: printable ASCII without quotes and backslashes.
    /// Defaults to `fanout`.
    pub realm: String,
}

/// A claim that is sent in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PropagatedClaim {
    /// Claim to send: a dotted path, or a URI as a single name.
    pub claim: String,
    /// Header to send the claim in. Headers that frame, route or describe a message or carry
    /// credentials are rejected.
    pub header: HeaderName,
    /// Percent-encodes the claim in UTF-8. [`PropagateClaimsConfig::claim`] sets it to `false`, and
    /// [`encoded_claim`](PropagateClaimsConfig::encoded_claim) to `true`.
    ///
    /// A string is encoded as text. The items of a list of strings are encoded one by one and joined with
    /// commas, which are not encoded themselves. Objects and other lists are encoded as JSON.
    pub encode: bool,
}

setters! {
    PropagateClaimsConfig {
        refuse: bool,
        realm: String,
    }
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

impl Default for PropagateClaimsConfig {
    fn default() -> Self {
        Self {
            claims: Vec::new(),
            refuse: false,
            realm: "fanout".into(),
        }
    }
}

impl Validate for PropagateClaimsConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let mut errors = check_realm(ConfigErrors::default(), &self.realm);
        for (index, PropagatedClaim { header, .. }) in self.claims.iter().enumerate() {
            let mut before = self.claims.iter().take(index);
            let reserved = RESERVED.contains(header);
            errors = errors
                .unless(
                    !reserved,
                    "claims",
                    "a claim must not be sent in this header",
                )
                .unless(
                    before.all(|other| other.header != *header),
                    "claims",
                    "each header must carry only one claim",
                );
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
        let PropagateClaimsConfig {
            claims,
            refuse,
            realm,
        } = config.validated()?;
        let headers = claims.into_iter().map(|one| Propagated {
            claim: path(&one.claim),
            header: one.header,
            encode: one.encode,
        });
        let shared = Shared {
            headers: headers.collect(),
            refuse,
            realm,
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
    fn write(&self, claims: Option<&Claims>, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let mut result = Ok(());
        for propagated in &self.headers {
            // A header from the caller must not pass for a claim, even if no claim replaces it.
            headers.remove(&propagated.header);
            let claim = claims.and_then(|claims| claims.get(&propagated.claim));
            let Some(text) = claim.map(|claim| text(claim, propagated.encode)) else {
                continue;
            };
            match text.and_then(|text| value(&text)) {
                // An empty header would only look like a claim.
                Some(value) if value.is_empty() => {}
                Some(value) => drop(headers.insert(propagated.header.clone(), value)),
                None => result = Err(Refusal(Reason::ClaimValue)),
            }
        }
        result
    }

    fn refuse<B: From<Bytes>>(&self, refusal: Refusal, id: Option<&CorrelationId>) -> Response<B> {
        (self.on_outcome)(Outcome::Rejected(refusal.0));
        let problem = refusal.problem(&self.realm, "");
        problem.into_response(id)
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
        let claims = request.extensions().get::<Claims>().cloned();
        let written = self.shared.write(claims.as_ref(), request.headers_mut());
        let refusal = written.err()?;
        let id = request.extensions().get::<CorrelationId>();
        tracing::debug!(
            reason = refusal.0.as_str(),
            correlation_id = id.map(CorrelationId::as_str),
            "claim not propagated: its value does not fit in a header"
        );
        self.shared.refuse.then(|| self.shared.refuse(refusal, id))
    }
}
