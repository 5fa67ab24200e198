//! One fetch of a set of keys.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::ACCEPT};
use tokio::time::timeout;
use tower::{Service, ServiceExt};

use super::JwksConfig;
use crate::client::ClientError;

macro_rules! outcomes {
    ($($(#[$doc:meta])* $outcome:ident = $name:literal,)*) => {
        /// How a fetch of keys ended: for logs and metrics, a closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum FetchOutcome { $($(#[$doc])* $outcome,)* }

        impl FetchOutcome {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$outcome),*];

            /// Its name in logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$outcome => $name,)* }
            }
        }
    };
}

outcomes! {
    /// There are keys, new ones or the same.
    Ok = "ok",
    /// No answer came, or it broke off.
    Unreachable = "unreachable",
    /// It took too long.
    Timeout = "timeout",
    /// The answer's status is not 200.
    Status = "status",
    /// The answer is too large.
    TooLarge = "too_large",
    /// The answer is no set of keys, or no key of it can be used.
    Invalid = "invalid",
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

/// Asks `service` for `target`; gives the body of its answer.
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
    if answer.body().len() > config.max_body {
        return Err(FetchOutcome::TooLarge);
    }
    Ok(answer.into_body())
}
