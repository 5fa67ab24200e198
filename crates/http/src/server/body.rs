//! Reads the body of a request within limits of size and time.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout_at;
use tower_fanout::layers::Deadline;

use crate::problem::{Code, Problem};

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than the limit.
    TooLarge,
    /// It did not come in time.
    Timeout,
    /// It broke off.
    Broken,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is too large",
            Self::Timeout => "the body came too slowly",
            Self::Broken => "the body broke off",
        })
    }
}

impl Error for BodyError {}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self::new(match error {
            BodyError::TooLarge => Code::PayloadTooLarge,
            BodyError::Timeout => Code::RequestTimeout,
            BodyError::Broken => Code::BrokenBody,
        })
    }
}

/// Reads all of `body`, at most `limit` bytes, until `deadline` if there is one.
///
/// A length that is said in advance and too large is refused before anything is read.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body<B>(
    headers: &HeaderMap,
    body: B,
    limit: usize,
    deadline: Option<Deadline>,
) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLarge);
    }
    let all = Limited::new(body, limit).collect();
    let collected = match deadline {
        None => all.await,
        Some(deadline) => timeout_at(deadline.instant(), all)
            .await
            .map_err(|_| BodyError::Timeout)?,
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn fault_d22_d23_a_body_over_the_limit_is_refused() {
        let mut headers = HeaderMap::new();
        let body = || Full::new(Bytes::from_static(b"12345"));
        assert_eq!(read_body(&headers, body(), 5, None).await.unwrap(), "12345");
        assert_eq!(
            read_body(&headers, body(), 4, None).await,
            Err(BodyError::TooLarge)
        );
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("6"));
        assert_eq!(
            read_body(&headers, body(), 5, None).await,
            Err(BodyError::TooLarge)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d2_a_body_that_does_not_come_is_cut_at_the_deadline() {
        let never = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let start = Instant::now();
        let deadline = Deadline::after(start, Duration::from_secs(10));
        let read = read_body(&HeaderMap::new(), StreamBody::new(never), 5, deadline).await;
        assert_eq!(
            (read, start.elapsed()),
            (Err(BodyError::Timeout), Duration::from_secs(10))
        );
    }
}
