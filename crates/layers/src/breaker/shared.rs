//! What all handles of one breaker share: the machine behind its lock, and the counts beside it that
//! need none.
//!
//! A closed breaker in whose window no call failed cannot be opened by a good call, so good calls
//! are counted apart, each thread for itself. Whoever takes the lock adds them to the machine first,
//! so that the machine always knows of all that ended before.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    config::{BreakerConfig, Window},
    state::{Effect, Machine, Recorded, State},
};
use crate::{
    event::{Event, Events},
    rejection::Rejection,
    sharded::{Sharded, TAG_BITS},
    sync::{AtomicU64, Mutex, Ordering, PoisonError},
    window::{Ring, Stretches},
};

/// State, calmness and generation of the machine in one word, so that they are known without a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

const STATE_BITS: u32 = 3;
const CALM: u64 = 1 << STATE_BITS;

impl Word {
    fn of(machine: &mut Machine, now: Instant) -> Self {
        let calm = if machine.is_calm(now) { CALM } else { 0 };
        let state = machine.state() as u64;
        Self(machine.generation() << (STATE_BITS + 1) | calm | state)
    }

    pub(super) fn state(self) -> State {
        const STATES: [State; 6] = [
            State::Closed,
            State::Open,
            State::HalfOpen,
            State::ForcedOpen,
            State::Disabled,
            State::ShadowMode,
        ];
        // In bounds: `of` is the only writer of these bits, and writes a state's place in this list.
        STATES[(self.0 & (CALM - 1)) as usize]
    }

    /// Whether all calls pass.
    pub(super) fn passes(self) -> bool {
        let state = self.state();
        matches!(state, State::Closed | State::Disabled | State::ShadowMode)
    }

    pub(super) const fn is_calm(self) -> bool {
        self.0 & CALM != 0
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> (STATE_BITS + 1)
    }
}

/// Good calls are tagged with the ends of the generation's and of the bucket's number.
const BUCKET_BITS: u32 = 32;
const GENERATION_BITS: u32 = TAG_BITS - BUCKET_BITS;

const fn end_of(number: u64, bits: u32) -> u64 {
    number & ((1 << bits) - 1)
}

/// What distinguishes good calls.
enum Counted {
    ByBucket(Stretches),
    /// Nothing: more than so many make no difference.
    Last(u32),
}

pub(super) struct Shared {
    pub(super) name: Box<str>,
    pub(super) policy: BreakerConfig,
    word: AtomicU64,
    good: Sharded,
    counted: Counted,
    machine: Mutex<Machine>,
    /// PermitScope when it is open, in nanoseconds since it was made, if it is.
    born: Instant,
    open_until: AtomicU64,
    pub(super) late: AtomicU64,
}

