//! The state that all handles of one breaker share: the state machine behind its lock, and
//! lock-free counters beside it.
//!
//! A success cannot open a closed breaker whose window has neither failed nor slow calls. Such
//! successes are counted on sharded counters without the lock. `inspect` takes the lock and adds
//! them to the machine before anything else, so the machine always knows all earlier results.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    config::{BreakerConfig, Window},
    state::{Effect, Machine, Recorded, State},
};
use crate::{
    event::{Event, Events, SharedEvents},
    rejection::Rejection,
    sharded::{Sharded, TAG_BITS},
    sync::{Arc, AtomicU64, Mutex, Ordering, lock},
    window::{Ring, Stretches},
};

/// State, fast-path flag and generation of the machine in one word, readable without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u64);

const STATE_BITS: u32 = 3;
const FAST_PATH: u64 = 1 << STATE_BITS;

impl Word {
    fn of(machine: &mut Machine, now: Instant) -> Self {
        let fast_path = if machine.has_fast_path(now) {
            FAST_PATH
        } else {
            0
        };
        let state = machine.state() as u64;
        Self(machine.generation() << (STATE_BITS + 1) | fast_path | state)
    }

    pub(super) fn state(self) -> State {
        // In bounds: only `of` writes these bits, and it writes the index of a state in this list.
        State::ALL[(self.0 & (FAST_PATH - 1)) as usize]
    }

    /// Returns `true` if all calls pass in this state.
    pub(super) fn passes(self) -> bool {
        let state = self.state();
        matches!(state, State::Closed | State::Disabled | State::Shadow)
    }

    pub(super) const fn has_fast_path(self) -> bool {
        self.0 & FAST_PATH != 0
    }

    pub(super) const fn generation(self) -> u64 {
        self.0 >> (STATE_BITS + 1)
    }
}

/// Tag of a counted success: the low bits of the generation, then the low bits of the bucket's
/// number.
const BUCKET_BITS: u32 = 32;
const GENERATION_BITS: u32 = TAG_BITS - BUCKET_BITS;

const fn low_bits(number: u64, bits: u32) -> u64 {
    number & ((1 << bits) - 1)
}

/// The distinction that the window makes between successes.
enum SuccessCount {
    PerBucket(Stretches),
    /// The number of successes up to `n`: the window holds the last `n` calls, so more make no
    /// difference.
    UpTo(u32),
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) config: Arc<BreakerConfig>,
    word: AtomicU64,
    good: Sharded,
    counted: SuccessCount,
    machine: Mutex<Machine>,
    /// Reference point of `open_until`.
    created: Instant,
    open_until: AtomicU64,
    pub(super) late: AtomicU64,
    /// Shared with the breakers of other keys.
    pub(super) events: Arc<SharedEvents>,
}

