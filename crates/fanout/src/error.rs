//! The error of a fan-out.

use std::{error::Error, fmt};

use tower_fanout_layers::{AsRejection, Failure, Rejection};

use crate::{
    answer::FanOutResponse,
    outcome::{BranchError, ErrorKind, Status},
    select::SelectError,
    strategy::{Strategy, Verdict},
};

/// The error of a [`FanOut`](crate::FanOut).
#[derive(Debug)]
#[non_exhaustive]
pub enum FanOutError {
    /// The run was not started, because the selection cannot be run.
    Select(SelectError),
    /// A layer around the fan-out rejected the request.
    Rejected(Rejection),
    /// The run did not succeed by its strategy.
    Failed {
        /// The common cause of the failed branches.
        verdict: Verdict,
        /// The answers that exist nevertheless, and the report.
        response: Box<FanOutResponse>,
    },
}

impl FanOutError {
    /// Returns the first failed branch and the name of its node. Required branches come before
    /// optional ones.
    fn cause(&self) -> Option<(&str, &BranchError)> {
        let Self::Failed { response, .. } = self else {
            return None;
        };
        let branches = response.report.branches.iter();
        let failed = branches.filter(|branch| !branch.status.is_answered());
        let failed = failed.filter_map(|branch| Some((branch, branch.error.as_ref()?)));
        // `false` sorts first, so a required branch is preferred.
        let cause = failed.min_by_key(|(branch, _)| !branch.required);
        cause.map(|(branch, error)| (response.name(branch.node), error))
    }
}

impl Strategy {
    /// Returns `response` if the run is a success by this strategy.
    ///
    /// The future of a [`FanOut`](crate::FanOut) calls this function. Call it yourself for the
    /// [`Run::into_response`](crate::Run::into_response) of a [`Run`](crate::Run) that you poll, because
    /// `into_response` returns the same value for a success and a failure.
    ///
    /// # Errors
    /// Returns [`FanOutError::Failed`], which contains `response`, if the run is not a success.
    pub fn judge(self, response: FanOutResponse) -> Result<FanOutResponse, FanOutError> {
        match self.verdict(response.report()) {
            None => Ok(response),
            Some(verdict) => Err(FanOutError::Failed {
                verdict,
                response: Box::new(response),
            }),
        }
    }
}

impl fmt::Display for FanOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, response) = match self {
            Self::Select(_) => return f.write_str("the request cannot be run"),
            Self::Rejected(rejection) => return rejection.fmt(f),
            Self::Failed { verdict, response } => (verdict, response),
        };
        let without = response.report.branches.len()
            - response.report.count(Status::Success)
            - response.report.count(Status::Fallback);
        let cause = match verdict {
            Verdict::Timeout => "timed out",
            Verdict::Unavailable(_) => "rejected locally",
            Verdict::Failed => "failed",
        };
        let of = response.report.branches.len();
        write!(f, "{without} of {of} branches have no answer: {cause}")?;
        match self.cause() {
            Some((name, _)) => write!(f, ", for example \"{name}\""),
            None => Ok(()),
        }
    }
}

/// The source of a failed run is the error of its first failed branch.
impl Error for FanOutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Select(error) => Some(error),
            Self::Rejected(rejection) => Some(rejection),
            Self::Failed { .. } => self.cause().map(|(_, error)| error as _),
        }
    }
}

impl From<Rejection> for FanOutError {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Says to the layers above why the run failed.
///
/// | error | rejection or failure |
/// |---|---|
/// | `Rejected` | its rejection |
/// | `Failed` with [`Verdict::Unavailable`] | the rejection of the verdict |
/// | `Failed` with [`Verdict::Timeout`] | [`Failure::AttemptTimeout`] |
/// | `Failed` with [`Verdict::Failed`] | [`Failure::Status`] 502 |
/// | `Select` | [`Failure::Other`] |
///
/// So `?` converts the error of a failed run into a `Problem` of the crate `tower-fanout-http` with the status 503,
/// 504 or 502.
impl AsRejection for FanOutError {
    fn as_rejection(&self) -> Option<Rejection> {
        match self {
            Self::Rejected(rejection) => Some(*rejection),
            Self::Failed {
                verdict: Verdict::Unavailable(rejection),
                ..
            } => Some(*rejection),
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Failed { verdict, .. } if *verdict == Verdict::Timeout => Failure::AttemptTimeout,
            Self::Failed { .. } => Failure::Status {
                code: 502,
                retry_after: None,
            },
            _ => Failure::Other,
        }
    }
}

/// Converts the error of a fan-out that is a node of another fan-out.
///
/// | from | kind | `retry_after` |
/// |---|---|---|
/// | `Rejected` | that of the [`Rejection`] | that of the rejection |
/// | `Select` | [`Internal`](ErrorKind::Internal) | `None` |
/// | `Failed` with [`Verdict::Timeout`] | [`Timeout`](ErrorKind::Timeout) | `None` |
/// | `Failed` with [`Verdict::Unavailable`] | [`AtCapacity`](ErrorKind::AtCapacity) | that of the verdict |
/// | `Failed` with [`Verdict::Failed`] | [`Internal`](ErrorKind::Internal) | `None` |
///
/// The message of `Rejected` is that of the rejection. The others have the message `required services
/// have no answer`, and the `FanOutError` as the source.
impl From<FanOutError> for BranchError {
    fn from(error: FanOutError) -> Self {
        let (kind, wait) = match &error {
            FanOutError::Rejected(rejection) => return (*rejection).into(),
            FanOutError::Select(_) => (ErrorKind::Internal, None),
            FanOutError::Failed { verdict, .. } => match verdict {
                Verdict::Timeout => (ErrorKind::Timeout, None),
                Verdict::Unavailable(rejection) => (ErrorKind::AtCapacity, rejection.retry_after()),
                Verdict::Failed => (ErrorKind::Internal, None),
            },
        };
        let message = "required services have no answer";
        let branch = Self::new(kind, message).with_retry_after(wait);
        branch.with_source(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tower::{ServiceExt, service_fn};
    use tower_fanout_layers::LayerError;

    use super::*;
    use crate::{FanOut, Plan};

    /// Returns the error of a run whose only node fails with `cause`.
    async fn run(cause: fn() -> LayerError) -> FanOutError {
        let service = service_fn(move |()| ready(Err::<(), _>(cause())));
        let mut plan = Plan::builder();
        plan.node("user", service, |(): &(), _| Ok(()));
        let fan_out = FanOut::new(plan.build().unwrap());
        fan_out.oneshot(()).await.unwrap_err()
    }

    #[tokio::test]
    async fn er_05_the_error_of_a_run_has_the_rejection_or_failure_of_its_causes() {
        const RATE_LIMITED: Rejection = Rejection::RateLimited {
            retry_after: std::time::Duration::from_secs(7),
        };
        let retry_after = RATE_LIMITED.retry_after();
        let error = run(|| RATE_LIMITED.into()).await;
        let rejection = Rejection::CircuitOpen { retry_after };
        assert_eq!(error.as_rejection(), Some(rejection));

        let error = run(|| Rejection::Deadline.into()).await;
        assert_eq!(error.as_rejection(), None);
        assert_eq!(error.failure(), Failure::AttemptTimeout);

        let error = run(|| Failure::Connect.into()).await;
        let (code, retry_after) = (502, None);
        assert_eq!(error.as_rejection(), None);
        assert_eq!(error.failure(), Failure::Status { code, retry_after });

        let error = FanOutError::Select(SelectError::Nothing);
        assert_eq!(
            (error.as_rejection(), error.failure()),
            (None, Failure::Other)
        );
    }
}
