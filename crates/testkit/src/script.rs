//! A scripted service: responds to each call as a script says and records the calls.
//!
//! A script is a list of steps. The first call gets the first step, the second call the second, and
//! the last step repeats for all further calls. Steps are added by
//! [`respond`](ScriptedService::respond), [`fail`](ScriptedService::fail),
//! [`respond_with`](ScriptedService::respond_with), [`hang`](ScriptedService::hang) and
//! [`panic`](ScriptedService::panic). The modifiers [`after`](ScriptedService::after),
//! [`after_polls`](ScriptedService::after_polls) and [`times`](ScriptedService::times) change the step
//! that was added last.
//!
//! The service does not check that it is called only when ready. Wrap it in
//! [`AssertReady`](crate::assert_ready::AssertReady) for that.
//!
//! ```
//! use std::time::Duration;
//! use tower::{BoxError, ServiceExt, timeout::Timeout};
//! use tower_fanout_testkit::script::ScriptedService;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let script = ScriptedService::<_, _, BoxError>::new()
//!     .fail("broken").times(2)
//!     .respond("late").after(Duration::from_secs(2))
//!     .respond("fine");
//! let service = Timeout::new(script.clone(), Duration::from_secs(1));
//!
//! assert_eq!(service.clone().oneshot(1).await.unwrap_err().to_string(), "broken");
//! assert_eq!(service.clone().oneshot(2).await.unwrap_err().to_string(), "broken");
//! assert!(service.clone().oneshot(3).await.unwrap_err().is::<tower::timeout::error::Elapsed>());
//! assert_eq!(service.clone().oneshot(4).await.unwrap(), "fine");
//! assert_eq!(service.oneshot(5).await.unwrap(), "fine"); // the last step repeats
//!
//! assert_eq!(script.requests(), [1, 2, 3, 4, 5]);
//! assert_eq!((script.in_flight(), script.cancelled()), (0, 1));
//! # }
//! ```

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

/// A tower service that responds as its script says.
///
/// Clones share the script, its position and all counters. Keep a clone to inspect the calls after
/// the service was moved into a stack. See the [module documentation](self) for an example.
pub struct ScriptedService<Req, Res, E> {
    state: Arc<Mutex<State<Req, Res, E>>>,
}

struct State<Req, Res, E> {
    steps: Vec<Step<Req, Res, E>>,
    readiness: Readiness<E>,
    calls: Vec<(Req, Instant)>,
    in_flight: usize,
    peak_in_flight: usize,
    cancelled: usize,
    polls: usize,
}

const NO_STEP: &str =
    "the script must have a step to modify, found none: call `respond` or `fail` first";

type Respond<Req, Res, E> = Arc<dyn Fn(&Req) -> Result<Res, E> + Send + Sync>;

struct Step<Req, Res, E> {
    outcome: Outcome<Req, Res, E>,
    delay: Option<Duration>,
    /// The number of polls that return `Pending` after the delay.
    pending: u32,
}

