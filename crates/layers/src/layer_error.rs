//! A boxed error that every layer accepts, in every place where a stack is used.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    classify::Failure,
    rejection::{AsRejection, BoxError, Rejection, find_failure, find_rejection},
};

/// A [`Rejection`], a [`Failure`], or any other error in a box: the error type for services that have no
/// error type of their own.
///
/// `LayerError` does for layers what [`BoxError`] does for tower. In contrast to a stack whose error is
/// [`BoxError`], a stack whose error is `LayerError` compiles wherever the compiler has to prove that a
/// future is `Send`, such as in `tokio::spawn(async move { … })` and in a handler closure of axum. See
/// [When it does not compile](crate#when-it-does-not-compile).
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_fanout_layers::{AsRejection, LayerError, Rejection, TimeoutLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let read = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(1))?)
///     .service(service_fn(|file: String| async move {
///         std::fs::read_to_string(file).map_err(LayerError::new)
///     }));
/// let task = tokio::spawn(async move { read.oneshot("no such file".into()).await });
/// let error = task.await?.unwrap_err();
/// assert_eq!(error.as_rejection(), None); // the service failed
/// let cause = error.downcast_ref::<std::io::Error>().unwrap(); // the error keeps its type
/// assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
/// # Ok(())
/// # }
/// ```
///
/// # Conversions
///
/// | from | with |
/// |---|---|
/// | the error of a service | [`LayerErrorLayer`], innermost; [`with`](LayerErrorLayer::with) a function for the error of a client |
/// | [`BoxError`], [`Rejection`], [`Failure`], `&str`, `String` | `?` or `.into()` |
/// | any other error | `.map_err(LayerError::new)?` |
///
/// A rejection, a failure and a `LayerError` are taken out of their box, so errors do not nest, however
/// often they are boxed on their way. Any other error stays in its box, and [`AsRejection`] searches its
/// sources for a rejection or a failure, as for a [`BoxError`].
///
/// An error of a client is a [`Failure::Other`] in such a box: a `Problem` of the crate `tower-fanout-http`
/// makes it a 500 instead of a 502, and only idempotent requests are retried, even if nothing was sent. See
/// [`LayerErrorLayer::with`].
///
/// `Display` and [`source`](Error::source) are those of the contained error. So a report of the chain of
/// sources has each text once.
///
/// # Size
///
/// A `LayerError` has four words. A rejection or a failure allocates nothing.
pub struct LayerError(Kind);

enum Kind {
    Rejection(Rejection),
    Failure(Failure),
    Other(BoxError),
    /// An error whose kind of failure a function found. Boxed, so that a `LayerError` has four words.
    Classified(Box<(Failure, BoxError)>),
}

impl LayerError {
    /// Creates an error that contains `error`.
    #[must_use]
    pub fn new(error: impl Into<BoxError>) -> Self {
        error.into().into()
    }

    /// Returns the contained error if its type is `T`, or else `None`. The sources of the error are not
    /// searched.
    #[must_use]
    pub fn downcast_ref<T: Error + 'static>(&self) -> Option<&T> {
        self.inner().downcast_ref()
    }

    /// Returns the contained error in a box, for example to take it out with `BoxError::downcast`.
    #[must_use]
    pub fn into_inner(self) -> BoxError {
        match self.0 {
            Kind::Rejection(rejection) => rejection.into(),
            Kind::Failure(failure) => failure.into(),
            Kind::Other(error) => error,
            Kind::Classified(classified) => classified.1,
        }
    }

    /// Sets the kind of failure of an error that is not a rejection.
    fn classified(self, failure: Failure) -> Self {
        let classified = |error| Kind::Classified(Box::new((failure, error)));
        Self(match self.0 {
            kind if failure == Failure::Other => kind,
            Kind::Rejection(rejection) => Kind::Rejection(rejection),
            Kind::Failure(_) => Kind::Failure(failure),
            Kind::Other(error) => classified(error),
            Kind::Classified(old) => classified(old.1),
        })
    }

    fn inner(&self) -> &(dyn Error + 'static) {
        match &self.0 {
            Kind::Rejection(rejection) => rejection,
            Kind::Failure(failure) => failure,
            Kind::Other(error) => &**error,
            Kind::Classified(classified) => &*classified.1,
        }
    }
}

impl From<Rejection> for LayerError {
    fn from(rejection: Rejection) -> Self {
        Self(Kind::Rejection(rejection))
    }
}

impl From<Failure> for LayerError {
    fn from(failure: Failure) -> Self {
        Self(Kind::Failure(failure))
    }
}

/// A boxed [`LayerError`], [`Rejection`] or [`Failure`] is taken out of its box.
impl From<BoxError> for LayerError {
    fn from(error: BoxError) -> Self {
        if let Some(rejection) = error.downcast_ref::<Rejection>() {
            return (*rejection).into();
        }
        if let Some(failure) = error.downcast_ref::<Failure>() {
            return (*failure).into();
        }
        match error.downcast::<Self>() {
            Ok(error) => *error,
            Err(error) => Self(Kind::Other(error)),
        }
    }
}

impl From<&str> for LayerError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for LayerError {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

/// Returns what a [`BoxError`] with the same content returns.
impl AsRejection for LayerError {
    fn as_rejection(&self) -> Option<Rejection> {
        match &self.0 {
            Kind::Rejection(rejection) => Some(*rejection),
            Kind::Failure(_) => None,
            Kind::Other(error) => find_rejection(&**error),
            Kind::Classified(classified) => find_rejection(&*classified.1),
        }
    }