impl Shared {
    pub(super) fn new(
        name: Arc<str>,
        config: Arc<BreakerConfig>,
        events: Arc<SharedEvents>,
        parts: usize,
    ) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(BreakerConfig::clone(&config), now);
        Self {
            name,
            word: AtomicU64::new(Word::of(&mut machine, now).0),
            good: Sharded::with_parts(parts),
            counted: match config.window {
                Window::Time(span) => SuccessCount::PerBucket(Ring::<()>::stretches(span, now)),
                Window::Count(size) => SuccessCount::UpTo(size as u32),
            },
            config,
            machine: Mutex::new(machine),
            created: now,
            open_until: AtomicU64::new(0),
            late: AtomicU64::new(0),
            events,
        }
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.config
    }

    #[inline(always)]
    pub(super) fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }

    pub(super) fn inspect<T>(&self, inspect: impl FnOnce(&mut Machine, Instant) -> T) -> T {
        let mut machine = lock(&self.machine);
        let now = Instant::now();
        // Successes of the fast path come first, so that `inspect` sees all earlier results.
        self.good.take(|tag, count| {
            let (generation, bucket) = (tag >> BUCKET_BITS, low_bits(tag, BUCKET_BITS));
            if generation == low_bits(machine.generation(), GENERATION_BITS) {
                machine.add_good(count.into(), bucket, BUCKET_BITS, now);
            } else {
                self.late.fetch_add(count.into(), Ordering::Relaxed);
            }
        });
        inspect(&mut machine, now)
    }

    /// Runs `act` on the machine, publishes the new state, and reports a change after unlocking.
    ///
    /// `call` has the receivers of the call that causes the change, or is `None` for a change by hand.
    pub(super) fn update<T>(
        &self,
        call: Option<&Events>,
        act: impl FnOnce(&mut Machine, Instant) -> T,
    ) -> T {
        let (from, to, reason, result) = self.inspect(|machine, now| {
            let from = machine.state();
            let result = act(machine, now);
            let until = machine.opened_until().map_or(0, |until| self.nanos(until));
            // `open_until` is stored before the word: a thread that sees the state `Open` also sees
            // its end.
            self.open_until.store(until, Ordering::Release);
            let word = Word::of(machine, now);
            self.word.store(word.0, Ordering::Release);
            (from, machine.state(), machine.reason(), result)
        });
        if from != to {
            // The machine keeps the reason of the last opening, which does not apply to other
            // states.
            let reason = reason.filter(|_| matches!(to, State::Open | State::ForcedOpen));
            let changed = Event::BreakerChanged {
                from,
                to,
                reason,
                by_hand: call.is_none(),
            };
            self.events.emit(call.unwrap_or(&Events::NONE), changed);
        }
        result
    }

    /// Admits a call, or returns the rejection. A probe gets its number.
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

    /// Returns the rejection that a call would get now, or `None` if the call would pass.
    ///
    /// Uses no probe slot, and takes no lock unless the breaker is half-open, forced open, or its
    /// open time is over.
    #[inline]
    pub(super) fn rejection(&self) -> Option<Rejection> {
        let word = self.word();
        if word.passes() {
            return None;
        }
        self.rejection_while_open(word).or_else(|| {
            self.inspect(|machine, now| {
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

    /// Returns the rejection of a call that has waited since the breaker was in `generation`, if
    /// the circuit has opened since then. The call is rejected even if the open time is over by
    /// now.
    pub(super) fn rejection_since(&self, generation: u64) -> Option<Rejection> {
        let word = self.word();
        (!word.passes() && word.generation() != generation).then(|| {
            self.inspect(|machine, now| Rejection::CircuitOpen {
                retry_after: machine.open_remaining(now),
            })
        })
    }

    fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.created).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// Returns the remaining open time, or zero if the breaker is not open.
    fn open_remaining(&self, now: Instant) -> Duration {
        let until = self.open_until.load(Ordering::Acquire);
        Duration::from_nanos(until.saturating_sub(self.nanos(now)))
    }

    #[cold]
    fn admit_probe(&self, events: &Events) -> Result<(Word, Option<u64>), Rejection> {
        self.update(Some(events), |machine, now| {
            match machine.admit(now, fastrand::f64) {
                Some(ticket) => Ok((Word::of(machine, now), ticket.probe)),
                None => Err(Rejection::CircuitOpen {
                    retry_after: machine.open_remaining(now),
                }),
            }
        })
    }

    /// Records the result of a call that was admitted at `word`, if that needs no lock.
    ///
    /// Returns `false` if the caller must use [`record`](Self::record).
    #[inline(always)]
    pub(super) fn record_fast(
        &self,
        word: Word,
        effect: Effect,
        slow: bool,
        now: impl FnOnce() -> Instant,
    ) -> bool {
        // If the word has changed since the admission, the machine decides if the result is late.
        if self.word() != word || !word.passes() {
            return false;
        }
        match effect {
            _ if word.state() == State::Disabled => true,
            Effect::Neutral => true,
            Effect::Throttled => !self.config.throttled_is_failure,
            Effect::Good if word.has_fast_path() && !slow => self.count_good(word, now),
            Effect::Good | Effect::Bad | Effect::RetryAfter(_) => false,
        }
    }

    #[inline(always)]
    fn count_good(&self, word: Word, now: impl FnOnce() -> Instant) -> bool {
        let (bucket, limit) = match self.counted {
            SuccessCount::PerBucket(stretches) => (stretches.number(now()), u32::MAX),
            SuccessCount::UpTo(size) => (0, size),
        };
        let generation = low_bits(word.generation(), GENERATION_BITS);
        let tag = generation << BUCKET_BITS | low_bits(bucket, BUCKET_BITS);
        self.good.add(tag, limit)
    }

    /// Records the result of a call under the lock, and reports a late result or a would-be trip.
    pub(super) fn record(
        &self,
        events: &Events,
        act: impl FnOnce(&mut Machine, Instant) -> Recorded,
    ) {
        match self.update(Some(events), act) {
            Recorded::Counted => {}
            Recorded::Late => {
                self.late.fetch_add(1, Ordering::Relaxed);
                self.events.emit(events, Event::LateResult);
            }
            Recorded::WouldOpen => self.events.emit(events, Event::BreakerWouldOpen),
        }
    }
}
