//! The span of a request, whose fields are formatted when its first line is logged.
//!
//! Every request has a span, but few requests log a line, and formatting takes most of the time of a span.

use std::marker::PhantomData;

use tower_fanout_http::log::RequestFields;
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::{
    Layer, Registry, fmt::FormattedFields, layer::Context, registry::LookupSpan,
};

/// The fields of a span that has logged nothing yet.
struct Unformatted(RequestFields);

/// Creates the span of a request.
pub(crate) fn request_span(fields: RequestFields) -> Span {
    let span = tracing::error_span!("request");
    span.with_subscriber(|(id, subscriber)| {
        let registry = subscriber.downcast_ref::<Registry>();
        if let Some(span) = registry.and_then(|registry| registry.span(id)) {
            span.extensions_mut().insert(Unformatted(fields));
        }
    });
    span
}

/// A layer that formats the fields of the spans of an event before a layer of `tracing-subscriber` whose formatter
/// is `N` writes the event.
pub(super) struct FormatFields<N> {
    format: fn(&RequestFields) -> String,
    formatter: PhantomData<fn() -> N>,
}

impl<N> FormatFields<N> {
    pub(super) const fn new(format: fn(&RequestFields) -> String) -> Self {
        let formatter = PhantomData;
        Self { format, formatter }
    }
}

impl<N: 'static, S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for FormatFields<N> {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        for span in context.event_scope(event).into_iter().flatten() {
            let mut extensions = span.extensions_mut();
            if let Some(Unformatted(fields)) = extensions.remove()
                && let Some(formatted) = extensions.get_mut::<FormattedFields<N>>()
            {
                formatted.fields = (self.format)(&fields);
            }
        }
    }
}
