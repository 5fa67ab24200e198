//! Keys that an issuer publishes as a JWK Set
//! ([RFC 7517 §5](https://www.rfc-editor.org/rfc/rfc7517#section-5)), fetched and refreshed.
//!
//! A task fetches the set every [`JwksConfig::poll_interval`](field@JwksConfig::poll_interval) (10 min by
//! default), and also when a token has an unknown `kid`, except during the
//! [cooldown](field@JwksConfig::cooldown). A failed fetch is repeated after the cooldown, not after the poll
//! interval. The last keys then stay in use for up to [`JwksConfig::max_stale`](field@JwksConfig::max_stale)
//! (24 h by default). Then [`Jwks::current`] returns an error. All times are measured with tokio's monotonic
//! clock, so changes of the wall clock have no effect.

mod config;
mod fetch;
mod poll;
#[cfg(test)]
pub(super) mod tests;
mod url;

use std::{error::Error, fmt, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tower::Service;
use tower_fanout_layers::config::{ConfigError, Validate};
use tracing::Instrument;

use self::poll::{Flight, Poller, Shared};
pub use self::{
    config::{JwksConfig, Start},
    fetch::{FetchError, FetchOutcome},
    url::JwksUrl,
};
use super::keys::{KeySet, Unavailable};
use crate::client::{Client, ClientConfig, ClientError};

/// The fetched keys of one issuer; see the [module docs](self). Cheap to clone. The task ends when the
/// last clone is dropped.
#[derive(Clone)]
pub struct Jwks {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    flight: watch::Receiver<Flight>,
    /// Aborts the task when the last handle is dropped.
    _task: JoinSet<()>,
}

/// An error for a [`Jwks`] that could not start.
#[derive(Clone, Debug)]
pub enum StartError {
    /// A value of the config is invalid, or the client cannot be built.
    Config(ConfigError),
    /// The first fetch failed.
    Fetch(FetchError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Fetch(error) => write!(f, "keys could not be fetched: {error}"),
        }
    }
}

impl Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl Jwks {
    /// Fetches the keys at `url` and starts the task that refreshes them. Waits for the first fetch.
    ///
    /// `on_fetch` is called with the result of each fetch and must not block. Redirects are not
    /// followed. The log lines of fetches belong to the span `key_fetch`, whose field `issuer` is
    /// [`JwksConfig::issuer`](field@JwksConfig::issuer).
    ///
    /// The keys are fetched with a [`Client`] with the default [`ClientConfig`], so the issuer may have a
    /// public or a private address ([`AddressPolicy::Private`](crate::client::AddressPolicy::Private)).
    /// Use [`start_with`](Self::start_with) for another config.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is invalid, if the client cannot be built, or if the
    /// first fetch fails and [`JwksConfig::start`](field@JwksConfig::start) is [`Start::Fail`]. Without
    /// the feature `tls` the client cannot be built for an `https` URL.
    pub async fn start(
        url: &JwksUrl,
        config: JwksConfig,
        on_fetch: impl Fn(Result<(), &FetchError>) + Send + 'static,
    ) -> Result<Self, StartError> {
        let config = config.validated()?;
        let client = ClientConfig::default().max_response(config.max_body);
        let client = Client::new(&url.endpoint(), client)?;
        Self::start_with(client, url, config, on_fetch).await
    }

    /// Starts like [`start`](Self::start) with your own client, which gets requests for the path and
    /// query of `url`.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with<S>(
        client: S,
        url: &JwksUrl,
        config: JwksConfig,
        on_fetch: impl Fn(Result<(), &FetchError>) + Send + 'static,
    ) -> Result<Self, StartError>
    where
        S: Service<Request<Bytes>, Response = Response<Bytes>, Error = ClientError>,
        S: Send + 'static,
        S::Future: Send,
    {
        let config = config.validated()?;
        let start = config.start;
        let issuer = config.issuer.as_deref().unwrap_or(url.host());
        // Level `ERROR`, so that the span is enabled whenever a line is logged.
        let span = tracing::error_span!(parent: None, "key_fetch", issuer);
        let mut poller = Poller::new(client, url, config, on_fetch);
        let fetched = poller.fetch().instrument(span.clone()).await;
        let is_ok = fetched.is_ok();
        if let (Err(error), Start::Fail) = (fetched, start) {
            return Err(StartError::Fetch(error));
        }
        let (shared, flight) = (poller.shared(), poller.flight());
        let mut task = JoinSet::new();
        task.spawn(poller.run(is_ok).instrument(span));
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                flight,
                _task: task,
            }),
        })
    }

    /// Returns the current keys.
    ///
    /// # Errors
    /// Returns an error if no fetch has succeeded yet, or if the last keys are older than
    /// [`JwksConfig::max_stale`](field@JwksConfig::max_stale). `retry_after` is the cooldown.
    pub fn current(&self) -> Result<Arc<KeySet>, Unavailable> {
        let Shared {
            config, current, ..
        } = &*self.handle.shared;
        match &*current.load() {
            Some(current) if current.at.elapsed() <= config.max_stale => {
                Ok(Arc::clone(&current.keys))
            }
            _ => Err(Unavailable {
                retry_after: config.cooldown,
            }),
        }
    }

    /// Returns the time since the last successful fetch, or `None` before the first.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let current = self.handle.shared.current.load();
        current.as_ref().map(|current| current.at.elapsed())
    }

    /// Waits for the running fetch, or for one that starts now. Returns at once during the cooldown.
    ///
    /// Any number of callers can wait for the same fetch. Dropping this future does not stop the fetch.
    pub async fn refetch(&self) {
        if let Some(flight) = self.flight() {
            flight.await;
        }
    }

    /// Requests a fetch and returns a future of its end. Returns `None` during the cooldown.
    pub(super) fn flight(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Handle { shared, flight, .. } = &*self.handle;
        let mut flight = flight.clone();
        // Read before the request, so that a fetch that ends in between is not missed.
        let now = *flight.borrow();
        if !now.is_open(Instant::now(), shared.config.cooldown) {
            return None;
        }
        shared.fetch_requested.notify_one();
        Some(async move {
            // An error means that the task has ended, so no fetch will follow.
            let _ = flight.wait_for(|flight| flight.ended > now.ended).await;
        })
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("age", &self.age())
            .finish_non_exhaustive()
    }
}
