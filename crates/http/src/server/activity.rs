//! What a connection waits for, and for how long it may.
//!
//! The stream and the requests of a connection note what they do; the task of the connection looks
//! at the notes whenever it has nothing else to do.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::{CloseReason, ServerConfig};

/// The notes on one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answer has not left, and pieces of answers that have not.
    in_flight: AtomicUsize,
    /// Those that the client, not the service, keeps from going on.
    held: AtomicUsize,
    /// Counts requests, pieces of answers and ends of answers.
    steps: AtomicUsize,
    /// Something came since the last request.
    heard: AtomicBool,
    /// The socket takes no more.
    blocked: AtomicBool,
    /// Counts what the socket took.
    written: AtomicUsize,
    /// It speaks HTTP/2, where what comes need not be a request.
    multiplexed: AtomicBool,
}

impl Activity {
    /// Bytes came.
    pub(super) fn hear(&self) {
        self.heard.store(true, Relaxed);
    }

    /// The socket took something, or took nothing.
    pub(super) fn write<T>(&self, wrote: &Poll<T>) {
        self.blocked.store(wrote.is_pending(), Relaxed);
        if wrote.is_ready() {
            self.written.fetch_add(1, Relaxed);
        }
    }

    /// A request has come, with a body or without; it is in flight until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>, multiplexed: bool, body: bool) -> InFlight {
        self.heard.store(false, Relaxed);
        self.multiplexed.store(multiplexed, Relaxed);
        self.enter(body)
    }

    fn enter(self: &Arc<Self>, body: bool) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.steps.fetch_add(1, Relaxed);
        InFlight {
            activity: Arc::clone(self),
            body,
        }
    }

    fn phase(&self) -> Phase {
        let (steps, in_flight) = (self.steps.load(Relaxed), self.in_flight.load(Relaxed));
        if self.blocked.load(Relaxed) {
            Phase::Blocked(self.written.load(Relaxed))
        } else if in_flight > 0 && self.held.load(Relaxed) == in_flight {
            Phase::Held(steps)
        } else if in_flight > 0 {
            Phase::Busy
        } else if self.heard.load(Relaxed) && !self.multiplexed.load(Relaxed) || steps == 0 {
            Phase::Head(steps)
        } else {
            Phase::Idle(steps)
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    /// What came meanwhile was its body, and not the next head.
    body: bool,
}

impl InFlight {
    /// Its answer is there for the client to take.
    pub(super) fn answer(self) -> Answer {
        self.activity.held.fetch_add(1, Relaxed);
        Answer {
            request: self,
            held: true,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.body {
            self.activity.heard.store(false, Relaxed);
        }
        self.activity.steps.fetch_add(1, Relaxed);
        self.activity.in_flight.fetch_sub(1, Relaxed);
    }
}

/// An answer in flight. Until it is asked for its next piece the client holds it up.
#[derive(Debug)]
pub(super) struct Answer {
    request: InFlight,
    held: bool,
}

impl Answer {
    /// It was asked for its next piece, and had one or not yet.
    pub(super) fn asked<T>(&mut self, piece: &Poll<T>) {
        let activity = &self.request.activity;
        activity.steps.fetch_add(1, Relaxed);
        match (self.held, piece.is_ready()) {
            (true, false) => activity.held.fetch_sub(1, Relaxed),
            (false, true) => activity.held.fetch_add(1, Relaxed),
            _ => return,
        };
        self.held = !self.held;
    }

    /// A piece of it, which may wait for the client after the answer itself is over.
    pub(super) fn piece(&self) -> Self {
        self.request.activity.enter(false).answer()
    }

    /// The client took some of it.
    pub(super) fn taken(&self) {
        self.request.activity.steps.fetch_add(1, Relaxed);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.held {
            self.request.activity.held.fetch_sub(1, Relaxed);
        }
    }
}

/// What a connection waits for; a new number is a new wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The service.
    Busy,
    /// The rest of a head.
    Head(usize),
    /// The next request.
    Idle(usize),
    /// Room in the socket.
    Blocked(usize),
    /// A client of HTTP/2 that lets no more of any answer come.
    Held(usize),
}

/// Measures how long a connection has been waiting for the same thing.
#[derive(Debug)]
pub(super) struct ConnectionTimeouts<'a> {
    activity: &'a Activity,
    config: &'a ServerConfig,
    phase: Phase,
    since: Instant,
    /// The client was told to go.
    pub(super) closing: bool,
}

impl<'a> ConnectionTimeouts<'a> {
    /// For a connection that was accepted at `since`.
    pub(super) fn new(activity: &'a Activity, config: &'a ServerConfig, since: Instant) -> Self {
        Self {
            activity,
            config,
            phase: activity.phase(),
            since,
            closing: false,
        }
    }

