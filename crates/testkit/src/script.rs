//! Answers each call as a script says, and remembers what it was asked.
//!
//! A script is a chain of steps, one per call; the last step repeats for ever. A modifier
//! ([`after`](Script::after), [`after_polls`](Script::after_polls), [`times`](Script::times))
//! changes the step before it. A future that is polled after its end panics.
//!
//! ```
//! use std::time::Duration;
//! use tower::{ServiceExt, timeout::Timeout};
//! use tower_fanout_testkit::script::Script;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let script = Script::new()
//!     .err("broken").times(2)
//!     .ok("late").after(Duration::from_secs(2))
//!     .ok("well");
//! let service = Timeout::new(script.clone(), Duration::from_secs(1));
//!
//! assert_eq!(service.clone().oneshot(1).await.unwrap_err().to_string(), "broken");
//! assert_eq!(service.clone().oneshot(2).await.unwrap_err().to_string(), "broken");
//! assert!(service.clone().oneshot(3).await.unwrap_err().is::<tower::timeout::error::Elapsed>());
//! assert_eq!(service.clone().oneshot(4).await.unwrap(), "well");
//! assert_eq!(service.oneshot(5).await.unwrap(), "well");
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

/// A service that does what its script says.
///
/// Clones share the script and everything that is counted. See the [module](self) for an example.
pub struct Script<Req, Res, E> {
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

type Answer<Req, Res, E> = Arc<dyn Fn(&Req) -> Result<Res, E> + Send + Sync>;

struct Step<Req, Res, E> {
    end: End<Req, Res, E>,
    delay: Option<Duration>,
    pending: u32,
}

enum End<Req, Res, E> {
    Answer(Answer<Req, Res, E>),
    Hang,
    Panic(&'static str),
}

enum Readiness<E> {
    Ready,
    PendingPolls(u32),
    Held(Vec<Waker>),
    Fails(Arc<dyn Fn() -> E + Send + Sync>),
}

// === the script ===

impl<Req, Res, E> Script<Req, Res, E> {
    /// A script without a step, always ready.
    ///
    /// # Panics
    ///
    /// A call panics while there is no step.
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

    /// A step that answers with what `answer` makes of the request.
    #[must_use]
    pub fn answer(self, answer: impl Fn(&Req) -> Result<Res, E> + Send + Sync + 'static) -> Self {
        self.step(End::Answer(Arc::new(answer)))
    }

    /// A step that answers with `response`.
    #[must_use]
    pub fn ok(self, response: Res) -> Self
    where
        Res: Clone + Send + Sync + 'static,
    {
        self.answer(move |_| Ok(response.clone()))
    }

    /// A step that fails with `error`; for an error that is not `Clone`, use
    /// [`answer`](Self::answer).
    #[must_use]
    pub fn err(self, error: E) -> Self
    where
        E: Clone + Send + Sync + 'static,
    {
        self.answer(move |_| Err(error.clone()))
    }

    /// A step that never ends and never wakes its task.
    #[must_use]
    pub fn hang(self) -> Self {
        self.step(End::Hang)
    }

    /// A step whose future panics with `message`.
    #[must_use]
    pub fn panic(self, message: &'static str) -> Self {
        self.step(End::Panic(message))
    }

    /// The step before this ends `delay` after its call, not at once.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        self.change_last(|step| step.delay = Some(delay))
    }

    /// The future of the step before this is pending `polls` times, waking its task each time.
    #[must_use]
    pub fn after_polls(self, polls: u32) -> Self {
        self.change_last(|step| step.pending = polls)
    }

    /// The step before this answers `calls` calls, not one.
    ///
    /// # Panics
    ///
    /// Panics if `calls` is zero.
    #[must_use]
    pub fn times(self, calls: usize) -> Self {
        assert!(calls > 0, "a step answers at least one call");
        let mut state = self.lock();
        let step = state.steps.last().expect("`times` follows a step").clone();
        state.steps.extend((1..calls).map(|_| step.clone()));
        drop(state);
        self
    }

