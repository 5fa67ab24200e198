//! [`Handle`], the shared reference to one breaker, for snapshots and for control by hand.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{
    config::BreakerConfig,
    permit::{Local, Permit},
    shared::Shared,
    state::{Machine, Mode, Snapshot, State},
};
use crate::{
    event::Events,
    rejection::Rejection,
    sharded,
    sync::{Arc, Ordering},
};

/// A handle of one breaker, for snapshots, for control by hand, and for layers that share the
/// breaker.
///
/// Clones are handles of the same breaker.
///
/// A change of state through a handle belongs to no call. The sinks of the breaker hear it: see
/// [`BreakerLayer::events`](super::BreakerLayer::events).
///
/// # Combinations
///
/// - [`disable`](Self::disable), [`shadow_mode`](Self::shadow_mode) and [`reset`](Self::reset) replace each
///   other. The last call counts.
/// - A guard of [`force_open`](Self::force_open) takes precedence over them. The last mode applies once
///   the last guard is dropped.
/// - [`open_for`](Self::open_for) applies only without a guard and without a mode. It replaces the remaining
///   open time, even by a shorter one. `force_open`, `disable`, `shadow_mode` and `reset` end that time.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult, LayerError, breaker::State};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let layer = BreakerLayer::new("prices", BreakerConfig::new(), ClassifyResult).unwrap();
/// let handle = layer.handle().clone();
/// let service = layer.layer(service_fn(|()| async { Ok::<_, LayerError>("fine") }));
///
/// // For example while the service is moved to another host.
/// let maintenance = handle.force_open();
/// assert_eq!(handle.state(), State::ForcedOpen);
/// assert!(service.clone().oneshot(()).await.is_err());
/// drop(maintenance);
/// assert_eq!(service.oneshot(()).await.unwrap(), "fine");
///
/// let snapshot = handle.snapshot();
/// assert_eq!((snapshot.state, snapshot.calls, snapshot.rejected), (State::Closed, 1, 1));
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    /// One entry per part of the sharded counters; a thread uses the entry of its part.
    locals: Arc<[Arc<Local>]>,
}

impl Handle {
    pub(super) fn new(name: &str, config: BreakerConfig) -> Self {
        let parts = sharded::parts();
        let shared = Shared::new(name.into(), Arc::new(config), Arc::default(), parts);
        Self::with_parts(shared, parts)
    }

    /// Creates another breaker with the same name, configuration and sinks, for one key of many.
    ///
    /// The breaker has a single part, because the load of many keys is spread over their breakers, and
    /// each part takes several hundred bytes.
    pub(super) fn fresh(&self) -> Self {
        let Shared {
            name,
            config,
            events,
            ..
        } = self.shared();
        let shared = Shared::new(name.clone(), config.clone(), events.clone(), 1);
        Self::with_parts(shared, 1)
    }

    fn with_parts(shared: Shared, parts: usize) -> Self {
        let shared = Arc::new(shared);
        let local = |_| Arc::new(Local::new(&shared));
        Self {
            locals: (0..parts).map(local).collect(),
        }
    }

    /// Returns `true` if a call, or another clone of this handle, uses the breaker.
    pub(super) fn is_in_use(&self) -> bool {
        let is_shared = |local| Arc::strong_count(local) > 1;
        Arc::strong_count(&self.locals) > 1 || self.locals.iter().any(is_shared)
    }

    pub(super) fn shared(&self) -> &Shared {
        // In bounds: there is at least one part.
        &self.locals[0].shared
    }

    /// Admits a call, or returns the rejection.
    #[inline(always)]
    pub(super) fn admit(&self, events: &Events) -> Result<Permit, Rejection> {
        Permit::new(self.local(), events)
    }

    fn local(&self) -> &Arc<Local> {
        // In bounds: the number of parts is a power of two.
        &self.locals[sharded::thread() & (self.locals.len() - 1)]
    }

