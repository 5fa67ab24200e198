//! Collects the events that the layers report for one branch.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tower_fanout_layers::{
    BoxError, Class, Event, Rejection,
    event::{FallbackKind, RetryStopReason},
};

use crate::{outcome::BranchError, report::Branch};

/// An observer of runs, for metrics or traces. Register it with
/// [`FanOut::observer`](crate::FanOut::observer).
///
/// The events of a branch's layers go to the sinks of these layers and of an `EventsLayer` above them.
pub trait RunObserver: Send + Sync {
    /// Called when a branch ends. `node` is the position of the node in its plan, as in
    /// [`Plan::names`](crate::Plan::names), and `branch` its final entry in the report.
    ///
    /// Called while a request is being processed, so the function must be quick and must not block.
    fn on_end(&self, node: usize, branch: &Branch);
}

/// Collects the events of one branch in one run.
#[derive(Default)]
pub(super) struct Recorder {
    /// `true` if an event was recorded. Without events, which is the case for a bare service, the
    /// mutex is never locked.
    touched: AtomicBool,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    attempts: u32,
    hedges: u32,
    /// Number of those attempts that wait in the queue of a limit. A branch may be cut meanwhile.
    waiting: u32,
    /// `true` if a layer counts attempts.
    counted: bool,
    http_status: Option<u16>,
    /// Class of the last attempt of the branch's own service whose end says how the service is.
    class: Option<Class>,
    queued: Duration,
    stopped_by: Option<RetryStopReason>,
    /// `true` once the branch's own service has failed and its fallback is called.
    fallback_called: bool,
    fallback: Option<FallbackKind>,
    /// The error that the fallback replaced.
    replaced: Option<BranchError>,
}

impl Recorder {
    /// Clears the recorded events.
    pub(super) fn reset(&self) {
        if self.touched.load(Ordering::Relaxed) {
            self.touched.store(false, Ordering::Relaxed);
            *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Recorded::default();
        }
    }

    /// Writes the recorded events into the report entry of the branch.
    pub(super) fn write(&self, branch: &mut Branch) {
        if !self.touched.load(Ordering::Acquire) {
            return;
        }
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        branch.attempts = recorded.attempts.saturating_sub(recorded.waiting);
        branch.hedges = recorded.hedges;
        branch.counted = recorded.counted;
        branch.http_status = recorded.http_status;
        branch.class = recorded.class;
        branch.queued = recorded.queued;
        branch.stopped_by = recorded.stopped_by;
        branch.fallback = recorded.fallback;
        // A branch may fail even so: a layer above the fallback can reject its response.
        if branch.error.is_none() && recorded.fallback.is_some() {
            branch.error = recorded.replaced.take();
        }
    }

    /// Records the error that a fallback replaces.
    pub(super) fn on_replaced(&self, error: BoxError) {
        let error = BranchError::from(error);
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replaced = Some(error);
        self.touched.store(true, Ordering::Release);
    }

    /// Records `event`.
    pub(super) fn on(&self, event: Event) {
        self.recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on(event);
        self.touched.store(true, Ordering::Release);
    }
}

impl Recorded {
    fn on(&mut self, event: Event) {
        match event {
            Event::Attempt { .. } => {
                self.counted = true;
                self.attempts += 1;
            }
            Event::Hedge { .. } => self.hedges += 1,
            // An attempt that was rejected locally was never sent.
            Event::AttemptEnded {
                class: Class::Rejected(_),
                ..
            } => self.attempts = self.attempts.saturating_sub(1),
            // The layers of a fallback service report through the same sink.
            Event::AttemptEnded { class, .. } if class.is_of_service() && !self.fallback_called => {
                self.class = Some(class);
            }
            Event::ResponseStatus { status } => self.http_status = Some(status),
            Event::Queued => self.waiting += 1,
            Event::PermitAcquired { waited } => {
                self.waiting = self.waiting.saturating_sub(1);
                self.queued += waited;
            }
            // The end of a wait. Other rejections may be those of an attempt beside it.
            Event::Rejected(
                Rejection::QueueTimeout | Rejection::Evicted | Rejection::CircuitOpen { .. },
            ) => self.waiting = self.waiting.saturating_sub(1),
            // A stop reason counts only for the branch's own service, and only after an attempt was
            // sent: a fallback's retry layer reports through the same sink.
            Event::RetryStopped { by } if self.attempts > 0 && !self.fallback_called => {
                self.stopped_by = Some(by);
            }
            Event::FallbackStarted { .. } => self.fallback_called = true,
            Event::FallbackUsed { kind, .. } => self.fallback = Some(kind),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{Failure, classify::Cause};

    use super::*;

    #[test]
    fn fault_f43_f44_the_class_is_that_of_the_nodes_own_service() {
        let elapsed = Duration::ZERO;
        let failure = Class::Failure(Failure::AttemptTimeout);
        let ended = |class| Event::AttemptEnded { class, elapsed };
        let mut recorded = Recorded::default();
        assert_eq!(recorded.class, None);
        recorded.on(ended(Class::NonRetryable(404)));
        recorded.on(ended(failure));
        recorded.on(ended(Class::Rejected(Rejection::AtCapacity)));
        let cause = Cause::Deadline;
        recorded.on(ended(Class::Unanswered { elapsed, cause }));
        assert_eq!(recorded.class, Some(failure));
        let kind = FallbackKind::Service;
        recorded.on(Event::FallbackStarted { step: 0, kind });
        recorded.on(ended(Class::Success));
        assert_eq!(recorded.class, Some(failure));
    }

    #[test]
    fn fault_f44_an_attempt_in_a_queue_is_not_counted_until_it_has_a_permit() {
        let waited = Duration::ZERO;
        let timed_out = Event::Rejected(Rejection::AttemptTimeout);
        for (events, sent) in [
            (&[Event::Queued][..], 1),
            // The first attempt times out while the second waits.
            (&[Event::Queued, timed_out], 1),
            (&[Event::Queued, Event::PermitAcquired { waited }], 2),
        ] {
            let mut recorded = Recorded::default();
            for number in [1, 2] {
                recorded.on(Event::Attempt { number });
            }
            events.iter().for_each(|event| recorded.on(*event));
            assert_eq!(recorded.attempts - recorded.waiting, sent, "{events:?}");
        }
    }
}
