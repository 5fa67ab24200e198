//! Conversions from client errors to branch errors, and from failed runs to problem details.

use std::{sync::Arc, time::Duration};

use tower_fanout::{BranchError, ErrorKind, Verdict, layers::AsRejection};
use tower_fanout_http::{
    client::{ClientError, ClientErrorKind, TlsErrorKind},
    problem::{Code, Problem},
};

/// Returns the error of a branch whose last attempt failed with `error`.
///
/// A rejection has its own kind, its message and its [`retry_after`](BranchError::retry_after). Any other
/// error has the kind with the same name: [`ErrorKind::as_str`] and [`ClientErrorKind::as_str`] are equal.
///
/// The message is the text of `error`. The source is the [cause](ClientError::cause) of `error`.
///
/// Use `map_err(branch_error)` for a service in a plan whose response is not JSON.
/// [`AcceptLayer`](crate::response::AcceptLayer) converts the errors of its inner service in the
/// same way.
#[must_use]
pub fn branch_error(error: ClientError) -> BranchError {
    let Some(kind) = error.kind() else {
        // Without a kind, the error is a rejection.
        let rejection = error.as_rejection();
        return rejection.map_or_else(|| error.failure().into(), BranchError::from);
    };
    let branch = BranchError::new(kind_of(kind), error.to_string());
    match error.cause() {
        Some(cause) => branch.with_source(Box::new(Arc::clone(cause))),
        None => branch,
    }
}

fn kind_of(kind: ClientErrorKind) -> ErrorKind {
    match kind {
        ClientErrorKind::Dns => ErrorKind::DnsFailed,
        ClientErrorKind::AddressBlocked => ErrorKind::AddressBlocked,
        ClientErrorKind::ConnectRefused => ErrorKind::ConnectRefused,
        ClientErrorKind::Unreachable => ErrorKind::Unreachable,
        ClientErrorKind::Connect => ErrorKind::ConnectFailed,
        ClientErrorKind::Tls(kind) => match kind {
            TlsErrorKind::UntrustedIssuer => ErrorKind::TlsUntrustedIssuer,
            TlsErrorKind::WrongName => ErrorKind::TlsWrongName,
            TlsErrorKind::Expired => ErrorKind::TlsExpired,
            TlsErrorKind::Protocol => ErrorKind::TlsProtocol,
            TlsErrorKind::ClientCertRequired => ErrorKind::TlsClientCertRequired,
            TlsErrorKind::NotTls => ErrorKind::TlsNotTls,
            _ => ErrorKind::TlsFailed,
        },
        ClientErrorKind::NotProcessed | ClientErrorKind::Reset => ErrorKind::Reset,
        ClientErrorKind::BadHead => ErrorKind::BadHead,
        ClientErrorKind::BadBody | ClientErrorKind::BadEncoding => ErrorKind::BadBody,
        ClientErrorKind::TooLarge => ErrorKind::TooLarge,
        ClientErrorKind::Redirect => ErrorKind::Redirect,
        ClientErrorKind::BadStatus => ErrorKind::BadStatus,
        ClientErrorKind::BadContentType => ErrorKind::BadContentType,
        ClientErrorKind::BadJson => ErrorKind::BadJson,
        _ => ErrorKind::Internal,
    }
}

/// Returns the problem details for a run that failed with `verdict`.
///
/// `Problem::from` converts a whole `FanOutError` in the same way, except that a problem has no `retryAfter` if the
/// verdict has none.
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
        Verdict::Unavailable(rejection) => {
            let retry_after = rejection.retry_after().unwrap_or(Duration::from_secs(1));
            Problem::new(Code::UpstreamUnavailable).retry_after(retry_after)
        }
        _ => Problem::new(Code::UpstreamFailed),
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, future::ready};

    use tower::{ServiceExt, service_fn};
    use tower_fanout::{
        FanOut, Plan,
        layers::{LayerError, Rejection},
    };

    use super::*;

    #[test]
    fn each_client_error_has_the_kind_of_its_name() {
        let tls = TlsErrorKind::ALL.iter().copied().map(ClientErrorKind::Tls);
        for kind in tls.chain([
            ClientErrorKind::Dns,
            ClientErrorKind::AddressBlocked,
            ClientErrorKind::ConnectRefused,
            ClientErrorKind::Unreachable,
            ClientErrorKind::Connect,
            ClientErrorKind::NotProcessed,
            ClientErrorKind::Reset,
            ClientErrorKind::BadHead,
            ClientErrorKind::BadBody,
            ClientErrorKind::BadEncoding,
            ClientErrorKind::TooLarge,
            ClientErrorKind::Redirect,
            ClientErrorKind::BadStatus,
            ClientErrorKind::BadContentType,
            ClientErrorKind::BadJson,
        ]) {
            let error = ClientError::new(kind).caused_by("the cause");
            let branch = branch_error(error.clone());
            assert_eq!(branch.kind().as_str(), kind.as_str());
            assert_eq!(branch.message(), error.to_string());
            assert_eq!(branch.source().unwrap().to_string(), "the cause");
        }
        let branch = branch_error(Rejection::DescriptorLimit.into());
        assert_eq!(branch.kind(), ErrorKind::DescriptorLimit);
        assert_eq!(branch.retry_after(), Some(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn er_05_the_error_of_a_run_becomes_the_problem_of_its_verdict() {
        const CIRCUIT_OPEN: Rejection = Rejection::CircuitOpen {
            retry_after: Some(Duration::from_secs(7)),
        };
        let cases: [(fn() -> LayerError, Verdict); 3] = [
            (|| Rejection::AttemptTimeout.into(), Verdict::Timeout),
            (|| CIRCUIT_OPEN.into(), Verdict::Unavailable(CIRCUIT_OPEN)),
            (|| "broken".into(), Verdict::Failed),
        ];
        for (error, verdict) in cases {
            let service = service_fn(move |()| ready(Err::<(), _>(error())));
            let mut plan = Plan::builder();
            plan.node("user", service, |(): &(), _| Ok(()));
            let error = FanOut::new(plan.build().unwrap())
                .oneshot(())
                .await
                .unwrap_err();
            let expected = problem(verdict).to_json(None);
            assert_eq!(Problem::from(error).to_json(None), expected);
        }
    }
}
