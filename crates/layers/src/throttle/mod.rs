//! A client-side throttle for a service that rejects most calls.
//!
//! A service under overload spends much of its capacity on rejections. The throttle counts the
//! calls that the service accepts, and rejects some calls at random, without sending them.
//! Given `requests` calls and `accepts` accepted calls in the window, a call is rejected with the
//! probability `(requests − k · accepts) / (requests + 1)`, at least 0 and at most
//! [`max`](ThrottleConfig::max) ([Site Reliability Engineering, "Handling
//! Overload"](https://sre.google/sre-book/handling-overload/)). A call that the throttle rejects
//! counts as a request, so more requests lead to more rejections.
//!
//! The throttle reacts to overload only, so `accepts` does not mean successes. A call counts as accepted
//! unless its result is a sign of overload:
//!
//! | result of the call | counts as |
//! |---|---|
//! | 429, 503, [`Failure::NotProcessed`] or attempt timeout, the signs of overload | request |
//! | rejected by the throttle | request |
//! | every other result, also a 500 or a failed connect, which a [breaker](crate::breaker) handles | request and accept |
//! | rejected by another layer, or ended without a response ([`Class::Unanswered`]) | nothing |
//!
//! ```
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_layers::{AsRejection, Class, LayerError, Rejection, ThrottleConfig, ThrottleLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // This service always requests fewer calls.
//! let classify = |_: Result<&(), &LayerError>, _| Class::Throttled { retry_after: None };
//! let layer = ThrottleLayer::new(ThrottleConfig::new(), classify).unwrap();
//! let service = layer.layer(service_fn(|()| async { Err::<(), LayerError>("busy".into()) }));
//! let mut rejected = 0;
//! for _ in 0..100 {
//!     let error = service.clone().oneshot(()).await.unwrap_err();
//!     rejected += u32::from(error.as_rejection() == Some(Rejection::ClientThrottled));
//! }
//! assert!(rejected > 50);
//! # }
//! ```
//!
//! [`Class::Unanswered`]: crate::Class::Unanswered
//! [`Failure::NotProcessed`]: crate::Failure::NotProcessed

mod future;
mod layer;

use std::time::Duration;

pub use self::{
    future::ResponseFuture,
    layer::{Throttle, ThrottleLayer},
};
use crate::config::{ConfigError, Validate};

crate::config! {
    serde
    /// Configuration of a [client-side throttle](ThrottleLayer).
    pub struct ThrottleConfig {
        /// Number of requests per accepted request from which the throttle rejects calls. Must be
        /// within 1 to 100; defaults to 2.0, as in the chapter ["Handling
        /// Overload"](https://sre.google/sre-book/handling-overload/) of Google's book "Site Reliability
        /// Engineering". A smaller value rejects earlier.
        pub k: f64 = 2.0,
        /// Time for which a call counts. Must be above 0; defaults to 2 min, as in the same chapter.
        pub window: Duration = Duration::from_secs(120),
        /// Maximum probability of a rejection. Must be above 0 and at most 1; defaults to 0.9, as in
        /// failsafe-go. A value below 1 lets some calls through, which show that the service has
        /// recovered.
        pub max: f64 = 0.9,
    }
    limits {
        k: within(1.0..=100.0),
        window: positive(),
        max: share(),
    }
}

impl Validate for ThrottleConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits().into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_field_is_checked_against_its_range() {
        check_ranges::<ThrottleConfig>(
            &[
                |throttle| throttle.k = 1.0,
                |throttle| throttle.k = 100.0,
                |throttle| throttle.window = Duration::from_nanos(1),
                |throttle| throttle.max = 1.0,
            ],
            &[
                ("k", |throttle| throttle.k = 0.9),
                ("k", |throttle| throttle.k = 100.1),
                ("k", |throttle| throttle.k = f64::NAN),
                ("window", |throttle| throttle.window = Duration::ZERO),
                ("max", |throttle| throttle.max = 0.0),
                ("max", |throttle| throttle.max = 1.1),
                ("max", |throttle| throttle.max = f64::NAN),
            ],
        );
    }
}
