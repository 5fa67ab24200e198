//! Calls of fallback services. Their ends are recorded for the health and the warnings of the services.

use std::sync::{Arc, Mutex, PoisonError};

use http::Response;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_fanout::{
    BranchError,
    layers::{Class, Event, EventsLayer},
};
use tower_fanout_http::client::ClientError;
use tower_fanout_json::{Json, response::failure};

use crate::{backend::Backend, call_keys::use_key_of, outgoing::DownstreamRequest};

/// Records the end of each call of `stack`, which is that of `backend` as a fallback for `node`.
pub(crate) fn recorded<S>(
    backend: Arc<Backend>,
    node: &str,
    stack: S,
) -> impl Service<DownstreamRequest, Response = Response<Json>, Error = ClientError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<S>
where
    S: Service<DownstreamRequest, Response = Response<Json>, Error = ClientError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let node: Arc<str> = node.into();
    service_fn(move |mut request: DownstreamRequest| {
        use_key_of(&backend, &mut request);
        let call = FallbackCall {
            backend: Arc::clone(&backend),
            node: Arc::clone(&node),
            class: Arc::default(),
            error: None,
        };
        let stack = call.events().layer(stack.clone());
        async move {
            let result = stack.oneshot(request).await;
            call.end(result.as_ref());
            result
        }
    })
}

/// A call of a fallback service. Records its end on drop, because the deadline may cut the call.
struct FallbackCall {
    backend: Arc<Backend>,
    node: Arc<str>,
    /// Class of the last attempt whose end says how the service is.
    class: Arc<Mutex<Option<Class>>>,
    error: Option<BranchError>,
}

impl FallbackCall {
    /// Returns a layer that keeps the class of each attempt.
    fn events(&self) -> EventsLayer {
        let last = Arc::clone(&self.class);
        EventsLayer::new(move |event: Event| match event {
            Event::AttemptEnded { class, .. } if class.is_of_service() => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(class);
            }
            _ => {}
        })
    }

    /// Ends the call with `result`.
    fn end(mut self, result: Result<&Response<Json>, &ClientError>) {
        if let Some(Class::Failure(_)) = self.class() {
            self.error = Some(failure(result));
        }
    }

    fn class(&self) -> Option<Class> {
        *self.class.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FallbackCall {
    fn drop(&mut self) {
        self.backend
            .record_fallback(&self.node, self.class(), self.error.as_ref());
    }
}