enum Outcome<Req, Res, E> {
    Respond(Respond<Req, Res, E>),
    Hang,
    Panic(&'static str),
}

enum Readiness<E> {
    Ready,
    /// Pending for this number of further polls.
    PendingPolls(u32),
    /// Pending until `set_ready`, which wakes the wakers.
    Blocked(Vec<Waker>),
    Fails(Arc<dyn Fn() -> E + Send + Sync>),
}

// === steps ===

impl<Req, Res, E> ScriptedService<Req, Res, E> {
    /// Creates a service without steps that is always ready.
    ///
    /// # Panics
    ///
    /// The returned service panics in `call` until a step is added.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                steps: Vec::new(),
                readiness: Readiness::Ready,
                calls: Vec::new(),
                in_flight: 0,
                peak_in_flight: 0,
                cancelled: 0,
                polls: 0,
            })),
        }
    }

    /// Adds a step that responds with the result of `respond`.
    #[must_use]
    pub fn respond_with(
        self,
        respond: impl Fn(&Req) -> Result<Res, E> + Send + Sync + 'static,
    ) -> Self {
        self.step(Outcome::Respond(Arc::new(respond)))
    }

    /// Adds a step that responds with a clone of `response`.
    #[must_use]
    pub fn respond(self, response: Res) -> Self
    where
        Res: Clone + Send + Sync + 'static,
    {
        self.respond_with(move |_| Ok(response.clone()))
    }

    /// Adds a step that fails with a clone of `error`, converted into the error of the service.
    ///
    /// The error of the service need not be `Clone`: a text can become a boxed error. Use
    /// [`respond_with`](Self::respond_with) for an error that depends on the request.
    #[must_use]
    pub fn fail<T>(self, error: T) -> Self
    where
        T: Into<E> + Clone + Send + Sync + 'static,
    {
        self.respond_with(move |_| Err(error.clone().into()))
    }

    /// Adds a step whose future stays pending forever and never wakes its task.
    #[must_use]
    pub fn hang(self) -> Self {
        self.step(Outcome::Hang)
    }

    /// Adds a step whose future panics with `message` when it is polled.
    #[must_use]
    pub fn panic(self, message: &'static str) -> Self {
        self.step(Outcome::Panic(message))
    }

    /// Makes the last step complete `delay` after its call. The default is no delay.
    ///
    /// # Panics
    ///
    /// Panics if the script has no step.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        self.change_last(|step| step.delay = Some(delay))
    }

    /// Makes the future of the last step return `Pending` on its first `polls` polls, and wake its task
    /// each time.
    ///
    /// With [`after`](Self::after), these polls come after the delay.
    ///
    /// # Panics
    ///
    /// Panics if the script has no step.
    #[must_use]
    pub fn after_polls(self, polls: u32) -> Self {
        self.change_last(|step| step.pending = polls)
    }

    /// Repeats the last step, so that it serves `calls` calls in a row.
    ///
    /// The copies have the modifiers that were set before `times`. A modifier after `times` changes
    /// the last copy only.
    ///
    /// # Panics
    ///
    /// Panics if `calls` is zero or the script has no step.
    #[must_use]
    pub fn times(self, calls: usize) -> Self {
        assert!(calls > 0, "`times` must be >= 1, got 0");
        let mut state = self.lock();
        let step = state.steps.last().expect(NO_STEP).clone();
        state.steps.extend((1..calls).map(|_| step.clone()));
        drop(state);
        self
    }

    fn step(self, outcome: Outcome<Req, Res, E>) -> Self {
        self.lock().steps.push(Step {
            outcome,
            delay: None,
            pending: 0,
        });
        self
    }

    fn change_last(self, change: impl FnOnce(&mut Step<Req, Res, E>)) -> Self {
        change(self.lock().steps.last_mut().expect(NO_STEP));
        self
    }
}

// === readiness ===

impl<Req, Res, E> ScriptedService<Req, Res, E> {
    /// Makes the first `polls` calls of `poll_ready` return `Pending` and wake the task each time.
    ///
    /// Polls of all clones count together.
    #[must_use]
    pub fn ready_after_polls(self, polls: u32) -> Self {
        self.lock().readiness = Readiness::PendingPolls(polls);
        self
    }

    /// Makes every `poll_ready` fail with the error that `error` returns.
    #[must_use]
    pub fn fail_ready(self, error: impl Fn() -> E + Send + Sync + 'static) -> Self {
        self.lock().readiness = Readiness::Fails(Arc::new(error));
        self
    }

    /// Makes `poll_ready` return `Pending` until [`set_ready`](Self::set_ready) is called.
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_fanout_testkit::script::ScriptedService;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let script = ScriptedService::<u32, &str, ()>::new().respond("fine");
    /// script.set_not_ready();
    /// let call = tokio::spawn(script.clone().oneshot(1));
    /// tokio::task::yield_now().await;
    /// assert_eq!(script.calls(), 0);
    /// script.set_ready();
    /// assert_eq!(call.await.unwrap(), Ok("fine"));
    /// # }
    /// ```
    pub fn set_not_ready(&self) {
        self.lock().readiness = Readiness::Blocked(Vec::new());
    }