    fn step(self, end: End<Req, Res, E>) -> Self {
        self.lock().steps.push(Step {
            end,
            delay: None,
            pending: 0,
        });
        self
    }

    fn change_last(self, change: impl FnOnce(&mut Step<Req, Res, E>)) -> Self {
        change(
            self.lock()
                .steps
                .last_mut()
                .expect("a modifier follows a step"),
        );
        self
    }
}

// === its readiness ===

impl<Req, Res, E> Script<Req, Res, E> {
    /// `poll_ready` is pending `polls` times, counted over all clones, waking its task each time.
    #[must_use]
    pub fn not_ready(self, polls: u32) -> Self {
        self.lock().readiness = Readiness::PendingPolls(polls);
        self
    }

    /// `poll_ready` fails with what `error` makes.
    #[must_use]
    pub fn fail_ready(self, error: impl Fn() -> E + Send + Sync + 'static) -> Self {
        self.lock().readiness = Readiness::Fails(Arc::new(error));
        self
    }

    /// From now on `poll_ready` is pending, until [`release`](Self::release).
    ///
    /// ```
    /// use tower::ServiceExt;
    /// use tower_fanout_testkit::script::Script;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let script = Script::<u32, &str, ()>::new().ok("well");
    /// script.hold();
    /// let call = tokio::spawn(script.clone().oneshot(1));
    /// tokio::task::yield_now().await;
    /// assert_eq!(script.calls(), 0);
    /// script.release();
    /// assert_eq!(call.await.unwrap(), Ok("well"));
    /// # }
    /// ```
    pub fn hold(&self) {
        self.lock().readiness = Readiness::Held(Vec::new());
    }

    /// From now on `poll_ready` is ready; wakes whoever waits for it.
    pub fn release(&self) {
        let before = std::mem::replace(&mut self.lock().readiness, Readiness::Ready);
        if let Readiness::Held(waiting) = before {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

// === what it saw ===

impl<Req, Res, E> Script<Req, Res, E> {
    /// How often it was called.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.lock().calls.len()
    }

    /// The requests, in the order of the calls.
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

    /// When each call was made.
    #[must_use]
    pub fn starts(&self) -> Vec<Instant> {
        self.lock().calls.iter().map(|(_, start)| *start).collect()
    }

    /// How many calls are running now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.lock().in_flight
    }

    /// The most calls that ever ran at once.
    #[must_use]
    pub fn peak_in_flight(&self) -> usize {
        self.lock().peak_in_flight
    }

    /// How many futures were dropped before their end.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.lock().cancelled
    }

    /// How often futures of all calls were polled.
    #[must_use]
    pub fn polls(&self) -> usize {
        self.lock().polls
    }

    // A panic of a test's thread must not hide behind one about a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, State<Req, Res, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Req, Res, E> Clone for Script<Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

impl<Req, Res, E> Default for Script<Req, Res, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req, Res, E> fmt::Debug for Script<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("calls", &self.calls())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl<Req, Res, E> Clone for Step<Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            end: match &self.end {
                End::Answer(answer) => End::Answer(Arc::clone(answer)),
                End::Hang => End::Hang,
                End::Panic(message) => End::Panic(message),
            },
            ..*self
        }
    }
}

// === the service ===

impl<Req: Clone, Res, E> Service<Req> for Script<Req, Res, E> {
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
            Readiness::Held(waiting) => {
                waiting.push(cx.waker().clone());
                Poll::Pending
            }
            Readiness::Fails(error) => Poll::Ready(Err(error())),
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let mut state = self.lock();
        let last = state
            .steps
            .len()
            .checked_sub(1)
            .expect("the script has a step");
        let step = state.steps[last.min(state.calls.len())].clone();
        state.calls.push((request.clone(), Instant::now()));
        state.in_flight += 1;
        state.peak_in_flight = state.peak_in_flight.max(state.in_flight);
        drop(state);
        ResponseFuture {
            sleep: step.delay.map(sleep),
            pending: step.pending,
            end: step.end,
            request,
            flight: Flight {
                script: self.clone(),
                ended: false,
            },
        }
    }
}

