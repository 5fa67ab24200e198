//! The error of one attempt.

use std::{error::Error, fmt, io, sync::Arc};

use http::Response;
use tower_fanout_layers::{AsRejection, BoxError, Failure, Rejection};

use super::hyper_error::{find, kind};
use crate::tls_error::TlsErrorKind;

/// The reason why an attempt has no usable response: a [kind](Self::kind) or a [`Rejection`], and the
/// [cause](Self::cause).
///
/// The `Display` text depends on the kind only. It contains no address and no part of a body, so that it
/// can be shown to callers. The cause is for logs.
///
/// The [`source`](Error::source) is the [`Rejection`] or the [`Failure`], so that layers can classify a
/// boxed error too. Every status other than 1xx, 304 and the redirects, such as 500, is a response and not
/// an error.
#[derive(Clone, Debug)]
pub struct ClientError(Repr);

#[derive(Clone, Debug)]
enum Repr {
    Rejected(Rejection),
    Failed {
        kind: ClientErrorKind,
        cause: Option<Arc<dyn Error + Send + Sync>>,
        head: Option<Head>,
    },
}

/// A response head whose headers do not reach the `Debug` output.
#[derive(Clone)]
struct Head(Arc<Response<()>>);

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.status(), f)
    }
}

/// The kind of a [`ClientError`].
///
/// Layers classify an error by the [`Failure`] of its kind:
///
/// | kind | failure |
/// |---|---|
/// | `Dns`, `AddressBlocked`, `ConnectRefused`, `Unreachable`, `Connect`, `Tls` | [`Failure::Connect`] |
/// | `NotProcessed` | [`Failure::NotProcessed`] |
/// | `Reset` | [`Failure::ConnectionReset`] |
/// | `BadBody` | [`Failure::TruncatedBody`] |
/// | `TooLarge` | [`Failure::TooLarge`] |
/// | `BadHead`, `BadEncoding`, `Redirect`, `BadStatus`, `BadContentType`, `BadJson` | [`Failure::Protocol`] |
///
/// After the [connect timeout](super::ClientConfig::connect_timeout) the kind is that of the step that
/// was running: `Dns`, `Unreachable` or `Tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The name of the downstream could not be resolved within the connect timeout. For one second
    /// after a failed lookup, all calls fail with this error without another lookup.
    Dns,
    /// The address policy allows none of the addresses of the downstream.
    AddressBlocked,
    /// The host of the downstream refused the connection: nothing listens on the port.
    ConnectRefused,
    /// The host or its network is unreachable, or did not respond within the connect timeout.
    Unreachable,
    /// No connection could be opened for another reason.
    Connect,
    /// The TLS handshake failed or took longer than the rest of the connect timeout. Also used if the
    /// downstream rejects the client certificate after the handshake.
    Tls(TlsErrorKind),
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
    /// The body is incomplete.
    BadBody,
    /// The body has a content coding although the client sends `Accept-Encoding: identity`, or a transfer
    /// coding other than `chunked`.
    BadEncoding,
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

impl ClientErrorKind {
    /// Returns the name in logs and metrics, such as `connect_refused`.
    ///
    /// `NotProcessed` and `Reset` share the name `reset`, and `BadBody` and `BadEncoding` share `bad_body`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns_failed",
            Self::AddressBlocked => "address_blocked",
            Self::ConnectRefused => "connect_refused",
            Self::Unreachable => "unreachable",
            Self::Connect => "connect_failed",
            Self::Tls(kind) => kind.as_str(),
            Self::NotProcessed | Self::Reset => "reset",
            Self::BadHead => "bad_head",
            Self::BadBody | Self::BadEncoding => "bad_body",
            Self::TooLarge => "too_large",
            Self::Redirect => "redirect",
            Self::BadStatus => "bad_status",
            Self::BadContentType => "bad_content_type",
            Self::BadJson => "bad_json",
        }
    }

    pub(super) const fn failure(self) -> &'static Failure {
        match self {
            Self::Dns
            | Self::AddressBlocked
            | Self::ConnectRefused
            | Self::Unreachable
            | Self::Connect
            | Self::Tls(_) => &Failure::Connect,
            Self::NotProcessed => &Failure::NotProcessed,
            Self::Reset => &Failure::ConnectionReset,
            Self::BadBody => &Failure::TruncatedBody,
            Self::TooLarge => &Failure::TooLarge,
            Self::BadHead
            | Self::BadEncoding
            | Self::Redirect
            | Self::BadStatus
            | Self::BadContentType
            | Self::BadJson => &Failure::Protocol,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Dns => "the host name could not be resolved",
            Self::AddressBlocked => "the address of the service is not allowed",
            Self::ConnectRefused => "the service refused the connection",
            Self::Unreachable => "the service is unreachable",
            Self::Connect => "could not connect",
            Self::Tls(kind) => kind.message(),
            Self::NotProcessed => "the service did not process the request",
            Self::Reset => "the connection was closed before the response",
            Self::BadHead => "the response head is not valid or is too large",
            Self::BadBody => "the response body is incomplete",
            Self::BadEncoding => "the response body has an encoding that was not requested",
            Self::TooLarge => "the response body is too large",
            Self::Redirect => "the service responded with a redirect",
            Self::BadStatus => "the status is not valid for a final response",
            Self::BadContentType => "the content type of the response is not JSON",
            Self::BadJson => "the response body is not valid JSON",
        }
    }
}

