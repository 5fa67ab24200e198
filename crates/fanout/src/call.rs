//! One node's service and request, with their types put away.

use std::{
    any::Any,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use sync_wrapper::SyncWrapper;
use tower::{Service, ServiceExt, util::Oneshot};
use tower_fanout_layers::Call;

use crate::{answer::Answers, outcome::BranchError};

/// The call of one node in one run, and then its answer, in the same room.
pub(crate) trait Cell: Send + Sync {
    /// Polls the call; its answer stays here.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BranchError>>;

    /// The answer, once there is one.
    fn answer(&self) -> Option<&dyn Any>;

    /// The answer's place, an `Option` of its type, once it was there.
    fn place(self: Pin<&mut Self>) -> Option<&mut dyn Any>;
}

/// The one allocation of a branch.
pub(crate) type BoxCell = Pin<Box<dyn Cell>>;

/// Drops a call or an answer; a panic of it stays here.
pub(crate) fn discard(cell: BoxCell) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(cell)));
}

/// Makes a node's request and sends it.
pub(crate) trait Ask<Req>: Send + Sync {
    /// `call` makes the facts of the call, if the request takes them.
    fn ask(
        &self,
        request: &Req,
        answers: &Answers,
        call: &dyn Fn() -> Call,
    ) -> Result<BoxCell, BranchError>;

    /// The bytes that a branch takes.
    fn size(&self) -> usize;
}

/// A service, and the function that makes its request.
pub(crate) struct Typed<S, F, R> {
    pub(crate) service: S,
    pub(crate) make: F,
    pub(crate) request: PhantomData<fn() -> R>,
}

pin_project! {
    /// A call that runs, or its answer.
    #[project = TypedCellProj]
    enum TypedCell<F, T> {
        Runs { #[pin] call: SyncWrapper<F> },
        Answered { answer: Option<T> },
    }
}

impl<Req, S, F, R> Ask<Req> for Typed<S, F, R>
where
    S: Service<R> + Clone + Send + Sync + 'static,
    S::Response: Send + Sync + 'static,
    S::Error: Into<BranchError>,
    S::Future: Send + 'static,
    F: Fn(&Req, &Answers) -> Result<R, BranchError> + Send + Sync,
    R: tower_fanout_layers::Context + Send + 'static,
{
    fn ask(
        &self,
        request: &Req,
        answers: &Answers,
        call: &dyn Fn() -> Call,
    ) -> Result<BoxCell, BranchError> {
        let mut request = (self.make)(request, answers)?;
        if let Some(facts) = request.call_mut() {
            *facts = call();
        }
        // A future is polled by one at a time, so that it is no matter whether it is Sync.
        let call = SyncWrapper::new(self.service.clone().oneshot(request));
        Ok(Box::pin(TypedCell::Runs { call }))
    }

    fn size(&self) -> usize {
        size_of::<TypedCell<Oneshot<S, R>, S::Response>>()
    }
}

impl<F, T, E> Cell for TypedCell<F, T>
where
    F: Future<Output = Result<T, E>> + Send,
    T: Send + Sync + 'static,
    E: Into<BranchError>,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), BranchError>> {
        let TypedCellProj::Runs { call } = self.as_mut().project() else {
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

    fn place(self: Pin<&mut Self>) -> Option<&mut dyn Any> {
        match self.project() {
            TypedCellProj::Runs { .. } => None,
            TypedCellProj::Answered { answer } => Some(answer),
        }
    }
}
