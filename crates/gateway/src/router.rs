//! The router of the gateway: the configured routes beside the endpoints that the gateway itself serves.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router as BuiltIn, body::Body};
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use tower::{Service, ServiceExt};
use tower_fanout_http::problem::{Code, Problem};

use crate::config::{RouteTable, is_built_in};

type BoxFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// A service that responds to the requests to an endpoint. Clones share it.
#[derive(Clone)]
pub(crate) struct Handler(Arc<dyn Fn(Request<Body>) -> BoxFuture + Send + Sync>);

impl Handler {
    /// Creates a handler from a function.
    pub(crate) fn new<F>(respond: impl Fn(Request<Body>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self(Arc::new(move |request| {
            // Boxed once, because the layers above move it, and it is large. An async block would have room for it twice.
            Box::pin(respond(request).map(Ok))
        }))
    }

    /// Creates a handler from a service of any type.
    pub(crate) fn of<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        Self(Arc::new(move |request| {
            Box::pin(service.clone().oneshot(request))
        }))
    }
}

impl Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> BoxFuture {
        (self.0)(request)
    }
}

/// The values of the path parameters of a request, in the extensions of a request to a configured route whose path has
/// parameters. `None` if one of them is not UTF-8.
#[derive(Clone)]
pub(crate) struct PathValues(pub(crate) Option<Vec<String>>);

/// The configured routes, which serve the paths that the gateway itself does not serve.
pub(crate) struct Routes {
    table: RouteTable,
    /// The handlers by the indices of the table.
    handlers: Vec<Handler>,
}

impl Routes {
    /// Creates the routes of `table`, whose indices are those of `handlers`.
    pub(crate) fn new(table: RouteTable) -> Self {
        let handlers = Vec::new();
        Self { table, handlers }
    }

    /// Adds the handler with the next index.
    pub(crate) fn push(&mut self, handler: Handler) {
        self.handlers.push(handler);
    }

    /// Responds to a request, or returns a problem if no route matches it.
    fn respond(&self, mut request: Request<Body>) -> BoxFuture {
        let path = request.uri().path();
        let Some(found) = self.table.find(request.method(), path) else {
            return Box::pin(ready(Ok(self.refusal(&request))));
        };
        if found
            .values
            .as_ref()
            .is_none_or(|values| !values.is_empty())
        {
            request.extensions_mut().insert(PathValues(found.values));
        }
        let is_head = request.method() == Method::HEAD;
        let response = self.handlers[found.index].0(request);
        if is_head {
            Box::pin(async { response.await.map(without_body) })
        } else {
            response
        }
    }

    /// Returns the problem for a request that no route matches.
    fn refusal(&self, request: &Request<Body>) -> Response<Body> {
        let id = request.extensions().get();
        let methods = self.table.methods(request.uri().path()).join(",");
        match HeaderValue::from_str(&methods) {
            Ok(allow) if !allow.is_empty() => Problem::new(Code::MethodNotAllowed)
                .header(header::ALLOW, allow)
                .into_response(id),
            _ => Problem::new(Code::NotFound).into_response(id),
        }
    }
}

/// Removes the body from the response to a `HEAD` request, which has the headers of the response to `GET`
/// ([RFC 9110 §9.3.2](https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2)).
fn without_body(mut response: Response<Body>) -> Response<Body> {
    if let Some(length) = response.body().size_hint().exact() {
        let length = HeaderValue::from(length);
        let headers = response.headers_mut();
        headers.entry(header::CONTENT_LENGTH).or_insert(length);
    }
    response.map(|_| Body::empty())
}

/// Returns the handler of all endpoints: those of the gateway itself, and the configured routes.
///
/// Requests to configured routes do not pass through axum, whose router clones and boxes what each endpoint
/// consists of.
pub(crate) fn router(built_in: BuiltIn, routes: Routes) -> Handler {
    let routes = Arc::new(routes);
    let other = Arc::clone(&routes);
    let built_in = built_in.fallback(move |request| other.respond(request));
    Handler(Arc::new(move |request| {
        if is_built_in(request.uri().path()) {
            Box::pin(built_in.clone().oneshot(request))
        } else {
            routes.respond(request)
        }
    }))
}
