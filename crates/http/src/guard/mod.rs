//! A strict look at the head of every request, before anything else reads it.
//!
//! What two readers of one request could understand in two ways is refused here: a host that is
//! missing, doubled or contradicted by the target, a target of a form that only proxies serve, a
//! transfer coding that hides where the body ends. A parser lets these through, as it must serve
//! proxies too.
//!
//! | refused | answer |
//! |---|---|
//! | a method that is not in [`GuardConfig::methods`] | 405 with `Allow`, or 501 if nobody knows it |
//! | a target over [`GuardConfig::max_uri`] | 414 |
//! | a target that is neither a path nor an absolute `http` URI, nor `*` for `OPTIONS`, or whose path has a backslash or what is not ASCII | 400 |
//! | no `Host` (but for HTTP/1.0), two, one that is no host, or another than the target's | 400 |
//! | a `Transfer-Encoding` other than exactly `chunked` | 501 |
//! | an `Expect` other than exactly `100-continue` | 417 |
//!
//! `OPTIONS *` is answered here: 204 with `Allow`.
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_fanout_http::guard::GuardLayer;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let service = ServiceBuilder::new()
//!     .layer(GuardLayer::default())
//!     .service(service_fn(|_: Request<()>| async {
//!         Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//! let good = Request::get("/orders").header("host", "shop.example").body(()).unwrap();
//! assert_eq!(service.clone().oneshot(good).await.unwrap().status(), 200);
//! let bad = Request::get("/orders").header("host", "ada@shop.example").body(()).unwrap();
//! assert_eq!(service.oneshot(bad).await.unwrap().status(), 400);
//! # }
//! ```

mod host;
mod layer;
mod target;

use http::{HeaderValue, Method, Request, header};
use tower_fanout_layers::{
    config::{ConfigError, Validate},
    setters,
};

#[cfg(feature = "cors")]
pub(crate) use self::host::is_authority;
pub use self::layer::{Guard, GuardLayer};
use crate::{bounds::Bounds, problem::Code};

/// The methods of RFC 9110 and RFC 5789, but for `TRACE` and `CONNECT`.
const SERVED: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// The longest target that `http::Uri` holds, in bytes.
const MAX_URI: usize = u16::MAX as usize - 1;

/// What is let through.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GuardConfig {
    /// The longest target of a request, in bytes; 8 KiB by default, as
    /// [RFC 9110 §4.1](https://www.rfc-editor.org/rfc/rfc9110#section-4.1) asks of every server.
    pub max_uri: usize,
    /// The methods that are served at all; by default `GET`, `HEAD`, `POST`, `PUT`, `PATCH`,
    /// `DELETE` and `OPTIONS`. What each path serves is for the router to say.
    pub methods: Vec<Method>,
}

setters! {
    GuardConfig {
        max_uri: usize,
        methods: Vec<Method>,
    }
}

impl Validate for GuardConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Bounds::default()
            .number("max_uri", self.max_uri, 1..=MAX_URI)
            .unless(
                !self.methods.is_empty(),
                "methods",
                "at least one must be allowed",
            )
            .into_vec()
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            max_uri: 8 << 10,
            methods: SERVED.to_vec(),
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// Nobody knows the method.
    MethodUnknown,
    /// The method is known, and not served.
    MethodNotAllowed,
    /// The target is too long.
    UriTooLong,
    /// The target is of a form that is not served.
    TargetForm,
    /// There is no host.
    HostMissing,
    /// There is more than one `Host`.
    HostTwice,
    /// The host, or the target's authority, is not `host[:port]`.
    HostSyntax,
    /// `Host` and the target's authority differ.
    HostMismatch,
    /// The transfer coding is not `chunked` alone.
    TransferCoding,
    /// The client expects what is not known here.
    Expectation,
}

impl Refused {
    const fn row(self) -> (Code, &'static str) {
        match self {
            Self::MethodUnknown => (Code::MethodUnknown, "method_unknown"),
            Self::MethodNotAllowed => (Code::MethodNotAllowed, "method_not_allowed"),
            Self::UriTooLong => (Code::UriTooLong, "uri_too_long"),
            Self::TargetForm => (Code::BadTarget, "target_form"),
            Self::HostMissing => (Code::BadHost, "host_missing"),
            Self::HostTwice => (Code::BadHost, "host_twice"),
            Self::HostSyntax => (Code::BadHost, "host_syntax"),
            Self::HostMismatch => (Code::BadHost, "host_mismatch"),
            Self::TransferCoding => (Code::TransferCodingUnsupported, "transfer_coding"),
            Self::Expectation => (Code::ExpectationFailed, "expectation"),
        }
    }

    /// What the client is told.
    #[must_use]
    pub const fn code(self) -> Code {
        self.row().0
    }

    /// What the log is told: one of a closed list.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.row().1
    }

    /// Whether the connection is closed after the answer: where the next request begins, or for whom
    /// it is, is in doubt.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        !matches!(
            self,
            Self::MethodUnknown | Self::MethodNotAllowed | Self::UriTooLong
        )
    }
}

/// Looks at the head of `request`. Allocates nothing, and reads no byte of the body.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn check<B>(request: &Request<B>, config: &GuardConfig) -> Result<(), Refused> {
    check_method(request.method(), config)?;
    target::check(request, config.max_uri)?;
    host::check(request)?;
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    if !codings.next().is_none_or(|coding| is(coding, "chunked")) || codings.next().is_some() {
        return Err(Refused::TransferCoding);
    }
    let mut expected = request.headers().get_all(header::EXPECT).iter();
    if !expected.all(|expected| is(expected, "100-continue")) {
        return Err(Refused::Expectation);
    }
    Ok(())
}

/// Whether `value` is the word `known`, in any case.
fn is(value: &HeaderValue, known: &str) -> bool {
    value.as_bytes().eq_ignore_ascii_case(known.as_bytes())
}

/// Whether the request is about the server as a whole: `OPTIONS *`
/// ([RFC 9110 §9.3.7](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.7)).
#[must_use]
pub fn is_about_server<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS && target::is_asterisk(request.uri())
}

fn check_method(method: &Method, config: &GuardConfig) -> Result<(), Refused> {
    if config.methods.contains(method) {
        Ok(())
    } else if SERVED.contains(method) || [Method::TRACE, Method::CONNECT].contains(method) {
        Err(Refused::MethodNotAllowed)
    } else {
        Err(Refused::MethodUnknown)
    }
}

#[cfg(test)]
mod tests;
