//! Responses of downstreams as JSON: parsing within each attempt, and the check of the final status.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use pin_project_lite::pin_project;
use tower_fanout::{
    BranchError, ErrorKind,
    layers::{Event, Events, classify::ExpectedStatus},
};
use tower_fanout_http::{
    client::{ClientError, ClientErrorKind},
    log::LogValue,
    media_type::is_json,
};
use tower_layer::Layer;
use tower_service::Service;

use crate::{Json, branch_error, filter::FieldFilter, merge::Merge};

/// A layer that parses response bodies as JSON, and applies a [`FieldFilter`] to them.
///
/// Place the layer within the attempt, so that a response with an invalid body counts as a failure
/// of the service, which a fallback can replace.
///
/// A body is handled by status:
///
/// - 204 and 205: an empty body becomes `null`.
/// - 2xx: a response with another media type than JSON, or with a body and no content type, fails with
///   [`ClientErrorKind::BadContentType`]. A body that is not valid JSON fails with [`ClientErrorKind::BadJson`], and
///   so does an empty body that is declared as JSON. An empty body without a content type becomes `null`.
/// - Any other status: a body that is not declared as JSON, or is not valid, becomes `null`. So does the
///   body of a 4xx or 5xx response that the client could not read
///   ([`ClientError::response`]), unless the status is in the `accept` of [`filter`](Self::filter).
///
/// JSON media types are `application/json` and all types with the suffix `+json`, such as
/// `application/problem+json`. Their `charset`, if any, must be `utf-8`.
#[derive(Clone, Debug, Default)]
pub struct JsonLayer {
    /// `None` if all settings have their defaults.
    settings: Option<Arc<Settings>>,
}

#[derive(Clone, Debug, Default)]
struct Settings {
    /// The filter and the accepted error statuses, or `None` if both have their defaults.
    filter: Option<(FieldFilter, Box<[u16]>)>,
    /// The merge of the response with others.
    merge: Option<Merge>,
    /// `true` if the responses have no body.
    head: bool,
}

impl JsonLayer {
    /// Creates a layer without a filter.
    #[must_use]
    pub const fn new() -> Self {
        Self { settings: None }
    }

    /// Applies `filter` to 2xx responses and to responses with a status in `accept`. The static
    /// response of a fallback is not filtered.
    ///
    /// A 2xx response without the target value fails with [`ClientErrorKind::BadJson`]. A response with a
    /// status in `accept` becomes `null` instead. All other responses pass unchanged, and so does the `null` of
    /// a response without content, such as a 204.
    ///
    /// A response with a status in `accept` gets the mark [`ExpectedStatus`], so that it is a success for
    /// retries, the circuit breaker and fallbacks too.
    ///
    /// `accept` must be the statuses given to [`AcceptLayer::new`]: a response that only
    /// `AcceptLayer` accepts would reach the plan unfiltered.
    #[must_use]
    pub fn filter(mut self, filter: FieldFilter, accept: impl Into<Box<[u16]>>) -> Self {
        let accept = accept.into();
        if filter != FieldFilter::default() || !accept.is_empty() {
            self.settings_mut().filter = Some((filter, accept));
        }
        self
    }

    /// Fails a response with [`ClientErrorKind::BadJson`] if the document of `merge` would nest too deeply
    /// because of it. Without this, such a response fails [the merge](Merge::merge) of all responses.
    #[must_use]
    pub fn merge(mut self, merge: Merge) -> Self {
        self.settings_mut().merge = Some(merge);
        self
    }

    /// Sets whether the requests have the method `HEAD`, so that no response has a body. Defaults to
    /// `false`.
    #[must_use]
    pub fn head(mut self, head: bool) -> Self {
        if head {
            self.settings_mut().head = true;
        }
        self
    }

    fn settings_mut(&mut self) -> &mut Settings {
        Arc::make_mut(self.settings.get_or_insert_default())
    }
}

impl<S> Layer<S> for JsonLayer {
    type Service = JsonService<S>;

    fn layer(&self, inner: S) -> JsonService<S> {
        JsonService {
            layer: self.clone(),
            inner,
        }
    }
}

/// The service of [`JsonLayer`].
#[derive(Clone, Debug)]
pub struct JsonService<S> {
    layer: JsonLayer,
    inner: S,
}

impl<S, R> Service<R> for JsonService<S>
where
    S: Service<R, Response = Response<Bytes>, Error = ClientError>,
    R: tower_fanout::layers::CallContext,
{
    type Response = Response<Json>;
    type Error = ClientError;
    type Future = JsonFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let events = request.call().events.clone();
        JsonFuture {
            inner: self.inner.call(request),
            events,
            layer: self.layer.clone(),
        }
    }
}

pin_project! {
    /// The response future of [`JsonService`].
    #[derive(Debug)]
    pub struct JsonFuture<F> {
        #[pin]
        inner: F,
        events: Events,
        layer: JsonLayer,
    }
}

impl<F> Future for JsonFuture<F>
where
    F: Future<Output = Result<Response<Bytes>, ClientError>>,
{
    type Output = Result<Response<Json>, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let status = match &result {
            Ok(response) => Some(response.status()),
            Err(error) => error.response().map(Response::status),
        };
        if let Some(status) = status.as_ref().map(StatusCode::as_u16) {
            this.events.emit(Event::ResponseStatus { status });
        }
        Poll::Ready(match result {
            Ok(response) => this.layer.read(response),
            Err(error) => this.layer.without_body(error),
        })
    }
}