    /// Ready when the wait has been too long. `timer` may ring early, and is then set again: what
    /// happens on most requests costs no timer.
    ///
    /// It is set even while the service is busy, since answers of HTTP/2 end on other threads.
    pub(super) fn poll(
        &mut self,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<CloseReason> {
        let phase = self.activity.phase();
        if phase != self.phase {
            (self.phase, self.since) = (phase, Instant::now());
        }
        let (limit, reason) = self.limit();
        let due = self.since + limit;
        if reason.is_some() && due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match reason {
                Some(reason) if due <= now => return Poll::Ready(reason),
                Some(_) => timer.as_mut().reset(due),
                None => timer.as_mut().reset(now + limit.max(SOONEST)),
            }
        }
        Poll::Pending
    }

    fn limit(&self) -> (Duration, Option<CloseReason>) {
        let config = self.config;
        match self.phase {
            Phase::Busy => (config.idle_timeout, None),
            Phase::Head(_) => (config.header_timeout, Some(CloseReason::Slow)),
            Phase::Idle(_) if self.closing => (config.write_timeout, Some(CloseReason::Idle)),
            Phase::Idle(_) => (config.idle_timeout, Some(CloseReason::Idle)),
            Phase::Blocked(_) | Phase::Held(_) => {
                (config.write_timeout, Some(CloseReason::Stalled))
            }
        }
    }
}

/// A busy connection is not looked at more often.
const SOONEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::time::sleep_until;

    use super::*;

    /// What a connection in this state is closed for, and when, in seconds from its acceptance.
    async fn fate(act: impl AsyncFnOnce(&Arc<Activity>)) -> (CloseReason, u64) {
        let (activity, config) = (Arc::default(), ServerConfig::default());
        let start = Instant::now();
        let mut patience = ConnectionTimeouts::new(&activity, &config, start);
        let mut timer = std::pin::pin!(sleep_until(start + config.header_timeout));
        let mut acting = std::pin::pin!(async {
            act(&activity).await;
            std::future::pending::<()>().await;
        });
        let closed = std::future::poll_fn(|cx| {
            let _ = acting.as_mut().poll(cx);
            patience.poll(timer.as_mut(), cx)
        });
        (closed.await, start.elapsed().as_secs())
    }

    async fn seconds(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn write(activity: &Activity, room: bool) {
        activity.write(&if room { Poll::Ready(()) } else { Poll::Pending });
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d1_a_head_has_its_time_from_its_first_byte() {
        assert_eq!(fate(async |_| {}).await, (CloseReason::Slow, 10));
        let dripping = async |activity: &Arc<Activity>| loop {
            activity.hear();
            seconds(1).await;
        };
        assert_eq!(fate(dripping).await, (CloseReason::Slow, 10));
        let second = async |activity: &Arc<Activity>| {
            drop(activity.begin(false, false));
            seconds(20).await;
            dripping(activity).await;
        };
        assert_eq!(fate(second).await, (CloseReason::Slow, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d4_an_idle_connection_has_its_time_from_its_last_answer() {
        let used = async |activity: &Arc<Activity>| {
            let request = activity.begin(false, false);
            seconds(500).await;
            let mut answer = request.answer();
            answer.asked(&Poll::Ready(()));
            drop(answer);
            seconds(30).await;
            drop(activity.begin(false, false));
        };
        assert_eq!(fate(used).await, (CloseReason::Idle, 590));
        let pinging = async |activity: &Arc<Activity>| {
            drop(activity.begin(true, false));
            loop {
                activity.hear();
                write(activity, true);
                seconds(1).await;
            }
        };
        assert_eq!(fate(pinging).await, (CloseReason::Idle, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d3_a_client_that_takes_nothing_has_its_time_from_what_it_took() {
        let blocked = async |activity: &Arc<Activity>| {
            let _request = activity.begin(false, false).answer();
            for _ in 0..3 {
                write(activity, false);
                seconds(20).await;
                write(activity, true);
            }
            write(activity, false);
            seconds(1_000).await;
        };
        assert_eq!(fate(blocked).await, (CloseReason::Stalled, 90));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d3_a_window_that_stays_shut_is_a_stall_and_a_quiet_service_is_not() {
        let held = async |activity: &Arc<Activity>| {
            let (mut first, mut second) = (
                activity.begin(true, false).answer(),
                activity.begin(true, false).answer(),
            );
            first.asked::<()>(&Poll::Pending);
            second.asked(&Poll::Ready(()));
            seconds(100).await;
            first.asked(&Poll::Ready(()));
            seconds(1_000).await;
        };
        assert_eq!(fate(held).await, (CloseReason::Stalled, 130));
    }
}
