//! Tries a layer against the laws that every tower layer should keep.
//!
//! | law | what it asks |
//! |---|---|
//! | [`readiness`](Laws::readiness) | only the instance that returned `Ready` is called, once; a healthy service is never refused from `poll_ready` |
//! | [`hoarding`](Laws::hoarding) | when a call is over, the layer holds no readiness of the inner service |
//! | [`refusal`](Laws::refusal) | a call that skips the inner service neither waits for its readiness nor takes it |
//! | [`cancellation`](Laws::cancellation) | a call dropped at any await point leaves nothing held |
//! | [`polls`](Laws::polls) | no wake is invented, none is lost, and the latest waker is the one woken |
//! | [`transparency`](Laws::transparency) | request and answer pass unchanged, with one inner call for a success |
//! | `allocations` (feature `allocations`) | a success allocates at most so often in the layer |
//! | [`auto_traits`] | the service is `Clone + Send + Sync`, its future `Send`, and the error type that of the inner service |
//!
//! [`Laws::check`] tries all but `refusal`, which needs a layer that is set up to refuse, and
//! `allocations` if it is told how many. A broken law panics with `law: <name>: <what happened>`.
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
//! What is sent and answered is a [`Traffic`] of yours; [`Numbers`] serves layers that work with
//! any types, and `Http` (feature `http`) those for HTTP. A layer that changes the type of requests,
//! responses or errors is tried with these mapped back in the closure, by the `map` utilities of tower.
//! Give the layer limits that some hundred calls do not meet, or build it anew in the closure, which
//! runs once per trial, and let it pause for 2 ms at most before it calls. The laws wait up to a
//! minute and a thousand polls for an answer, so run them with the clock paused.

#[cfg(feature = "allocations")]
mod allocations;
mod cancellation;
mod drive;
#[cfg(feature = "http")]
mod http;
mod polls;
mod readiness;
#[cfg(test)]
mod tests;
mod transparency;

use tower_service::Service;

#[cfg(feature = "http")]
pub use self::http::Http;
use crate::{
    probe::{Strict, Watch},
    script::Script,
};

/// The number of a request that the inner service always fails.
const FAILING: u64 = 0;

/// The service that the laws put below a layer.
pub type Inner<T> =
    Strict<Script<<T as Traffic>::Request, <T as Traffic>::Response, <T as Traffic>::Error>>;

/// What the laws send through a layer, and how they know it again.
///
/// Requests and responses bear a number, which the layer must not change. It may change the rest.
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
///     fn sent(&self, request: &String) -> u64 {
///         request.parse().unwrap()
///     }
///     fn response(&self, number: u64) -> Vec<u8> {
///         number.to_be_bytes().to_vec()
///     }
///     fn received(&self, response: &Vec<u8>) -> u64 {
///         u64::from_be_bytes(response[..].try_into().unwrap())
///     }
///     fn error(&self) -> std::io::Error {
///         std::io::ErrorKind::ConnectionReset.into()
///     }
/// }
/// ```
pub trait Traffic: Clone + Send + Sync + 'static {
    /// What the layer takes.
    type Request: Clone + Send + 'static;
    /// What the inner service answers.
    type Response: Send + 'static;
    /// What the inner service fails with.
    type Error: Send + 'static;

    /// Makes a request that bears `number`.
    fn request(&self, number: u64) -> Self::Request;
    /// Reads the number of a request.
    fn sent(&self, request: &Self::Request) -> u64;
    /// Makes the successful response that bears `number`.
    fn response(&self, number: u64) -> Self::Response;
    /// Reads the number of a response.
    fn received(&self, response: &Self::Response) -> u64;
    /// Makes a failure of the inner service, of a kind that the layer acts on.
    fn error(&self) -> Self::Error;
}

/// Traffic of plain numbers that fails with a boxed error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers;

impl Traffic for Numbers {
    type Request = u64;
    type Response = u64;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn request(&self, number: u64) -> u64 {
        number
    }
    fn sent(&self, request: &u64) -> u64 {
        *request
    }
    fn response(&self, number: u64) -> u64 {
        number
    }
    fn received(&self, response: &u64) -> u64 {
        *response
    }
    fn error(&self) -> Self::Error {
        "the inner service failed".into()
    }
}