impl JsonLayer {
    /// Parses the body of `response` and applies the filter.
    fn read(&self, response: Response<Bytes>) -> Result<Response<Json>, ClientError> {
        let settings = self.settings.as_deref();
        let is_empty = response.body().is_empty();
        let mut response = read(response, settings.is_some_and(|settings| settings.head))?;
        if self.accept().contains(&response.status().as_u16()) {
            response.extensions_mut().insert(ExpectedStatus);
        }
        match settings {
            // No content has no target, and needs no filter.
            Some(settings) if !is_empty => settings.apply(response),
            _ => Ok(response),
        }
    }

    /// Returns the accepted error statuses.
    fn accept(&self) -> &[u16] {
        let filter = self.settings.as_deref().and_then(|set| set.filter.as_ref());
        filter.map_or(&[], |(_, accept)| accept)
    }

    /// Returns the response that `error` has, unless its body is wanted.
    fn without_body(&self, error: ClientError) -> Result<Response<Json>, ClientError> {
        match error.response() {
            Some(head) if !self.accept().contains(&head.status().as_u16()) => {
                Ok(head.clone().map(|()| Json::NULL))
            }
            _ => Err(error),
        }
    }
}

impl Settings {
    /// Applies the filter to `response`, and checks that the result can be merged.
    fn apply(&self, response: Response<Json>) -> Result<Response<Json>, ClientError> {
        let (parts, answer) = response.into_parts();
        let answer = match &self.filter {
            None => answer,
            Some((filter, accept)) => {
                let accepted = accept.contains(&parts.status.as_u16());
                match parts.status.is_success() || accepted {
                    false => answer,
                    true => match filter.apply(answer) {
                        Some(answer) => answer,
                        None if accepted => Json::NULL,
                        None => return Err(no_target(filter)),
                    },
                }
            }
        };
        let fits = self.merge.as_ref().is_none_or(|merge| merge.fits(&answer));
        if !fits {
            let cause = "nested too deeply for the merged document";
            return Err(ClientError::new(ClientErrorKind::BadJson).caused_by(cause));
        }
        Ok(Response::from_parts(parts, answer))
    }
}

fn no_target(filter: &FieldFilter) -> ClientError {
    let target = filter.config().target.as_deref().unwrap_or_default();
    ClientError::new(ClientErrorKind::BadJson).caused_by(format!("no value at target \"{target}\""))
}

fn bad_content_type(media_type: Option<&HeaderValue>) -> ClientError {
    let found = media_type.map_or("none".into(), |value| LogValue::new(value).to_string());
    ClientError::new(ClientErrorKind::BadContentType).caused_by(format!("content-type: {found}"))
}

/// Parses the body of `response`. `head` is `true` if the response cannot have a body.
fn read(response: Response<Bytes>, head: bool) -> Result<Response<Json>, ClientError> {
    let (parts, body) = response.into_parts();
    let media_type = parts.headers.get(CONTENT_TYPE);
    let typed = media_type.is_some_and(|value| {
        // The exact spelling that most services use needs no parsing.
        value == "application/json" || value.to_str().is_ok_and(is_json)
    });
    let no_content = matches!(
        parts.status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT
    );
    let json = match (parts.status.is_success(), typed) {
        _ if body.is_empty() && (head || no_content || media_type.is_none()) => Json::NULL,
        (true, true) => Json::parse(body)
            .map_err(|error| ClientError::new(ClientErrorKind::BadJson).caused_by(error))?,
        (true, false) => return Err(bad_content_type(media_type)),
        (false, true) => Json::parse(body).unwrap_or(Json::NULL),
        (false, false) => Json::NULL,
    };
    Ok(Response::from_parts(parts, json))
}

/// A layer that checks the status of the final response and returns its body.
///
/// The name means accepted statuses. The layer has nothing to do with the `accept` header.
///
/// A response whose status is neither 2xx nor listed fails the branch with [`ErrorKind::Status`].
#[derive(Clone, Debug, Default)]
pub struct AcceptLayer {
    // `None` in place of an empty list, which would need an allocation.
    statuses: Option<Arc<[u16]>>,
}

impl AcceptLayer {
    /// Creates a layer that accepts `statuses` in addition to 2xx.
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
    type Future = AcceptFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BranchError>> {
        self.inner.poll_ready(cx).map_err(branch_error)
    }

    fn call(&mut self, request: R) -> Self::Future {
        AcceptFuture {
            inner: self.inner.call(request),
            layer: self.layer.clone(),
        }
    }
}

pin_project! {
    /// The response future of [`Accept`].
    #[derive(Debug)]
    pub struct AcceptFuture<F> {
        #[pin]
        inner: F,
        layer: AcceptLayer,
    }
}

impl<F> Future for AcceptFuture<F>
where
    F: Future<Output = Result<Response<Json>, ClientError>>,
{
    type Output = Result<Json, BranchError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx)).map_err(branch_error)?;
        Poll::Ready(this.layer.accept(response))
    }
}

impl AcceptLayer {
    fn accept(&self, response: Response<Json>) -> Result<Json, BranchError> {
        let status = response.status();
        let listed = self.statuses.as_deref().unwrap_or_default();
        if status.is_success() || listed.contains(&status.as_u16()) {
            Ok(response.into_body())
        } else {
            Err(bad_status(status))
        }
    }
}

fn bad_status(status: StatusCode) -> BranchError {
    let message = format!("the service responded with status {}", status.as_u16());
    BranchError::new(ErrorKind::Status, message)
}

/// Returns the error of a failed `result`: that of [`AcceptLayer`] for a response that it does not accept,
/// and [`branch_error`] for an error.
///
/// Pass the function to
/// [`FallbackLayer::describe_failure`](tower_fanout::layers::FallbackLayer::describe_failure), so that a
/// branch that a fallback saves keeps its error.
#[must_use]
pub fn failure<B>(result: Result<&Response<B>, &ClientError>) -> BranchError {
    match result {
        Ok(response) => bad_status(response.status()),
        Err(error) => branch_error(error.clone()),
    }
}
