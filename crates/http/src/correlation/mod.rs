//! Give every request an id that all logs, answers and downstream calls bear.
//!
//! An inbound id is kept if it is 1 to 128 of `[A-Za-z0-9._:-]`; else the request gets a new one
//! (UUID version 7) and goes on. The id is echoed on the response. It names the request and is no key
//! to anything: two requests with one id have nothing else in common.
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

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

pub use self::{
    inbound::{ClientRequestId, Replaced},
    layer::{Correlation, CorrelationConfig, CorrelationLayer, ResponseFuture},
};

/// The header of the id, in requests and responses.
pub const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// The other header in which callers send an id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id, in bytes.
const MAX: usize = 128;

/// The id of a request: safe in a header, in a log line and in JSON as it is. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CorrelationId(Bytes);

impl CorrelationId {
    /// Accepts `id`, or not.
    #[must_use]
    pub fn parse(id: &str) -> Option<Self> {
        Self::accept(id.as_bytes()).ok()
    }

    /// Accepts `id`, or says what is wrong with it.
    fn accept(id: &[u8]) -> Result<Self, Replaced> {
        let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
        if !(1..=MAX).contains(&id.len()) {
            Err(Replaced::Length)
        } else if !id.iter().all(safe) {
            Err(Replaced::Charset)
        } else {
            Ok(Self(Bytes::copy_from_slice(id)))
        }
    }

    /// A new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as the value of a header.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.0.clone())
            .unwrap_or_else(|_| HeaderValue::from_static(""))
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
