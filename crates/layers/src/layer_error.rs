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
/// | the error of a service | [`LayerErrorLayer`], innermost |
/// | [`BoxError`], [`Rejection`], [`Failure`], `&str`, `String` | `?` or `.into()` |
/// | any other error | `.map_err(LayerError::new)?` |
///
/// A rejection, a failure and a `LayerError` are taken out of their box, so errors do not nest, however
/// often they are boxed on their way. Any other error stays in its box, and [`AsRejection`] searches its
/// sources for a rejection or a failure, as for a [`BoxError`].
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
        }
    }

    fn inner(&self) -> &(dyn Error + 'static) {
        match &self.0 {
            Kind::Rejection(rejection) => rejection,
            Kind::Failure(failure) => failure,
            Kind::Other(error) => &**error,
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
        }
    }

    fn failure(&self) -> Failure {
        match &self.0 {
            Kind::Rejection(_) => Failure::Other,
            Kind::Failure(failure) => *failure,
            Kind::Other(error) => find_failure(&**error),
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
/// [`CallErrorLayer`](crate::CallErrorLayer) instead to keep the type of the error, to avoid the box of each
/// failure, or to say [which errors are safe to retry](crate::CallErrorLayer::with).
///
/// tower's `map_err` does not replace this layer for a service whose error is a [`BoxError`]: its function
/// has the lifetime of the box in its type, so the stack does not compile in an async block that must be
/// `Send`.
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
pub struct LayerErrorLayer(());

impl LayerErrorLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for LayerErrorLayer {
    type Service = MapToLayerError<S>;

    fn layer(&self, inner: S) -> MapToLayerError<S> {
        MapToLayerError { inner }
    }
}

/// A [`Service`] that maps its error to [`LayerError`], created by [`LayerErrorLayer`].
///
/// [`Service`]: https://docs.rs/tower-service/0.3/tower_service/trait.Service.html
#[derive(Clone, Copy, Debug)]
pub struct MapToLayerError<S> {
    inner: S,
}

impl<S, Req> Service<Req> for MapToLayerError<S>
where
    S: Service<Req, Error: Into<BoxError>>,
{
    type Response = S::Response;
    type Error = LayerError;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LayerError>> {
        self.inner.poll_ready(cx).map_err(LayerError::new)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let inner = self.inner.call(request);
        ResponseFuture { inner }
    }
}

pin_project! {
    /// The response future of [`MapToLayerError`].
    #[derive(Debug)]
    pub struct ResponseFuture<Fut> {
        #[pin]
        inner: Fut,
    }
}

impl<Fut, T, E> Future for ResponseFuture<Fut>
where
    Fut: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, LayerError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.project().inner.poll(cx));
        Poll::Ready(result.map_err(LayerError::new))
    }
}
