//! The problem codes with their statuses and titles.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $name:literal $title:literal,)*) => {
        /// A machine-readable problem code. [`ALL`](Self::ALL) lists them; a later version may add codes.
        ///
        /// The description of each code begins with its HTTP status and ends with its sender. "Handlers"
        /// are services that create the [`Problem`](super::Problem) themselves. "Upstream" in a name is a
        /// [downstream](crate#terms) of this crate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$code),*];

            const fn row(self) -> (u16, &'static str, &'static str) {
                match self { $(Self::$code => ($status, $name, $title),)* }
            }
        }
    };
}

codes! {
    /// Status 400: a header is invalid. Sent by `JwtLayer` for a malformed or repeated `Authorization` header,
    /// and by [`GuardLayer`](crate::guard::GuardLayer) for a repeated `Content-Type` header.
    /// The code for a malformed token in a well-formed header is `InvalidToken`.
    InvalidRequest = 400 "invalid_request" "The request is invalid",
    /// Status 400: the body is not JSON. Sent by handlers.
    MalformedJson = 400 "malformed_json" "The body is not valid JSON",
    /// Status 400: the body ended early, or its encoding is damaged. Sent for
    /// [`BodyError::Broken`](crate::body::BodyError::Broken).
    BrokenBody = 400 "broken_body" "The request body is incomplete",
    /// Status 400: the value of a parameter cannot be sent in its position. Sent by handlers.
    BadParam = 400 "bad_param" "A parameter has a value that cannot be sent on",
    /// Status 400: the host is missing, repeated, invalid, or different from that of the target. Sent by
    /// [`GuardLayer`](crate::guard::GuardLayer).
    BadHost = 400 "bad_host" "The host of the request is not valid",
    /// Status 400: the form of the request target is not supported. Sent by
    /// [`GuardLayer`](crate::guard::GuardLayer).
    BadTarget = 400 "bad_target" "The target of the request is not valid",
    /// Status 401: a token is required. Sent by `JwtLayer` if the request has no token.
    AuthRequired = 401 "auth_required" "A token is required",
    /// Status 401: the token is invalid. Sent by `JwtLayer` and `PropagateClaimsLayer`.
    InvalidToken = 401 "invalid_token" "The token is not valid",
    /// Status 403: the token lacks a required role or scope. Sent by `JwtLayer`.
    InsufficientScope = 403 "insufficient_scope" "The token does not allow this",
    /// Status 403: the caller's tier does not include a required service. Sent by handlers.
    TierForbidden = 403 "tier_forbidden" "The caller's tier does not have a required service",
    /// Status 404: no resource exists at this path. Sent by handlers and routers.
    NotFound = 404 "not_found" "Not found",
    /// Status 405: the resource does not support this method. Sent by
    /// [`GuardLayer`](crate::guard::GuardLayer) for a known method that no path allows, and by routers.
    MethodNotAllowed = 405 "method_not_allowed" "The method is not allowed here",
    /// Status 408: the body arrived too slowly. Sent for
    /// [`BodyError::Timeout`](crate::body::BodyError::Timeout).
    RequestTimeout = 408 "request_timeout" "The request took too long to arrive",
    /// Status 413: the body is too large. Sent for
    /// [`BodyError::TooLarge`](crate::body::BodyError::TooLarge).
    PayloadTooLarge = 413 "payload_too_large" "The body is too large",
    /// Status 414: the request target is too long. Sent by [`GuardLayer`](crate::guard::GuardLayer).
    UriTooLong = 414 "uri_too_long" "The address is too long",
    /// Status 415: the media type of the body is not supported. Sent by handlers.
    UnsupportedMediaType = 415 "unsupported_media_type" "The body must be JSON in UTF-8",
    /// Status 415: the content coding of the body is not supported, or decoding is not enabled. Sent for
    /// [`BodyError::Encoding`](crate::body::BodyError::Encoding).
    UnsupportedEncoding = 415 "unsupported_encoding" "The body must not be encoded",
    /// Status 417: the expectation of the client is not supported. Sent by
    /// [`GuardLayer`](crate::guard::GuardLayer).
    ExpectationFailed = 417 "expectation_failed" "The expectation is not supported",
    /// Status 421: the target is an `https` URI, and the client does not use TLS. Sent by
    /// [`GuardLayer`](crate::guard::GuardLayer).
    Misdirected = 421 "misdirected" "The target requires TLS",
    /// Status 422: fields have invalid values. Sent by handlers, with a [`FieldError`](super::FieldError) for
    /// each field.
    Validation = 422 "validation" "The request has invalid fields",
    /// Status 422: a value that a required service needs is missing in the request. Sent by handlers.
    MissingParam = 422 "missing_param" "A required value is missing",
    /// Status 422: no service remains to be called. Sent by handlers.
    NoServices = 422 "no_services" "No service is selected",
    /// Status 429: a quota is exhausted. Sent for
    /// [`Rejection::RateLimited`](tower_fanout_layers::Rejection::RateLimited).
    RateLimited = 429 "rate_limited" "Too many requests",
    /// Status 500: an internal error occurred. Sent by [`ProblemLayer`](super::ProblemLayer) for a panic, for
    /// an error that is neither a rejection nor a known failure, and for a rejection without a code of its own.
    Internal = 500 "internal" "Internal error",
    /// Status 500: a handler reads claims, but no layer has added any. Sent by the axum extractor of `Claims`.
    AuthNotConfigured = 500 "auth_not_configured" "The server does not check tokens here",
    /// Status 501: the method is unknown. Sent by [`GuardLayer`](crate::guard::GuardLayer).
    MethodUnknown = 501 "method_unknown" "The method is unknown",
    /// Status 501: the transfer coding of the body is not supported. Sent by
    /// [`GuardLayer`](crate::guard::GuardLayer).
    TransferCodingUnsupported = 501 "te_unsupported" "The transfer coding is not supported",
    /// Status 502: too many services failed for a response. Sent by handlers, and for every
    /// [`Failure`](tower_fanout_layers::Failure) but `AttemptTimeout`, `Panic` and `Other`.
    UpstreamFailed = 502 "upstream_failed" "Services have failed",
    /// Status 502: the combined responses are too large. Sent by handlers.
    AggregateTooLarge = 502 "aggregate_too_large" "The merged response is too large",
    /// Status 502: the responses cannot be merged into one document. Sent by handlers.
    MergeConflict = 502 "merge_conflict" "The responses conflict",
    /// Status 503: services were not called, because they are considered unavailable. Sent for
    /// [`Rejection::CircuitOpen`](tower_fanout_layers::Rejection::CircuitOpen) and
    /// [`Rejection::NoEndpoint`](tower_fanout_layers::Rejection::NoEndpoint).
    UpstreamUnavailable = 503 "upstream_unavailable" "Services are not available",
    /// Status 503: no keys are available to check tokens with. Sent by `JwtLayer`, with `Retry-After`.
    AuthUnavailable = 503 "auth_unavailable" "Tokens cannot be checked now",
    /// Status 503: the server is overloaded. Sent for the rejections `AtCapacity`, `Evicted`, `QueueTimeout`,
    /// `ClientThrottled` and `DescriptorLimit`.
    Overloaded = 503 "overloaded" "The server is overloaded",
    /// Status 503: the server is shutting down. Sent by handlers.
    Stopping = 503 "stopping" "The server is stopping",
    /// Status 504: services took too long. Sent for the rejections `AttemptTimeout`, `Deadline` and
    /// `DeadlineBeforeSend`.
    UpstreamTimeout = 504 "upstream_timeout" "Services took too long",
    /// Status 508: the request has passed too many gateways. Sent by
    /// [`LoopDetectionLayer`](crate::forward::LoopDetectionLayer).
    LoopDetected = 508 "loop_detected" "The request is in a loop",
}

impl Code {
    /// Returns the HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match StatusCode::from_u16(self.row().0) {
            Ok(status) => status,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns the code as it is written in problems and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the human-readable title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_have_unique_names_and_error_statuses() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(
            Code::ALL
                .iter()
                .all(|code| code.status().is_client_error() || code.status().is_server_error())
        );
    }
}
