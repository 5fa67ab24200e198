//! How long a call lasts: until its answer is there, or until the answer's body has ended.
//!
//! A layer that holds something for the time of a call, a permit say, gives it back when the call is
//! over. For most answers that is the moment they are there, and so it is by default
//! ([`UntilResponse`]). An `http::Response` whose body is streamed is over when its body is
//! (`UntilBodyEnd`, feature `http`).

use crate::rejection::Rejection;

/// What a layer holds while a call lasts. Dropped, the call has ended well or nobody cares any more.
pub trait Guard: sealed::Sealed {
    /// The call broke after its answer had begun: by a refusal of a layer below, or else by itself.
    fn broken(self, rejection: Option<Rejection>);
}

/// Only the permits of this crate are guards, and only its own types say how long a call lasts.
mod sealed {
    use crate::{breaker, concurrency};

    pub trait Sealed {}

    impl Sealed for breaker::Permit {}
    impl Sealed for concurrency::Permit {}
    impl Sealed for super::UntilResponse {}
    #[cfg(feature = "http")]
    impl Sealed for super::UntilBodyEnd {}
}

/// Drops what is held for a call while a panic of the service passes, so that it is seen as one even
/// if somebody catches it further out and only then drops the call.
pub(crate) struct DropOnPanic<'p, G>(pub(crate) &'p mut Option<G>);

impl<G> Drop for DropOnPanic<'_, G> {
    #[inline(always)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.take();
        }
    }
}

/// How long a call lasts that was answered by a `Response`.
pub trait PermitScope<Response>: sealed::Sealed {
    /// The answer with what is held for it.
    type Response<G: Guard>;

    /// Takes the guard if the call is not over yet, and holds it until it is.
    fn hold<G: Guard>(guard: &mut Option<G>, response: Response) -> Self::Response<G>;
}

/// A call is over when its answer is there.
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

    use super::{Guard, PermitScope};
    use crate::rejection::{AsRejection, BoxError, Rejection};

    /// A call is over when the body of its answer has ended, failed, or was dropped.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct UntilBodyEnd;

    impl<B: Body<Error: 'static>> PermitScope<Response<B>> for UntilBodyEnd {
        type Response<G: Guard> = Response<GuardedBody<B, G>>;

        fn hold<G: Guard>(
            guard: &mut Option<G>,
            response: Response<B>,
        ) -> Response<GuardedBody<B, G>> {
            response.map(|body| {
                let guard = guard.take_if(|_| !body.is_end_stream());
                GuardedBody { body, guard }
            })
        }
    }

    pin_project! {
        /// A body that something is held for until its end.
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
            let broken = BrokenOnPanic(this.guard);
            let frame = ready!(this.body.as_mut().poll_frame(cx));
            drop(broken);
            match &frame {
                Some(Err(error)) => {
                    if let Some(guard) = this.guard.take() {
                        guard.broken(reject(error));
                    }
                }
                Some(Ok(_)) if !this.body.is_end_stream() => {}
                // Nobody need ask a body again that says it has ended.
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

    /// Tells of a call whose body panics while it is polled.
    struct BrokenOnPanic<'b, G: Guard>(&'b mut Option<G>);

    impl<G: Guard> Drop for BrokenOnPanic<'_, G> {
        fn drop(&mut self) {
            if std::thread::panicking()
                && let Some(guard) = self.0.take()
            {
                guard.broken(None);
            }
        }
    }

    /// The refusal in a body's error, which only a boxed one can carry.
    fn reject(error: &dyn Any) -> Option<Rejection> {
        error.downcast_ref::<BoxError>()?.as_rejection().copied()
    }
}
