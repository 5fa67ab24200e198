//! The call of one node, with its types erased.

use std::{
    any::Any,
    future::{Future, Ready},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tower_fanout_layers::panic;

use crate::outcome::BranchError;

/// The call of one node in one run. The answer replaces the call in the same allocation.
pub(crate) trait ErasedCall: Send + Sync {
    /// Polls the call. Its answer is stored in `self`.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BranchError>>;

    /// Returns the answer, or `None` while the call is running or after the answer was taken.
    fn answer(&self) -> Option<&dyn Any>;

    /// Returns the `Option<T>` that holds the answer, or `None` while the call is running.
    fn answer_slot(self: Pin<&mut Self>) -> Option<&mut dyn Any>;
}

/// A boxed call, which is the only allocation of a branch.
pub(crate) type BoxErasedCall = Pin<Box<dyn ErasedCall>>;

/// Drops a call or an answer. A panic of its destructor is caught, so that it cannot end the run.
pub(crate) fn discard(cell: BoxErasedCall) {
    let _ = panic::catch(|| drop(cell));
}

/// Starts a call, in one allocation.
pub(crate) fn start<F, T, E>(call: F) -> BoxErasedCall
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + Sync + 'static,
    E: Into<BranchError> + 'static,
{
    // `Answers` must be `Sync`, but a future need not be: only `&mut` access polls it.
    let call = SyncWrapper::new(call);
    Box::pin(TypedCall::Runs { call })
}

/// Returns the cell of an answer that exists without a call.
pub(crate) fn answered<T: Send + Sync + 'static>(answer: T) -> BoxErasedCall {
    let answer = Some(answer);
    Box::pin(TypedCall::<Ready<Result<T, BranchError>>, T>::Answered { answer })
}

pin_project! {
    /// A running call, or its answer.
    #[project = TypedCallProj]
    enum TypedCall<F, T> {
        Runs { #[pin] call: SyncWrapper<F> },
        Answered { answer: Option<T> },
    }
}

impl<F, T, E> ErasedCall for TypedCall<F, T>
where
    F: Future<Output = Result<T, E>> + Send,
    T: Send + Sync + 'static,
    E: Into<BranchError>,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BranchError>> {
        let TypedCallProj::Runs { call } = self.as_mut().project() else {
            return Poll::Ready(Ok(()));
        };
        let answer = ready!(call.get_pin_mut().poll(cx)).map_err(Into::into)?;
        self.set(Self::Answered {
            answer: Some(answer),
        });
        Poll::Ready(Ok(()))
    }

    fn answer(&self) -> Option<&dyn Any> {
        match self {
            Self::Runs { .. } => None,
            Self::Answered { answer } => answer.as_ref().map(|answer| answer as &dyn Any),
        }
    }

    fn answer_slot(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        match self.project() {
            TypedCallProj::Runs { .. } => None,
            TypedCallProj::Answered { answer } => Some(answer),
        }
    }
}