    /// Makes `poll_ready` return `Ready(Ok(()))` and wakes all tasks that wait for it.
    pub fn set_ready(&self) {
        let before = std::mem::replace(&mut self.lock().readiness, Readiness::Ready);
        if let Readiness::Blocked(waiting) = before {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

// === recorded calls ===

impl<Req, Res, E> ScriptedService<Req, Res, E> {
    /// Returns the number of calls.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().calls.len()
    }

    /// Returns the requests in the order of the calls.
    #[must_use]
    pub fn requests(&self) -> Vec<Req>
    where
        Req: Clone,
    {
        self.lock()
            .calls
            .iter()
            .map(|(request, _)| request.clone())
            .collect()
    }

    /// Returns the time of each call, in the order of the calls.
    #[must_use]
    pub fn call_times(&self) -> Vec<Instant> {
        self.lock().calls.iter().map(|(_, start)| *start).collect()
    }

    /// Returns the number of calls whose future has neither completed nor been dropped.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// Returns the largest number of calls that were in flight at once.
    #[must_use]
    pub fn peak_in_flight(&self) -> usize {
        self.lock().peak_in_flight
    }

    /// Returns the number of futures that were dropped before they completed.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.lock().cancelled
    }

    /// Returns how many times the futures of all calls were polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.lock().polls
    }

    // Ignores poisoning, so that a test reports its own panic and not one about the lock.
    fn lock(&self) -> MutexGuard<'_, State<Req, Res, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Req, Res, E> Clone for ScriptedService<Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<Req, Res, E> Default for ScriptedService<Req, Res, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req, Res, E> fmt::Debug for ScriptedService<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedService")
            .field("calls", &self.calls())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl<Req, Res, E> Clone for Step<Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            outcome: match &self.outcome {
                Outcome::Respond(respond) => Outcome::Respond(Arc::clone(respond)),
                Outcome::Hang => Outcome::Hang,
                Outcome::Panic(message) => Outcome::Panic(message),
            },
            ..*self
        }
    }
}

// === the service ===

