//! What can go wrong in one attempt.

use std::{error::Error, fmt, io};

use h2::Reason;
use hyper_util::client::legacy;
use tower_fanout_layers::{AsRejection, Failure, Rejection};

/// Why an attempt has no answer. It says nothing of addresses or bodies, so it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A layer refused the call.
    Rejected(Rejection),
    /// The name of the service could not be resolved.
    Dns,
    /// No connection could be made.
    Connect,
    /// The handshake of TLS failed: the certificate is not valid, say.
    Tls,
    /// The service certainly did not process the request: the connection was closed before anything was
    /// sent on it, or the service said so (HTTP/2).
    Unsent,
    /// The connection broke before there was an answer.
    Reset,
    /// What came was not HTTP, or too much of it.
    BadHead,
    /// The body broke off, or was encoded though that was not asked for.
    BadBody,
    /// The body is larger than allowed.
    TooLarge,
    /// The service redirected.
    Redirect,
    /// The status is none that an answer can have.
    BadStatus,
    /// The body is not of type JSON.
    BadContentType,
    /// The body is not JSON.
    BadJson,
}

impl ClientError {
    const fn table(self) -> (&'static Failure, &'static str) {
        match self {
            // The one that `AsRejection` looks at first.
            Self::Rejected(_) => (&Failure::Other, "refused"),
            Self::Dns => (&Failure::Connect, "the name could not be resolved"),
            Self::Connect => (&Failure::Connect, "no connection could be made"),
            Self::Tls => (&Failure::Connect, "no secure connection could be made"),
            Self::Unsent => (
                &Failure::NotProcessed,
                "the service did not take the request",
            ),
            Self::Reset => (
                &Failure::ConnectionReset,
                "the connection broke before there was an answer",
            ),
            Self::BadHead => (&Failure::Protocol, "the answer is not valid HTTP"),
            Self::BadBody => (&Failure::TruncatedBody, "the answer broke off"),
            Self::TooLarge => (&Failure::TooLarge, "the answer is too large"),
            Self::Redirect => (&Failure::Protocol, "the service redirected"),
            Self::BadStatus => (&Failure::Protocol, "the status is not that of an answer"),
            Self::BadContentType => (&Failure::Protocol, "the answer is not of type JSON"),
            Self::BadJson => (&Failure::Protocol, "the answer is not valid JSON"),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            error => f.write_str(error.table().1),
        }
    }
}

/// The refusal, or the kind of failure, so that a boxed one is known too.
impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            error => Some(error.table().0),
        }
    }
}

impl From<Rejection> for ClientError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl AsRejection for ClientError {
    fn as_rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        *self.table().0
    }
}

impl ClientError {
    /// Returns the reason why hyper's client failed.
    pub(super) fn from_hyper(error: legacy::Error) -> Self {
        if let Some(ours) = find::<Self>(&error) {
            return *ours;
        }
        #[cfg(feature = "tls")]
        if super::tls::is_refusal(find(&error)) {
            return Self::Tls;
        }
        match (find::<h2::Error>(&error), find::<hyper::Error>(&error)) {
            _ if error.is_connect() => Self::Connect,
            // The call waited for a connection that another was making.
            (None, None) => Self::Connect,
            (Some(error), _) => Self::from_stream(error),
            (None, Some(error)) if error.is_canceled() => Self::Unsent,
            (None, Some(error)) if error.is_parse() => Self::BadHead,
            _ => Self::Reset,
        }
    }

    /// Returns the reason why a stream ended before its response
    /// ([RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)).
    fn from_stream(error: &h2::Error) -> Self {
        let reason = error.reason();
        let refused = error.is_reset() && reason == Some(Reason::REFUSED_STREAM);
        let left = error.is_go_away() && reason == Some(Reason::NO_ERROR);
        if error.is_remote() && (refused || left) {
            Self::Unsent
        } else if error.is_library() {
            Self::BadHead
        } else {
            Self::Reset
        }
    }
}

/// The first error of type `T` among `error`, its sources, and what they wrap.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let wrapped = || {
        error
            .downcast_ref::<io::Error>()?
            .get_ref()
            .and_then(|error| find(error))
    };
    error
        .downcast_ref()
        .or_else(wrapped)
        .or_else(|| find(error.source()?))
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::BoxError;

    use super::*;

    #[test]
    fn a_boxed_error_says_what_it_was() {
        let boxed = BoxError::from(ClientError::Rejected(Rejection::Deadline));
        assert_eq!(boxed.as_rejection(), Some(&Rejection::Deadline));
        let boxed = BoxError::from(ClientError::Unsent);
        assert_eq!(
            (boxed.as_rejection(), boxed.failure()),
            (None, Failure::NotProcessed)
        );
    }
}
