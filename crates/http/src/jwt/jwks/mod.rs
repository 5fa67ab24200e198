//! Keys that an issuer publishes ([RFC 7517 §5](https://www.rfc-editor.org/rfc/rfc7517#section-5)),
//! fetched and kept fresh.
//!
//! A task fetches them every ten minutes or so, and when a token names a key that is not among them,
//! though not again within the cooldown. What cannot be fetched or read leaves the last keys in use, up
//! to a day; then there are none. Only tokio's clock is read here, which nobody sets.

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
use tower_fanout_layers::config::ConfigError;

use self::poll::{Flight, Poller, Shared};
pub use self::{
    config::{JwksConfig, Start},
    fetch::FetchOutcome,
    url::{BadJwksUrl, JwksUrl},
};
use super::keys::{KeySet, Unavailable};
use crate::{
    bounds::valid,
    client::{Client, ClientConfig, ClientError},
};

/// The keys of an issuer as it publishes them; see the [module docs](self). Cheap to clone. With the last
/// clone the task ends.
#[derive(Clone)]
pub struct Jwks {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    flight: watch::Receiver<Flight>,
    _task: JoinSet<()>,
}

/// Keys could not be fetched at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// A value of the config is not valid, or the client cannot be built.
    Config(ConfigError),
    /// The first fetch ended so.
    Fetch(FetchOutcome),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Fetch(outcome) => write!(f, "keys could not be fetched: {}", outcome.as_str()),
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
    /// Fetches the keys at `url`, and then again and again. `on_fetch` is told how each fetch ended; it
    /// must not block. Redirects are not followed.
    ///
    /// # Errors
    /// A value of `config` is not valid, the client cannot be built, or there are no keys and `config`
    /// says that this [fails](Start::Fail).
    pub async fn start(
        url: &JwksUrl,
        config: JwksConfig,
        on_fetch: impl Fn(FetchOutcome) + Send + 'static,
    ) -> Result<Self, StartError> {
        let config = valid(config)?;
        let client = ClientConfig::default().max_response(config.max_body);
        let client = Client::new(&url.endpoint(), client)?;
        Self::start_with(client, url, config, on_fetch).await
    }

    /// The same, by a client of your own, which is asked for the path and the query of `url`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with<S>(
        client: S,
        url: &JwksUrl,
        config: JwksConfig,
        on_fetch: impl Fn(FetchOutcome) + Send + 'static,
    ) -> Result<Self, StartError>
    where
        S: Service<Request<Bytes>, Response = Response<Bytes>, Error = ClientError>,
        S: Send + 'static,
        S::Future: Send,
    {
        let config = valid(config)?;
        let start = config.start;
        let mut poller = Poller::new(client, url.split().1, config, on_fetch);
        let outcome = poller.fetch().await;
        if outcome != FetchOutcome::Ok && start == Start::Fail {
            return Err(StartError::Fetch(outcome));
        }
        let (shared, flight) = (poller.shared(), poller.flight());
        let mut task = JoinSet::new();
        task.spawn(poller.run(outcome));
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                flight,
                _task: task,
            }),
        })
    }

    /// The keys.
    ///
    /// # Errors
    /// There never were any, or they are too old.
    pub fn current(&self) -> Result<Arc<KeySet>, Unavailable> {
        let Shared { config, found, .. } = &*self.handle.shared;
        match &*found.load() {
            Some(found) if found.at.elapsed() <= config.max_stale => Ok(Arc::clone(&found.keys)),
            _ => Err(Unavailable {
                retry_after: config.cooldown,
            }),
        }
    }

    /// How many sets there were up to the current one; 0 if there was none. The same set fetched again
    /// is no other.
    #[must_use]
    pub fn generation(&self) -> u64 {
        let found = self.handle.shared.found.load();
        found.as_ref().map_or(0, |found| found.generation)
    }

    /// How long ago the keys were last seen to be those of the issuer; none if they never were.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let found = self.handle.shared.found.load();
        found.as_ref().map(|found| found.at.elapsed())
    }

    /// Waits for the fetch that is under way, or for one that starts now; within the cooldown there is
    /// nothing to wait for. Any number of callers wait for the same fetch, and one that is dropped does
    /// not end it.
    pub async fn refetch(&self) {
        if let Some(flight) = self.flight() {
            flight.await;
        }
    }

    /// The end of a fetch that may bring keys that are not there yet, if there is or may be one now.
    pub(super) fn flight(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Handle { shared, flight, .. } = &*self.handle;
        let mut flight = flight.clone();
        let now = *flight.borrow();
        if !now.is_open(Instant::now(), shared.config.cooldown) {
            return None;
        }
        shared.asked.notify_one();
        Some(async move {
            // An error says that the task is gone, and nothing will come.
            let _ = flight.wait_for(|flight| flight.ended > now.ended).await;
        })
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
