//! [`EventSink`], the receiver of events, and the sets of receivers that calls and layers hold.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use super::Event;
use crate::{
    call::Call,
    rejection::{BoxError, Rejection},
};

/// A receiver of events.
///
/// The receiver runs on the path of the call, so it must be fast and must not block. A panic of the
/// receiver is caught and ignored. A closure `Fn(Event)` is a receiver too.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_fanout_layers::{
///     ClassifyResult, Event, EventSink, LayerError, RetryConfig, RetryLayer, WithCall,
/// };
///
/// #[derive(Default)]
/// struct Attempts(AtomicU32);
///
/// impl EventSink for Attempts {
///     fn on(&self, event: Event) {
///         if let Event::Attempt { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let attempts = Arc::new(Attempts::default());
/// let service = RetryLayer::new(RetryConfig::new().max_attempts(3), ClassifyResult)
///     .unwrap()
///     .events(attempts.clone())
///     .layer(service_fn(|_: WithCall<()>| async { Err::<(), _>(LayerError::from("down")) }));
/// service.oneshot(WithCall::new(()).idempotent()).await.unwrap_err();
/// assert_eq!(attempts.0.load(Ordering::Relaxed), 3);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not implement `EventSink`, so it cannot receive events",
    label = "expected an `EventSink`, an `Arc` of one, or a closure `Fn(Event)`",
    note = "a closure must be `Send`, `Sync` and `'static`: write `move |event: Event| …`"
)]
pub trait EventSink: Send + Sync {
    /// Handles `event`.
    fn on(&self, event: Event);

    /// Handles the error that the response of a fallback replaces, just before
    /// [`Event::FallbackUsed`]. Does nothing by default.
    ///
    /// `error` creates the error that
    /// [`FallbackLayer::describe_failure`](crate::FallbackLayer::describe_failure) returns. Without that
    /// setting it is the [`Failure`](crate::Failure) or the [`Rejection`] of the call.
    fn on_replaced(&self, error: &dyn Fn() -> BoxError) {
        let _ = error;
    }
}

impl<F: Fn(Event) + Send + Sync> EventSink for F {
    fn on(&self, event: Event) {
        self(event);
    }
}

type Sink = Arc<dyn EventSink>;

/// Runs a method of a sink. A panic is caught, so that neither the call nor another sink notices it.
fn notify(sink: &dyn EventSink, handle: impl FnOnce(&dyn EventSink)) {
    let _ = catch_unwind(AssertUnwindSafe(|| handle(sink)));
}

/// The receivers of a call's events: one of its own, and the sinks that an
/// [`EventsLayer`](crate::EventsLayer) adds. Clones share the receivers.
///
/// Code outside this crate can emit events too:
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use tower_fanout_layers::{Event, Events, Rejection};
///
/// let recorded = Arc::new(Mutex::new(Vec::new()));
/// let recorder = recorded.clone();
/// let events = Events::from(move |event| recorder.lock().unwrap().push(event));
/// events.emit(Event::Rejected(Rejection::NoEndpoint));
/// Events::NONE.emit(Event::BadTimeout);
/// assert_eq!(*recorded.lock().unwrap(), [Event::Rejected(Rejection::NoEndpoint)]);
/// ```
#[derive(Clone, Default)]
pub struct Events {
    own: Option<Sink>,
    pub(super) stack: Sinks,
}

impl Events {
    /// No receiver. Events are dropped.
    pub const NONE: Self = Self {
        own: None,
        stack: Sinks(None),
    };

    /// Creates a handle that sends events to `sink`. To pass a sink without an `Arc`, use `Events::from`.
    #[must_use]
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self {
            own: Some(sink),
            stack: Sinks(None),
        }
    }

    /// Sends `event` to each receiver. A panic of a receiver is caught and ignored.
    #[inline]
    pub fn emit(&self, event: Event) {
        if let Some(sink) = &self.own {
            notify(&**sink, |sink| sink.on(event));
        }
        self.stack.notify(|sink| sink.on(event));
    }

    fn into_sinks(self) -> impl Iterator<Item = Sink> {
        let stack = self.stack.0.into_iter();
        let stack = stack.flat_map(|sinks| sinks.to_vec());
        self.own.into_iter().chain(stack)
    }
}

