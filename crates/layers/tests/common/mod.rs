//! What the layers' tests share: a service by script, an error type of a user's own, an ear for
//! events.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tower_fanout_layers::{
    AsReject, Call, Context, Deadline, Event, Failure, Observe, Observer, Reject, With,
};
use tower_fanout_testkit::script::Script;

/// An error type that no layer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refused(Reject),
    Failed(Failure),
}

impl From<Reject> for Fault {
    fn from(reject: Reject) -> Self {
        Self::Refused(reject)
    }
}

impl AsReject for Fault {
    fn as_reject(&self) -> Option<&Reject> {
        match self {
            Self::Refused(reject) => Some(reject),
            Self::Failed(_) => None,
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Failed(failure) => *failure,
            Self::Refused(_) => Failure::Other,
        }
    }
}

pub(crate) const BROKEN: Fault = Fault::Failed(Failure::Reset);
pub(crate) const UNREACHED: Fault = Fault::Failed(Failure::Connect);

pub(crate) type Request = With<u32>;
pub(crate) type Scripted = Script<Request, u32, Fault>;

pub(crate) fn script() -> Scripted {
    Script::new()
}

/// A request that may be sent twice.
pub(crate) fn ask() -> Request {
    With::new(0).idempotent()
}

pub(crate) fn ask_within(time: Duration) -> Request {
    ask().deadline(Deadline::at(Instant::now() + time))
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What `future` came to, and how long it took.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed())
}

/// Remembers what it is told.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Vec<Event>>>);

impl Observe for Ear {
    fn on(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Ear {
    pub(crate) fn observer(&self) -> Observer {
        Observer::new(Arc::new(self.clone()))
    }

    /// Everything it was told.
    pub(crate) fn heard(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

/// A request with facts of its own.
pub(crate) fn ask_with(edit: impl FnOnce(&mut Call)) -> Request {
    let mut request = ask();
    edit(request.call_mut().unwrap());
    request
}
