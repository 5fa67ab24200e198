//! Collects what the layers tell of one branch.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tower_fanout_layers::{
    Class, Event,
    event::{FallbackKind, RetryStopReason},
};

use super::RunObserver;
use crate::report::Branch;

/// Who is told what happens in runs, and how nodes are called.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) observer: Option<Arc<dyn RunObserver>>,
    pub(super) names: Arc<[Box<str>]>,
}

/// Collects the events of one branch.
pub(super) struct Recorder {
    /// Whether there is anything to read: most of a branch's cost if there is not.
    touched: AtomicBool,
    seen: Mutex<Seen>,
    watch: Watch,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    attempts: u32,
    hedges: u32,
    /// Whether anything counts attempts.
    counted: bool,
    http_status: Option<u16>,
    queued: Duration,
    stopped_by: Option<RetryStopReason>,
    /// Whether the branch's own service has failed, and another is asked.
    falls: bool,
    fallback: Option<FallbackKind>,
}

impl Recorder {
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            touched: AtomicBool::new(false),
            seen: Mutex::default(),
            watch,
        }
    }

    /// Forgets all.
    pub(super) fn reset(&self) {
        if self.touched.load(Ordering::Relaxed) {
            self.touched.store(false, Ordering::Relaxed);
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
        }
    }

    /// Writes what was seen into the branch's part of the report.
    pub(super) fn write(&self, branch: &mut Branch) {
        if !self.touched.load(Ordering::Acquire) {
            return;
        }
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        branch.attempts = seen.attempts;
        branch.hedges = seen.hedges;
        branch.counted = seen.counted;
        branch.http_status = seen.http_status;
        branch.queued = seen.queued;
        branch.stopped_by = seen.stopped_by;
        branch.fallback = seen.fallback;
    }

    /// Takes note of what happened to the branch of `node`, and passes it on.
    pub(super) fn on(&self, node: usize, event: Event) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on(event);
        self.touched.store(true, Ordering::Release);
        if let Some(observer) = &self.watch.observer {
            observer.on_event(&self.watch.names[node], event);
        }
    }
}

impl Seen {
    fn on(&mut self, event: Event) {
        match event {
            Event::Attempt { .. } => {
                self.counted = true;
                self.attempts += 1;
            }
            Event::Hedge { .. } => self.hedges += 1,
            // An attempt that was refused on our side was never sent.
            Event::AttemptEnded {
                class: Class::Rejected(_),
                ..
            } => self.attempts = self.attempts.saturating_sub(1),
            Event::ResponseStatus { status } => self.http_status = Some(status),
            Event::PermitAcquired { waited } => self.queued += waited,
            // Nothing is tried again that was never sent, nor by whom another's retries are ended.
            Event::RetryStopped { by } if self.attempts > 0 && !self.falls => {
                self.stopped_by = Some(by);
            }
            Event::FallbackAsked { .. } => self.falls = true,
            Event::FallbackUsed { kind, .. } => self.fallback = Some(kind),
            _ => {}
        }
    }
}
