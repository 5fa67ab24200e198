//! From a response to an answer: JSON within the attempt, acceptable statuses at the end.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, header::CONTENT_TYPE};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_fanout::{
    BranchError, ErrorKind,
    layers::{Event, Observer},
};

use super::ClientError;
use crate::json::{Json, is_json};

/// Reads bodies as JSON, within the attempt: an answer that is none is a failure of the service.
///
/// A 2xx answer without a body is `null`. Of another status, a body that is not JSON is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonLayer(());

impl JsonLayer {
    /// The layer.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl<S> Layer<S> for JsonLayer {
    type Service = JsonService<S>;

    fn layer(&self, inner: S) -> JsonService<S> {
        JsonService { inner }
    }
}

/// The service of [`JsonLayer`].
#[derive(Clone, Copy, Debug)]
pub struct JsonService<S> {
    inner: S,
}

impl<S, R> Service<R> for JsonService<S>
where
    S: Service<R, Response = Response<Bytes>, Error = ClientError>,
    R: tower_fanout::layers::Context,
{
    type Response = Response<Json>;
    type Error = ClientError;
    type Future = Then<S::Future, Read>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let observer = request.call().observer.clone();
        Then {
            inner: self.inner.call(request),
            then: Some(Read { observer }),
        }
    }
}

/// Reads the answer of an attempt, and tells its status to whoever observes the call.
#[derive(Debug)]
pub struct Read {
    observer: Observer,
}

impl Step<Response<Bytes>> for Read {
    type Output = Response<Json>;
    type Error = ClientError;

    fn take(self, response: Response<Bytes>) -> Result<Response<Json>, ClientError> {
        let status = response.status().as_u16();
        self.observer.emit(Event::Answered { status });
        read(response)
    }
}

fn read(response: Response<Bytes>) -> Result<Response<Json>, ClientError> {
    let (parts, body) = response.into_parts();
    let media_type = parts.headers.get(CONTENT_TYPE);
    let typed = media_type.is_some_and(|value| {
        // As most write it.
        value == "application/json" || value.to_str().is_ok_and(is_json)
    });
    let json = if body.is_empty() {
        Json::NULL
    } else if parts.status.is_success() {
        if !typed {
            return Err(ClientError::BadContentType);
        }
        Json::parse(body).map_err(|_| ClientError::BadJson)?
    } else {
        typed
            .then(|| Json::parse(body).ok())
            .flatten()
            .unwrap_or(Json::NULL)
    };
    Ok(Response::from_parts(parts, json))
}

/// Turns the final response into an answer. A status that is not 2xx is the branch's failure, unless
/// it is listed.
#[derive(Clone, Debug, Default)]
pub struct AcceptLayer {
    // None that needs to be shared, where there are none.
    statuses: Option<Arc<[u16]>>,
}

impl AcceptLayer {
    /// Also accepts these statuses.
    #[must_use]
    pub fn new(statuses: impl Into<Arc<[u16]>>) -> Self {
        let statuses = Some(statuses.into());
        Self {
            statuses: statuses.filter(|statuses| !statuses.is_empty()),
        }
    }
}

impl<S> Layer<S> for AcceptLayer {
    type Service = Accept<S>;

    fn layer(&self, inner: S) -> Accept<S> {
        Accept {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`AcceptLayer`].
#[derive(Clone, Debug)]
pub struct Accept<S> {
    layer: AcceptLayer,
    inner: S,
}

impl<S, R> Service<R> for Accept<S>
where
    S: Service<R, Response = Response<Json>, Error = ClientError>,
{
    type Response = Json;
    type Error = BranchError;
    type Future = Then<S::Future, AcceptLayer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BranchError>> {
        self.inner.poll_ready(cx).map_err(BranchError::from)
    }

    fn call(&mut self, request: R) -> Self::Future {
        Then {
            inner: self.inner.call(request),
            then: Some(self.layer.clone()),
        }
    }
}

/// A step from one response to another.
pub trait Step<Res> {
    /// What it makes of it.
    type Output;
    /// What it says if it makes nothing of it.
    type Error;

    /// Takes the step.
    ///
    /// # Errors
    /// There is nothing to be made of it.
    fn take(self, response: Res) -> Result<Self::Output, Self::Error>;
}

impl Step<Response<Json>> for AcceptLayer {
    type Output = Json;
    type Error = BranchError;

    fn take(self, response: Response<Json>) -> Result<Json, BranchError> {
        let status = response.status();
        let mut listed = self.statuses.iter().flat_map(|statuses| statuses.iter());
        if status.is_success() || listed.any(|listed| *listed == status.as_u16()) {
            Ok(response.into_body())
        } else {
            let message = format!("the service answered {}", status.as_u16());
            Err(BranchError::new(ErrorKind::Status, message))
        }
    }
}

pin_project! {
    /// The future of [`JsonService`], [`Accept`] and [`Shaped`](super::Shaped): a response, and a step from there.
    #[derive(Debug)]
    pub struct Then<F, T> {
        #[pin]
        inner: F,
        then: Option<T>,
    }
}

impl<F, T> Then<F, T> {
    pub(super) const fn new(inner: F, step: T) -> Self {
        let then = Some(step);
        Self { inner, then }
    }
}

impl<F, T, Res, E> Future for Then<F, T>
where
    F: Future<Output = Result<Res, E>>,
    T: Step<Res>,
    T::Error: From<E>,
{
    type Output = Result<T::Output, T::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        let step = this.then.take().expect("polled after completion");
        Poll::Ready(step.take(response))
    }
}
