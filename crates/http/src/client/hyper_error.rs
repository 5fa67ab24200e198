//! Kinds of the errors of hyper's client, bare or wrapped by another client.

use std::{error::Error, io};

use h2::Reason;
use hyper_util::client::legacy;
use tower_fanout_layers::Failure;

use super::ClientErrorKind;

/// Returns the kind of failure of an error of any client on hyper, such as hyper-util's or reqwest's.
///
/// Pass the function to [`CallErrorLayer::with`](tower_fanout_layers::CallErrorLayer::with) or
/// [`LayerErrorLayer::with`](tower_fanout_layers::LayerErrorLayer::with). In an error type of your own, call it in
/// [`AsRejection::failure`](tower_fanout_layers::AsRejection::failure). The layers above then know which requests
/// were not sent, and retry these whatever their method. A [`Problem`](crate::problem::Problem) made from the error
/// of an unreachable service is a 502. Without the function, it is a 500.
///
/// | error, or one of its sources | failure |
/// |---|---|
/// | hyper-util could not open a connection | [`Failure::Connect`] |
/// | the connection was closed before the request was sent, or the HTTP/2 stream was refused | [`Failure::NotProcessed`] |
/// | the response is not valid HTTP | [`Failure::Protocol`] |
/// | any other error of hyper or h2 | [`Failure::ConnectionReset`] |
/// | no error of hyper, hyper-util or h2, for example a timeout of the client itself | [`Failure::Other`] |
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_fanout_http::client::failure;
/// use tower_fanout_layers::{CallErrorLayer, ClassifyHttp, RetryConfig, RetryLayer};
///
/// let client = ServiceBuilder::new()
///     .layer(RetryLayer::new(RetryConfig::new(), ClassifyHttp::new()).unwrap())
///     .layer(CallErrorLayer::with(failure))
///     .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
/// let request = Request::get("http://127.0.0.1:9001/users").body(Full::default()).unwrap();
/// let response = client.oneshot(request); // a future
/// ```
///
/// A `reqwest::Client` takes requests of its own type, which layers cannot copy. Put a function around it that
/// converts: `reqwest::Request::try_from(request)` and `http::Response::from(response)`. The example
/// `reqwest_client` of the repository shows a program.
pub fn failure<E: Error + 'static>(error: &E) -> Failure {
    // hyper-util's client has an error without a source for a call that was not sent.
    let not_sent = || find::<legacy::Error>(error).map(|_| ClientErrorKind::Connect);
    let kind = kind(error).or_else(not_sent);
    kind.map_or(Failure::Other, |kind| *kind.failure())
}

/// Returns the kind of an error of hyper's client.
///
/// `None` if the client has no error of hyper or h2: the call was waiting for a connection that another call
/// was opening.
pub(super) fn kind(error: &(dyn Error + 'static)) -> Option<ClientErrorKind> {
    let connect = find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect);
    let (h2, h1) = (find::<h2::Error>(error), find::<hyper::Error>(error));
    Some(match (h2, h1) {
        _ if connect => ClientErrorKind::Connect,
        (None, None) => return None,
        (Some(error), _) => of_stream(error),
        (None, Some(error)) if error.is_canceled() => ClientErrorKind::NotProcessed,
        (None, Some(error)) if error.is_parse() => ClientErrorKind::BadHead,
        _ => ClientErrorKind::Reset,
    })
}

/// Returns the kind of the error of an HTTP/2 stream that ended before its response
/// ([RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)).
fn of_stream(error: &h2::Error) -> ClientErrorKind {
    let reason = error.reason();
    let refused = error.is_reset() && reason == Some(Reason::REFUSED_STREAM);
    let left = error.is_go_away() && reason == Some(Reason::NO_ERROR);
    if error.is_remote() && (refused || left) {
        ClientErrorKind::NotProcessed
    } else if error.is_library() {
        ClientErrorKind::BadHead
    } else {
        ClientErrorKind::Reset
    }
}

/// Returns the first error of type `T` among `error`, its sources, and the errors that an
/// [`io::Error`] wraps.
pub(super) fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
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
    use std::fmt;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Full;
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use tower::{Layer, ServiceExt};
    use tower_fanout_layers::{CallErrorLayer, LayerErrorLayer};
    use tower_fanout_testkit::fault_server::{
        Fault, FaultServer,
        h2::{Reason, StreamFault},
    };

    use super::*;
    use crate::problem::{Code, Problem};

    /// An error as clients on hyper have it.
    #[derive(Debug)]
    struct Wrapped(legacy::Error);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the request failed")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    /// Returns the failure of hyper-util's client, which is the same if another error wraps it.
    async fn failure_at(url: String, http2: bool) -> Failure {
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.http2_only(http2).build_http::<Full<Bytes>>();
        let error = client.get(url.parse().unwrap()).await.unwrap_err();
        let bare = failure(&error);
        assert_eq!(failure(&Wrapped(error)), bare);
        bare
    }

    #[tokio::test]
    async fn an_error_of_hyper_has_a_failure_bare_and_wrapped() {
        let refusing = FaultServer::refusing();
        assert_eq!(failure_at(refusing.url(), false).await, Failure::Connect);
        for (fault, failure) in [
            (Fault::reset_before_head(), Failure::ConnectionReset),
            (Fault::reset_in_head(), Failure::ConnectionReset),
            (Fault::new().send("no HTTP\r\n\r\n"), Failure::Protocol),
        ] {
            let server = FaultServer::start(fault).await;
            assert_eq!(failure_at(server.url(), false).await, failure);
        }
    }

    #[tokio::test]
    async fn er_05_an_unreachable_service_is_a_502_with_the_function() {
        let refusing = FaultServer::refusing();
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let request = Request::get(refusing.url()).body(Full::default()).unwrap();
        let service = LayerErrorLayer::with(failure).layer(client.clone());
        let error = service.oneshot(request.clone()).await.unwrap_err();
        assert_eq!(Problem::from(error).code(), Code::UpstreamFailed);
        let service = CallErrorLayer::with(failure).layer(client.clone());
        let error = service.oneshot(request.clone()).await.unwrap_err();
        assert_eq!(Problem::from(error).code(), Code::UpstreamFailed);
        let service = LayerErrorLayer::new().layer(client);
        let error = service.oneshot(request).await.unwrap_err();
        assert_eq!(Problem::from(error).code(), Code::Internal);
    }

    #[tokio::test]
    async fn a_refused_stream_was_not_processed() {
        for (fault, failure) in [
            (StreamFault::refused_stream(), Failure::NotProcessed),
            (StreamFault::rst(Reason::CANCEL), Failure::ConnectionReset),
        ] {
            let server = FaultServer::h2_sequence([fault]).await;
            assert_eq!(failure_at(server.url(), true).await, failure);
        }
    }

    #[test]
    fn any_other_error_has_no_kind() {
        let error = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(failure(&error), Failure::Other);
    }
}
