//! Helpers of the tests of the layers: a scripted service, an error type as a user would write it,
//! and a recorder of events.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use tower::{Service, service_fn};
use tower_fanout_layers::{
    AsRejection, Call, CallContext, Deadline, Event, EventSink, Events, Failure, Rejection,
    WithCall,
};
use tower_fanout_testkit::{laws::Traffic, script::ScriptedService};

/// An error type that the layers do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refused(Rejection),
    Failed(Failure),
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl AsRejection for Fault {
    fn as_rejection(&self) -> Option<Rejection> {
        match self {
            Self::Refused(rejection) => Some(*rejection),
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

pub(crate) const BROKEN: Fault = Fault::Failed(Failure::ConnectionReset);
pub(crate) const UNREACHED: Fault = Fault::Failed(Failure::Connect);

pub(crate) type Request = WithCall<u32>;
pub(crate) type Scripted = ScriptedService<Request, u32, Fault>;

pub(crate) fn script() -> Scripted {
    ScriptedService::new()
}

/// Creates an idempotent request.
pub(crate) fn idempotent_request() -> Request {
    WithCall::new(0).idempotent()
}

pub(crate) fn request_within(time: Duration) -> Request {
    idempotent_request().deadline(Deadline::at(Instant::now() + time))
}

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Returns the output of `future` and its duration.
pub(crate) async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed())
}

/// An event sink that records all events.
#[derive(Clone, Default)]
pub(crate) struct EventRecorder(Arc<Mutex<Vec<Event>>>);

impl EventSink for EventRecorder {
    fn on(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl EventRecorder {
    pub(crate) fn events(&self) -> Events {
        Events::new(Arc::new(self.clone()))
    }

    /// Returns all recorded events.
    pub(crate) fn recorded(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

/// The numbers of the endpoints that were called, in order.
#[derive(Clone, Default)]
pub(crate) struct Endpoints(Arc<Mutex<Vec<u64>>>);

impl Endpoints {
    pub(crate) fn get(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

/// A service with two endpoints, 0 and 1, that the attempts of a call use in turn. `answer` is the
/// result per endpoint.
pub(crate) fn two_endpoints<F>(
    answer: F,
) -> (
    impl Service<Request, Response = u32, Error = Fault, Future: Send> + Clone,
    Endpoints,
)
where
    F: Fn(u64) -> Result<u32, Fault> + Clone,
{
    let called = Endpoints::default();
    let seen = called.clone();
    let service = service_fn(move |request: Request| {
        let endpoint = u64::from(request.call().attempt - 1) % 2;
        seen.0.lock().unwrap().push(endpoint);
        // The first endpoint is slow.
        let (answer, delay) = (answer(endpoint), ms(if endpoint == 0 { 100 } else { 1 }));
        async move {
            tokio::time::sleep(delay).await;
            answer
        }
    });
    (service, called)
}

/// Creates a request with an edited [`Call`].
pub(crate) fn ask_with(edit: impl FnOnce(&mut Call)) -> Request {
    let mut request = idempotent_request();
    edit(request.call_mut().unwrap());
    request
}

/// The requests, responses and errors of the law tests.
#[derive(Clone)]
pub(crate) struct Calls;

impl Traffic for Calls {
    type Request = WithCall<u64>;
    type Response = u64;
    type Error = Fault;

    fn request(&self, number: u64) -> WithCall<u64> {
        WithCall::new(number).idempotent()
    }
    fn request_number(&self, request: &WithCall<u64>) -> u64 {
        *request.get()
    }
    fn response(&self, number: u64) -> u64 {
        number
    }
    fn response_number(&self, response: &u64) -> u64 {
        *response
    }
    fn error(&self) -> Fault {
        BROKEN
    }
}
