//! At most *n* calls at once, and a short bounded queue for the rest.
//!
//! The permit is taken in `call` and given back when the call's future is dropped. A call that
//! finds the limit reached waits, if the queue has room, no longer than
//! [`max_wait`](ConcurrencySettings::max_wait) and never past its deadline; by default there is no
//! queue, and it is refused at once. Waiting calls go by priority, equal ones in order of arrival,
//! and nobody overtakes them.
//!
//! ```
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_fanout_layers::{AsReject, BoxError, ConcurrencyLayer, ConcurrencyPolicy, Reject};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let one = ConcurrencyLayer::new(ConcurrencyPolicy::build(|c| c.max = 1).unwrap());
//! let service = one.layer(service_fn(|()| std::future::pending::<Result<(), BoxError>>()));
//!
//! let mut first = tokio_test(service.clone().oneshot(()));
//! assert!(first.poll().is_pending());
//! let error = service.oneshot(()).await.unwrap_err();
//! assert_eq!(error.as_reject(), Some(&Reject::AtCapacity));
//! # }
//! # struct Polled<F>(std::pin::Pin<Box<F>>);
//! # fn tokio_test<F: Future>(future: F) -> Polled<F> { Polled(Box::pin(future)) }
//! # impl<F: Future> Polled<F> {
//! #     fn poll(&mut self) -> std::task::Poll<F::Output> {
//! #         self.0.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
//! #     }
//! # }
//! ```

mod future;
mod layer;
mod limiter;
mod service;

use std::time::Duration;

pub use self::{future::ResponseFuture, layer::ConcurrencyLayer, service::Concurrency};
use crate::policy::{InvalidPolicy, Problems, Settings, Valid};

/// How many calls may run, and how many may wait.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct ConcurrencySettings {
    /// Calls at once, at least 1; 100 by default.
    pub max: u32,
    /// Calls that may wait for their turn; 0 by default.
    pub queue: u32,
    /// How long a call may wait; 100 ms by default. Its deadline may cut this short.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::duration"))]
    pub max_wait: Duration,
}

impl Default for ConcurrencySettings {
    fn default() -> Self {
        Self {
            max: 100,
            queue: 0,
            max_wait: Duration::from_millis(100),
        }
    }
}

impl Settings for ConcurrencySettings {
    fn problems(&self) -> Vec<InvalidPolicy> {
        Problems::default()
            .at_least("max", self.max, 1)
            .positive("max_wait", self.max_wait)
            .into_vec()
    }
}

/// Checked [`ConcurrencySettings`].
pub type ConcurrencyPolicy = Valid<ConcurrencySettings>;
