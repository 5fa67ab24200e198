//! [`ClassifyHttp`], the classifier of `http::Response`.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Response, header::RETRY_AFTER};

use super::{
    Class, Classify, Failure,
    config::{ClassifyConfig, Kind},
    of_error,
};
use crate::{
    config::{ConfigError, Validate},
    rejection::AsRejection,
};

/// A classifier that reads the status of an `http::Response` (feature `http`).
///
/// The class of an error is that of [`ClassifyResult`](super::ClassifyResult).
///
/// The header `Retry-After` is read for 429, 503, and statuses that are configured as `throttled`. The
/// value is a number of seconds or an HTTP date ([RFC 9110
/// §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). A past date is zero. Any other value
/// is ignored. No value is read for a status that is configured as a success, `answered` or `transient`.
///
/// The class decides what layers such as retry and circuit breaker do. The layers still return the
/// response as `Ok`, even if its status is 503. In a plan of `tower-fanout`, such a node is a success
/// unless a layer turns the status into an error, as `AcceptLayer` of `tower-fanout-json` does.
///
/// A response with the mark [`ExpectedStatus`] is a success, whatever its status.
#[derive(Clone, Debug)]
pub struct ClassifyHttp {
    clock: fn() -> SystemTime,
    overrides: Option<Arc<ClassifyConfig>>,
}

impl ClassifyHttp {
    /// Creates a classifier that compares dates in `Retry-After` with the system clock.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_clock(SystemTime::now)
    }

    /// Creates a classifier that compares dates in `Retry-After` with `clock`.
    #[must_use]
    pub const fn with_clock(clock: fn() -> SystemTime) -> Self {
        Self {
            clock,
            overrides: None,
        }
    }

    /// Sets the classes of the statuses in `config`. Other statuses keep their class.
    ///
    /// # Errors
    /// Returns the first error of `config`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_fanout_layers::{Class, Classify, ClassifyHttp, Rejection, classify::ClassifyConfig};
    ///
    /// // This service sends 404 for an empty result, which is a success.
    /// let config = ClassifyConfig::new().success(vec![404]);
    /// let classify = ClassifyHttp::new().with(config).unwrap();
    /// let mut response = http::Response::new(());
    /// *response.status_mut() = http::StatusCode::NOT_FOUND;
    /// let class = classify.classify(Ok::<_, &Rejection>(&response), Duration::ZERO);
    /// assert_eq!(class, Class::Success);
    /// ```
    pub fn with(self, config: ClassifyConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let overrides = (config != ClassifyConfig::default()).then(|| Arc::new(config));
        Ok(Self { overrides, ..self })
    }

    fn status(&self, status: u16, headers: &HeaderMap) -> Class {
        let overrides = self.overrides.as_ref();
        let kind = overrides.and_then(|overrides| overrides.kind(status));
        match kind.unwrap_or_else(|| default_kind(status)) {
            Kind::Success => Class::Success,
            Kind::NonRetryable => Class::NonRetryable(status),
            Kind::Transient => Class::Transient(status),
            Kind::Throttled => Class::Throttled {
                retry_after: self.retry_after(headers),
            },
            Kind::Failure => Class::Failure(Failure::Status {
                code: status,
                retry_after: match status {
                    429 | 503 => self.retry_after(headers),
                    _ => None,
                },
            }),
        }
    }

    /// Returns the time of `Retry-After`: seconds or an HTTP date ([RFC 9110
    /// §10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)).
    ///
    /// A past date is zero. Any other value is ignored.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // The value has digits only, so an error is an overflow.
            return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(value).ok()?;
        Some(
            // An error means that the date is past.
            date.duration_since((self.clock)())
                .unwrap_or(Duration::ZERO),
        )
    }
}

/// Returns the default class of a status.
const fn default_kind(status: u16) -> Kind {
    match status {
        408 | 425 => Kind::Transient,
        429 => Kind::Throttled,
        400..=499 | 501 | 505 => Kind::NonRetryable,
        500.. => Kind::Failure,
        _ => Kind::Success,
    }
}

impl Default for ClassifyHttp {
    fn default() -> Self {
        Self::new()
    }
}

