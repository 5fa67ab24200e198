//! Correlation ids, which identify a request in all logs, responses and downstream calls.
//!
//! An inbound id is kept if it has 1 to 128 characters of `[A-Za-z0-9._:-]`, begins with a letter or a
//! digit, and callers are trusted ([`CorrelationConfig::trust`](field@CorrelationConfig::trust), the
//! default). Otherwise the request gets a new id (UUID version 7) and proceeds. The response echoes the id.
//! The id grants nothing and is not used as a key: two requests with the same id are handled independently.
//!
//! The id is in the headers and extensions of the request that your service receives. Add it to the
//! requests that your service sends yourself, with [`CorrelationId::header_value`].
//!
//! ```
//! use std::convert::Infallible;
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_http::correlation::{CorrelationId, CorrelationLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = CorrelationLayer::default().layer(service_fn(|request: Request<()>| async move {
//!     let id: &CorrelationId = request.extensions().get().unwrap();
//!     Ok::<_, Infallible>(Response::new(id.to_string()))
//! }));
//! let request = Request::builder().header("x-correlation-id", "order-7").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.headers()["x-correlation-id"], "order-7");
//! assert_eq!(response.body(), "order-7");
//! # }
//! ```

mod inbound;
mod layer;

use std::fmt;

use http::{HeaderName, HeaderValue};
use uuid::Uuid;

pub use self::{
    inbound::{ClientRequestId, Replaced},
    layer::{Correlation, CorrelationConfig, CorrelationLayer, ResponseFuture},
};

/// `x-correlation-id`: the header of the correlation id in requests and responses.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// `x-request-id`: the alternative request header of the id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id, in bytes.
const MAX: usize = 128;

/// The id of a request. Safe in headers, log lines and JSON without escaping. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(HeaderValue);

impl CorrelationId {
    /// Parses `id`. Returns `None` if it is not valid.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::accept(&HeaderValue::from_str(id).ok()?).ok()
    }

    /// Parses `value`. Returns the reason for replacing it if it is not valid.
    fn accept(value: &HeaderValue) -> Result<Self, Replaced> {
        let id = value.as_bytes();
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
        if !(1..=MAX).contains(&id.len()) {
            Err(Replaced::Length)
        } else if !id[0].is_ascii_alphanumeric() || !id.iter().all(safe) {
            Err(Replaced::Charset)
        } else {
            Ok(Self(value.clone()))
        }
    }

    /// Creates a new id, a UUID version 7.
    #[must_use]
    pub fn generate() -> Self {
        let mut buffer = Uuid::encode_buffer();
        let id = Uuid::now_v7().hyphenated().encode_lower(&mut buffer);
        Self(HeaderValue::from_str(id).expect("a UUID is a valid header value"))
    }

    /// Returns the id as a string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Never fails, because an accepted id is ASCII.
        self.0.to_str().unwrap_or_default()
    }

    /// Returns the id as a header value.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests;