impl Shared {
    pub(super) fn new(name: &str, policy: BreakerConfig) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(policy.clone(), now);
        Self {
            name: name.into(),
            word: AtomicU64::new(Word::of(&mut machine, now).0),
            good: Sharded::new(),
            counted: match policy.window {
                Window::Time(span) => Counted::ByBucket(Ring::<()>::stretches(span, now)),
                Window::Count(size) => Counted::Last(size as u32),
            },
            policy,
            machine: Mutex::new(machine),
            born: now,
            open_until: AtomicU64::new(0),
            late: AtomicU64::new(0),
        }
    }

    pub(super) fn settings(&self) -> &BreakerConfig {
        &self.policy
    }

    #[inline(always)]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        self.good.take(|tag, count| {
            let (generation, bucket) = (tag >> BUCKET_BITS, end_of(tag, BUCKET_BITS));
            if generation == end_of(machine.generation(), GENERATION_BITS) {
                machine.add_good(count.into(), bucket, BUCKET_BITS, now);
            } else {
                self.late.fetch_add(count.into(), Ordering::Relaxed);
            }
        });
        look(&mut machine, now)
    }

    /// Lets `act` change the machine, publishes its state, and tells of a change after unlocking.
    pub(super) fn change<T>(
        &self,
        events: &Events,
        act: impl FnOnce(&mut Machine, Instant) -> T,
    ) -> T {
        let (from, to, reason, result) = self.look(|machine, now| {
            let from = machine.state();
            let result = act(machine, now);
            let until = machine.opened_until().map_or(0, |until| self.nanos(until));
            self.open_until.store(until, Ordering::Release);
            let word = Word::of(machine, now);
            self.word.store(word.0, Ordering::Release);
            (from, machine.state(), machine.reason(), result)
        });
        if from != to {
            let reason = reason.filter(|_| matches!(to, State::Open | State::ForcedOpen));
            events.emit(Event::BreakerChanged { from, to, reason });
        }
        result
    }

    /// Lets a call through, or refuses it. A probe gets its number.
    #[inline(always)]
    pub(super) fn admit(&self, events: &Events) -> Result<(Word, Option<u64>), Rejection> {
        let word = self.word();
        if word.passes() {
            return Ok((word, None));
        }
        match self.rejection_while_open(word) {
            Some(rejection) => Err(rejection),
            None => self.admit_probe(events),
        }
    }

    /// Returns the rejection that a call would get now, if any. Takes no probe, and no lock unless the
    /// breaker is half-open or forced open.
    #[inline]
    pub(super) fn rejection(&self) -> Option<Rejection> {
        let word = self.word();
        if word.passes() {
            return None;
        }
        self.rejection_while_open(word).or_else(|| {
            self.look(|machine, now| {
                (!machine.would_admit(now)).then(|| Rejection::CircuitOpen {
                    retry_after: machine.open_remaining(now),
                })
            })
        })
    }

    /// Returns the rejection if the state is [`State::Open`] and its time is not over.
    fn rejection_while_open(&self, word: Word) -> Option<Rejection> {
        let open_remaining = match word.state() {
            State::Open => self.open_remaining(Instant::now()),
            _ => Duration::ZERO,
        };
        (!open_remaining.is_zero()).then_some(Rejection::CircuitOpen {
            retry_after: Some(open_remaining),
        })
    }

    /// Returns the rejection of a call that waited since the breaker was in `generation`: the circuit
    /// has opened since then, even if its open time is over by now.
    pub(super) fn rejection_since(&self, generation: u64) -> Option<Rejection> {
        let word = self.word();
        (!word.passes() && word.generation() != generation).then(|| {
            self.look(|machine, now| Rejection::CircuitOpen {
                retry_after: machine.open_remaining(now),
            })
        })
    }

    fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.born).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// How long it will stay open, if it is.
    fn open_remaining(&self, now: Instant) -> Duration {
        let until = self.open_until.load(Ordering::Acquire);
        Duration::from_nanos(until.saturating_sub(self.nanos(now)))
    }

    #[cold]
    fn admit_probe(&self, events: &Events) -> Result<(Word, Option<u64>), Rejection> {
        self.change(events, |machine, now| {
            match machine.admit(now, fastrand::f64) {
                Some(ticket) => Ok((Word::of(machine, now), ticket.probe)),
                None => Err(Rejection::CircuitOpen {
                    retry_after: machine.open_remaining(now),
                }),
            }
        })
    }

    /// Takes note of the end of a call that was let through at `word`, if that needs no lock.
    #[inline(always)]
    pub(super) fn record_fast(
        &self,
        word: Word,
        effect: Effect,
        slow: bool,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        if self.word() != word || !word.passes() {
            return false;
        }
        match effect {
            _ if word.state() == State::Disabled => true,
            Effect::Neutral => true,
            Effect::Throttled => !self.policy.throttled_is_failure,
            Effect::Good if word.is_calm() && !slow => self.count_good(word, now),
            Effect::Good | Effect::Bad | Effect::LeaveAlone(_) => false,
        }
    }

    #[inline(always)]
    fn count_good(&self, word: Word, now: impl FnOnce() -> Instant) -> bool {
        let (bucket, enough) = match self.counted {
            Counted::ByBucket(stretches) => (stretches.number(now()), u32::MAX),
            Counted::Last(size) => (0, size),
        };
        let generation = end_of(word.generation(), GENERATION_BITS);
        let tag = generation << BUCKET_BITS | end_of(bucket, BUCKET_BITS);
        self.good.add(tag, enough)
    }

    /// Takes note of the end of a call.
    pub(super) fn record(
        &self,
        events: &Events,
        act: impl FnOnce(&mut Machine, Instant) -> Recorded,
    ) {
        match self.change(events, act) {
            Recorded::Counted => {}
            Recorded::Late => {
                self.late.fetch_add(1, Ordering::Relaxed);
                events.emit(Event::LateResult);
            }
            Recorded::WouldOpen => events.emit(Event::BreakerWouldOpen),
        }
    }
}
