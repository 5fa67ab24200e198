//! One breaker, shared by all services and clones that ask it, and the look from outside on it.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{
    config::BreakerConfig,
    permit::{self, Local, Permit, Turn},
    shared::{Shared, Word},
    state::{Machine, Mode, State, Trip},
};
use crate::{
    observe::Observer,
    reject::Reject,
    sharded,
    sync::{Arc, Ordering},
};

/// One breaker, to look at and to share.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{BoxError, BreakerConfig, BreakerLayer, ClassifyResult, breaker::State};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let layer = BreakerLayer::new("prices", BreakerConfig::new(), ClassifyResult).unwrap();
/// let handle = layer.handle().clone();
/// let service = layer.layer(service_fn(|()| async { Ok::<_, BoxError>("fine") }));
///
/// // While the service is moved, say.
/// let moving = handle.force_open();
/// assert_eq!(handle.state(), State::ForcedOpen);
/// assert!(service.clone().oneshot(()).await.is_err());
/// drop(moving);
/// assert_eq!(service.oneshot(()).await.unwrap(), "fine");
///
/// let seen = handle.snapshot();
/// assert_eq!((seen.state, seen.calls, seen.rejected), (State::Closed, 1, 1));
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    /// One for the threads of each processor.
    locals: Arc<[Arc<Local>]>,
}

/// What a breaker looks like at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its state. An open breaker whose time is up stays open until a call comes.
    pub state: State,
    /// How long it has been in this state.
    pub lasting: Duration,
    /// How often it opened since it was last closed for long.
    pub trips: u32,
    /// Why it opened last.
    pub reason: Option<Trip>,
    /// How long it will stay open; zero if the next call is a probe.
    pub open_for: Option<Duration>,
    /// Calls in its window.
    pub calls: u64,
    /// Calls in its window that failed.
    pub failed: u64,
    /// Calls in its window that were slow.
    pub slow: u64,
    /// How long ago a call last failed.
    pub last_failure: Option<Duration>,
    /// Calls that it has refused, ever.
    pub rejected: u64,
    /// Calls whose end came too late to count, ever.
    pub late: u64,
}

impl Handle {
    pub(super) fn new(name: &str, config: BreakerConfig) -> Self {
        let shared = Arc::new(Shared::new(name, config));
        let local = |_| Arc::new(Local::new(&shared));
        Self {
            locals: (0..sharded::parts()).map(local).collect(),
        }
    }

    fn shared(&self) -> &Shared {
        &self.locals[0].shared
    }

    /// Lets a call through, or refuses it.
    #[inline(always)]
    pub(super) fn admit(&self, observer: &Observer) -> Result<Permit, Reject> {
        let place = sharded::thread() & (self.locals.len() - 1);
        Permit::new(&self.locals[place], observer)
    }

    /// The name of what it protects.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().word().state()
    }

    /// What it looks like now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = self.shared();
        shared.look(|machine, now| {
            let tally = machine.tally(now);
            Snapshot {
                state: machine.state(),
                lasting: now.saturating_duration_since(machine.since()),
                trips: machine.trips(),
                reason: machine.reason(),
                open_for: machine.open_for(now),
                calls: tally.total,
                failed: tally.failed,
                slow: tally.slow,
                last_failure: machine
                    .last_failure()
                    .map(|failure| now.saturating_duration_since(failure)),
                rejected: self.rejected(),
                late: shared.late.load(Ordering::Relaxed),
            }
        })
    }

    fn rejected(&self) -> u64 {
        let locals = self.locals.iter();
        locals
            .map(|local| local.rejected.load(Ordering::Relaxed))
            .sum()
    }

    /// The refusal that a call would get now, or none if it would pass. Asking takes no probe.
    #[must_use]
    pub fn refusal(&self) -> Option<Reject> {
        if self.shared().word().passes() {
            return None;
        }
        self.shared().look(|machine, now| {
            (!machine.would_admit(now)).then(|| Reject::CircuitOpen {
                retry_after: machine.open_for(now),
            })
        })
    }
}

// === for a limit below ===

/// What a breaker was like when a call began to wait for its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitting(Word);

impl Handle {
    pub(crate) fn admitting(&self) -> Admitting {
        Admitting(self.shared().word())
    }

    /// The refusal of a call that was let through at `then` and has its turn now: the circuit has
    /// opened meanwhile. A probe is let through as long as it is one.
    pub(crate) fn refusal_since(&self, Admitting(then): Admitting) -> Option<Reject> {
        let word = self.shared().word();
        let is_probe = then.state() == State::HalfOpen && then.generation() == word.generation();
        (!word.passes() && !is_probe).then(|| {
            self.shared().look(|machine, now| Reject::CircuitOpen {
                retry_after: machine.open_for(now),
            })
        })
    }

    /// Tells the breaker of the call that it comes back from.
    pub(crate) fn tell(&self, turn: Turn) {
        permit::tell(self.shared(), turn);
    }
}

// === by hand ===

impl Handle {
    /// Refuses all calls for as long as the guard lives, or any other that was taken. When the last
    /// one is dropped, the breaker is closed with nothing counted, or what was said meanwhile.
    pub fn force_open(&self) -> ForcedOpen {
        self.command(Machine::hold);
        ForcedOpen(self.clone())
    }

    /// Lets all calls pass and counts nothing, until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.command(|machine, now| machine.switch(Mode::Disabled, now));
    }

    /// Lets all calls pass and counts them, until [`reset`](Self::reset). Whenever it would have
    /// opened, it tells so by [`Event::BreakerWouldOpen`](crate::Event::BreakerWouldOpen), once.
    pub fn metrics_only(&self) {
        self.command(|machine, now| machine.switch(Mode::MetricsOnly, now));
    }

    /// Closes it with nothing counted, and leaves it to itself. Calls that run count for nothing.
    pub fn reset(&self) {
        self.command(|machine, now| machine.switch(Mode::Automatic, now));
    }

    /// Opens it for `time`, after which it probes as ever. It does nothing while the breaker is
    /// forced open, disabled or for metrics only.
    pub fn trip_for(&self, time: Duration) {
        self.command(|machine, now| machine.trip_for(time, now));
    }

    /// If it is open, makes the next call a probe: somebody has learned that the service is back.
    pub fn half_open_now(&self) {
        self.command(Machine::probe_now);
    }

    fn command(&self, act: impl FnOnce(&mut Machine, Instant)) {
        self.shared().change(&Observer::NONE, act);
    }
}

/// Keeps a breaker open; see [`Handle::force_open`].
#[must_use = "the breaker is let go when this is dropped"]
#[derive(Debug)]
pub struct ForcedOpen(Handle);

impl Drop for ForcedOpen {
    fn drop(&mut self) {
        self.0.command(Machine::release);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish()
    }
}
