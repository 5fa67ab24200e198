//! Strict checks of request heads.
//!
//! [`GuardLayer`] rejects ambiguous requests, which a proxy and a server could parse differently: a host
//! that is missing, repeated, or different from that of the target; a form of target that only proxies
//! serve; a transfer coding that hides the end of the body. hyper accepts these, because it is also
//! used for proxies. The layer also rejects unsupported methods and expectations, and long targets.
//!
//! | rejected | response |
//! |---|---|
//! | a method that is not in [`GuardConfig::methods`] | 405 with `Allow` if the method is known, otherwise 501 |
//! | a target longer than [`GuardConfig::max_uri`] | 414 |
//! | a target that is neither a path, nor an absolute `http` or `https` URI, nor `*` for `OPTIONS` | 400 |
//! | a path with a backslash or a non-ASCII character | 400 |
//! | no `Host` (except in HTTP/1.0), two of them, an invalid one, or another host than the target's | 400 |
//! | a `Transfer-Encoding` other than exactly `chunked` | 501 |
//! | an `Expect` other than exactly `100-continue` | 417 |
//! | several `Content-Type` lines | 400 |
//! | an `https` target from a client that does not use TLS | 421 |
//!
//! The last check is of requests that have a [`ClientScheme`] from
//! [`ForwardedLayer`](crate::forwarded::ForwardedLayer). It is required by
//! [RFC 9110 §7.4](https://www.rfc-editor.org/rfc/rfc9110#section-7.4).
//!
//! An HTTP/2 request may have its host in `:authority`, in `Host`, or in both if they are equal. An
//! HTTP/1.1 request needs `Host` even if its target is an absolute URI.
//!
//! The layer responds to `OPTIONS *` itself, with 204 and `Allow`.
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

use std::{error::Error, fmt};

use http::{HeaderValue, Method, Request, header, uri::Scheme};
use tower_fanout_layers::{
    config,
    config::{ConfigError, ConfigErrors, Validate},
    labels,
};

#[cfg(feature = "cors")]
pub(crate) use self::host::is_authority;
pub use self::layer::GuardLayer;
use crate::{forwarded::ClientScheme, problem::Code};

/// The methods of RFC 9110 and RFC 5789, except `TRACE` and `CONNECT`.
const STANDARD_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Maximum length of an `http::Uri` in bytes.
const MAX_URI: usize = u16::MAX as usize - 1;

config! {
    /// Limits of the guard.
    #[derive(Clone, Debug)]
    pub struct GuardConfig {
        /// Maximum length of a request target in bytes, 1 to 65,534.
        ///
        /// Defaults to 8 KiB, slightly more than the 8,000 bytes that
        /// [RFC 9110 §4.1](https://www.rfc-editor.org/rfc/rfc9110#section-4.1) recommends as a minimum.
        pub max_uri: usize = 8 << 10,
        /// Methods that the guard passes on. Must not be empty. Defaults to `GET`, `HEAD`, `POST`, `PUT`,
        /// `PATCH`, `DELETE` and `OPTIONS`.
        ///
        /// List every method that at least one of your paths supports. Your router rejects a method that
        /// one path does not support.
        ///
        /// Of the other methods, the known ones get 405 with `Allow`, which lists `methods`. Known methods
        /// are the defaults, `TRACE` and `CONNECT`. Unknown methods get 501. `OPTIONS *` gets 204 if
        /// `methods` contains `OPTIONS`, and otherwise 405.
        pub methods: Vec<Method> = STANDARD_METHODS.to_vec(),
        /// Passes `TRACE` on although `methods` does not contain it, so that your router can respond with 405 and
        /// the methods of the resource, or with 404. The router must not serve `TRACE`. Defaults to `false`.
        pub pass_trace: bool = false,
    }
}

impl Validate for GuardConfig {
    fn errors(&self) -> Vec<ConfigError> {
        ConfigErrors::default()
            .within("max_uri", self.max_uri, 1..=MAX_URI)
            .unless(
                !self.methods.is_empty(),
                "methods",
                "must contain at least one method",
            )
            .into_vec()
    }
}