pin_project! {
    /// The future of [`Script`].
    pub struct ResponseFuture<Req, Res, E> {
        #[pin]
        sleep: Option<Sleep>,
        pending: u32,
        end: End<Req, Res, E>,
        request: Req,
        flight: Flight<Req, Res, E>,
    }
}

impl<Req, Res, E> Future for ResponseFuture<Req, Res, E> {
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        assert!(!this.flight.ended, "a future was polled after its end");
        this.flight.script.lock().polls += 1;
        if let Some(sleep) = this.sleep.as_pin_mut() {
            ready!(sleep.poll(cx));
        }
        if *this.pending > 0 {
            *this.pending -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match this.end {
            End::Hang => Poll::Pending,
            End::Answer(answer) => {
                this.flight.end();
                Poll::Ready(answer(this.request))
            }
            End::Panic(message) => {
                this.flight.end();
                panic!("{message}")
            }
        }
    }
}

/// Counts one running call; one that is dropped before its end was cancelled.
struct Flight<Req, Res, E> {
    script: Script<Req, Res, E>,
    ended: bool,
}

impl<Req, Res, E> Flight<Req, Res, E> {
    fn end(&mut self) {
        self.ended = true;
        self.script.lock().in_flight -= 1;
    }
}

impl<Req, Res, E> Drop for Flight<Req, Res, E> {
    fn drop(&mut self) {
        if !self.ended {
            self.end();
            self.script.lock().cancelled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    type Numbers = Script<u32, u32, &'static str>;

    async fn call(script: &Numbers, request: u32) -> Result<u32, &'static str> {
        let mut script = script.clone();
        poll_fn(|cx| script.poll_ready(cx)).await?;
        script.call(request).await
    }

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn steps_come_in_order_and_the_last_repeats() {
        let script = Numbers::new()
            .ok(1)
            .times(2)
            .err("broken")
            .after(Duration::from_secs(3))
            .answer(|request| Ok(request * 10))
            .after_polls(2);
        let start = Instant::now();
        let mut answers = Vec::new();
        for request in 1..=5 {
            answers.push(call(&script, request).await);
        }
        assert_eq!(answers, [Ok(1), Ok(1), Err("broken"), Ok(40), Ok(50)]);
        let starts = script.starts().into_iter().map(|at| (at - start).as_secs());
        assert_eq!(starts.collect::<Vec<_>>(), [0, 0, 0, 3, 3]);
        assert_eq!(script.polls(), 1 + 1 + 2 + 3 + 3);
    }

    #[tokio::test]
    async fn running_and_dropped_calls_are_counted() {
        let mut script = Numbers::new().hang().times(2).ok(7);
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
    async fn a_panic_is_an_end_and_not_a_cancellation() {
        let script = Numbers::new().panic("as told");
        let task = tokio::spawn({
            let script = script.clone();
            async move { call(&script, 1).await }
        });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!((script.in_flight(), script.cancelled()), (0, 0));
    }

    #[tokio::test]
    async fn readiness_follows_its_own_script() {
        let mut script = Numbers::new().ok(1).not_ready(2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(script.poll_ready(&mut cx).is_pending());
        assert!(script.clone().poll_ready(&mut cx).is_pending());
        assert_eq!(script.poll_ready(&mut cx), Poll::Ready(Ok(())));

        script.hold();
        let waiting = tokio::spawn({
            let script = script.clone();
            async move { call(&script, 1).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(script.calls(), 0);
        script.release();
        assert_eq!(waiting.await.unwrap(), Ok(1));

        let mut broken = script.fail_ready(|| "never");
        assert_eq!(broken.poll_ready(&mut cx), Poll::Ready(Err("never")));
    }
}
