//! The task that fetches: the only one that does, so that fetches never overlap.

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

/// The least time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What the task and its handles share.
pub(super) struct Shared {
    pub(super) config: JwksConfig,
    pub(super) found: ArcSwapOption<Found>,
    /// Asks for a fetch; the task does not make one for each time it is asked.
    pub(super) asked: Notify,
}

/// The keys that were found last.
pub(super) struct Found {
    pub(super) keys: Arc<KeySet>,
    /// How many sets there were up to this one.
    pub(super) generation: u64,
    /// When they were last seen to be those of the issuer.
    pub(super) at: Instant,
}

/// The fetch that is under way, or the last one.
#[derive(Clone, Copy)]
pub(super) struct Flight {
    pub(super) started: Instant,
    pub(super) is_running: bool,
    /// How many have ended.
    pub(super) ended: u64,
}

impl Flight {
    /// Whether a fetch is under way, or may start now.
    pub(super) fn is_open(&self, now: Instant, cooldown: Duration) -> bool {
        self.is_running || now >= self.started + cooldown
    }
}

pub(super) struct Poller<S, F> {
    service: S,
    target: Uri,
    on_fetch: F,
    shared: Arc<Shared>,
    flight: watch::Sender<Flight>,
    /// What the keys in use were read from.
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
            found: ArcSwapOption::empty(),
            asked: Notify::new(),
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

    /// Fetches, after a first fetch that ended so, until it is dropped.
    pub(super) async fn run(mut self, mut last: FetchOutcome) {
        loop {
            self.pause(last).await;
            last = match unless_panicked(self.fetch()).await {
                Some(outcome) => outcome,
                None => self.fail(),
            };
        }
    }

    /// Ends a fetch in which the client, or who is told of it, has panicked.
    fn fail(&mut self) -> FetchOutcome {
        tracing::error!("a fetch of keys panicked");
        self.land();
        FetchOutcome::Unreachable
    }

    /// Waits until it is time, or until somebody asks and the cooldown is over.
    async fn pause(&mut self, last: FetchOutcome) {
        let config = &self.shared.config;
        let flight = *self.flight.borrow();
        let pause = match last {
            FetchOutcome::Ok => around(config.poll_interval, fastrand::f64()),
            _ => after(config.cooldown, fastrand::f64()),
        };
        let due = flight.started + pause;
        loop {
            select! {
                () = sleep_until(due) => return,
                () = self.shared.asked.notified() => {}
            }
            if flight.is_open(Instant::now(), config.cooldown) {
                return;
            }
        }
    }

    pub(super) async fn fetch(&mut self) -> FetchOutcome {
        self.flight.send_modify(|flight| {
            flight.started = Instant::now();
            flight.is_running = true;
        });
        let fetched = fetch(&mut self.service, &self.target, &self.shared.config).await;
        let taken = fetched.map_err(|outcome| (outcome, None)).and_then(|body| {
            self.take(body)
                .map_err(|error| (FetchOutcome::Invalid, Some(error)))
        });
        let outcome = match taken {
            Ok(()) => FetchOutcome::Ok,
            Err((outcome, error)) => {
                self.warn(outcome, error);
                outcome
            }
        };
        (self.on_fetch)(outcome);
        self.land();
        outcome
    }

    fn land(&self) {
        self.flight.send_modify(|flight| {
            flight.is_running = false;
            flight.ended += 1;
        });
    }

    /// Puts the keys of `body` in the place of those in use; the same text changes nothing.
    fn take(&mut self, body: Bytes) -> Result<(), KeyError> {
        let Shared { config, found, .. } = &*self.shared;
        let last = found.load_full();
        let (keys, generation) = match last {
            Some(last) if self.body == body => (Arc::clone(&last.keys), last.generation),
            last => {
                let (keys, dropped) = KeySet::read(&body, &config.algorithms, config.max_keys)?;
                for key in dropped {
                    let (index, kty, reason) = (key.index, key.kty, key.error);
                    tracing::warn!(index, kty, %reason, "a fetched key is not used");
                }
                let generation = last.map_or(0, |last| last.generation) + 1;
                tracing::info!(generation, "there are new keys");
                self.body = body;
                (Arc::new(keys), generation)
            }
        };
        let at = Instant::now();
        found.store(Some(Arc::new(Found {
            keys,
            generation,
            at,
        })));
        Ok(())
    }

    fn warn(&mut self, outcome: FetchOutcome, error: Option<KeyError>) {
        let now = Instant::now();
        if self.warned.is_none_or(|last| now >= last + WARN_EVERY) {
            self.warned = Some(now);
            let outcome = outcome.as_str();
            let reason = error.map(tracing::field::display);
            tracing::warn!(outcome, reason, "keys could not be fetched");
        }
    }
}

/// The output of `future`; none if it panics.
async fn unless_panicked<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

/// `time`, give or take a tenth by `random`, which is within 0 to 1.
fn around(time: Duration, random: f64) -> Duration {
    time.mul_f64(0.9 + 0.2 * random)
}

/// `time`, and up to a tenth more.
fn after(time: Duration, random: f64) -> Duration {
    time.mul_f64(1.0 + 0.1 * random)
}
