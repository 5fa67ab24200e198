//! Ask less of a service that refuses most of what it is asked.
//!
//! A service under overload spends its time on saying no. Its clients know how much it accepts, so
//! they refuse by themselves, at random, what it would refuse: with `requests` made and `accepts`
//! accepted in the window, a call is refused with the probability
//! `(requests − k · accepts) / (requests + 1)`, at least 0 and at most
//! [`max`](ThrottleConfig::max) ([Site Reliability Engineering, "Handling
//! Overload"](https://sre.google/sre-book/handling-overload/)). What is refused here counts as
//! made, so that the more callers insist, the less they get.
//!
//! The service accepted a call unless it answered 429 or 503, did not take the request, or let it
//! time out. A call that a layer below refused, or that its caller left, counts for nothing.
//!
//! ```
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_layers::{AsRejection, BoxError, Class, Rejection, ThrottleConfig, ThrottleLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // This service always asks for fewer calls.
//! let no = |_: Result<&(), &BoxError>, _| Class::Throttled { retry_after: None };
//! let layer = ThrottleLayer::new(ThrottleConfig::new(), no).unwrap();
//! let service = layer.layer(service_fn(|()| async { Err::<(), BoxError>("busy".into()) }));
//! let mut refused = 0;
//! for _ in 0..100 {
//!     let error = service.clone().oneshot(()).await.unwrap_err();
//!     refused += u32::from(error.as_rejection() == Some(&Rejection::Throttled));
//! }
//! assert!(refused > 50);
//! # }
//! ```

mod future;
mod layer;

use std::time::Duration;

pub use self::{
    future::ResponseFuture,
    layer::{Throttle, ThrottleLayer},
};
use crate::config::{ConfigError, Errors, Validate};

/// Configuration of a [`ThrottleLayer`].
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct ThrottleConfig {
    /// How many times as many calls as were accepted are made before any is refused, 1 to 100; 2.0 by
    /// default, as in the [book](self). Less refuses sooner.
    pub k: f64,
    /// How long a call counts, above 0 s; 2 min by default, as in the [book](self).
    #[cfg_attr(feature = "serde", serde(with = "crate::config::duration"))]
    pub window: Duration,
    /// The largest share of the calls that is refused, above 0 and at most 1; 0.9 by default, as in
    /// failsafe-go, so that it is seen when the service is back.
    pub max: f64,
}

crate::setters! {
    ThrottleConfig {
        k: f64,
        window: Duration,
        max: f64,
    }
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            k: 2.0,
            window: Duration::from_secs(120),
            max: 0.9,
        }
    }
}

impl Validate for ThrottleConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Errors::default()
            .within("k", self.k, 1.0, 100.0)
            .positive("window", self.window)
            .share("max", self.max)
            .into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check_ranges;

    #[test]
    fn every_setting_has_its_range() {
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
