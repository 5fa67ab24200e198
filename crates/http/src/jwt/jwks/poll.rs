//! The task that fetches keys. As the only one to do so, it never overlaps fetches.

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, Response, Uri};
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tower::Service;
use tower_fanout_layers::panic;

use super::{FetchError, JwksConfig, JwksUrl, fetch::fetch};
use crate::{client::ClientError, jwt::keys::KeySet, log::RateLimit};

/// Minimum time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// State that the task shares with its handles.
pub(super) struct Shared {
    pub(super) config: JwksConfig,
    pub(super) current: ArcSwapOption<CurrentKeys>,
    /// Requests a fetch. Several requests during the cooldown lead to one fetch.
    pub(super) fetch_requested: Notify,
}

/// The keys from the last successful fetch.
pub(super) struct CurrentKeys {
    pub(super) keys: Arc<KeySet>,
    /// Time of the last fetch that returned these keys.
    pub(super) at: Instant,
}

/// The running fetch, or else the last one.
#[derive(Clone, Copy)]
pub(super) struct Flight {
    pub(super) started: Instant,
    pub(super) is_running: bool,
    /// Number of finished fetches.
    pub(super) ended: u64,
}

impl Flight {
    /// Returns `true` if a fetch is running or the cooldown allows a new one.
    pub(super) fn is_open(&self, now: Instant, cooldown: Duration) -> bool {
        self.is_running || now >= self.started + cooldown
    }
}

/// The state of the task.
pub(super) struct Poller<S, F> {
    service: S,
    /// The host of the issuer, for the log.
    host: Box<str>,
    target: Uri,
    on_fetch: F,
    shared: Arc<Shared>,
    flight: watch::Sender<Flight>,
    /// The response body that the current keys were parsed from.
    body: Bytes,
    warnings: RateLimit,
}

impl<S, F> Poller<S, F>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error = ClientError>,
    F: Fn(Result<(), &FetchError>),
{
    pub(super) fn new(service: S, url: &JwksUrl, config: JwksConfig, on_fetch: F) -> Self {
        let flight = Flight {
            started: Instant::now(),
            is_running: false,
            ended: 0,
        };
        let shared = Shared {
            config,
            current: ArcSwapOption::empty(),
            fetch_requested: Notify::new(),
        };
        Self {
            service,
            host: url.host().into(),
            target: url.split().1,
            on_fetch,
            shared: Arc::new(shared),
            flight: watch::Sender::new(flight),
            body: Bytes::new(),
            warnings: RateLimit::new(WARN_EVERY),
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn flight(&self) -> watch::Receiver<Flight> {
        self.flight.subscribe()
    }

    /// Fetches until it is dropped. `is_ok` says whether the first fetch succeeded.
    pub(super) async fn run(mut self, mut is_ok: bool) {
        loop {
            self.pause(is_ok).await;
            // The client or the callback can panic. The next fetch replaces whatever this one left.
            let fetched = {
                let mut fetch = pin!(self.fetch());
                let poll = |cx: &mut Context<'_>| match panic::catch(|| fetch.as_mut().poll(cx)) {
                    Ok(poll) => poll.map(Some),
                    Err(_) => Poll::Ready(None),
                };
                poll_fn(poll).await
            };
            if fetched.is_none() {
                tracing::error!("key fetch panicked");
                self.finish_fetch();
            }
            is_ok = fetched.is_some_and(|fetched| fetched.is_ok());
        }
    }

    /// Waits for the next poll, or for a request after the cooldown.
    async fn pause(&mut self, is_ok: bool) {
        let config = &self.shared.config;
        let flight = *self.flight.borrow();
        let pause = if is_ok {
            config.poll_interval.mul_f64(0.9 + 0.2 * fastrand::f64())
        } else {
            // The cooldown is a minimum, so its jitter only adds to it.
            config.cooldown.mul_f64(1.0 + 0.1 * fastrand::f64())
        };
        let due = flight.started + pause;
        loop {
            select! {
                () = sleep_until(due) => return,
                () = self.shared.fetch_requested.notified() => {}
            }
            // A request can be left over from before the last fetch, so the cooldown is checked again.
            if flight.is_open(Instant::now(), config.cooldown) {
                return;
            }
        }
    }

    /// Fetches once. Updates the keys, reports the result, and then wakes the callers that wait for
    /// it.
    pub(super) async fn fetch(&mut self) -> Result<(), FetchError> {
        self.flight.send_modify(|flight| {
            flight.started = Instant::now();
            flight.is_running = true;
        });
        let fetched = fetch(&mut self.service, &self.target, &self.shared.config).await;
        let updated = fetched.and_then(|body| self.update_keys(body));
        if let Err(error) = &updated {
            self.warn(error);
        }
        (self.on_fetch)(updated.as_ref().copied());
        self.finish_fetch();
        updated
    }

    /// Marks the fetch as finished and wakes the callers that wait for it.
    fn finish_fetch(&self) {
        self.flight.send_modify(|flight| {
            flight.is_running = false;
            flight.ended += 1;
        });
    }

    /// Replaces the current keys by those of `body`. An identical body only renews the age of the keys.
    fn update_keys(&mut self, body: Bytes) -> Result<(), FetchError> {
        let Shared {
            config, current, ..
        } = &*self.shared;
        let keys = match &*current.load() {
            Some(last) if self.body == body => Arc::clone(&last.keys),
            _ => {
                let (keys, faults) = KeySet::read(&body, &config.algorithms, config.max_keys)?;
                let keys = match keys {
                    Ok(keys) => keys,
                    Err(error) => return Err(FetchError::of_keys(error, faults)),
                };
                faults.warn();
                tracing::info!(keys = keys.keys().len(), "keys updated");
                self.body = body;
                Arc::new(keys)
            }
        };
        let at = Instant::now();
        current.store(Some(Arc::new(CurrentKeys { keys, at })));
        Ok(())
    }

    /// Logs a failed fetch, and the faults of the fetched keys, at most once per [`WARN_EVERY`].
    fn warn(&mut self, error: &FetchError) {
        if let Some(suppressed) = self.warnings.admit() {
            if let Some(faults) = error.key_faults() {
                faults.warn();
            }
            let (outcome, kind) = (error.outcome().as_str(), error.kind());
            tracing::warn!(host = &*self.host, outcome, kind, %error, suppressed, "key fetch failed");
        }
    }
}
