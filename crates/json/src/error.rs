//! The maps from failures to the errors of a fan-out, and from there to problem details.

use std::time::Duration;

use tower_fanout::{BranchError, ErrorKind, Verdict, layers::AsRejection};
use tower_fanout_http::{
    client::ClientError,
    problem::{Code, Problem},
};

/// Returns the error of a branch whose last attempt failed with `error`.
///
/// A service whose response is not JSON can stand in a plan with `map_err(branch_error)`;
/// [`AcceptLayer`](crate::response::AcceptLayer) maps the errors below it in the same way.
#[must_use]
pub fn branch_error(error: ClientError) -> BranchError {
    let kind = match error {
        ClientError::Rejected(rejection) => return rejection.into(),
        ClientError::Dns => ErrorKind::DnsFailed,
        ClientError::Tls => ErrorKind::TlsFailed,
        ClientError::Redirect => ErrorKind::Redirect,
        ClientError::BadStatus => ErrorKind::BadStatus,
        ClientError::BadContentType => ErrorKind::BadContentType,
        ClientError::BadJson => ErrorKind::BadJson,
        // The class of the failure says all about the others.
        _ => BranchError::from(error.failure()).kind(),
    };
    BranchError::new(kind, error.to_string())
}

/// Returns the problem details for a run that failed with `verdict`.
#[must_use]
pub fn problem(verdict: Verdict) -> Problem {
    match verdict {
        Verdict::Timeout => Problem::new(Code::UpstreamTimeout),
        Verdict::Unavailable { retry_after } => {
            let retry_after = retry_after.unwrap_or(Duration::from_secs(1));
            Problem::new(Code::UpstreamUnavailable).retry_after(retry_after)
        }
        _ => Problem::new(Code::UpstreamFailed),
    }
}

#[cfg(test)]
mod tests {
    use tower_fanout::layers::Rejection;

    use super::*;

    #[test]
    fn every_client_error_has_a_kind_of_its_own_or_of_its_class() {
        for (error, kind) in [
            (
                ClientError::Rejected(Rejection::AtCapacity),
                ErrorKind::AtCapacity,
            ),
            (ClientError::Dns, ErrorKind::DnsFailed),
            (ClientError::Connect, ErrorKind::ConnectFailed),
            (ClientError::Tls, ErrorKind::TlsFailed),
            (ClientError::Unsent, ErrorKind::Reset),
            (ClientError::Reset, ErrorKind::Reset),
            (ClientError::BadHead, ErrorKind::BadHead),
            (ClientError::BadBody, ErrorKind::BadBody),
            (ClientError::TooLarge, ErrorKind::TooLarge),
            (ClientError::Redirect, ErrorKind::Redirect),
            (ClientError::BadStatus, ErrorKind::BadStatus),
            (ClientError::BadContentType, ErrorKind::BadContentType),
            (ClientError::BadJson, ErrorKind::BadJson),
        ] {
            let branch = branch_error(error);
            assert_eq!(
                (branch.kind(), branch.message()),
                (kind, &*error.to_string())
            );
        }
    }
}
