//! Tells those behind who asks: claims in headers, by a list of what may be told.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

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
use tower::{Layer, Service, ServiceExt, util::Oneshot};

use super::{
    claims::{Claims, path},
    refusal::{Outcome, Reason, Refusal},
    rules::InvalidRules,
};
use crate::{correlation::CorrelationId, problem::OrRefused};

/// The longest value of a header, in bytes.
const MAX_VALUE: usize = 1 << 10;
/// All but what is unreserved ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Headers that say where a message ends, where it goes, or what it is.
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

/// Writes claims into headers of the request, below [`JwtLayer`](super::JwtLayer).
///
/// What the caller has sent in such a header is always removed, whether there is a claim or a token at
/// all. A text, a number and a boolean are sent as they are written, and a list of texts joined by
/// commas. What cannot stand in a header that way is not sent: a text that is not printable ASCII or
/// has a space at an end, an object, a list of anything else or with a comma in an item, and more than
/// 1 KiB. An empty claim is none.
///
/// ```
/// use http::HeaderName;
/// use tower_fanout_http::jwt::PropagateClaimsLayer;
///
/// let layer = PropagateClaimsLayer::new()
///     .claim("sub", HeaderName::from_static("x-user-id"))?
///     .encoded_claim("profile.name", HeaderName::from_static("x-user-name"))?;
/// # Ok::<_, tower_fanout_http::jwt::InvalidRules>(())
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

impl Default for PropagateClaimsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl PropagateClaimsLayer {
    /// Sends no claim yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                headers: Vec::new(),
                refuse: false,
                realm: "fanout".into(),
                on_outcome: |_| {},
            }),
        }
    }

    /// Sends the claim at `path`, with dots, or a URI as a whole, in `header`.
    ///
    /// # Errors
    /// The header is one that says where a message ends or goes, or there is a claim for it already.
    pub fn claim(self, path: &str, header: HeaderName) -> Result<Self, InvalidRules> {
        self.add(path, header, false)
    }

    /// Sends the claim at `path` in `header` percent-encoded, in UTF-8: text of any kind, each item of
    /// a list of texts, and all else as JSON.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub fn encoded_claim(self, path: &str, header: HeaderName) -> Result<Self, InvalidRules> {
        self.add(path, header, true)
    }

    fn add(mut self, claim: &str, header: HeaderName, encode: bool) -> Result<Self, InvalidRules> {
        if RESERVED.contains(&header) {
            return Err(InvalidRules("no claim can be sent in this header"));
        }
        let headers = &mut Arc::make_mut(&mut self.shared).headers;
        if headers.iter().any(|other| other.header == header) {
            return Err(InvalidRules("a header bears one claim"));
        }
        headers.push(Propagated {
            claim: path(claim),
            header,
            encode,
        });
        Ok(self)
    }

    /// Whether a request is refused with 401 if a claim cannot be sent; by default it goes on without
    /// the header.
    #[must_use]
    pub fn refuse(mut self, refuse: bool) -> Self {
        Arc::make_mut(&mut self.shared).refuse = refuse;
        self
    }

    /// Names what is protected in the challenge; `fanout` by default. What cannot stand in
    /// quotes is left out.
    #[must_use]
    pub fn realm(mut self, realm: &str) -> Self {
        Arc::make_mut(&mut self.shared).realm = realm.into();
        self
    }

    /// Calls `observer` with what is refused, to count it.
    #[must_use]
    pub fn on_outcome(mut self, observer: fn(Outcome)) -> Self {
        Arc::make_mut(&mut self.shared).on_outcome = observer;
        self
    }
}

impl Shared {
    /// Writes the headers; says whether there was a claim that cannot be sent.
    fn write(&self, claims: Option<&Claims>, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let mut result = Ok(());
        for propagated in &self.headers {
            headers.remove(&propagated.header);
            let claim = claims.and_then(|claims| claims.get(&propagated.claim));
            let Some(text) = claim.map(|claim| text(claim, propagated.encode)) else {
                continue;
            };
            match text.and_then(|text| value(&text)) {
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

/// The claim in words, if it has any.
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
            let safe = items
                .clone()
                .all(|item| !item.contains(',') && value(item).is_some());
            safe.then(|| items.by_ref().collect::<Vec<_>>().join(",").into())
        }
        other => encode.then(|| encoded(&other.to_string()).into()),
    }
}

/// `text` as the value of a header, if all who read it will read the same.
fn value(text: &str) -> Option<HeaderValue> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let safe = printable && text.len() <= MAX_VALUE && text.trim_ascii().len() == text.len();
    safe.then(|| HeaderValue::from_str(text).ok()).flatten()
}

impl<S> Layer<S> for PropagateClaimsLayer {
    type Service = PropagateClaims<S>;

    fn layer(&self, inner: S) -> PropagateClaims<S> {
        PropagateClaims {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`PropagateClaimsLayer`].
#[derive(Clone, Debug)]
pub struct PropagateClaims<S> {
    layer: PropagateClaimsLayer,
    inner: S,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for PropagateClaims<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    ResBody: From<Bytes>,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = OrRefused<Oneshot<S, Request<ReqBody>>, ResBody>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let shared = &*self.layer.shared;
        let claims = request.extensions().get::<Claims>().cloned();
        let id = request.extensions().get::<CorrelationId>().cloned();
        if let Err(refusal) = shared.write(claims.as_ref(), request.headers_mut()) {
            let (reason, correlation_id) =
                (refusal.0.as_str(), id.as_ref().map(CorrelationId::as_str));
            tracing::debug!(reason, correlation_id, "a claim cannot stand in a header");
            if shared.refuse {
                return OrRefused::refused(shared.refuse(refusal, id.as_ref()));
            }
        }
        OrRefused::called(self.inner.clone().oneshot(request))
    }
}
