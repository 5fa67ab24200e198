//! One breaker, shared by all services and clones that ask it, and the look from outside on it.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{
    config::BreakerConfig,
    permit::{Local, Permit},
    shared::Shared,
    state::{Machine, Mode, OpenReason, State},
};
use crate::{
    event::Events,
    rejection::Rejection,
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
    pub time_in_state: Duration,
    /// How often it opened since it was last closed for long.
    pub trips: u32,
    /// Why it opened last.
    pub reason: Option<OpenReason>,
    /// How long it will stay open; zero if the next call is a probe.
    pub open_remaining: Option<Duration>,
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
        // In bounds: there is at least one part.
        &self.locals[0].shared
    }

    /// Lets a call through, or refuses it.
    #[inline(always)]
    pub(super) fn admit(&self, events: &Events) -> Result<Permit, Rejection> {
        Permit::new(self.local(), events)
    }

    fn local(&self) -> &Arc<Local> {
        // In bounds: the number of parts is a power of two.
        &self.locals[sharded::thread() & (self.locals.len() - 1)]
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
                time_in_state: now.saturating_duration_since(machine.since()),
                trips: machine.trips(),
                reason: machine.reason(),
                open_remaining: machine.open_remaining(now),
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
    pub fn refusal(&self) -> Option<Rejection> {
        self.shared().rejection()
    }
}

// === for layers above that hold calls back ===

impl Handle {
    /// Returns the [refusal](Self::refusal) that ends a call now, and counts it.
    #[inline]
    pub(crate) fn reject(&self) -> Option<Rejection> {
        let rejection = self.shared().rejection()?;
        Some(self.local().refuse(rejection))
    }

    /// Returns the generation of the breaker, for [`reject_since`](Self::reject_since).
    pub(crate) fn generation(&self) -> u64 {
        self.shared().word().generation()
    }

    /// Returns the refusal that ends a call now if the circuit has opened since the breaker was in
    /// `generation`, and counts it.
    pub(crate) fn reject_since(&self, generation: u64) -> Option<Rejection> {
        let rejection = self.shared().rejection_since(generation)?;
        Some(self.local().refuse(rejection))
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
    pub fn shadow_mode(&self) {
        self.command(|machine, now| machine.switch(Mode::ShadowMode, now));
    }

    /// Closes it with nothing counted, and leaves it to itself. Calls that run count for nothing.
    pub fn reset(&self) {
        self.command(|machine, now| machine.switch(Mode::Automatic, now));
    }

    /// Opens it for `time`, after which it probes as ever. It does nothing while the breaker is
    /// forced open, disabled or for metrics only.
    pub fn open_for(&self, time: Duration) {
        self.command(|machine, now| machine.open_for(time, now));
    }

    /// If it is open, makes the next call a probe: somebody has learned that the service is back.
    pub fn probe_now(&self) {
        self.command(Machine::probe_now);
    }

    fn command(&self, act: impl FnOnce(&mut Machine, Instant)) {
        self.shared().change(&Events::NONE, act);
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
