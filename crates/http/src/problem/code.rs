//! What can go wrong: a closed list, with its statuses and titles.

use http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $name:literal $title:literal,)*) => {
        /// What went wrong, for programs: a closed list.
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
    /// The request line, a header or the token's syntax is wrong.
    InvalidRequest = 400 "invalid_request" "The request is invalid",
    /// The body is not JSON.
    MalformedJson = 400 "malformed_json" "The body is not valid JSON",
    /// The body broke off.
    BrokenBody = 400 "broken_body" "The body broke off",
    /// A parameter cannot stand where it would be sent.
    BadParam = 400 "bad_param" "A parameter has a value that cannot be sent on",
    /// There is no host, or there are several, or it is none.
    BadHost = 400 "bad_host" "The host of the request is not valid",
    /// It is not clear where the request ends.
    BadFraming = 400 "bad_framing" "The length of the body is not clear",
    /// The request's target is of a form that is not served.
    BadTarget = 400 "bad_target" "The target of the request is not valid",
    /// A token is required.
    AuthRequired = 401 "auth_required" "A token is required",
    /// The token is not valid.
    InvalidToken = 401 "invalid_token" "The token is not valid",
    /// The token does not allow this.
    InsufficientScope = 403 "insufficient_scope" "The token does not allow this",
    /// The caller's tier lacks a required service.
    TierForbidden = 403 "tier_forbidden" "The caller's tier does not have a required service",
    /// There is nothing at this path.
    NotFound = 404 "not_found" "There is nothing here",
    /// There is something, but not for this method.
    MethodNotAllowed = 405 "method_not_allowed" "The method is not allowed here",
    /// The body came too slowly.
    RequestTimeout = 408 "request_timeout" "The request took too long to arrive",
    /// The body is too large.
    PayloadTooLarge = 413 "payload_too_large" "The body is too large",
    /// The request's target is too long.
    UriTooLong = 414 "uri_too_long" "The address is too long",
    /// The body is not of a type that is read here.
    UnsupportedMediaType = 415 "unsupported_media_type" "The body must be JSON in UTF-8",
    /// The body is compressed.
    UnsupportedEncoding = 415 "unsupported_encoding" "The body must not be encoded",
    /// The client expects what is not known here.
    ExpectationFailed = 417 "expectation_failed" "What the request expects is not known here",
    /// Fields have values that they cannot have.
    Validation = 422 "validation" "The request has invalid fields",
    /// Something that a required service needs is not in the request.
    MissingParam = 422 "missing_param" "The request lacks what a required service needs",
    /// No service is left to ask.
    NoServices = 422 "no_services" "No service is left to ask",
    /// A quota is used up.
    RateLimited = 429 "rate_limited" "Too many requests",
    /// The head of the request is too large.
    HeadersTooLarge = 431 "headers_too_large" "The headers are too large",
    /// Something broke on our side.
    Internal = 500 "internal" "Something went wrong",
    /// A handler reads claims, and no layer checks a token in front of it.
    AuthNotConfigured = 500 "auth_not_configured" "The server does not check tokens here",
    /// There is no such method.
    MethodUnknown = 501 "method_unknown" "There is no such method",
    /// The body is coded in a way that is not read here.
    TransferCodingUnsupported = 501 "te_unsupported" "The transfer coding is not known here",
    /// Services failed.
    UpstreamFailed = 502 "upstream_failed" "Services that are needed have failed",
    /// The answers together are too large.
    AggregateTooLarge = 502 "aggregate_too_large" "The answers are too large together",
    /// The answers cannot stand in one document.
    MergeConflict = 502 "merge_conflict" "The answers contradict each other",
    /// We refused to ask services.
    UpstreamUnavailable = 503 "upstream_unavailable" "Services that are needed are not available",
    /// There are no keys to check tokens with.
    AuthUnavailable = 503 "auth_unavailable" "Tokens cannot be checked now",
    /// There is more to do than can be done.
    Overloaded = 503 "overloaded" "There is too much to do",
    /// The process is stopping.
    Stopping = 503 "stopping" "The server is stopping",
    /// Services took too long.
    UpstreamTimeout = 504 "upstream_timeout" "Services that are needed took too long",
    /// The request has come through this server too often.
    LoopDetected = 508 "loop_detected" "The request goes in a circle",
}

impl Code {
    /// Its status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match StatusCode::from_u16(self.row().0) {
            Ok(status) => status,
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// What it says to people.
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
    fn codes_are_errors_with_names_of_their_own() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(
            Code::ALL
                .iter()
                .all(|code| code.status().is_client_error() || code.status().is_server_error())
        );
    }
}
