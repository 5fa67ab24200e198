//! One node's service and request, with their types put away.

use std::{future::Future, marker::PhantomData, pin::Pin};

use tower::{Service, ServiceExt};
use tower_fanout_layers::{Call, Context};

use crate::{
    answer::{Answers, Value},
    outcome::BranchError,
};

pub(crate) type BranchFuture = Pin<Box<dyn Future<Output = Result<Value, BranchError>> + Send>>;

/// Makes a node's request and sends it.
pub(crate) trait Ask<Req>: Send + Sync {
    fn ask(
        &self,
        request: &Req,
        answers: &Answers,
        call: Call,
    ) -> Result<BranchFuture, BranchError>;
}

/// A service, and the function that makes its request.
pub(crate) struct Typed<S, F, R> {
    pub(crate) service: S,
    pub(crate) make: F,
    pub(crate) request: PhantomData<fn() -> R>,
}

impl<Req, S, F, R> Ask<Req> for Typed<S, F, R>
where
    S: Service<R> + Clone + Send + Sync + 'static,
    S::Response: Send + 'static,
    S::Error: Into<BranchError>,
    S::Future: Send + 'static,
    F: Fn(&Req, &Answers) -> Result<R, BranchError> + Send + Sync,
    R: Context + Send + 'static,
{
    fn ask(
        &self,
        request: &Req,
        answers: &Answers,
        call: Call,
    ) -> Result<BranchFuture, BranchError> {
        let mut request = (self.make)(request, answers)?;
        if let Some(facts) = request.call_mut() {
            *facts = call;
        }
        let answer = self.service.clone().oneshot(request);
        Ok(Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(Box::new(answer) as Value),
                Err(error) => Err(error.into()),
            }
        }))
    }
}
