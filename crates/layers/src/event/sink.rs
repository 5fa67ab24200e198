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
fn notify(sink: &dyn EventSink, handle: &dyn Fn(&dyn EventSink)) {
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
pub struct Events(Option<Receivers>);

/// The receivers of a call that has one. Without them, a call has a single pointer to check.
#[derive(Clone)]
struct Receivers {
    first: Sink,
    more: Option<Arc<SinkList>>,
}

impl Events {
    /// No receiver. Events are dropped.
    pub const NONE: Self = Self(None);

    /// Creates a handle that sends events to `sink`. To pass a sink without an `Arc`, use `Events::from`.
    #[must_use]
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self(Some(Receivers {
            first: sink,
            more: None,
        }))
    }

    /// Sends `event` to each receiver. A panic of a receiver is caught and ignored.
    #[inline(always)]
    pub fn emit(&self, event: Event) {
        if let Some(receivers) = &self.0 {
            receivers.notify(&|sink| sink.on(event));
        }
    }

    /// Adds `list`. If the call has a list already, `join` returns the list of both.
    #[inline]
    pub(super) fn add(
        &mut self,
        list: &Arc<SinkList>,
        join: impl FnOnce(&Arc<SinkList>) -> Arc<SinkList>,
    ) {
        match &mut self.0 {
            None => *self = Self::new(Arc::clone(list) as Sink),
            Some(Receivers {
                more: Some(above), ..
            }) => *above = join(above),
            Some(Receivers { more, .. }) => *more = Some(Arc::clone(list)),
        }
    }

    fn into_sinks(self) -> impl Iterator<Item = Sink> {
        let sinks = self.0.into_iter();
        sinks.flat_map(|Receivers { first, more }| {
            [Some(first), more.map(|list| list as Sink)]
                .into_iter()
                .flatten()
        })
    }
}

impl Receivers {
    /// Runs `handle` for each receiver. Not inlined, to keep the path of a call without receivers short.
    #[inline(never)]
    fn notify(&self, handle: &dyn Fn(&dyn EventSink)) {
        notify(&*self.first, handle);
        if let Some(more) = &self.more {
            more.notify(handle);
        }
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
        f.write_str(if self.0.is_some() {
            "Events"
        } else {
            "Events::NONE"
        })
    }
}

/// Sinks that were registered while a stack was built. A list is a sink too.
#[derive(Clone, Default)]
pub(super) struct SinkList(Vec<Sink>);

impl SinkList {
    pub(super) fn new(events: Events) -> Self {
        Self(events.into_sinks().collect())
    }

    /// Returns these sinks followed by `more`.
    pub(super) fn join(&self, more: &Self) -> Self {
        Self(self.0.iter().chain(&more.0).cloned().collect())
    }

    #[inline(never)]
    fn notify(&self, handle: &dyn Fn(&dyn EventSink)) {
        for sink in &self.0 {
            notify(&**sink, handle);
        }
    }
}

impl EventSink for SinkList {
    fn on(&self, event: Event) {
        self.notify(&|sink| sink.on(event));
    }

    fn on_replaced(&self, error: &dyn Fn() -> BoxError) {
        self.notify(&|sink| sink.on_replaced(error));
    }
}

/// The sinks of a layer. One thin pointer, because futures hold it.
#[derive(Clone, Default)]
pub(crate) struct Sinks(Option<Arc<SinkList>>);

impl Sinks {
    /// Adds the receivers of `events` at the end.
    pub(crate) fn add(&mut self, events: Events) {
        let list = Arc::make_mut(self.0.get_or_insert_default());
        list.0.extend(events.into_sinks());
    }

    /// Sends `event` to the sinks, and then to the receivers of the call.
    #[inline(always)]
    pub(crate) fn emit(&self, call: &Events, event: Event) {
        if let Some(list) = &self.0 {
            list.notify(&|sink| sink.on(event));
        }
        call.emit(event);
    }

    /// Reports `rejection` and converts it to an error.
    pub(crate) fn reject<E: From<Rejection>>(&self, call: &Events, rejection: Rejection) -> E {
        self.emit(call, Event::Rejected(rejection));
        E::from(rejection)
    }

    /// Passes the error that a fallback replaces to the sinks and receivers. A panic of `error` is caught.
    pub(crate) fn replaced(&self, call: &Events, error: &dyn Fn() -> BoxError) {
        if let Some(list) = &self.0 {
            list.notify(&|sink| sink.on_replaced(error));
        }
        if let Some(receivers) = &call.0 {
            receivers.notify(&|sink| sink.on_replaced(error));
        }
    }
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |list| list.0.len());
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
    #[inline(always)]
    pub(crate) fn emit(&self, call: &Events, event: Event) {
        if self.0.get().is_some() {
            self.notify(event);
        }
        call.emit(event);
    }

    #[inline(never)]
    fn notify(&self, event: Event) {
        let mut end = self;
        while let Some(registered) = end.0.get() {
            notify(&*registered.sink, &|sink| sink.on(event));
            end = &registered.next;
        }
    }
}

/// The sinks of a layer and the receivers of one call, for a future that holds both.
pub(crate) struct CallEvents {
    layer: Sinks,
    call: Events,
}

impl CallEvents {
    #[inline(always)]
    pub(crate) fn new(layer: &Sinks, call: &Call) -> Self {
        Self {
            layer: layer.clone(),
            call: call.events.clone(),
        }
    }

    #[inline(always)]
    pub(crate) fn emit(&self, event: Event) {
        self.layer.emit(&self.call, event);
    }

    pub(crate) fn reject<E: From<Rejection>>(&self, rejection: Rejection) -> E {
        self.layer.reject(&self.call, rejection)
    }
}