impl<Req: Clone, Res, E> Service<Req> for ScriptedService<Req, Res, E> {
    type Response = Res;
    type Error = E;
    type Future = ResponseFuture<Req, Res, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        match &mut self.lock().readiness {
            Readiness::Ready | Readiness::PendingPolls(0) => Poll::Ready(Ok(())),
            Readiness::PendingPolls(left) => {
                *left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Readiness::Blocked(waiting) => {
                // Keeps the waker of every poll, because clones may wait in different tasks.
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
            Readiness::Fails(error) => Poll::Ready(Err(error())),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let mut state = self.lock();
        let last =
            state.steps.len().checked_sub(1).expect(
                "the script must have a step, found none: add one with `respond` or `fail`",
            );
        // The number of earlier calls is the index of the step, and the last step repeats.
        let step = state.steps[last.min(state.calls.len())].clone();
        state.calls.push((request.clone(), Instant::now()));
        state.in_flight += 1;
        state.peak_in_flight = state.peak_in_flight.max(state.in_flight);
        drop(state);
        ResponseFuture {
            sleep: step.delay.map(sleep),
            pending: step.pending,
            outcome: step.outcome,
            request,
            guard: InFlightGuard {
                script: self.clone(),
                done: false,
            },
        }
    }
}

pin_project! {
    /// The response future of [`ScriptedService`].
    pub struct ResponseFuture<Req, Res, E> {
        #[pin]
        sleep: Option<Sleep>,
        pending: u32,
        outcome: Outcome<Req, Res, E>,
        request: Req,
        guard: InFlightGuard<Req, Res, E>,
    }
}

impl<Req, Res, E> Future for ResponseFuture<Req, Res, E> {
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(
            !this.guard.done,
            "response future polled after it completed"
        );
        this.guard.script.lock().polls += 1;
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        if *this.pending > 0 {
            *this.pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match this.outcome {
            Outcome::Hang => Poll::Pending,
            Outcome::Respond(respond) => {
                this.guard.finish(); // first, so that a panic below is not counted as cancelled
                Poll::Ready(respond(this.request))
            }
            Outcome::Panic(message) => {
                this.guard.finish();
                panic!("{message}")
            }
        }
    }
}

/// Counts one call as in flight. A guard that is dropped before `finish` counts as cancelled.
struct InFlightGuard<Req, Res, E> {
    script: ScriptedService<Req, Res, E>,
    done: bool,
}

impl<Req, Res, E> InFlightGuard<Req, Res, E> {
    fn finish(&mut self) {
        self.done = true;
        self.script.lock().in_flight -= 1;
    }
}

impl<Req, Res, E> Drop for InFlightGuard<Req, Res, E> {
    fn drop(&mut self) {
        if !self.done {
            self.finish();
            self.script.lock().cancelled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    type Numbers = ScriptedService<u32, u32, &'static str>;

    async fn call(script: &Numbers, request: u32) -> Result<u32, &'static str> {
        let mut script = script.clone();
        poll_fn(|cx| script.poll_ready(cx)).await?;
        script.call(request).await
    }

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn steps_run_in_order_and_the_last_repeats() {
        let script = Numbers::new()
            .respond(1)
            .times(2)
            .fail("broken")
            .after(Duration::from_secs(3))
            .respond_with(|request| Ok(request * 10))
            .after_polls(2);
        let start = Instant::now();
        let mut results = Vec::new();
        for request in 1..=5 {
            results.push(call(&script, request).await);
        }
        assert_eq!(results, [Ok(1), Ok(1), Err("broken"), Ok(40), Ok(50)]);
        let starts = script
            .call_times()
            .into_iter()
            .map(|at| (at - start).as_secs());
        assert_eq!(starts.collect::<Vec<_>>(), [0, 0, 0, 3, 3]);
        assert_eq!(script.polls(), 1 + 1 + 2 + 3 + 3);
    }

    #[tokio::test]
    async fn counts_in_flight_and_cancelled_calls() {
        let mut script = Numbers::new().hang().times(2).respond(7);
        let (first, second) = (script.call(1), script.call(2));
        let third = script.call(3).await;
        assert_eq!(
            (third, script.in_flight(), script.peak_in_flight()),
            (Ok(7), 2, 3)
        );
        assert!(poll_once(pin!(first)).is_pending());
        drop(second);
        assert_eq!(
            (script.calls(), script.in_flight(), script.cancelled()),
            (3, 0, 2)
        );
    }

    #[tokio::test]
    async fn panicked_call_does_not_count_as_cancelled() {
        let script = Numbers::new().panic("scripted");
        let task = tokio::spawn({
            let script = script.clone();
            async move { call(&script, 1).await }
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!((script.in_flight(), script.cancelled()), (0, 0));
    }

    #[tokio::test]
    async fn poll_ready_waits_fails_and_wakes_as_scripted() {
        let mut script = Numbers::new().respond(1).ready_after_polls(2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(script.poll_ready(&mut cx).is_pending());
        assert!(script.clone().poll_ready(&mut cx).is_pending());
        assert_eq!(script.poll_ready(&mut cx), Poll::Ready(Ok(())));

        script.set_not_ready();
        let waiting = tokio::spawn({
            let script = script.clone();
            async move { call(&script, 1).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(script.calls(), 0);
        script.set_ready();
        assert_eq!(waiting.await.unwrap(), Ok(1));

        let mut broken = script.fail_ready(|| "closed");
        assert_eq!(broken.poll_ready(&mut cx), Poll::Ready(Err("closed")));
    }
}