labels! {
    /// The reason why the head of a request was rejected, for logs.
    ///
    /// | error | code | closes the connection |
    /// |---|---|---|
    /// | `MethodUnknown` | [`Code::MethodUnknown`], 501 | no |
    /// | `MethodNotAllowed` | [`Code::MethodNotAllowed`], 405 | no |
    /// | `UriTooLong` | [`Code::UriTooLong`], 414 | no |
    /// | `TargetForm` | [`Code::BadTarget`], 400 | yes |
    /// | `HostMissing`, `DuplicateHost`, `HostSyntax`, `HostMismatch` | [`Code::BadHost`], 400 | yes |
    /// | `TransferCoding` | [`Code::TransferCodingUnsupported`], 501 | yes |
    /// | `Expectation` | [`Code::ExpectationFailed`], 417 | yes |
    /// | `DuplicateContentType` | [`Code::InvalidRequest`], 400 | no |
    /// | `InsecureTarget` | [`Code::Misdirected`], 421 | no |
    pub enum HeadError {
        /// The method is unknown.
        MethodUnknown = "method_unknown",
        /// The method is known but not allowed.
        MethodNotAllowed = "method_not_allowed",
        /// The target is longer than [`GuardConfig::max_uri`].
        UriTooLong = "uri_too_long",
        /// The form of the target is not supported, or its path has a backslash or a non-ASCII character.
        TargetForm = "target_form",
        /// The request has no host: an HTTP/1.1 request without `Host`, or an HTTP/2 request with neither
        /// `Host` nor `:authority`.
        HostMissing = "host_missing",
        /// The request has more than one `Host` header.
        DuplicateHost = "host_twice",
        /// The host, or the target's authority, is not `host[:port]`.
        HostSyntax = "host_syntax",
        /// `Host` and the target's authority differ.
        HostMismatch = "host_mismatch",
        /// The transfer coding is not exactly `chunked`.
        TransferCoding = "transfer_coding",
        /// The request has an expectation other than `100-continue`.
        Expectation = "expectation",
        /// The request has more than one `Content-Type` header.
        DuplicateContentType = "content_type_twice",
        /// The target is an `https` URI, and the client does not use TLS.
        InsecureTarget = "insecure_target",
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request head was rejected: {}", self.as_str())
    }
}

impl Error for HeadError {}

impl HeadError {
    /// Returns the problem code of the response.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::MethodUnknown => Code::MethodUnknown,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::UriTooLong => Code::UriTooLong,
            Self::TargetForm => Code::BadTarget,
            Self::HostMissing | Self::DuplicateHost | Self::HostSyntax | Self::HostMismatch => {
                Code::BadHost
            }
            Self::TransferCoding => Code::TransferCodingUnsupported,
            Self::Expectation => Code::ExpectationFailed,
            Self::DuplicateContentType => Code::InvalidRequest,
            Self::InsecureTarget => Code::Misdirected,
        }
    }

    /// Returns `true` if the connection is closed after the response, because the start of the next
    /// request or its host is in doubt. Over HTTP/2 only the stream ends.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        !matches!(
            self,
            Self::MethodUnknown
                | Self::MethodNotAllowed
                | Self::UriTooLong
                | Self::DuplicateContentType
                | Self::InsecureTarget
        )
    }
}

/// Checks the head of `request`, without reading the body and without allocating.
///
/// # Errors
/// Returns the first reason to reject the request.
pub fn check<B>(request: &Request<B>, config: &GuardConfig) -> Result<(), HeadError> {
    check_method(request.method(), config)?;
    target::check(request, config.max_uri)?;
    host::check(request)?;
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    if !codings.next().is_none_or(|coding| is(coding, "chunked")) || codings.next().is_some() {
        return Err(HeadError::TransferCoding);
    }
    let mut expected = request.headers().get_all(header::EXPECT).iter();
    if !expected.all(|expected| is(expected, "100-continue")) {
        return Err(HeadError::Expectation);
    }
    if request
        .headers()
        .get_all(header::CONTENT_TYPE)
        .iter()
        .count()
        > 1
    {
        return Err(HeadError::DuplicateContentType);
    }
    if is_insecure(request) {
        return Err(HeadError::InsecureTarget);
    }
    Ok(())
}

/// Returns `true` for an `https` target of a client that is known to use no TLS.
fn is_insecure<B>(request: &Request<B>) -> bool {
    let is_http = |ClientScheme(scheme): &ClientScheme| *scheme == Scheme::HTTP;
    request.uri().scheme() == Some(&Scheme::HTTPS)
        && request.extensions().get().is_some_and(is_http)
}

/// Returns `true` if `value` equals `known`, ignoring ASCII case.
fn is(value: &HeaderValue, known: &str) -> bool {
    value.as_bytes().eq_ignore_ascii_case(known.as_bytes())
}

fn check_method(method: &Method, config: &GuardConfig) -> Result<(), HeadError> {
    let is_passed = config.pass_trace && method == Method::TRACE;
    if is_passed || config.methods.contains(method) {
        Ok(())
    } else if STANDARD_METHODS.contains(method) || [Method::TRACE, Method::CONNECT].contains(method)
    {
        Err(HeadError::MethodNotAllowed)
    } else {
        Err(HeadError::MethodUnknown)
    }
}

#[cfg(test)]
mod tests;