/// A mark in the extensions of a response whose status its caller expects (feature `http`).
///
/// [`ClassifyHttp`] classifies a response with the mark as a success: it is not retried, not a failure for the
/// circuit breaker, and not replaced by a fallback. A layer within the attempt sets the mark, if it knows what
/// one caller of a shared service expects. Statuses that mean the same for all callers belong in
/// [`ClassifyConfig`].
///
/// ```
/// use std::time::Duration;
/// use tower_fanout_layers::{Class, Classify, ClassifyHttp, Rejection, classify::ExpectedStatus};
///
/// let mut response = http::Response::new(());
/// *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
/// response.extensions_mut().insert(ExpectedStatus);
/// let class = ClassifyHttp::new().classify(Ok::<_, &Rejection>(&response), Duration::ZERO);
/// assert_eq!(class, Class::Success);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedStatus;

impl<B, E: AsRejection> Classify<Response<B>, E> for ClassifyHttp {
    fn classify(&self, result: Result<&Response<B>, &E>, elapsed: Duration) -> Class {
        match result {
            Ok(response) => match self.status(response.status().as_u16(), response.headers()) {
                // Read only where it matters, because a lookup costs a hash.
                class if class == Class::Success => class,
                _ if response.extensions().get::<ExpectedStatus>().is_some() => Class::Success,
                class => class,
            },
            Err(error) => of_error(error, elapsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rejection;

    fn fixed_clock() -> ClassifyHttp {
        ClassifyHttp::with_clock(|| SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777))
    }

    fn class_by(classify: &ClassifyHttp, status: u16, retry_after: Option<&str>) -> Class {
        let mut response = Response::builder().status(status);
        if let Some(value) = retry_after {
            response = response.header(RETRY_AFTER, value);
        }
        let response = response.body(()).unwrap();
        classify.classify(Ok::<_, &Rejection>(&response), Duration::ZERO)
    }

    fn class(status: u16, retry_after: Option<&str>) -> Class {
        class_by(&fixed_clock(), status, retry_after)
    }

    fn failure(code: u16, retry_after: Option<Duration>) -> Class {
        Class::Failure(Failure::Status { code, retry_after })
    }

    /// The table of the module docs, implemented independently.
    fn expected(status: u16) -> Class {
        let retry_after = None;
        match status {
            408 | 425 => Class::Transient(status),
            429 => Class::Throttled { retry_after },
            501 | 505 => Class::NonRetryable(status),
            _ if status < 400 => Class::Success,
            _ if status < 500 => Class::NonRetryable(status),
            _ => failure(status, retry_after),
        }
    }

    #[test]
    fn fault_f20_f22_statuses_have_the_class_of_the_table() {
        for status in 100..=599 {
            assert_eq!(class(status, None), expected(status), "{status}");
        }
    }

    #[test]
    fn overrides_apply_to_the_configured_statuses_only() {
        let config = ClassifyConfig::new()
            .success(vec![404, 503])
            .answered(vec![500, 408])
            .transient(vec![409, 502])
            .throttled(vec![420, 599])
            .failure(vec![100, 200, 429]);
        let classify = fixed_clock().with(config).unwrap();
        for status in 100..=599 {
            let retry_after = None;
            let expected = match status {
                404 | 503 => Class::Success,
                500 | 408 => Class::NonRetryable(status),
                409 | 502 => Class::Transient(status),
                420 | 599 => Class::Throttled { retry_after },
                100 | 200 | 429 => failure(status, retry_after),
                _ => expected(status),
            };
            assert_eq!(class_by(&classify, status, None), expected, "{status}");
        }
        let wait = Some(Duration::from_secs(3));
        let with_retry_after = |status| class_by(&classify, status, Some("3"));
        assert_eq!(
            with_retry_after(420),
            Class::Throttled { retry_after: wait }
        );
        assert_eq!(with_retry_after(429), failure(429, wait));
        assert_eq!(with_retry_after(200), failure(200, None));
    }

    #[test]
    fn empty_overrides_are_dropped() {
        let classify = ClassifyHttp::new().with(ClassifyConfig::default()).unwrap();
        assert!(classify.overrides.is_none());
    }

    #[test]
    fn fault_f21_reads_retry_after_as_seconds_or_a_date() {
        let wait = |value| class(429, Some(value)).retry_after();
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            wait("99999999999999999999999"),
            Some(Duration::from_secs(u64::MAX))
        );
        assert_eq!(
            wait("Sun, 06 Nov 1994 08:49:40 GMT"),
            Some(Duration::from_secs(3))
        );
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:30 GMT"), Some(Duration::ZERO));
        for invalid in ["abc", "-1", "+3", "1.5", ""] {
            assert_eq!(wait(invalid), None, "{invalid:?}");
        }
        assert_eq!(
            class(503, Some("2")).retry_after(),
            Some(Duration::from_secs(2))
        );
        assert_eq!(class(500, Some("2")).retry_after(), None);
    }
}
