//! Axum extractors for the metadata of a call, which layers in front of the handler have set (feature `axum`).
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::get};
//! use http::Request;
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_fanout_http::{extract::{CallMetadata, RemainingTime}, problem::ProblemLayer};
//! use tower_fanout_layers::{CallContext, CallErrorLayer, DeadlineLayer};
//!
//! /// Queries a database, which has the same time as the call.
//! async fn report(RemainingTime(time): RemainingTime) -> String {
//!     let time = time.unwrap_or(Duration::from_secs(30));
//!     format!("SET statement_timeout = {}", time.as_millis())
//! }
//!
//! /// Calls another service before the deadline of this call, with its priority.
//! async fn user(CallMetadata(call): CallMetadata) -> String {
//!     let mut request = Request::get("http://users/7").body(()).unwrap();
//!     if let Some(own) = request.call_mut() {
//!         (own.deadline, own.priority) = (call.deadline, call.priority);
//!     }
//!     format!("{:?}", request.uri()) // a stack of layers takes the request
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layers = ServiceBuilder::new()
//!     .layer(ProblemLayer::new())
//!     .layer(DeadlineLayer::new(Duration::from_secs(2))?)
//!     .layer(CallErrorLayer::new());
//! let app = Router::new().route("/report", get(report)).route("/user", get(user)).layer(layers);
//! # use axum::body::{Body, to_bytes};
//! # let response = app.oneshot(Request::get("/report").body(Body::empty())?).await?;
//! # let text = to_bytes(response.into_body(), 100).await?;
//! # assert_eq!(text, "SET statement_timeout = 2000");
//! # Ok(())
//! # }
//! ```

use std::{convert::Infallible, time::Duration};

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use tokio::time::Instant;
use tower_fanout_layers::{Call, Deadline};

/// An extractor of the [`Call`] of the request: deadline, attempt, priority and events.
///
/// Never fails: a request without metadata has the default, [`Call::NONE`].
///
/// Copy single fields into the request to another service, as in the [example](self). The whole value also describes
/// the attempt and the body of this request.
#[derive(Clone, Debug)]
pub struct CallMetadata(pub Call);

impl<S: Sync> FromRequestParts<S> for CallMetadata {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(call(parts).cloned().unwrap_or_default()))
    }
}

/// An extractor of the time until the deadline of the call. `None` if the call has no deadline.
///
/// The time is measured when the value is extracted. A deadline that has passed gives zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingTime(pub Option<Duration>);

impl<S: Sync> FromRequestParts<S> for RemainingTime {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let deadline = call(parts).and_then(|call| call.deadline);
        let remaining = |deadline: Deadline| deadline.remaining(Instant::now());
        Ok(Self(deadline.map(remaining)))
    }
}

fn call(parts: &Parts) -> Option<&Call> {
    parts.extensions.get()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tower_fanout_layers::{CallContext as _, Priority};

    use super::*;

    /// Returns the extracted priority and time.
    async fn extract(request: Request<()>) -> (Priority, Option<Duration>) {
        let (mut parts, ()) = request.into_parts();
        let Ok(CallMetadata(call)) = CallMetadata::from_request_parts(&mut parts, &()).await;
        let Ok(RemainingTime(time)) = RemainingTime::from_request_parts(&mut parts, &()).await;
        (call.priority, time)
    }

    #[tokio::test(start_paused = true)]
    async fn the_metadata_of_the_request_is_extracted() {
        let mut request = Request::new(());
        let call = request.call_mut().unwrap();
        call.priority = Priority::MAX;
        call.deadline = Deadline::after(Instant::now(), Duration::from_secs(2));
        tokio::time::advance(Duration::from_millis(500)).await;
        let time = Some(Duration::from_millis(1_500));
        assert_eq!(extract(request.clone()).await, (Priority::MAX, time));
        tokio::time::advance(Duration::from_secs(9)).await;
        let time = Some(Duration::ZERO);
        assert_eq!(extract(request).await, (Priority::MAX, time));
    }

    #[tokio::test]
    async fn a_request_without_metadata_has_the_defaults() {
        assert_eq!(extract(Request::new(())).await, (Priority::default(), None));
    }
}
