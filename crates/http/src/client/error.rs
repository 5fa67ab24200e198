//! The error of one attempt.

use std::{error::Error, fmt, io};

use h2::Reason;
use hyper_util::client::legacy;
use tower_fanout_layers::{AsRejection, Failure, Rejection};

/// The reason why an attempt has no usable response.
///
/// The error contains no address and no part of a body, so that it can be shown to callers.
///
/// Layers classify it by its [`Failure`]:
///
/// | error | failure |
/// |---|---|
/// | `Dns`, `Connect`, `Tls` | [`Failure::Connect`] |
/// | `NotProcessed` | [`Failure::NotProcessed`] |
/// | `Reset` | [`Failure::ConnectionReset`] |
/// | `BadBody` | [`Failure::TruncatedBody`] |
/// | `TooLarge` | [`Failure::TooLarge`] |
/// | `BadHead`, `Redirect`, `BadStatus`, `BadContentType`, `BadJson` | [`Failure::Protocol`] |
/// | `Rejected` | none; layers use the [`Rejection`] |
///
/// After the [connect timeout](super::ClientConfig::connect_timeout) the error is that of the step that
/// was running: `Dns`, `Connect` or `Tls`. Every status other than 1xx and 3xx, such as 500,
/// is a response and not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// A layer rejected the call.
    Rejected(Rejection),
    /// The name of the downstream could not be resolved within the connect timeout. For one second
    /// after a failed lookup, all calls fail with this error without another lookup.
    Dns,
    /// No connection could be opened within the connect timeout, or the address policy allows none of
    /// the addresses.
    Connect,
    /// The TLS handshake failed or took longer than the rest of the connect timeout. Also used if the
    /// downstream rejects the client certificate.
    Tls,
    /// The downstream certainly did not process the request.
    ///
    /// Either the connection was closed before any part of the request was sent, or the downstream
    /// refused the stream (HTTP/2: REFUSED_STREAM, or a GOAWAY with a lower stream id). The client does
    /// not repeat such a request, except on a reused connection that was closed before any part of
    /// the request was sent. A retry layer may repeat it, whatever its method.
    NotProcessed,
    /// The connection broke before the response head arrived.
    Reset,
    /// The response head is not valid HTTP, exceeds [`ClientConfig::max_head`](super::ClientConfig::max_head)
    /// or follows more than 16 interim responses (HTTP/1). Also used for a request whose URI, with the
    /// prefix of the endpoint, is not valid.
    BadHead,
    /// The body is incomplete, or has a content coding although the client sends
    /// `Accept-Encoding: identity`.
    BadBody,
    /// The body exceeds [`ClientConfig::max_response`](super::ClientConfig::max_response).
    TooLarge,
    /// The status is 3xx other than 304. The client follows no redirects.
    Redirect,
    /// The status cannot be that of a final response: 1xx, or 304. The client has no cache, so 304 is
    /// an error even if the request is conditional.
    BadStatus,
    /// The `Content-Type` is not JSON. Returned by the layer for JSON of the crate `tower-fanout-json`.
    ///
    /// The client sends `Accept: application/json` unless the request has another `Accept`, but does not
    /// check the `Content-Type` of the response.
    BadContentType,
    /// The body is not valid JSON. The client itself does not read bodies. The layers for JSON of the
    /// crate `tower-fanout-json` return this error.
    BadJson,
}

impl ClientError {
    const fn table(self) -> (&'static Failure, &'static str) {
        match self {
            // Never shown: `Display` and `AsRejection` use the rejection itself.
            Self::Rejected(_) => (&Failure::Other, "rejected"),
            Self::Dns => (&Failure::Connect, "the host name could not be resolved"),
            Self::Connect => (&Failure::Connect, "could not connect"),
            Self::Tls => (&Failure::Connect, "the TLS handshake failed"),
            Self::NotProcessed => (
                &Failure::NotProcessed,
                "the service did not process the request",
            ),
            Self::Reset => (
                &Failure::ConnectionReset,
                "the connection was closed before the response",
            ),
            Self::BadHead => (
                &Failure::Protocol,
                "the response head is not valid or is too large",
            ),
            Self::BadBody => (
                &Failure::TruncatedBody,
                "the response body is incomplete or encoded",
            ),
            Self::TooLarge => (&Failure::TooLarge, "the response body is too large"),
            Self::Redirect => (&Failure::Protocol, "the service responded with a redirect"),
            Self::BadStatus => (
                &Failure::Protocol,
                "the status is not valid for a final response",
            ),
            Self::BadContentType => (
                &Failure::Protocol,
                "the content type of the response is not JSON",
            ),
            Self::BadJson => (&Failure::Protocol, "the response body is not valid JSON"),
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

/// The source is the [`Rejection`] or the [`Failure`], so that layers can classify a boxed error too.
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
    /// Maps an error of hyper's client.
    pub(super) fn from_hyper(error: legacy::Error) -> Self {
        if let Some(ours) = find::<Self>(&error) {
            return *ours;
        }
        #[cfg(feature = "tls")]
        if super::tls::rejects_client_certificate(find(&error)) {
            return Self::Tls;
        }
        match (find::<h2::Error>(&error), find::<hyper::Error>(&error)) {
            _ if error.is_connect() => Self::Connect,
            // The call was waiting for a connection that another call was opening. The
            // error then wraps neither an error of hyper nor one of h2.
            (None, None) => Self::Connect,
            (Some(error), _) => Self::from_stream(error),
            (None, Some(error)) if error.is_canceled() => Self::NotProcessed,
            (None, Some(error)) if error.is_parse() => Self::BadHead,
            _ => Self::Reset,
        }
    }

    /// Maps the error of an HTTP/2 stream that ended before its response
    /// ([RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)).
    fn from_stream(error: &h2::Error) -> Self {
        let reason = error.reason();
        let refused = error.is_reset() && reason == Some(Reason::REFUSED_STREAM);
        let left = error.is_go_away() && reason == Some(Reason::NO_ERROR);
        if error.is_remote() && (refused || left) {
            Self::NotProcessed
        } else if error.is_library() {
            Self::BadHead
        } else {
            Self::Reset
        }
    }
}

/// Returns the first error of type `T` among `error`, its sources, and the errors that an
/// [`io::Error`] wraps.
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
    fn boxed_errors_are_classified_by_their_source() {
        let boxed = BoxError::from(ClientError::Rejected(Rejection::Deadline));
        assert_eq!(boxed.as_rejection(), Some(&Rejection::Deadline));
        let boxed = BoxError::from(ClientError::NotProcessed);
        assert_eq!(
            (boxed.as_rejection(), boxed.failure()),
            (None, Failure::NotProcessed)
        );
    }
}
