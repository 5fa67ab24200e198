//! The task that fetches keys. As the only one to do so, it never overlaps fetches.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
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

use super::{FetchOutcome, JwksConfig, fetch::fetch};
use crate::{
    client::ClientError,
    jwt::keys::{KeyError, KeySet},
};

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
    /// Number of different sets up to this one.
    pub(super) generation: u64,
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
    target: Uri,
    on_fetch: F,
    shared: Arc<Shared>,
    flight: watch::Sender<Flight>,
    /// The response body that the current keys were parsed from.
    body: Bytes,
    warned: Option<Instant>,
}

impl<S, F> Poller<S, F>
where
    S: Service<Request<Bytes>, Response = Response<Bytes>, Error = ClientError>,
    F: Fn(FetchOutcome),
{
    pub(super) fn new(service: S, target: Uri, config: JwksConfig, on_fetch: F) -> Self {
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
            target,
            on_fetch,
            shared: Arc::new(shared),
            flight: watch::Sender::new(flight),
            body: Bytes::new(),
            warned: None,
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    pub(super) fn flight(&self) -> watch::Receiver<Flight> {
        self.flight.subscribe()
    }

    /// Fetches until it is dropped. `last` is the outcome of the first fetch.
    pub(super) async fn run(mut self, mut last: FetchOutcome) {
        loop {
            self.pause(last).await;
            last = match catch_panic(self.fetch()).await {
                Some(outcome) => outcome,
                None => self.fail(),
            };
        }
    }

    /// Ends a fetch in which the client or the callback panicked.
    fn fail(&mut self) -> FetchOutcome {
        tracing::error!("key fetch panicked");
        self.finish_fetch();
        FetchOutcome::Unreachable
    }

    /// Waits for the next poll, or for a request after the cooldown.
    async fn pause(&mut self, last: FetchOutcome) {
        let config = &self.shared.config;
        let flight = *self.flight.borrow();
        let pause = match last {
            FetchOutcome::Ok => with_jitter(config.poll_interval, fastrand::f64()),
            _ => with_delay_jitter(config.cooldown, fastrand::f64()),
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

    /// Fetches once. Updates the keys, reports the outcome, and then wakes the callers that wait for
    /// it.
    pub(super) async fn fetch(&mut self) -> FetchOutcome {
        self.flight.send_modify(|flight| {
            flight.started = Instant::now();
            flight.is_running = true;
        });
        let fetched = fetch(&mut self.service, &self.target, &self.shared.config).await;
        let updated = fetched.map_err(|outcome| (outcome, None)).and_then(|body| {
            self.update_keys(body)
                .map_err(|error| (FetchOutcome::Invalid, Some(error)))
        });
        let outcome = match updated {
            Ok(()) => FetchOutcome::Ok,
            Err((outcome, error)) => {
                self.warn(outcome, error);
                outcome
            }
        };
        (self.on_fetch)(outcome);
        self.finish_fetch();
        outcome
    }

    /// Marks the fetch as finished and wakes the callers that wait for it.
    fn finish_fetch(&self) {
        self.flight.send_modify(|flight| {
            flight.is_running = false;
            flight.ended += 1;
        });
    }

    /// Replaces the current keys by those of `body`. An identical body only renews the age of the keys.
    fn update_keys(&mut self, body: Bytes) -> Result<(), KeyError> {
        let Shared {
            config, current, ..
        } = &*self.shared;
        let last = current.load_full();
        let (keys, generation) = match last {
            Some(last) if self.body == body => (Arc::clone(&last.keys), last.generation),
            last => {
                let (keys, dropped) = KeySet::read(&body, &config.algorithms, config.max_keys)?;
                for key in dropped {
                    let (index, kty, reason) = (key.index, key.kty, key.error);
                    tracing::warn!(index, kty, %reason, "fetched key dropped");
                }
                let generation = last.map_or(0, |last| last.generation) + 1;
                tracing::info!(generation, "keys updated");
                self.body = body;
                (Arc::new(keys), generation)
            }
        };
        let at = Instant::now();
        current.store(Some(Arc::new(CurrentKeys {
            keys,
            generation,
            at,
        })));
        Ok(())
    }

    /// Logs a failed fetch, at most once per [`WARN_EVERY`].
    fn warn(&mut self, outcome: FetchOutcome, error: Option<KeyError>) {
        let now = Instant::now();
        if self.warned.is_none_or(|last| now >= last + WARN_EVERY) {
            self.warned = Some(now);
            let outcome = outcome.as_str();
            let reason = error.map(tracing::field::display);
            tracing::warn!(outcome, reason, "key fetch failed");
        }
    }
}

/// Returns the output of `future`, or `None` if it panics.
async fn catch_panic<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

/// Returns `time` with a jitter of up to 10 % in either direction. `random` is within 0 to 1.
fn with_jitter(time: Duration, random: f64) -> Duration {
    time.mul_f64(0.9 + 0.2 * random)
}

/// Returns `time` with a jitter of up to 10 % more. `random` is within 0 to 1.
fn with_delay_jitter(time: Duration, random: f64) -> Duration {
    time.mul_f64(1.0 + 0.1 * random)
}