impl ClientError {
    /// Creates an error without a cause.
    #[must_use]
    pub const fn new(kind: ClientErrorKind) -> Self {
        let (cause, head) = (None, None);
        Self(Repr::Failed { kind, cause, head })
    }

    /// Sets the cause of an error that is not a rejection.
    ///
    /// The cause reaches logs but not callers. It must not contain a part of a body, a header or a secret.
    #[must_use]
    pub fn caused_by(mut self, error: impl Into<BoxError>) -> Self {
        if let Repr::Failed { cause, .. } = &mut self.0 {
            *cause = Some(Arc::from(error.into()));
        }
        self
    }

    /// Adds the head of the response, if its status is an error.
    pub(super) fn of_response<B>(mut self, response: &Response<B>) -> Self {
        let status = response.status();
        if (status.is_client_error() || status.is_server_error())
            && let Repr::Failed { head, .. } = &mut self.0
        {
            let mut copy = Response::new(());
            *copy.status_mut() = status;
            copy.headers_mut().clone_from(response.headers());
            *head = Some(Head(Arc::new(copy)));
        }
        self
    }

    /// Returns the status and the headers of the response if it has an error status (4xx or 5xx) and only
    /// its body cannot be used: it is incomplete, too large, or has a content coding.
    ///
    /// A layer that does not need the body of such a response can use this in place of the error.
    #[must_use]
    pub fn response(&self) -> Option<&Response<()>> {
        match &self.0 {
            Repr::Failed { head, .. } => head.as_ref().map(|head| &*head.0),
            Repr::Rejected(_) => None,
        }
    }

    /// Returns the kind, or `None` if the error is a [`Rejection`].
    #[must_use]
    pub const fn kind(&self) -> Option<ClientErrorKind> {
        match &self.0 {
            Repr::Rejected(_) => None,
            Repr::Failed { kind, .. } => Some(*kind),
        }
    }

    /// Returns the name of the kind in logs and metrics, `descriptor_limit` for
    /// [`Rejection::DescriptorLimit`], and `rejected` for another rejection.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match &self.0 {
            Repr::Rejected(Rejection::DescriptorLimit) => "descriptor_limit",
            Repr::Rejected(_) => "rejected",
            Repr::Failed { kind, .. } => kind.as_str(),
        }
    }

    /// Returns the cause, such as an error of rustls or of the operating system, or `None` if the kind says
    /// everything.
    #[must_use]
    pub const fn cause(&self) -> Option<&Arc<dyn Error + Send + Sync>> {
        match &self.0 {
            Repr::Failed { cause, .. } => cause.as_ref(),
            Repr::Rejected(_) => None,
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Rejected(rejection) => rejection.fmt(f),
            Repr::Failed { kind, .. } => f.write_str(kind.message()),
        }
    }
}

/// Two errors are equal if their kind or rejection is; the cause is ignored.
impl PartialEq for ClientError {
    fn eq(&self, other: &Self) -> bool {
        (self.kind(), self.as_rejection()) == (other.kind(), other.as_rejection())
    }
}

impl Eq for ClientError {}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            Repr::Rejected(rejection) => Some(rejection),
            Repr::Failed { kind, .. } => Some(kind.failure()),
        }
    }
}

impl From<ClientErrorKind> for ClientError {
    fn from(kind: ClientErrorKind) -> Self {
        Self::new(kind)
    }
}

impl From<Rejection> for ClientError {
    fn from(rejection: Rejection) -> Self {
        Self(Repr::Rejected(rejection))
    }
}

impl AsRejection for ClientError {
    fn as_rejection(&self) -> Option<Rejection> {
        match &self.0 {
            Repr::Rejected(rejection) => Some(*rejection),
            Repr::Failed { .. } => None,
        }
    }

    fn failure(&self) -> Failure {
        self.kind().map_or(Failure::Other, |kind| *kind.failure())
    }
}

