//! One breaker, shared by all services and clones that ask it, and the look from outside on it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    settings::BreakerPolicy,
    state::{Machine, Mode, Recorded, State, Ticket, Trip, Verdict},
};
use crate::{
    classify::{Class, Failure},
    observe::{Event, Observer},
    reject::Reject,
    until::Guard,
};

/// One breaker, to look at and to share.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    name: Box<str>,
    /// State and generation, as the machine last left them, so that a closed breaker is asked
    /// without taking the lock.
    word: AtomicU64,
    machine: Mutex<Machine>,
    rejected: AtomicU64,
    late: AtomicU64,
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
    pub calls: u32,
    /// Calls in its window that failed.
    pub failed: u32,
    /// Calls in its window that were slow.
    pub slow: u32,
    /// How long ago a call last failed.
    pub last_failure: Option<Duration>,
    /// Calls that it has refused, ever.
    pub rejected: u64,
    /// Calls whose end came too late to count, ever.
    pub late: u64,
}

/// State and generation in one word.
fn pack(machine: &Machine) -> u64 {
    machine.generation() << STATE_BITS | machine.state() as u64
}

fn state_of(word: u64) -> State {
    const STATES: [State; 6] = [
        State::Closed,
        State::Open,
        State::HalfOpen,
        State::ForcedOpen,
        State::Disabled,
        State::MetricsOnly,
    ];
    STATES[(word & ((1 << STATE_BITS) - 1)) as usize]
}

const STATE_BITS: u32 = 3;

impl Handle {
    pub(super) fn new(name: &str, policy: BreakerPolicy) -> Self {
        let machine = Machine::new(policy, Instant::now());
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                word: AtomicU64::new(pack(&machine)),
                machine: Mutex::new(machine),
                rejected: AtomicU64::new(0),
                late: AtomicU64::new(0),
            }),
        }
    }

    /// The name of what it protects.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        state_of(self.shared.word.load(Ordering::Acquire))
    }

    /// What it looks like now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.look(|machine, now| {
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
                rejected: self.shared.rejected.load(Ordering::Relaxed),
                late: self.shared.late.load(Ordering::Relaxed),
            }
        })
    }

    /// The refusal that a call would get now, or none if it would pass. Asking takes no probe.
    #[must_use]
    pub fn refusal(&self) -> Option<Reject> {
        if passes(self.state()) {
            return None;
        }
        self.look(|machine, now| {
            (!machine.would_admit(now)).then(|| Reject::CircuitOpen {
                retry_after: machine.open_for(now),
            })
        })
    }

    /// Lets a call through, or refuses it.
    pub(super) fn admit(&self, observer: &Observer) -> Result<Permit, Reject> {
        let word = self.shared.word.load(Ordering::Acquire);
        let ticket = if passes(state_of(word)) {
            Ticket {
                generation: word >> STATE_BITS,
                probe: None,
            }
        } else {
            let admitted = self.change(observer, |machine, now| {
                machine
                    .admit(now, fastrand::f64)
                    .ok_or_else(|| Reject::CircuitOpen {
                        retry_after: machine.open_for(now),
                    })
            });
            if admitted.is_err() {
                self.shared.rejected.fetch_add(1, Ordering::Relaxed);
            }
            admitted?
        };
        Ok(Permit {
            handle: self.clone(),
            ticket,
            since: Instant::now(),
            observer: observer.clone(),
            recorded: false,
        })
    }

    fn look<T>(&self, look: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut machine = self
            .shared
            .machine
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        look(&mut machine, Instant::now())
    }

    /// Lets `act` change the machine, publishes its state, and tells of a change after unlocking.
    fn change<T>(&self, observer: &Observer, act: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let (from, to, reason, result) = self.look(|machine, now| {
            let from = machine.state();
            let result = act(machine, now);
            self.shared.word.store(pack(machine), Ordering::Release);
            (from, machine.state(), machine.reason(), result)
        });
        if from != to {
            let reason = reason.filter(|_| matches!(to, State::Open | State::ForcedOpen));
            observer.emit(Event::BreakerChanged { from, to, reason });
        }
        result
    }
}

/// Whether all calls pass in this state.
fn passes(state: State) -> bool {
    matches!(state, State::Closed | State::Disabled | State::MetricsOnly)
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
    /// opened, it tells so by [`Event::BreakerWouldOpen`], once.
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
        self.change(&Observer::NONE, act);
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

/// The right to one call. Dropped without a record, the call went unanswered.
#[derive(Debug)]
pub(super) struct Permit {
    handle: Handle,
    ticket: Ticket,
    since: Instant,
    observer: Observer,
    recorded: bool,
}

impl Permit {
    /// The call ended as `class` says of one that took so long.
    pub(super) fn ended(self, class: impl FnOnce(Duration) -> Class) -> Ended {
        let elapsed = self.since.elapsed();
        Ended {
            class: class(elapsed),
            elapsed,
            permit: self,
        }
    }

    fn end(&mut self, elapsed: Duration, verdict: impl FnOnce(&super::BreakerSettings) -> Verdict) {
        self.recorded = true;
        let ticket = self.ticket;
        let recorded = self.handle.change(&self.observer, |machine, now| {
            let verdict = verdict(machine.settings());
            machine.record(ticket, verdict, elapsed, now, fastrand::f64)
        });
        match recorded {
            Recorded::Counted => {}
            Recorded::Late => {
                self.handle.shared.late.fetch_add(1, Ordering::Relaxed);
                self.observer.emit(Event::LateResult);
            }
            Recorded::WouldOpen => self.observer.emit(Event::BreakerWouldOpen),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        let elapsed = self.since.elapsed();
        self.end(elapsed, |settings| {
            if std::thread::panicking() {
                Verdict::Bad
            } else {
                Verdict::unanswered(elapsed, settings)
            }
        });
    }
}

/// A call that was answered, or failed. It is recorded on drop; for an answer with a body that may
/// be when the body has ended.
#[derive(Debug)]
pub struct Ended {
    permit: Permit,
    class: Class,
    elapsed: Duration,
}

impl Guard for Ended {
    fn broken(mut self, reject: Option<Reject>) {
        self.class = match reject {
            Some(reject) => reject.class(self.permit.since.elapsed()),
            None => Class::Failure(Failure::Body),
        };
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let class = self.class;
        self.permit
            .end(self.elapsed, |settings| Verdict::of(class, settings));
    }
}
