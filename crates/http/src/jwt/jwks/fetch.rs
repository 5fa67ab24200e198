//! One fetch of a JWK Set.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::ACCEPT};
use tokio::time::timeout;
use tower::{Service, ServiceExt};
use tower_fanout_layers::labels;

use super::JwksConfig;
use crate::client::ClientError;

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
        /// [`ClientError::BadHead`], [`ClientError::BadContentType`] and [`ClientError::BadJson`].
        Invalid = "invalid",
    }
}

impl From<ClientError> for FetchOutcome {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::TooLarge => Self::TooLarge,
            ClientError::Redirect | ClientError::BadStatus => Self::Status,
            ClientError::BadHead | ClientError::BadContentType | ClientError::BadJson => {
                Self::Invalid
            }
            _ => Self::Unreachable,
        }
    }
}

const KEYS: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");

/// Requests `target` from `service` and returns the response body.
pub(super) async fn fetch<S>(
    service: &mut S,
    target: &Uri,
    config: &JwksConfig,
) -> Result<Bytes, FetchOutcome>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error = ClientError>,
{
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = target.clone();
    request.headers_mut().insert(ACCEPT, KEYS);
    let answer = async { service.ready().await?.call(request).await };
    let answer = timeout(config.timeout, answer).await;
    let answer = answer.map_err(|_| FetchOutcome::Timeout)??;
    if answer.status() != StatusCode::OK {
        return Err(FetchOutcome::Status);
    }
    // The client may have a larger limit of its own.
    if answer.body().len() > config.max_body {
        return Err(FetchOutcome::TooLarge);
    }
    Ok(answer.into_body())
}
