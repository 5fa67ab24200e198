//! The reasons for refusing a token: detailed ones for the log, one response for all callers.

use http::{HeaderValue, header::WWW_AUTHENTICATE};
use tower_fanout_layers::labels;

use crate::problem::{Code, Problem};

labels! {
    /// Reason for refusing a token, for logs and metrics. [`ALL`](Self::ALL) lists them; a later version may
    /// add reasons.
    ///
    /// The response has only the status and the [`Code`]; see [`code`](Self::code) for the table. From its
    /// code a caller can tell apart these groups: no bearer token (`Missing`, `Scheme`), a malformed or
    /// repeated header (`Syntax`, `EmptyToken`, `Duplicate`), `Scope`, `Unavailable`, and all others.
    /// `EmptyToken` and `Duplicate` also have a detail. `Expired` has one, unless
    /// [`JwtConfig::reveal_expired`](field@super::JwtConfig::reveal_expired) is `false`.
    pub enum Reason {
        /// The request has no `Authorization` header.
        Missing = "missing",
        /// The `Authorization` header uses a scheme other than `Bearer`.
        Scheme = "scheme",
        /// The `Authorization` header has no scheme, for example only a token.
        ///
        /// In logs and metrics this reason has the same name as [`Syntax`](Self::Syntax). The response is 401
        /// `invalid_token`, while that for `Syntax` is 400 `invalid_request`.
        MissingScheme = "syntax",
        /// The `Authorization` header is not well formed by RFC 6750.
        Syntax = "syntax",
        /// The `Authorization` header has the scheme `Bearer` and no token.
        EmptyToken = "empty_token",
        /// The request has several tokens or several `Authorization` headers.
        Duplicate = "duplicate",
        /// The token is longer than 8 KiB.
        Oversize = "oversize",
        /// The token does not have three parts, or one that must not be empty is empty.
        NotThreeParts = "shape",
        /// A part of the token is not base64url without padding.
        Base64 = "b64",
        /// The token's header is not a small JSON object with unique names.
        Header = "header",
        /// The header's `alg` is unknown, or no key selected by the `kid` allows it.
        Algorithm = "alg",
        /// The header has `crit`, `b64` or `zip`, which are not supported.
        Critical = "crit",
        /// The header's `kid` is invalid or names no known key.
        Kid = "kid",
        /// No usable keys exist to check the token with.
        Unavailable = "unavailable",
        /// The signature is invalid.
        Signature = "signature",
        /// The signature is invalid, and the header offers a key of its own (`jwk`, `jku`, `x5u` or `x5c`).
        Embedded = "embedded",
        /// The header's `typ` is not the required one.
        Type = "typ",
        /// The claims are not a small JSON object with unique names, `sub` or `jti` is not a string, or a
        /// required `jti` is missing.
        Claims = "claims",
        /// The claim `exp` is missing or not a valid time.
        Expiry = "exp",
        /// The token is not valid yet by its `nbf`, or `nbf` is not a valid time.
        NotBefore = "nbf",
        /// The token was issued in the future or too long ago by its `iat`, or `iat` is not a valid time.
        IssuedAt = "iat",
        /// The claim `iss` is missing or not an accepted issuer.
        Issuer = "iss",
        /// The claim `aud` is missing or contains no accepted audience.
        Audience = "aud",
        /// The token was revoked.
        Revoked = "revoked",
        /// The token has expired.
        Expired = "expired",
        /// The token lacks a required role or scope.
        Scope = "scope",
        /// The value of a claim does not fit in the header that it is propagated in. Only
        /// [`PropagateClaimsLayer`](super::PropagateClaimsLayer) refuses a token for it.
        ClaimValue = "claim_value",
    }
}

/// Outcome of the token check of one request, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The token is valid and has the required roles and scopes.
    Accepted,
    /// The request was passed on without a token, as a CORS preflight.
    Preflight,
    /// The request was refused.
    Rejected(Reason),
}

impl Outcome {
    /// Returns the name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Preflight => "preflight",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Returns the name of the reason in metrics, or `none` for a request that was not refused.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Rejected(reason) => reason.as_str(),
            _ => "none",
        }
    }
}

impl Reason {
    /// Returns the problem code of the response.
    ///
    /// | reason | code | status |
    /// |---|---|---|
    /// | `Missing`, `Scheme` | [`Code::AuthRequired`] | 401 |
    /// | `Syntax`, `EmptyToken`, `Duplicate` | [`Code::InvalidRequest`] | 400 |
    /// | `Scope` | [`Code::InsufficientScope`] | 403 |
    /// | `Unavailable` | [`Code::AuthUnavailable`] | 503 |
    /// | all others | [`Code::InvalidToken`] | 401 |
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Missing | Self::Scheme => Code::AuthRequired,
            Self::Syntax | Self::EmptyToken | Self::Duplicate => Code::InvalidRequest,
            Self::Scope => Code::InsufficientScope,
            Self::Unavailable => Code::AuthUnavailable,
            _ => Code::InvalidToken,
        }
    }

    /// Returns the problem with its `WWW-Authenticate` challenge
    /// ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)).
    ///
    /// The challenge has no `error` if the caller sent no token. It has `scope`, the required scopes,
    /// only if the token is valid but lacks them. Characters of `realm` and `scope` that need an escape
    /// are removed. The problem for [`Unavailable`](Self::Unavailable) has no challenge.
    ///
    /// The problem has neither `Retry-After` nor the detail for an expired token.
    /// [`JwtLayer`](super::JwtLayer) adds both to its responses.
    #[must_use]
    pub fn problem(self, realm: &str, scope: &str) -> Problem {
        let code = self.code();
        if code == Code::AuthUnavailable {
            return Problem::new(code);
        }
        let mut challenge = format!("Bearer realm=\"{}\"", quotable(realm));
        if code != Code::AuthRequired {
            challenge += &format!(", error=\"{}\"", code.as_str());
        }
        if code == Code::InsufficientScope && !scope.is_empty() {
            challenge += &format!(", scope=\"{}\"", quotable(scope));
        }
        let problem = match self {
            Self::EmptyToken => Problem::new(code).detail("The bearer token is empty."),
            Self::Duplicate => Problem::new(code).detail("More than one credential was sent."),
            _ => Problem::new(code),
        };
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => problem.header(WWW_AUTHENTICATE, challenge),
            Err(_) => problem,
        }
    }
}

/// Removes the characters of `text` that do not fit in a quoted string: all but printable ASCII, quotes
/// and backslashes.
pub(super) fn quotable(text: &str) -> String {
    let fits = |char: &char| matches!(char, ' '..='~') && !matches!(char, '"' | '\\');
    text.chars().filter(fits).collect()
}
