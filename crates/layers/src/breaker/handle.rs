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
    state::{Machine, State, Ticket, Verdict},
};
use crate::{
    classify::Class,
    observe::{Event, Observer},
    reject::Reject,
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
}

/// What a breaker looks like at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its state. An open breaker whose time is up stays open until a call comes.
    pub state: State,
    /// How long it will stay open.
    pub open_for: Option<Duration>,
    /// Calls in its window.
    pub calls: u32,
    /// Calls in its window that failed.
    pub failed: u32,
    /// Calls in its window that were slow.
    pub slow: u32,
}

fn pack(machine: &Machine) -> u64 {
    machine.generation() << 2 | machine.state() as u64
}

const CLOSED: u64 = State::Closed as u64;

impl Handle {
    pub(super) fn new(name: &str, policy: BreakerPolicy) -> Self {
        let machine = Machine::new(policy, Instant::now());
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                word: AtomicU64::new(pack(&machine)),
                machine: Mutex::new(machine),
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
        match self.shared.word.load(Ordering::Acquire) & 3 {
            CLOSED => State::Closed,
            word if word == State::Open as u64 => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// What it looks like now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.look(|machine, now| {
            let tally = machine.tally(now);
            Snapshot {
                state: machine.state(),
                open_for: machine.open_for(now),
                calls: tally.total,
                failed: tally.failed,
                slow: tally.slow,
            }
        })
    }

    /// The refusal that a call would get now, or none if it would pass. Asking takes no probe.
    #[must_use]
    pub fn refusal(&self) -> Option<Reject> {
        if self.state() == State::Closed {
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
        let ticket = if word & 3 == CLOSED {
            Ticket {
                generation: word >> 2,
                probe: None,
            }
        } else {
            self.change(observer, |machine, now| {
                machine
                    .admit(now, fastrand::f64)
                    .ok_or_else(|| Reject::CircuitOpen {
                        retry_after: machine.open_for(now),
                    })
            })?
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
        let (from, to, result) = self.look(|machine, now| {
            let from = machine.state();
            let result = act(machine, now);
            self.shared.word.store(pack(machine), Ordering::Release);
            (from, machine.state(), result)
        });
        if from != to {
            observer.emit(Event::BreakerChanged { from, to });
        }
        result
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
pub(super) struct Permit {
    handle: Handle,
    ticket: Ticket,
    since: Instant,
    observer: Observer,
    recorded: bool,
}

impl Permit {
    pub(super) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn record(mut self, class: Class, elapsed: Duration) {
        self.end(elapsed, |settings| Verdict::of(class, settings));
    }

    fn end(&mut self, elapsed: Duration, verdict: impl FnOnce(&super::BreakerSettings) -> Verdict) {
        self.recorded = true;
        let ticket = self.ticket;
        let counted = self.handle.change(&self.observer, |machine, now| {
            let verdict = verdict(machine.settings());
            machine.record(ticket, verdict, elapsed, now, fastrand::f64)
        });
        if !counted {
            self.observer.emit(Event::LateResult);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        let elapsed = self.elapsed();
        self.end(elapsed, |settings| {
            if std::thread::panicking() {
                Verdict::Bad
            } else {
                Verdict::unanswered(elapsed, settings)
            }
        });
    }
}
