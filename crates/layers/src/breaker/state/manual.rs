//! Control of a breaker by hand: forced open, disabled, shadow mode, reset.

use std::time::Duration;

use tokio::time::Instant;

use super::{Machine, OpenReason, Phase};
use crate::deadline::later;

/// The mode of a breaker while no guard forces it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::breaker) enum Mode {
    Automatic,
    Disabled,
    Shadow,
}

impl Machine {
    /// Adds a guard that forces the breaker open.
    pub(in crate::breaker) fn hold(&mut self, now: Instant) {
        self.holds += 1;
        if self.holds == 1 {
            self.reason = Some(OpenReason::Manual);
            self.enter(Phase::ForcedOpen, now);
        }
    }

    /// Removes a guard. After the last one the breaker enters its mode.
    pub(in crate::breaker) fn release(&mut self, now: Instant) {
        self.holds -= 1;
        self.enter_mode(now);
    }

    /// Sets the mode, which takes effect now or when the last guard is removed.
    pub(in crate::breaker) fn switch(&mut self, mode: Mode, now: Instant) {
        self.mode = mode;
        self.enter_mode(now);
    }

    fn enter_mode(&mut self, now: Instant) {
        if self.holds == 0 {
            self.trips = 0;
            let phase = match self.mode {
                Mode::Automatic => Phase::Closed { since: now },
                Mode::Disabled => Phase::Disabled,
                Mode::Shadow => Phase::Shadow { crossed: false },
            };
            self.enter_empty(phase, now);
        }
    }

    /// Opens the breaker for `time`. Has no effect while it is forced open, disabled or in shadow
    /// mode.
    pub(in crate::breaker) fn open_for(&mut self, time: Duration, now: Instant) {
        if self.holds == 0 && self.mode == Mode::Automatic {
            self.open_until(later(now, time), OpenReason::Manual, now);
        }
    }

    /// Ends the open time, so that the next call is a probe.
    pub(in crate::breaker) fn probe_now(&mut self, now: Instant) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
    }
}
