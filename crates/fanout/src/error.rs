//! The error of a fan-out.

use std::{error::Error, fmt};

use tower_fanout_layers::{AsRejection, Rejection};

use crate::{
    answer::Answer,
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
        answer: Box<Answer>,
    },
}

impl FanOutError {
    /// Returns the first failed branch and the name of its node. Required branches come before
    /// optional ones.
    fn cause(&self) -> Option<(&str, &BranchError)> {
        let Self::Failed { answer, .. } = self else {
            return None;
        };
        let branches = answer.report.branches.iter();
        let failed = branches.filter_map(|branch| Some((branch, branch.error.as_ref()?)));
        // `false` sorts first, so a required branch is preferred.
        let cause = failed.min_by_key(|(branch, _)| !branch.required);
        cause.map(|(branch, error)| (answer.name(branch.node), error))
    }
}

impl Strategy {
    /// Returns `answer` if the run is a success by this strategy.
    ///
    /// The future of a [`FanOut`](crate::FanOut) calls this function. Call it yourself for the
    /// [`Run::into_answer`](crate::Run::into_answer) of a [`Run`](crate::Run) that you poll, because a
    /// run does not judge its answers.
    ///
    /// # Errors
    /// Returns [`FanOutError::Failed`], which contains `answer`, if the run is not a success.
    pub fn judge(self, answer: Answer) -> Result<Answer, FanOutError> {
        match self.verdict(answer.report()) {
            None => Ok(answer),
            Some(verdict) => Err(FanOutError::Failed {
                verdict,
                answer: Box::new(answer),
            }),
        }
    }
}

impl fmt::Display for FanOutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, answer) = match self {
            Self::Select(_) => return f.write_str("the request cannot be run"),
            Self::Rejected(rejection) => return rejection.fmt(f),
            Self::Failed { verdict, answer } => (verdict, answer),
        };
        let without = answer.report.branches.len()
            - answer.report.count(Status::Success)
            - answer.report.count(Status::Fallback);
        let cause = match verdict {
            Verdict::Timeout => "timed out",
            Verdict::Unavailable { .. } => "rejected locally",
            Verdict::Failed => "failed",
        };
        let of = answer.report.branches.len();
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

impl AsRejection for FanOutError {
    fn as_rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

/// Converts the error of a fan-out that is a node of another fan-out. The verdict decides the kind.
impl From<FanOutError> for BranchError {
    fn from(error: FanOutError) -> Self {
        let (kind, wait) = match &error {
            FanOutError::Rejected(rejection) => return (*rejection).into(),
            FanOutError::Select(_) => (ErrorKind::Internal, None),
            FanOutError::Failed { verdict, .. } => match verdict {
                Verdict::Timeout => (ErrorKind::Timeout, None),
                Verdict::Unavailable { retry_after } => (ErrorKind::AtCapacity, *retry_after),
                Verdict::Failed => (ErrorKind::Internal, None),
            },
        };
        let message = "required services have no answer";
        let branch = Self::new(kind, message).with_retry_after(wait);
        branch.with_source(Box::new(error))
    }
}
