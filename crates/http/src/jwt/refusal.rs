//! Why a caller is turned away: one answer for all, one reason for the log.

use http::HeaderValue;

use crate::problem::{Code, Problem};

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// What was wrong: for logs and metrics only, a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $reason,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$reason),*];

            /// Its name in logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $name,)* }
            }
        }
    };
}

reasons! {
    /// There is no `Authorization` header.
    Missing = "missing",
    /// It is of another scheme.
    Scheme = "scheme",
    /// It names no scheme.
    Bare = "syntax",
    /// It is not written as RFC 6750 says.
    Syntax = "syntax",
    /// There are several.
    Duplicate = "duplicate",
    /// The token is too long.
    Oversize = "oversize",
    /// It does not have three parts.
    Shape = "shape",
    /// A part is not base64url.
    Base64 = "b64",
    /// Its header is not the object that it should be.
    Header = "header",
    /// Its algorithm is not that of the key.
    Algorithm = "alg",
    /// It asks for an extension.
    Critical = "crit",
    /// There is no such key.
    Kid = "kid",
    /// There are no keys to check it with.
    Unavailable = "unavailable",
    /// The signature is wrong.
    Signature = "signature",
    /// The signature is wrong, and the token brings or names a key of its own.
    Embedded = "embedded",
    /// It is of another type.
    Type = "typ",
    /// Its claims are not the object that they should be, or lack an id.
    Claims = "claims",
    /// It does not say when it expires.
    Expiry = "exp",
    /// It is not valid yet.
    NotBefore = "nbf",
    /// It was issued in the future, or too long ago.
    IssuedAt = "iat",
    /// It is of another issuer.
    Issuer = "iss",
    /// It is for somebody else.
    Audience = "aud",
    /// It was revoked.
    Revoked = "revoked",
    /// It has expired.
    Expired = "expired",
    /// It lacks a role or a scope.
    Scope = "scope",
    /// A claim cannot stand in the header that it should be sent in.
    ClaimValue = "claim_value",
}

/// What became of a request, to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Its token is good.
    Accepted,
    /// It was let through without a token, as a CORS preflight.
    Preflight,
    /// It was refused.
    Rejected(Reason),
}

impl Outcome {
    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Preflight => "preflight",
            Self::Rejected(_) => "rejected",
        }
    }

    /// The name of the reason in metrics; `none` if there is none.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Rejected(reason) => reason.as_str(),
            _ => "none",
        }
    }
}

/// A caller that is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub Reason);

impl Refusal {
    /// What the caller is told by; the same for everything that is wrong with a token.
    #[must_use]
    pub const fn code(self) -> Code {
        match self.0 {
            Reason::Missing | Reason::Scheme => Code::AuthRequired,
            Reason::Syntax | Reason::Duplicate => Code::InvalidRequest,
            Reason::Scope => Code::InsufficientScope,
            Reason::Unavailable => Code::AuthUnavailable,
            _ => Code::InvalidToken,
        }
    }

    /// The problem, with its challenge ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)):
    /// no error is named to a caller who sent no token at all, and `scope`, what is needed, is named
    /// only to one whose token is good but does not have it. What cannot stand in quotes is left out.
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
        let problem = Problem::new(code);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => problem.challenge(challenge),
            Err(_) => problem,
        }
    }
}

/// `text` as it can stand in quotes: printable ASCII without quotes and backslashes.
pub(super) fn quotable(text: &str) -> String {
    let fits = |char: &char| matches!(char, ' '..='~') && !matches!(char, '"' | '\\');
    text.chars().filter(fits).collect()
}