    /// Returns the name that was passed to [`BreakerLayer::new`](super::BreakerLayer::new).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared().name
    }

    /// Returns the current state.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared().word().state()
    }

    /// Returns a snapshot of the breaker. The call changes no state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let shared = self.shared();
        let mut snapshot = shared.inspect(Machine::snapshot);
        snapshot.rejected = self.rejected();
        snapshot.late = shared.late.load(Ordering::Relaxed);
        snapshot
    }

    fn rejected(&self) -> u64 {
        let locals = self.locals.iter();
        locals
            .map(|local| local.rejected.load(Ordering::Relaxed))
            .sum()
    }

    /// Returns the rejection that a call would get now, or `None` if the call would pass.
    ///
    /// The check uses no probe slot and is not counted.
    #[must_use]
    pub fn rejection(&self) -> Option<Rejection> {
        self.shared().rejection()
    }
}

// === checks for layers above that delay calls ===

impl Handle {
    /// Returns the [rejection](Self::refusal) that ends a call now, and counts it.
    #[inline]
    pub(crate) fn reject(&self) -> Option<Rejection> {
        let rejection = self.shared().rejection()?;
        Some(self.local().count_rejection(rejection))
    }

    /// Returns the generation of the breaker, for [`reject_since`](Self::reject_since).
    pub(crate) fn generation(&self) -> u64 {
        self.shared().word().generation()
    }

    /// Returns the rejection that ends a call now if the circuit has opened since the breaker was
    /// in `generation`, and counts it.
    pub(crate) fn reject_since(&self, generation: u64) -> Option<Rejection> {
        let rejection = self.shared().rejection_since(generation)?;
        Some(self.local().count_rejection(rejection))
    }
}

// === control by hand ===

impl Handle {
    /// Rejects all calls until the returned guard is dropped.
    ///
    /// Guards are counted: the breaker stays forced open until the last one is dropped. Then it is
    /// closed with an empty window, or in the mode that [`disable`](Self::disable) or
    /// [`shadow_mode`](Self::shadow_mode) has set meanwhile.
    pub fn force_open(&self) -> ForcedOpen {
        self.command(Machine::hold);
        ForcedOpen(self.clone())
    }

    /// Lets all calls pass and records none, until [`reset`](Self::reset).
    pub fn disable(&self) {
        self.command(|machine, now| machine.switch(Mode::Disabled, now));
    }

    /// Lets all calls pass and records them, until [`reset`](Self::reset).
    ///
    /// Each time the breaker would have opened, it reports
    /// [`Event::BreakerWouldOpen`](crate::Event::BreakerWouldOpen) once.
    pub fn shadow_mode(&self) {
        self.command(|machine, now| machine.switch(Mode::Shadow, now));
    }

    /// Closes the breaker with an empty window, and ends the modes set by
    /// [`disable`](Self::disable) and [`shadow_mode`](Self::shadow_mode).
    ///
    /// The results of running calls are not counted. While a guard of
    /// [`force_open`](Self::force_open) is alive, the breaker stays forced open and the reset takes
    /// effect afterwards.
    pub fn reset(&self) {
        self.command(|machine, now| machine.switch(Mode::Automatic, now));
    }

    /// Opens the breaker for `time`. Afterwards the next call is a probe.
    ///
    /// The time has no jitter, may exceed [`open_cap`](field@super::BreakerConfig::open_cap), and is not a
    /// trip, so later open times do not grow.
    ///
    /// Has no effect while the breaker is forced open, disabled or in shadow mode.
    pub fn open_for(&self, time: Duration) {
        self.command(|machine, now| machine.open_for(time, now));
    }

    /// Ends the open time, so that the next call is a probe. Has no effect unless the state is
    /// [`State::Open`].
    ///
    /// Call this method when a health check has found that the service works again.
    pub fn probe_now(&self) {
        self.command(Machine::probe_now);
    }

    fn command(&self, act: impl FnOnce(&mut Machine, Instant)) {
        self.shared().update(None, act);
    }
}

/// A guard that keeps a breaker open. See [`Handle::force_open`].
#[must_use = "the breaker is released when the guard is dropped"]
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
