//! Laws: checks of the tower contract that every layer should pass.
//!
//! [`Laws::new`] takes the [`Traffic`] to send and a closure that builds your layered service.
//! [`Laws::check`] then calls that service in many ways, and panics with
//! `law: <name>: <violation>` if the layer breaks the contract.
//!
//! ```
//! use tower::{Layer, limit::ConcurrencyLimitLayer};
//! use tower_fanout_testkit::laws::{Laws, Numbers};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! Laws::new(Numbers, |inner| ConcurrencyLimitLayer::new(1).layer(inner)).check().await;
//! # }
//! ```
//!
//! # The laws
//!
//! | law | requirement |
//! |---|---|
//! | [`readiness`](Laws::readiness) | The layer calls an inner instance only after its `poll_ready` returned `Ready(Ok(()))`, and once per readiness. Its own `poll_ready` does not fail while the inner service is healthy. |
//! | [`reservations`](Laws::reservations) | A completed call leaves no readiness of the inner service reserved or discarded. |
//! | [`short_circuit`](Laws::short_circuit) | A call that skips the inner service does not wait for its readiness and does not reserve it. |
//! | [`cancellation`](Laws::cancellation) | A call that is dropped at any await point releases everything. |
//! | [`wakeups`](Laws::wakeups) | A waiting call does not wake itself, loses no wakeup, and wakes the waker of its latest poll. |
//! | [`transparency`](Laws::transparency) | Requests and responses pass unchanged. A success takes exactly one inner call. |
//! | `allocations` (feature `allocations`) | A successful call makes at most the given number of heap allocations in the layer. |
//! | [`auto_traits`] | The service is `Clone + Send + Sync`, its future is `Send`, and its error type is that of the inner service. The compiler checks this law. |
//!
//! [`check`](Laws::check) runs all laws except `short_circuit`, which needs a layer that is configured
//! to skip the inner service. It runs `allocations` only after `Laws::max_allocations` set a limit.
//!
//! # Preparing a layer
//!
//! - **Types.** [`Numbers`] works for layers that accept any types, and `Http` (feature `http`) for
//!   HTTP layers. Implement [`Traffic`] for other types. If the layer changes the type of requests,
//!   responses or errors, map them back in the closure with `MapRequest`, `MapResponse` and `MapErr`
//!   of [`tower::util`](https://docs.rs/tower/latest/tower/util/index.html).
//! - **Limits.** Choose limits that a few hundred calls do not reach, or create the layer inside the
//!   closure. The closure runs once per trial, and each law runs one or more trials.
//! - **Delays.** The layer may delay a call by at most 2 ms before it calls the inner service.
//! - **Clock.** Run the laws with tokio's paused clock. A law waits up to 60 s and 1,000 polls for a
//!   call, which takes no real time then.

#[cfg(feature = "allocations")]
mod allocations;
mod cancellation;
mod drive;
#[cfg(feature = "http")]
mod http;
mod readiness;
#[cfg(test)]
mod tests;
mod transparency;
mod wakeups;

use tower_service::Service;

use self::drive::Law;
#[cfg(feature = "http")]
pub use self::http::Http;
use crate::{
    assert_ready::{AssertReady, ReadinessCounts},
    script::ScriptedService,
};

/// The number of the request that the inner service always fails.
const FAILING: u64 = 0;

/// The inner service below the layer: a scripted service that counts violations of readiness.
pub type Inner<T> = AssertReady<
    ScriptedService<<T as Traffic>::Request, <T as Traffic>::Response, <T as Traffic>::Error>,
>;

