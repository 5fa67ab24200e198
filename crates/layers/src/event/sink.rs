//! [`EventSink`], the receiver of events, and the sets of receivers that calls and layers hold.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use super::Event;
use crate::{
    call::Call,
    panic,
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
    let _ = panic::catch(|| handle(sink));
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
    // Thin pointers, because each layer's future holds the receivers, and moves with them.
    own: Option<Arc<Sink>>,
    added: Option<Arc<SinkList>>,
}

impl Events {
    /// No receiver. Events are dropped.
    pub const NONE: Self = Self {
        own: None,
        added: None,
    };

    /// Creates a handle that sends events to `sink`. To pass a sink without an `Arc`, use `Events::from`.
    ///
    /// Allocates. Clones of the handle do not.
    #[must_use]
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        Self {
            own: Some(Arc::new(sink)),
            added: None,
        }
    }

    /// Returns `true` if a clone of the handle can still send events to the sink that the handle was created with.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.own
            .as_ref()
            .is_some_and(|sink| Arc::strong_count(sink) > 1)
    }

    /// Sends `event` to each receiver. A panic of a receiver is caught and ignored.
    #[inline(always)]
    pub fn emit(&self, event: Event) {
        if self.own.is_some() || self.added.is_some() {
            self.notify(&|sink| sink.on(event));
        }
    }

    /// Runs `handle` for each receiver. Not inlined, to keep the path of a call without receivers short.
    #[inline(never)]
    fn notify(&self, handle: &dyn Fn(&dyn EventSink)) {
        if let Some(list) = &self.added {
            list.notify(handle);
        }
        if let Some(sink) = &self.own {
            notify(&***sink, handle);
        }
    }

    fn into_sinks(self) -> impl Iterator<Item = Sink> {
        let added = self.added.into_iter().flat_map(|list| list.0.clone());
        self.own
            .into_iter()
            .map(|sink| Sink::clone(&sink))
            .chain(added)
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
        f.write_str(if self.own.is_some() || self.added.is_some() {
            "Events"
        } else {
            "Events::NONE"
        })
    }
}

/// Sinks that were registered while a stack was built.
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

/// Sinks that a layer adds to the receivers of a call.
pub(super) struct AddedSinks {
    list: Arc<SinkList>,
    /// The first list of sinks above that was joined with `list`, and the joined list.
    joined: OnceLock<(Arc<SinkList>, Arc<SinkList>)>,
}

impl AddedSinks {
    pub(super) fn new(list: SinkList) -> Self {
        Self {
            list: Arc::new(list),
            joined: OnceLock::new(),
        }
    }

    /// Adds the sinks to the receivers of a call, at the end.
    #[inline]
    pub(super) fn add_to(&self, events: &mut Events) {
        events.added = Some(match &events.added {
            None => Arc::clone(&self.list),
            Some(above) => self.join(above),
        });
    }

    /// Returns the sinks `above` and those of this layer. The list for the first sinks above is kept.
    fn join(&self, above: &Arc<SinkList>) -> Arc<SinkList> {
        let join = || Arc::new(above.join(&self.list));
        let (known, joined) = self.joined.get_or_init(|| (Arc::clone(above), join()));
        if Arc::ptr_eq(known, above) {
            Arc::clone(joined)
        } else {
            join()
        }
    }
}

/// The sinks of a layer.
#[derive(Clone, Default)]
pub(crate) struct Sinks(Option<Arc<AddedSinks>>);

impl Sinks {
    /// Adds the receivers of `events` at the end.
    pub(crate) fn add(&mut self, events: Events) {
        let mut list = self
            .0
            .take()
            .map_or_else(SinkList::default, |sinks| SinkList::clone(&sinks.list));
        list.0.extend(events.into_sinks());
        self.0 = Some(Arc::new(AddedSinks::new(list)));
    }

    /// Sends `event` to the sinks, and then to the receivers of the call.
    #[inline(always)]
    pub(crate) fn emit(&self, call: &Events, event: Event) {
        if let Some(sinks) = &self.0 {
            sinks.list.notify(&|sink| sink.on(event));
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
        if let Some(sinks) = &self.0 {
            sinks.list.notify(&|sink| sink.on_replaced(error));
        }
        call.notify(&|sink| sink.on_replaced(error));
    }
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.as_ref().map_or(0, |sinks| sinks.list.0.len());
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

/// The receivers of one call and the sinks of a layer, for a future that holds both.
pub(crate) struct CallEvents(Events);

impl CallEvents {
    #[inline(always)]
    pub(crate) fn new(layer: &Sinks, call: &Call) -> Self {
        let mut events = call.events.clone();
        if let Some(sinks) = &layer.0 {
            sinks.add_to(&mut events);
        }
        Self(events)
    }

    #[inline(always)]
    pub(crate) fn emit(&self, event: Event) {
        self.0.emit(event);
    }

    pub(crate) fn reject<E: From<Rejection>>(&self, rejection: Rejection) -> E {
        self.emit(Event::Rejected(rejection));
        E::from(rejection)
    }
}
