//! The ids of a request in its log lines.
//!
//! Every request has them, but few requests log a line. So they are no span of tracing, which a subscriber stores and
//! indexes for each request. The task has them while it works for the request, and they are formatted for a line.

use std::{
    fmt::{self, Write},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use http::Request;
use http_body::{Frame, SizeHint};
use tokio::task::futures::TaskLocalFuture;
use tower::{Layer, Service};
use tower_fanout_http::log::RequestFields;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    registry::LookupSpan,
};

tokio::task_local! {
    static REQUEST: Arc<RequestFields>;
}

/// Adds the ids of each request to its log lines. Apply it inside the layers that assign the ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestFieldsLayer;

impl<S> Layer<S> for RequestFieldsLayer {
    type Service = WithRequestFields<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithRequestFields { inner }
    }
}

/// The service of [`RequestFieldsLayer`].
#[derive(Clone, Debug)]
pub(crate) struct WithRequestFields<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for WithRequestFields<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TaskLocalFuture<Arc<RequestFields>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let fields = Arc::new(RequestFields::of(&request));
        // The inner `call` may log before its future is polled.
        let response = REQUEST.sync_scope(Arc::clone(&fields), || self.inner.call(request));
        REQUEST.scope(fields, response)
    }
}

/// A response body whose log lines have the ids of the request. Without it they have none, because the body is polled
/// after the response future has ended.
pub(crate) struct BodyWithRequestFields {
    inner: Body,
    fields: Option<Arc<RequestFields>>,
}

impl BodyWithRequestFields {
    /// Wraps a body of the current request.
    pub(crate) fn current(inner: Body) -> Self {
        Self {
            inner,
            fields: REQUEST.try_with(Arc::clone).ok(),
        }
    }
}

impl http_body::Body for BodyWithRequestFields {
    type Data = <Body as http_body::Body>::Data;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let inner = Pin::new(&mut this.inner);
        match &this.fields {
            Some(fields) => REQUEST.sync_scope(Arc::clone(fields), || inner.poll_frame(cx)),
            None => inner.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Writes an event as `F` does, with the fields of its request.
pub(super) struct FormatWithRequest<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for FormatWithRequest<F>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N> + AddFields,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Ok(fields) = REQUEST.try_with(Arc::clone) else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        (self.0).format_event(context, Writer::new(&mut line), event)?;
        line.truncate(line.trim_end_matches('\n').len());
        F::add(&mut line, &fields);
        writeln!(writer, "{line}")
    }
}

/// A format of lines to which the fields of a request can be added.
pub(super) trait AddFields {
    /// Adds the fields to a line that this format has written.
    fn add(line: &mut String, fields: &RequestFields);
}

impl<T> AddFields for Format<Json, T> {
    /// Adds the member `span`, which an event outside of a span does not have.
    fn add(line: &mut String, fields: &RequestFields) {
        let mut span = serde_json::Map::new();
        span.insert("name".to_owned(), "request".into());
        fields.visit(|name, value| {
            span.insert(name.to_owned(), value.to_string().into());
        });
        let end = line.pop();
        debug_assert_eq!(end, Some('}'), "a line is an object with members");
        // Writing to a `String` cannot fail.
        let _ = write!(line, ",\"span\":{}}}", serde_json::Value::from(span));
    }
}

impl<T> AddFields for Format<Full, T> {
    fn add(line: &mut String, fields: &RequestFields) {
        fields.visit(|name, value| {
            let _ = write!(line, " {name}=");
            // Escapes line breaks and control characters.
            let _ = write!(super::OneLine(&mut *line), "{value}");
        });
    }
}
