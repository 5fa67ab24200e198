//! One fetch of a JWK Set.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::ACCEPT};
use tokio::time::timeout;
use tower::{Service, ServiceExt};
use tower_fanout_layers::labels;

use super::JwksConfig;
use crate::{
    client::{ClientError, ClientErrorKind},
    jwt::keys::{KeyError, KeyFaults},
    log::ErrorChain,
};

labels! {
    /// Outcome of a fetch of keys, for logs and metrics.
    pub enum FetchOutcome {
        /// The fetch returned usable keys, new or unchanged.
        Ok = "ok",
        /// No response arrived, or it ended early. Also used for any error of the client that no other
        /// outcome names, and if the fetch panics.
        Unreachable = "unreachable",
        /// The fetch exceeded its timeout.
        Timeout = "timeout",
        /// The status of the response is not 200. Redirects are included.
        Status = "status",
        /// The response is larger than [`JwksConfig::max_body`](field@super::JwksConfig::max_body) or the
        /// limit of the client.
        TooLarge = "too_large",
        /// The response is not a JWK Set, has more than
        /// [`JwksConfig::max_keys`](field@super::JwksConfig::max_keys) keys, has two usable keys with the same
        /// `kid`, or no key of it can be used. Also used for
        /// [`ClientErrorKind::BadHead`], [`ClientErrorKind::BadContentType`] and [`ClientErrorKind::BadJson`].
        Invalid = "invalid",
    }
}

/// The error of a fetch of keys. The [`source`](Error::source) is the error of the client or of the keys.
#[derive(Clone, Debug)]
pub struct FetchError {
    outcome: FetchOutcome,
    cause: Option<Cause>,
}

#[derive(Clone, Debug)]
enum Cause {
    Client(ClientError),
    Keys(KeyError, KeyFaults),
    Status(StatusCode),
}

impl FetchError {
    /// Returns the outcome, which is not [`FetchOutcome::Ok`].
    #[must_use]
    pub const fn outcome(&self) -> FetchOutcome {
        self.outcome
    }

    /// Returns the name of the client's error, such as `tls_expired` or `descriptor_limit`, or `None` if the
    /// client returned a response or the fetch timed out.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        match &self.cause {
            Some(Cause::Client(error)) => Some(error.name()),
            _ => None,
        }
    }

    /// Creates the error of a set that cannot be used, with the faults of its keys.
    pub(super) fn of_keys(error: KeyError, faults: KeyFaults) -> Self {
        let (outcome, cause) = (FetchOutcome::Invalid, Some(Cause::Keys(error, faults)));
        Self { outcome, cause }
    }

    /// Returns the faults of single keys, if a set was fetched.
    pub(super) fn key_faults(&self) -> Option<&KeyFaults> {
        match &self.cause {
            Some(Cause::Keys(_, faults)) => Some(faults),
            _ => None,
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind().unwrap_or(self.outcome.as_str()))?;
        match &self.cause {
            // The source of a client's error is its class, so its cause is written here.
            Some(Cause::Client(error)) => match error.cause() {
                Some(cause) => write!(f, ": {}", ErrorChain(&**cause)),
                None => Ok(()),
            },
            Some(Cause::Keys(error, _)) => write!(f, ": {error}"),
            Some(Cause::Status(status)) => write!(f, ": {status}"),
            None => Ok(()),
        }
    }
}

impl Error for FetchError {}

impl From<FetchOutcome> for FetchError {
    fn from(outcome: FetchOutcome) -> Self {
        let cause = None;
        Self { outcome, cause }
    }
}

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        if let Some(response) = error.response() {
            return response.status().into();
        }
        let outcome = match error.kind() {
            Some(ClientErrorKind::TooLarge) => FetchOutcome::TooLarge,
            Some(ClientErrorKind::Redirect | ClientErrorKind::BadStatus) => FetchOutcome::Status,
            Some(
                ClientErrorKind::BadHead
                | ClientErrorKind::BadContentType
                | ClientErrorKind::BadJson,
            ) => FetchOutcome::Invalid,
            _ => FetchOutcome::Unreachable,
        };
        let cause = Some(Cause::Client(error));
        Self { outcome, cause }
    }
}

impl From<StatusCode> for FetchError {
    fn from(status: StatusCode) -> Self {
        let (outcome, cause) = (FetchOutcome::Status, Some(Cause::Status(status)));
        Self { outcome, cause }
    }
}

impl From<KeyError> for FetchError {
    fn from(error: KeyError) -> Self {
        Self::of_keys(error, KeyFaults::default())
    }
}

const KEYS: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");

/// Requests `target` from `service` and returns the response body.
pub(super) async fn fetch<S>(
    service: &mut S,
    target: &Uri,
    config: &JwksConfig,
) -> Result<Bytes, FetchError>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error = ClientError>,
{
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = target.clone();
    request.headers_mut().insert(ACCEPT, KEYS);
    let answer = async { service.ready().await?.call(request).await };
    let answer = timeout(config.timeout, answer).await;
    let answer = answer.map_err(|_| FetchError::from(FetchOutcome::Timeout))??;
    if answer.status() != StatusCode::OK {
        return Err(answer.status().into());
    }
    // The client may have a larger limit of its own.
    if answer.body().len() > config.max_body {
        return Err(FetchOutcome::TooLarge.into());
    }
    Ok(answer.into_body())
}