impl ClientError {
    /// Maps an error of hyper's client. `connect_error` returns the last error of the connector.
    pub(super) fn from_hyper(
        error: impl Error + Send + Sync + 'static,
        connect_error: impl Fn() -> Option<Self>,
    ) -> Self {
        if let Some(ours) = find::<Self>(&error) {
            return ours.clone();
        }
        #[cfg(feature = "tls")]
        if let Some(kind) = super::tls::rejects_client_certificate(find(&error)) {
            return Self::new(ClientErrorKind::Tls(kind)).caused_by(error);
        }
        #[cfg(feature = "tls")]
        if let Some(refusal) = connect_error().filter(|last| last.explains(&error)) {
            return refusal;
        }
        let Some(kind) = kind(&error) else {
            return connect_error().unwrap_or_else(|| ClientErrorKind::Connect.into());
        };
        // hyper has one error for both limits, and names it to servers only.
        let too_large =
            |error: &hyper::Error| error.is_parse() && error.to_string().contains("too large");
        if find(&error).is_some_and(too_large) {
            let limits = "the head exceeds max_head or has more than 100 headers";
            return Self::new(kind).caused_by(limits);
        }
        Self::new(kind).caused_by(error)
    }

    /// Maps an error of the operating system from opening a connection.
    pub(super) fn from_connect(error: io::Error) -> Self {
        use io::ErrorKind as Io;
        if is_descriptor_limit(&error) {
            return Rejection::DescriptorLimit.into();
        }
        let kind = match error.kind() {
            Io::ConnectionRefused => ClientErrorKind::ConnectRefused,
            Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown | Io::TimedOut => {
                ClientErrorKind::Unreachable
            }
            _ => ClientErrorKind::Connect,
        };
        Self::new(kind).caused_by(error)
    }
}

#[cfg(feature = "tls")]
impl ClientError {
    /// Returns the error of a connection whose read failed with `error`, if `error` is the alert that the
    /// client certificate is refused.
    pub(super) fn from_refusal(error: &io::Error) -> Option<Self> {
        let alert = find::<rustls::Error>(error)?;
        let kind = super::tls::rejects_client_certificate(Some(alert))?;
        Some(Self::new(ClientErrorKind::Tls(kind)).caused_by(alert.clone()))
    }

    /// Returns `true` if the client certificate is missing or refused.
    pub(super) fn is_refused_certificate(&self) -> bool {
        let kind = ClientErrorKind::Tls(TlsErrorKind::ClientCertRequired);
        self.kind() == Some(kind)
    }

    /// Returns `true` if this refusal of the client certificate explains `error`, which has lost its source.
    ///
    /// hyper keeps no source for a call that waited for an HTTP/2 connection, and h2 keeps only the text of
    /// an I/O error.
    fn explains(&self, error: &(dyn Error + 'static)) -> bool {
        let canceled = find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        let text = find::<io::Error>(error).map(ToString::to_string);
        let same = text.is_some() && text == self.cause().map(ToString::to_string);
        self.is_refused_certificate() && (canceled || same)
    }
}

/// Returns `true` if this process, or the whole system, has no file descriptor left.
pub(super) fn is_descriptor_limit(error: &io::Error) -> bool {
    // `io::ErrorKind` has no stable value for them: ENFILE and EMFILE, or WSAEMFILE on Windows.
    let codes: &[i32] = if cfg!(windows) { &[10_024] } else { &[23, 24] };
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::BoxError;

    use super::*;

    #[test]
    fn boxed_errors_are_classified_by_their_source() {
        let boxed = BoxError::from(ClientError::from(Rejection::Deadline));
        assert_eq!(boxed.as_rejection(), Some(Rejection::Deadline));
        let boxed = BoxError::from(ClientError::new(ClientErrorKind::NotProcessed));
        assert_eq!(
            (boxed.as_rejection(), boxed.failure()),
            (None, Failure::NotProcessed)
        );
    }

    #[test]
    fn fault_f41_connect_errors_have_the_kind_of_their_code() {
        // The codes of Linux: EACCES, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENETDOWN.
        for (code, kind) in [
            (13, ClientErrorKind::Connect),
            (110, ClientErrorKind::Unreachable),
            (111, ClientErrorKind::ConnectRefused),
            (113, ClientErrorKind::Unreachable),
            (101, ClientErrorKind::Unreachable),
            (100, ClientErrorKind::Unreachable),
        ] {
            let error = ClientError::from_connect(io::Error::from_raw_os_error(code));
            assert_eq!(error.kind(), Some(kind), "{code}");
            let cause = error.cause().unwrap().to_string();
            assert!(cause.ends_with(&format!("(os error {code})")), "{cause}");
        }
        for code in [23, 24] {
            let error = ClientError::from_connect(io::Error::from_raw_os_error(code));
            assert_eq!(error.as_rejection(), Some(Rejection::DescriptorLimit));
        }
    }
}
