//! What can go wrong in one attempt.

use std::{error::Error, fmt};

use tower_fanout::{
    BranchError, ErrorKind,
    layers::{AsReject, Failure, Reject},
};

/// Why an attempt has no answer. It says nothing of addresses or bodies, so it may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A layer refused the call.
    Reject(Reject),
    /// The name of the service could not be resolved.
    Dns,
    /// No connection could be made.
    Connect,
    /// A pooled connection was closed before anything was sent on it.
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
    const fn table(self) -> (ErrorKind, &'static Failure, &'static str) {
        match self {
            // The two that `From` and `AsReject` look at first.
            Self::Reject(_) => (ErrorKind::Internal, &Failure::Other, "refused"),
            Self::Dns => (
                ErrorKind::DnsFailed,
                &Failure::Connect,
                "the name could not be resolved",
            ),
            Self::Connect => (
                ErrorKind::ConnectFailed,
                &Failure::Connect,
                "no connection could be made",
            ),
            Self::Unsent => (
                ErrorKind::Reset,
                &Failure::Refused,
                "the connection closed before it was used",
            ),
            Self::Reset => (
                ErrorKind::Reset,
                &Failure::Reset,
                "the connection broke before there was an answer",
            ),
            Self::BadHead => (
                ErrorKind::BadHead,
                &Failure::Protocol,
                "the answer is not valid HTTP",
            ),
            Self::BadBody => (ErrorKind::BadBody, &Failure::Body, "the answer broke off"),
            Self::TooLarge => (
                ErrorKind::TooLarge,
                &Failure::TooLarge,
                "the answer is too large",
            ),
            Self::Redirect => (
                ErrorKind::Redirect,
                &Failure::Protocol,
                "the service redirected",
            ),
            Self::BadStatus => (
                ErrorKind::BadStatus,
                &Failure::Protocol,
                "the status is not that of an answer",
            ),
            Self::BadContentType => (
                ErrorKind::BadContentType,
                &Failure::Protocol,
                "the answer is not of type JSON",
            ),
            Self::BadJson => (
                ErrorKind::BadJson,
                &Failure::Protocol,
                "the answer is not valid JSON",
            ),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject(reject) => reject.fmt(f),
            error => f.write_str(error.table().2),
        }
    }
}

/// The refusal, or the kind of failure, so that a boxed one is known too.
impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Reject(reject) => Some(reject),
            error => Some(error.table().1),
        }
    }
}

impl From<Reject> for ClientError {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl AsReject for ClientError {
    fn as_reject(&self) -> Option<&Reject> {
        match self {
            Self::Reject(reject) => Some(reject),
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        *self.table().1
    }
}

impl From<ClientError> for BranchError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Reject(reject) => reject.into(),
            error => Self::new(error.table().0, error.table().2),
        }
    }
}

/// Finds out how hyper's client failed.
impl From<hyper_util::client::legacy::Error> for ClientError {
    fn from(error: hyper_util::client::legacy::Error) -> Self {
        if error.is_connect() {
            return if names(&error, "dns error") {
                Self::Dns
            } else {
                Self::Connect
            };
        }
        match find::<hyper::Error>(&error) {
            Some(error) if error.is_canceled() => Self::Unsent,
            Some(error) => error.into(),
            None => Self::Reset,
        }
    }
}

impl From<&hyper::Error> for ClientError {
    fn from(error: &hyper::Error) -> Self {
        if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
            Self::BadHead
        } else {
            Self::Reset
        }
    }
}

fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    error.downcast_ref().or_else(|| find(error.source()?))
}

/// hyper-util tells a failed resolution only by its text.
fn names(error: &(dyn Error + 'static), text: &str) -> bool {
    error.to_string().contains(text) || error.source().is_some_and(|error| names(error, text))
}

#[cfg(test)]
mod tests {
    use tower_fanout::layers::BoxError;

    use super::*;

    #[test]
    fn a_boxed_error_says_what_it_was() {
        let boxed = BoxError::from(ClientError::Reject(Reject::Deadline));
        assert_eq!(boxed.as_reject(), Some(&Reject::Deadline));
        let boxed = BoxError::from(ClientError::Unsent);
        assert_eq!(
            (boxed.as_reject(), boxed.failure()),
            (None, Failure::Refused)
        );
    }
}