/// The requests, responses and errors that the laws send through a layer.
///
/// Every request and response carries a number, so that the laws can match them. The layer must
/// preserve the number and may change everything else.
///
/// ```
/// use tower_fanout_testkit::laws::Traffic;
///
/// #[derive(Clone)]
/// struct Texts;
///
/// impl Traffic for Texts {
///     type Request = String;
///     type Response = Vec<u8>;
///     type Error = std::io::Error;
///
///     fn request(&self, number: u64) -> String {
///         number.to_string()
///     }
///     fn request_number(&self, request: &String) -> u64 {
///         request.parse().unwrap()
///     }
///     fn response(&self, number: u64) -> Vec<u8> {
///         number.to_be_bytes().to_vec()
///     }
///     fn response_number(&self, response: &Vec<u8>) -> u64 {
///         u64::from_be_bytes(response[..].try_into().unwrap())
///     }
///     fn error(&self) -> std::io::Error {
///         std::io::ErrorKind::ConnectionReset.into()
///     }
/// }
/// ```
pub trait Traffic: Clone + Send + Sync + 'static {
    /// The request type of the layered service.
    type Request: Clone + Send + 'static;
    /// The response type of the inner service and of the layered service.
    type Response: Send + 'static;
    /// The error type of the inner service and of the layered service.
    type Error: Send + 'static;

    /// Creates a request that carries `number`.
    fn request(&self, number: u64) -> Self::Request;
    /// Returns the number that `request` carries.
    fn request_number(&self, request: &Self::Request) -> u64;
    /// Creates a successful response that carries `number`.
    fn response(&self, number: u64) -> Self::Response;
    /// Returns the number that `response` carries.
    fn response_number(&self, response: &Self::Response) -> u64;
    /// Creates an error of the inner service.
    ///
    /// Choose a kind that the layer reacts to, for example a retryable error for a retry layer.
    fn error(&self) -> Self::Error;
}

/// Traffic of `u64` requests and responses, with a boxed error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers;

impl Traffic for Numbers {
    type Request = u64;
    type Response = u64;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn request(&self, number: u64) -> u64 {
        number
    }
    fn request_number(&self, request: &u64) -> u64 {
        *request
    }
    fn response(&self, number: u64) -> u64 {
        number
    }
    fn response_number(&self, response: &u64) -> u64 {
        *response
    }
    fn error(&self) -> Self::Error {
        "the inner service failed".into()
    }
}

/// A layered service with the bounds that every tower service should have.
///
/// The service keeps the error type of the inner service, can be shared between threads, and its
/// calls can be spawned. This trait is implemented for all services with these bounds. A service
/// without them does not compile:
///
/// ```compile_fail
/// use tower::util::MapErr;
/// use tower_fanout_testkit::laws::{Laws, Numbers};
///
/// // Compiles with `|error| error`, which keeps the error type.
/// let changed = |error: Box<dyn std::error::Error + Send + Sync>| error.to_string();
/// let _ = Laws::new(Numbers, |inner| MapErr::new(inner, changed));
/// ```
pub trait Layered<T: Traffic>:
    Service<T::Request, Response = T::Response, Error = T::Error, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T: Traffic, S> Layered<T> for S where
    S: Service<T::Request, Response = T::Response, Error = T::Error, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The laws for one layer, and the traffic to check it with.
///
/// See the [module documentation](self) for an example.
#[must_use = "no law is checked until `check` or a method named after a law is awaited"]
pub struct Laws<'a, T: Traffic, S> {
    traffic: T,
    build: Box<dyn Fn(Inner<T>) -> S + 'a>,
    idle_when: Box<dyn Fn() -> bool + 'a>,
    #[cfg(feature = "allocations")]
    max_allocations: Option<u64>,
}

/// A layered service, with handles to observe the inner service.
struct Trial<T: Traffic, S> {
    service: S,
    script: ScriptedService<T::Request, T::Response, T::Error>,
    counts: ReadinessCounts,
}

