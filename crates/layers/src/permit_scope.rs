//! The scope of a permit: until the response, or until the end of the response body.
//!
//! A layer that holds a permit for the time of a call returns it when the call is over. By default
//! that is when the response arrives ([`UntilResponse`]). For an `http::Response` with a streamed
//! body, the call may last until the end of the body (`UntilBodyEnd`, feature `http`).
//!
//! The traits of this module are sealed. They appear only in type signatures: the method
//! `until_body_end` of a layer selects the scope, and no code of yours calls the traits.

use std::mem;

use crate::rejection::Rejection;

/// A permit that a layer holds during a call. Appears only in type signatures.
///
/// Dropping the guard ends the call. A guard of a [breaker](crate::breaker::Permit) then records the
/// result: the class of the response if one has arrived, else the call as unanswered. A guard of a [concurrency limit](crate::concurrency::Permit) returns its permit.
pub trait Guard: sealed::Sealed {
    /// Reports that the call failed after its response had begun: with a rejection by a layer
    /// below, or with an error of the service (`None`).
    fn failed(self, rejection: Option<Rejection>);

    /// Reports that the service panicked.
    fn panicked(self);
}

/// Guards are the permits of this crate, and scopes are its own types.
mod sealed {
    use crate::{breaker, concurrency};

    pub trait Sealed {}

    impl Sealed for breaker::Permit {}
    impl Sealed for concurrency::Permit {}
    impl Sealed for super::UntilResponse {}
    #[cfg(feature = "http")]
    impl Sealed for super::UntilBodyEnd {}
}

/// Runs a part of the service, and reports its panic to the guard.
///
/// Only this tells a panic of the service from one of its caller, which drops the call while the
/// thread is panicking too.
#[inline(always)]
pub(crate) fn report_panic<G: Guard, T>(
    guard: &mut Option<G>,
    run: impl FnOnce(Option<&mut G>) -> T,
) -> T {
    let report = ReportPanic(guard);
    let output = run(report.0.as_mut());
    // Dropped only by a panic of `run`.
    mem::forget(report);
    output
}

struct ReportPanic<'p, G: Guard>(&'p mut Option<G>);

impl<G: Guard> Drop for ReportPanic<'_, G> {
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            guard.panicked();
        }
    }
}

/// The scope of a permit, for calls whose response is a `Response`. Appears only in type signatures.
pub trait PermitScope<Response>: sealed::Sealed {
    /// The response, with the guard if the scope outlasts the response.
    type Response<G: Guard>;

    /// Returns the response. If the call is not over yet, the guard is moved into it.
    fn hold<G: Guard>(guard: &mut Option<G>, response: Response) -> Self::Response<G>;
}

/// The scope that ends when the response arrives.
#[derive(Clone, Copy, Debug, Default)]
pub struct UntilResponse;

impl<Response> PermitScope<Response> for UntilResponse {
    type Response<G: Guard> = Response;

    #[inline]
    fn hold<G: Guard>(_: &mut Option<G>, response: Response) -> Response {
        response
    }
}

#[cfg(feature = "http")]
pub use self::body::{GuardedBody, UntilBodyEnd};

#[cfg(feature = "http")]
mod body {
    use std::{
        any::Any,
        pin::Pin,
        task::{Context, Poll, ready},
    };

    use http::Response;
    use http_body::{Body, Frame, SizeHint};
    use pin_project_lite::pin_project;

    use super::{Guard, PermitScope, report_panic};
    use crate::{
        layer_error::LayerError,
        rejection::{AsRejection, BoxError, Rejection},
    };

    /// The scope that ends when the response body has ended, failed, or was dropped (feature `http`).
    #[derive(Clone, Copy, Debug, Default)]
    pub struct UntilBodyEnd;

    impl<B: Body<Error: 'static>> PermitScope<Response<B>> for UntilBodyEnd {
        type Response<G: Guard> = Response<GuardedBody<B, G>>;

        fn hold<G: Guard>(
            guard: &mut Option<G>,
            response: Response<B>,
        ) -> Response<GuardedBody<B, G>> {
            response.map(|body| {
                // A body without frames ends with the response.
                let guard = guard.take_if(|_| !body.is_end_stream());
                GuardedBody { body, guard }
            })
        }
    }

    pin_project! {
        /// A response body that holds a permit until its end (feature `http`).
        #[derive(Debug)]
        pub struct GuardedBody<B, G> {
            #[pin]
            body: B,
            guard: Option<G>,
        }
    }

    impl<B: Body<Error: 'static>, G: Guard> Body for GuardedBody<B, G> {
        type Data = B::Data;
        type Error = B::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
            let mut this = self.project();
            let body = this.body.as_mut();
            let frame = ready!(report_panic(this.guard, |_| body.poll_frame(cx)));
            match &frame {
                Some(Err(error)) => {
                    if let Some(guard) = this.guard.take() {
                        guard.failed(find_rejection(error));
                    }
                }
                Some(Ok(_)) if !this.body.is_end_stream() => {}
                // A caller need not poll a body again if `is_end_stream` is true.
                _ => drop(this.guard.take()),
            }
            Poll::Ready(frame)
        }

        fn is_end_stream(&self) -> bool {
            self.body.is_end_stream()
        }

        fn size_hint(&self) -> SizeHint {
            self.body.size_hint()
        }
    }

    /// Returns the rejection in the error of a body. Only a [`BoxError`] and a [`LayerError`] can contain one.
    fn find_rejection(error: &dyn Any) -> Option<Rejection> {
        let boxed = error.downcast_ref().and_then(BoxError::as_rejection);
        let own = || error.downcast_ref().and_then(LayerError::as_rejection);
        boxed.or_else(own)
    }
}