    fn failure(&self) -> Failure {
        match &self.0 {
            Kind::Rejection(_) => Failure::Other,
            Kind::Failure(failure) => *failure,
            Kind::Other(error) => find_failure(&**error),
            Kind::Classified(classified) => classified.0,
        }
    }
}

impl fmt::Debug for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.inner(), f)
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner(), f)
    }
}

impl Error for LayerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner().source()
    }
}

/// Maps a service's error to [`LayerError`].
///
/// Put this layer innermost, around a service whose error is a [`BoxError`], such as tower's `Buffer`, or
/// around services with different errors whose stacks need one error type. Take
/// [`CallErrorLayer`](crate::CallErrorLayer) instead to keep the type of the error, or to avoid the box of each
/// failure. Create the layer with a [function](Self::with) if the error is that of a client.
///
/// tower's `map_err` does not replace this layer for a service whose error is a [`BoxError`]: its function
/// has the lifetime of the box in its type, so the stack does not compile in an async block that must be
/// `Send`. Neither does this layer around a closure that returns a [`BoxError`]: convert the error in the closure.
/// See [When it does not compile](crate#when-it-does-not-compile).
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, buffer::Buffer, service_fn};
/// use tower_fanout_layers::{LayerError, LayerErrorLayer, TimeoutLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), LayerError> {
/// let users = service_fn(|id: u32| async move { Ok::<_, std::io::Error>(id) });
/// let users = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(1)).map_err(LayerError::new)?)
///     .layer(LayerErrorLayer::new())
///     .service(Buffer::new(users, 8)); // its error is a `BoxError`
/// let task = tokio::spawn(async move { users.oneshot(7).await });
/// assert_eq!(task.await.map_err(LayerError::new)??, 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerErrorLayer<F = Sources> {
    failure: F,
}

impl LayerErrorLayer {
    /// Creates a layer that takes the [`Failure`] of each error from the error itself and its sources. An error
    /// without one is a [`Failure::Other`].
    #[must_use]
    pub const fn new() -> Self {
        Self::with(Sources(()))
    }
}

impl<F> LayerErrorLayer<F> {
    /// Creates a layer that classifies each error with `failure`, a `Fn(&Error) -> Failure`.
    ///
    /// For reqwest and other clients on hyper, the function is `tower_fanout_http::client::failure`. With that
    /// function, an unreachable service is a [`Failure::Connect`]: a `Problem` of `tower-fanout-http` makes it a 502,
    /// and a POST is retried, because nothing was sent.
    ///
    /// An error that contains a rejection stays a rejection. If the function returns [`Failure::Other`], the
    /// sources of the error are searched, as with [`new`](LayerErrorLayer::new).
    ///
    /// ```
    /// use std::io;
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_fanout_layers::{AsRejection, Failure, LayerErrorLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let service = ServiceBuilder::new()
    ///     .layer(LayerErrorLayer::with(|error: &io::Error| match error.kind() {
    ///         io::ErrorKind::ConnectionRefused => Failure::Connect, // never sent, so a retry is safe
    ///         _ => Failure::Other,
    ///     }))
    ///     .service(service_fn(|_: u32| async move {
    ///         Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    ///     }));
    /// assert_eq!(service.oneshot(7).await.unwrap_err().failure(), Failure::Connect);
    /// # }
    /// ```
    #[must_use]
    pub const fn with(failure: F) -> Self {
        Self { failure }
    }
}

/// The default of [`LayerErrorLayer`]: the [`Failure`] is that of the error itself and its sources.
///
/// Not a function, because the type of a function for a [`BoxError`] has the lifetime of the box.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources(());

/// A source of the [`Failure`] of an error `E`: [`Sources`], or a function.
trait FailureOf<E> {
    fn failure_of(&self, error: &E) -> Failure;
}

impl<E> FailureOf<E> for Sources {
    fn failure_of(&self, _: &E) -> Failure {
        Failure::Other
    }
}

impl<F: Fn(&E) -> Failure, E> FailureOf<E> for F {
    fn failure_of(&self, error: &E) -> Failure {
        self(error)
    }
}

fn to_layer_error<E: Into<BoxError>>(error: E, failure: &impl FailureOf<E>) -> LayerError {
    let failure = failure.failure_of(&error);
    LayerError::new(error).classified(failure)
}

impl<S, F: Clone> Layer<S> for LayerErrorLayer<F> {
    type Service = MapToLayerError<S, F>;

    fn layer(&self, inner: S) -> MapToLayerError<S, F> {
        let failure = self.failure.clone();
        MapToLayerError { inner, failure }
    }
}

/// A [`Service`] that maps its error to [`LayerError`], created by [`LayerErrorLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Copy, Debug)]
pub struct MapToLayerError<S, F = Sources> {
    inner: S,
    failure: F,
}

impl<S, F, Req> Service<Req> for MapToLayerError<S, F>
where
    S: Service<Req, Error: Into<BoxError>>,
    F: FailureOf<S::Error> + Clone,
{
    type Response = S::Response;
    type Error = LayerError;
    type Future = ResponseFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        let ready = self.inner.poll_ready(cx);
        ready.map_err(|error| to_layer_error(error, &self.failure))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture {
            inner: self.inner.call(request),
            failure: self.failure.clone(),
        }
    }
}

pin_project! {
    /// The response future of [`MapToLayerError`].
    #[derive(Debug)]
    pub struct ResponseFuture<Fut, F = Sources> {
        #[pin]
        inner: Fut,
        failure: F,
    }
}

impl<Fut, F, T, E> Future for ResponseFuture<Fut, F>
where
    Fut: Future<Output = Result<T, E>>,
    F: FailureOf<E>,
    E: Into<BoxError>,
{
    type Output = Result<T, LayerError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        Poll::Ready(result.map_err(|error| to_layer_error(error, this.failure)))
    }
}
