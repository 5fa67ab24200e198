//! Conversions from client errors to branch errors, and from failed runs to problem details.

use std::time::Duration;

use tower_fanout::{BranchError, ErrorKind, Verdict, layers::AsRejection};
use tower_fanout_http::{
    client::ClientError,
    problem::{Code, Problem},
};

/// Returns the error of a branch whose last attempt failed with `error`.
///
/// | `ClientError` | [`ErrorKind`] |
/// |---|---|
/// | `Rejected` | that of the rejection, with its message and [`retry_after`](BranchError::retry_after) |
/// | `Dns` | `DnsFailed` |
/// | `Connect` | `ConnectFailed` |
/// | `Tls` | `TlsFailed` |
/// | `NotProcessed`, `Reset` | `Reset` |
/// | `BadHead` | `BadHead` |
/// | `BadBody` | `BadBody` |
/// | `TooLarge` | `TooLarge` |
/// | `Redirect` | `Redirect` |
/// | `BadStatus` | `BadStatus` |
/// | `BadContentType` | `BadContentType` |
/// | `BadJson` | `BadJson` |
///
/// The message is the text of `error`. The branch error has no source.
///
/// Use `map_err(branch_error)` for a service in a plan whose response is not JSON.
/// [`AcceptLayer`](crate::response::AcceptLayer) converts the errors of its inner service in the
/// same way.
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
        // For the other errors the class of the failure determines the kind.
        _ => BranchError::from(error.failure()).kind(),
    };
    BranchError::new(kind, error.to_string())
}

/// Returns the problem details for a run that failed with `verdict`.
///
/// | verdict | status | `code` | `retryAfter` |
/// |---|---|---|---|
/// | [`Verdict::Timeout`] | 504 | `upstream_timeout` | none |
/// | [`Verdict::Unavailable`] | 503 | `upstream_unavailable` | that of the verdict, or 1 s |
/// | [`Verdict::Failed`] | 502 | `upstream_failed` | none |
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
    fn each_client_error_maps_to_an_error_kind() {
        for (error, kind) in [
            (
                ClientError::Rejected(Rejection::AtCapacity),
                ErrorKind::AtCapacity,
            ),
            (ClientError::Dns, ErrorKind::DnsFailed),
            (ClientError::Connect, ErrorKind::ConnectFailed),
            (ClientError::Tls, ErrorKind::TlsFailed),
            (ClientError::NotProcessed, ErrorKind::Reset),
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
