//! What somebody may say to a breaker: to be open, to be out of the way, to be closed.

use std::time::Duration;

use tokio::time::Instant;

use super::{Machine, OpenReason, Phase};
use crate::deadline::later;

/// What a breaker does while nobody holds it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::breaker) enum Mode {
    Automatic,
    Disabled,
    ShadowMode,
}

impl Machine {
    /// Holds it open once more.
    pub(in crate::breaker) fn hold(&mut self, now: Instant) {
        self.holds += 1;
        if self.holds == 1 {
            self.reason = Some(OpenReason::Manual);
            self.enter(Phase::ForcedOpen, now);
        }
    }

    /// Lets go of it once; it is on its own again when nobody holds it.
    pub(in crate::breaker) fn release(&mut self, now: Instant) {
        self.holds -= 1;
        self.rest(now);
    }

    /// What it does from now on, or from when nobody holds it open.
    pub(in crate::breaker) fn switch(&mut self, mode: Mode, now: Instant) {
        self.mode = mode;
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        if self.holds == 0 {
            self.trips = 0;
            let phase = match self.mode {
                Mode::Automatic => Phase::Closed { since: now },
                Mode::Disabled => Phase::Disabled,
                Mode::ShadowMode => Phase::ShadowMode { crossed: false },
            };
            self.enter_afresh(phase, now);
        }
    }

    /// Opens it for `time`; not while it is held open, disabled, or for metrics only.
    pub(in crate::breaker) fn open_for(&mut self, time: Duration, now: Instant) {
        if self.holds == 0 && self.mode == Mode::Automatic {
            self.open_until(later(now, time), OpenReason::Manual, now);
        }
    }

    /// Ends the time for which it is open: the next call is a probe.
    pub(in crate::breaker) fn probe_now(&mut self, now: Instant) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
    }
}