/// A service that a layer made of [`Inner`], with the bounds that every such service should keep.
///
/// Its error type is that of the inner service; it can be shared, and its calls can be spawned. What
/// is not so does not compile:
///
/// ```compile_fail
/// use tower::util::MapErr;
/// use tower_fanout_testkit::laws::{Laws, Numbers};
///
/// // With `|error| error` it would.
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

/// A layer and what to try it with.
#[must_use = "no law is tried before one is called"]
pub struct Laws<'a, T: Traffic, S> {
    traffic: T,
    build: Box<dyn Fn(Inner<T>) -> S + 'a>,
    at_rest: Box<dyn Fn() -> bool + 'a>,
    #[cfg(feature = "allocations")]
    allocations: Option<u64>,
}

/// One layered service and the eyes on what is below it.
struct Trial<T: Traffic, S> {
    service: S,
    script: Script<T::Request, T::Response, T::Error>,
    watch: Watch,
}

impl<'a, T, S> Laws<'a, T, S>
where
    T: Traffic,
    S: Service<T::Request, Response = T::Response, Error = T::Error, Future: Send>,
    S: Clone + Send + Sync + 'static,
{
    /// Tries what `build` makes of the inner service.
    pub fn new(traffic: T, build: impl Fn(Inner<T>) -> S + 'a) -> Self {
        Self {
            traffic,
            build: Box::new(build),
            at_rest: Box::new(|| true),
            #[cfg(feature = "allocations")]
            allocations: None,
        }
    }

    /// Adds a check that nothing is held while no call runs: that gauges are at zero and permits
    /// are back. `cancellation` asks it after each dropped call.
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
    ///     .at_rest(|| permits.available_permits() == 2)
    ///     .check()
    ///     .await;
    /// # }
    /// ```
    pub fn at_rest(self, at_rest: impl Fn() -> bool + 'a) -> Self {
        Self {
            at_rest: Box::new(at_rest),
            ..self
        }
    }

    /// Adds the law of [`allocations`](Self::allocations) to those that [`check`](Self::check) tries:
    /// a successful call may allocate `limit` times in the layer.
    ///
    /// The counting allocator is the whole program's, so no other can be.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{Layer, timeout::TimeoutLayer};
    /// use tower_fanout_testkit::laws::{Laws, Numbers};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let layer = TimeoutLayer::new(Duration::from_secs(1));
    /// Laws::new(Numbers, |inner| layer.layer(inner)).allocating(0).check().await;
    /// # }
    /// ```
    #[cfg(feature = "allocations")]
    pub fn allocating(self, limit: u64) -> Self {
        Self {
            allocations: Some(limit),
            ..self
        }
    }

    /// Tries every law but [`refusal`](Self::refusal), and that of `allocations` only if there is a
    /// limit to them.
    ///
    /// # Panics
    ///
    /// Panics if a law is broken.
    pub async fn check(&self) {
        self.readiness().await;
        self.hoarding().await;
        self.cancellation().await;
        self.polls().await;
        self.transparency().await;
        #[cfg(feature = "allocations")]
        if self.allocations.is_some() {
            self.allocations().await;
        }
    }

    /// A script that answers each request with its number, and fails [`FAILING`].
    fn echo(&self) -> Script<T::Request, T::Response, T::Error> {
        self.then_echo(Script::new())
    }

    fn then_echo(
        &self,
        script: Script<T::Request, T::Response, T::Error>,
    ) -> Script<T::Request, T::Response, T::Error> {
        let traffic = self.traffic.clone();
        script.answer(move |request| match traffic.sent(request) {
            FAILING => Err(traffic.error()),
            number => Ok(traffic.response(number)),
        })
    }

    fn inner(&self, script: Script<T::Request, T::Response, T::Error>) -> Inner<T> {
        Strict::new(script).recording()
    }

    fn trial(&self, script: Script<T::Request, T::Response, T::Error>) -> Trial<T, S> {
        let inner = self.inner(script.clone());
        Trial {
            watch: inner.watch(),
            service: (self.build)(inner),
            script,
        }
    }
}

/// Compiles only for a service that can be shared and whose calls can be spawned.
///
/// [`Laws::new`] asks for the same, and for the error type of the inner service.
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