impl<S: EventSink + 'static> From<S> for Events {
    fn from(sink: S) -> Self {
        Self::new(Arc::new(sink))
    }
}

impl<S: EventSink + 'static> From<Arc<S>> for Events {
    fn from(sink: Arc<S>) -> Self {
        Self::new(sink)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_none = self.own.is_none() && self.stack.is_empty();
        f.write_str(if is_none { "Events::NONE" } else { "Events" })
    }
}

/// Sinks that are registered while a stack is built. Behind one thin pointer, because futures and calls
/// hold them.
#[derive(Clone, Default)]
pub(crate) struct Sinks(Option<Arc<Vec<Sink>>>);

impl Sinks {
    /// Adds the receivers of `events` at the end.
    pub(crate) fn add(&mut self, events: Events) {
        let sinks = self.0.get_or_insert_default();
        Arc::make_mut(sinks).extend(events.into_sinks());
    }

    #[inline]
    fn notify(&self, handle: impl Fn(&dyn EventSink)) {
        if let Some(sinks) = &self.0 {
            for sink in &**sinks {
                notify(&**sink, &handle);
            }
        }
    }

    /// Sends `event` to the sinks, and then to the receivers of the call.
    #[inline]
    pub(crate) fn emit(&self, call: &Events, event: Event) {
        self.notify(|sink| sink.on(event));
        call.emit(event);
    }

    /// Reports `rejection` and converts it to an error.
    pub(crate) fn reject<E: From<Rejection>>(&self, call: &Events, rejection: Rejection) -> E {
        self.emit(call, Event::Rejected(rejection));
        E::from(rejection)
    }

    /// Passes the error that a fallback replaces to the sinks and receivers. A panic of `error` is caught.
    pub(crate) fn replaced(&self, call: &Events, error: &dyn Fn() -> BoxError) {
        self.notify(|sink| sink.on_replaced(error));
        if let Some(sink) = &call.own {
            notify(&**sink, |sink| sink.on_replaced(error));
        }
        call.stack.notify(|sink| sink.on_replaced(error));
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns `true` if both are the same list.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Returns these sinks followed by `more`.
    pub(super) fn join(&self, more: &Self) -> Self {
        let lists = [self, more]
            .into_iter()
            .filter_map(|list| list.0.as_deref());
        Self(Some(Arc::new(lists.flatten().cloned().collect())))
    }
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |sinks| sinks.len());
        f.debug_struct("Sinks").field("count", &count).finish()
    }
}

/// Sinks of a state that several layers share. A sink can be added at any time, and reading takes no lock.
#[derive(Default)]
pub(crate) struct SharedEvents(OnceLock<Box<Registered>>);

struct Registered {
    sink: Sink,
    next: SharedEvents,
}

impl SharedEvents {
    /// Adds the receivers of `events` at the end.
    pub(crate) fn add(&self, events: Events) {
        for sink in events.into_sinks() {
            let (mut end, next) = (self, Self::default());
            let mut registered = Box::new(Registered { sink, next });
            while let Err(returned) = end.0.set(registered) {
                registered = returned;
                // `set` fails only on a cell that is set.
                end = &end.0.get().expect("the cell is set").next;
            }
        }
    }

    /// Sends `event` to the sinks, and then to the receivers of the call.
    #[inline]
    pub(crate) fn emit(&self, call: &Events, event: Event) {
        let mut end = self;
        while let Some(registered) = end.0.get() {
            notify(&*registered.sink, |sink| sink.on(event));
            end = &registered.next;
        }
        call.emit(event);
    }
}

/// The sinks of a layer and the receivers of one call, for a future that holds both.
pub(crate) struct CallEvents {
    layer: Sinks,
    call: Events,
}

impl CallEvents {
    #[inline]
    pub(crate) fn new(layer: &Sinks, call: &Call) -> Self {
        Self {
            layer: layer.clone(),
            call: call.events.clone(),
        }
    }

    #[inline]
    pub(crate) fn emit(&self, event: Event) {
        self.layer.emit(&self.call, event);
    }

    pub(crate) fn reject<E: From<Rejection>>(&self, rejection: Rejection) -> E {
        self.layer.reject(&self.call, rejection)
    }
}
