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
    /// The signature is wrong.
    Signature = "signature",
    /// It has expired, or does not say when it will.
    Expired = "exp",
    /// It is not valid yet.
    NotBefore = "nbf",
    /// It was issued in the future.
    IssuedAt = "iat",
    /// It is of another issuer.
    Issuer = "iss",
    /// It is for somebody else.
    Audience = "aud",
    /// Its claims are not the object that they should be.
    Claims = "claims",
    /// It lacks a role.
    Scope = "scope",
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
            _ => Code::InvalidToken,
        }
    }

    /// The problem, with its challenge ([RFC 6750 §3](https://www.rfc-editor.org/rfc/rfc6750#section-3)):
    /// no error is named to a caller who sent no token at all.
    #[must_use]
    pub fn problem(self, realm: &str) -> Problem {
        let code = self.code();
        let challenge = match code {
            Code::AuthRequired => format!("Bearer realm=\"{realm}\""),
            code => format!("Bearer realm=\"{realm}\", error=\"{}\"", code.as_str()),
        };
        let problem = Problem::new(code);
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => problem.challenge(challenge),
            Err(_) => problem,
        }
    }
}
