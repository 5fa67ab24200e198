//! The problem codes with their statuses and titles.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $name:literal $title:literal,)*) => {
        /// A machine-readable problem code: a closed list.
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
    /// The request line, a header or the syntax of the token is invalid.
    InvalidRequest = 400 "invalid_request" "The request is invalid",
    /// The body is not JSON.
    MalformedJson = 400 "malformed_json" "The body is not valid JSON",
    /// The body ended early.
    BrokenBody = 400 "broken_body" "The body broke off",
    /// The value of a parameter cannot be sent in its position.
    BadParam = 400 "bad_param" "A parameter has a value that cannot be sent on",
    /// The host is missing, repeated or invalid.
    BadHost = 400 "bad_host" "The host of the request is not valid",
    /// The end of the body is ambiguous.
    BadFraming = 400 "bad_framing" "The length of the body is not clear",
    /// The form of the request target is not supported.
    BadTarget = 400 "bad_target" "The target of the request is not valid",
    /// A token is required.
    AuthRequired = 401 "auth_required" "A token is required",
    /// The token is invalid.
    InvalidToken = 401 "invalid_token" "The token is not valid",
    /// The token lacks a required role or scope.
    InsufficientScope = 403 "insufficient_scope" "The token does not allow this",
    /// The caller's tier does not include a required service.
    TierForbidden = 403 "tier_forbidden" "The caller's tier does not have a required service",
    /// No resource exists at this path.
    NotFound = 404 "not_found" "There is nothing here",
    /// The resource does not support this method.
    MethodNotAllowed = 405 "method_not_allowed" "The method is not allowed here",
    /// The body arrived too slowly.
    RequestTimeout = 408 "request_timeout" "The request took too long to arrive",
    /// The body is too large.
    PayloadTooLarge = 413 "payload_too_large" "The body is too large",
    /// The request target is too long.
    UriTooLong = 414 "uri_too_long" "The address is too long",
    /// The media type of the body is not supported.
    UnsupportedMediaType = 415 "unsupported_media_type" "The body must be JSON in UTF-8",
    /// The body is compressed.
    UnsupportedEncoding = 415 "unsupported_encoding" "The body must not be encoded",
    /// The expectation of the client is not supported.
    ExpectationFailed = 417 "expectation_failed" "What the request expects is not known here",
    /// Fields have invalid values.
    Validation = 422 "validation" "The request has invalid fields",
    /// A value that a required service needs is missing in the request.
    MissingParam = 422 "missing_param" "The request lacks what a required service needs",
    /// No service remains to be called.
    NoServices = 422 "no_services" "No service is left to ask",
    /// A quota is exhausted.
    RateLimited = 429 "rate_limited" "Too many requests",
    /// The request head is too large.
    HeadersTooLarge = 431 "headers_too_large" "The headers are too large",
    /// An internal error occurred.
    Internal = 500 "internal" "Something went wrong",
    /// A handler reads claims, but no layer checks tokens for it.
    AuthNotConfigured = 500 "auth_not_configured" "The server does not check tokens here",
    /// The method is unknown.
    MethodUnknown = 501 "method_unknown" "There is no such method",
    /// The transfer coding of the body is not supported.
    TransferCodingUnsupported = 501 "te_unsupported" "The transfer coding is not known here",
    /// Required services failed.
    UpstreamFailed = 502 "upstream_failed" "Services that are needed have failed",
    /// The combined responses are too large.
    AggregateTooLarge = 502 "aggregate_too_large" "The answers are too large together",
    /// The responses cannot be merged into one document.
    MergeConflict = 502 "merge_conflict" "The answers contradict each other",
    /// Required services were not called, because they are considered unavailable.
    UpstreamUnavailable = 503 "upstream_unavailable" "Services that are needed are not available",
    /// No keys are available to check tokens with.
    AuthUnavailable = 503 "auth_unavailable" "Tokens cannot be checked now",
    /// The server is overloaded.
    Overloaded = 503 "overloaded" "There is too much to do",
    /// The server is shutting down.
    Stopping = 503 "stopping" "The server is stopping",
    /// Required services took too long.
    UpstreamTimeout = 504 "upstream_timeout" "Services that are needed took too long",
    /// The request has passed too many gateways.
    LoopDetected = 508 "loop_detected" "The request goes in a circle",
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