impl<'a, T, S> Laws<'a, T, S>
where
    T: Traffic,
    S: Service<T::Request, Response = T::Response, Error = T::Error, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    /// Creates the laws for the service that `build` makes of the inner service.
    ///
    /// `build` runs once per trial and gets a new inner service each time.
    pub fn new(traffic: T, build: impl Fn(Inner<T>) -> S + 'a) -> Self {
        Self {
            traffic,
            build: Box::new(build),
            idle_when: Box::new(|| true),
            #[cfg(feature = "allocations")]
            max_allocations: None,
        }
    }

    /// Sets a predicate that returns `true` if the layer holds no resources while no call is running.
    ///
    /// Compare gauges with zero and permits with their total, for example. The law of
    /// [`cancellation`](Self::cancellation) checks the predicate after each dropped call. The default
    /// always returns `true`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tokio::sync::Semaphore;
    /// use tower::{Layer, limit::GlobalConcurrencyLimitLayer};
    /// use tower_fanout_testkit::laws::{Laws, Numbers};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let permits = Arc::new(Semaphore::new(2));
    /// let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&permits));
    /// Laws::new(Numbers, |inner| limit.layer(inner))
    ///     .idle_when(|| permits.available_permits() == 2)
    ///     .check()
    ///     .await;
    /// # }
    /// ```
    pub fn idle_when(self, idle_when: impl Fn() -> bool + 'a) -> Self {
        Self {
            idle_when: Box::new(idle_when),
            ..self
        }
    }

    /// Sets the number of heap allocations that a successful call may make in the layer, and adds the
    /// law of [`allocations`](Self::allocations) to [`check`](Self::check).
    ///
    /// The feature `allocations` installs a counting allocator for the whole test binary, so the
    /// binary cannot set a global allocator of its own.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{Layer, timeout::TimeoutLayer};
    /// use tower_fanout_testkit::laws::{Laws, Numbers};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let layer = TimeoutLayer::new(Duration::from_secs(1));
    /// Laws::new(Numbers, |inner| layer.layer(inner)).max_allocations(0).check().await;
    /// # }
    /// ```
    #[cfg(feature = "allocations")]
    pub fn max_allocations(self, limit: u64) -> Self {
        Self {
            max_allocations: Some(limit),
            ..self
        }
    }

    /// Checks all laws except [`short_circuit`](Self::short_circuit).
    ///
    /// The law of `allocations` is included only if `max_allocations` was set (feature `allocations`).
    ///
    /// # Panics
    ///
    /// Panics with `law: <name>: <violation>` at the first violation.
    pub async fn check(&self) {
        self.readiness().await;
        self.reservations().await;
        self.cancellation().await;
        self.wakeups().await;
        self.transparency().await;
        #[cfg(feature = "allocations")]
        if self.max_allocations.is_some() {
            self.allocations().await;
        }
    }

    /// Creates a script that echoes the number of each request, and fails the request [`FAILING`].
    fn echo(&self) -> ScriptedService<T::Request, T::Response, T::Error> {
        self.then_echo(ScriptedService::new())
    }

    fn then_echo(
        &self,
        script: ScriptedService<T::Request, T::Response, T::Error>,
    ) -> ScriptedService<T::Request, T::Response, T::Error> {
        let traffic = self.traffic.clone();
        script.respond_with(move |request| match traffic.request_number(request) {
            FAILING => Err(traffic.error()),
            number => Ok(traffic.response(number)),
        })
    }

    fn inner(&self, script: ScriptedService<T::Request, T::Response, T::Error>) -> Inner<T> {
        AssertReady::new(script).count_only()
    }

    /// Calls `service`, which is ready. Returns `None` if the call failed.
    async fn send(&self, law: Law, service: &mut S, number: u64) -> Option<T::Response> {
        let call = service.call(self.traffic.request(number));
        law.complete(call).await.ok()
    }

    fn trial(&self, script: ScriptedService<T::Request, T::Response, T::Error>) -> Trial<T, S> {
        let inner = self.inner(script.clone());
        Trial {
            counts: inner.counts(),
            service: (self.build)(inner),
            script,
        }
    }
}

/// Compiles only if `Req` can be sent to a service that is shared and whose calls are spawned.
///
/// [`Laws::new`] has the same bounds, and also requires the error type of the inner service.
///
/// ```compile_fail
/// use tower_fanout_testkit::laws;
///
/// // The future of this service is not `Send`.
/// let service = tower::service_fn(|_: u32| async {
///     let local = std::rc::Rc::new(1);
///     std::future::ready(()).await;
///     Ok::<_, ()>(*local)
/// });
/// laws::auto_traits::<u32>(&service);
/// ```
pub fn auto_traits<Req>(_: &(impl Service<Req, Future: Send> + Clone + Send + Sync + 'static)) {}
