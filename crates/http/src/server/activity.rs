//! Tracks the activity of a connection and enforces the timeouts on it.
//!
//! The stream and the requests of a connection record their progress in atomics. The connection's
//! task reads them each time it has polled the connection, and derives what the connection is
//! waiting for.

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
use tower_fanout_layers::clock;

use super::{CloseReason, ServerConfig, calls::Calls};

/// The recorded activity of one connection.
///
/// A request or response counts in `in_flight` and, while it waits for the client, in
/// `awaiting_client`.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Number of requests whose response is not sent completely, and of response chunks not yet sent.
    in_flight: AtomicUsize,
    /// Number of those in flight that wait for the client and not for the service.
    awaiting_client: AtomicUsize,
    /// Incremented when a request or a response chunk begins, makes progress, or ends.
    steps: AtomicUsize,
    /// Incremented when the client has taken bytes of a response.
    taken: AtomicUsize,
    /// `true` if bytes have arrived since the last request head.
    bytes_received: AtomicBool,
    /// `true` if the last write was pending.
    blocked: AtomicBool,
    /// Number of completed writes.
    written: AtomicUsize,
    /// `true` for HTTP/2, where incoming bytes need not belong to a request.
    multiplexed: AtomicBool,
    /// `true` once the connection is to end with a GOAWAY of our own.
    going_away: AtomicBool,
    /// `true` once the server was stopped.
    closing: AtomicBool,
    calls: Calls,
}

impl Activity {
    pub(super) fn new(calls: Calls) -> Self {
        Self {
            calls,
            ..Self::default()
        }
    }

    /// Returns the calls of the connection.
    pub(super) const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Records the protocol: HTTP/2 if `multiplexed`, else HTTP/1.
    pub(super) fn begin_http(&self, multiplexed: bool) {
        self.multiplexed.store(multiplexed, Relaxed);
    }

    /// Returns `true` for HTTP/2.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Relaxed)
    }

    /// Asks the stream to end the HTTP/2 connection with a GOAWAY.
    pub(super) fn go_away(&self) {
        self.going_away.store(true, Relaxed);
    }

    /// Returns `true` once [`go_away`](Self::go_away) was called.
    pub(super) fn is_going_away(&self) -> bool {
        self.going_away.load(Relaxed)
    }

    /// Records that the connection is to be closed after the requests in flight.
    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Returns `true` if the next response is the last of an HTTP/1 connection.
    pub(super) fn is_last_response(&self) -> bool {
        self.closing.load(Relaxed) && !self.is_multiplexed()
    }

    /// Records that bytes have arrived.
    pub(super) fn record_read(&self) {
        self.bytes_received.store(true, Relaxed);
    }

    /// Records the result of a write: progress, or that the socket is full.
    pub(super) fn record_write<T>(&self, wrote: &Poll<T>) {
        self.blocked.store(wrote.is_pending(), Relaxed);
        if wrote.is_ready() {
            self.written.fetch_add(1, Relaxed);
        }
    }

    /// Records a new request. It is in flight until the returned value is dropped.
    ///
    /// `body` says that the request has a body, which has not arrived completely.
    pub(super) fn begin(self: &Arc<Self>, body: bool) -> InFlight {
        self.bytes_received.store(false, Relaxed);
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

    /// Returns the number of requests and response chunks that wait for the client. A call that waits for
    /// space does so, if the service has no other.
    fn awaiting_client(&self) -> usize {
        self.awaiting_client.load(Relaxed) + self.calls.waiting_for_space()
    }

    /// Derives what the connection is waiting for.
    fn phase(&self) -> Phase {
        let (steps, in_flight) = (self.steps.load(Relaxed), self.in_flight.load(Relaxed));
        if self.blocked.load(Relaxed) {
            Phase::Blocked(self.written.load(Relaxed))
        } else if in_flight > 0 && self.awaiting_client() >= in_flight {
            Phase::WindowClosed(self.taken.load(Relaxed))
        } else if in_flight > 0 {
            Phase::Busy
        } else if self.bytes_received.load(Relaxed) && !self.is_multiplexed() || steps == 0 {
            Phase::Head(steps)
        } else {
            Phase::Idle(steps)
        }
    }
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    /// `true` if the bytes that arrived meanwhile were the body and not the next head.
    body: bool,
}

impl InFlight {
    /// Returns `true` if the connection may be closed after the response, because the request has a body that
    /// the service may not have read.
    pub(super) fn may_close(&self) -> bool {
        self.body && !self.activity.is_multiplexed()
    }

    /// Records that the response is ready for the client.
    pub(super) fn respond(self) -> ResponseInFlight {
        self.activity.awaiting_client.fetch_add(1, Relaxed);
        ResponseInFlight {
            request: self,
            awaiting_client: true,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.body {
            self.activity.bytes_received.store(false, Relaxed);
        }
        self.activity.steps.fetch_add(1, Relaxed);
        self.activity.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A response, or a chunk of one, in flight until it is dropped.
///
/// hyper polls the body for the next chunk only when the client can take more. Until then the
/// response waits for the client.
#[derive(Debug)]
pub(super) struct ResponseInFlight {
    request: InFlight,
    awaiting_client: bool,
}

impl ResponseInFlight {
    /// Returns the activity of the connection.
    pub(super) const fn activity(&self) -> &Arc<Activity> {
        &self.request.activity
    }

    /// Records that hyper has polled the body. If the next chunk was not ready, the response waits
    /// for the service from now on, otherwise for the client.
    pub(super) fn record_poll<T>(&mut self, frame: &Poll<T>) {
        let activity = &self.request.activity;
        activity.steps.fetch_add(1, Relaxed);
        match (self.awaiting_client, frame.is_ready()) {
            (true, false) => activity.awaiting_client.fetch_sub(1, Relaxed),
            (false, true) => activity.awaiting_client.fetch_add(1, Relaxed),
            _ => return,
        };
        self.awaiting_client = !self.awaiting_client;
    }

    /// Records a chunk, which may wait for the client even after the body has ended.
    pub(super) fn chunk(&self) -> Self {
        self.request.activity.enter(false).respond()
    }

    /// Records that the client has taken some bytes.
    pub(super) fn record_taken(&self) {
        let activity = &self.request.activity;
        activity.steps.fetch_add(1, Relaxed);
        activity.taken.fetch_add(1, Relaxed);
    }
}

impl Drop for ResponseInFlight {
    fn drop(&mut self) {
        if self.awaiting_client {
            self.request.activity.awaiting_client.fetch_sub(1, Relaxed);
        }
    }
}

/// The thing that a connection waits for. A wait with another number is a new wait, so its timeout
/// starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The service.
    Busy,
    /// The rest of a request head.
    Head(usize),
    /// The next request.
    Idle(usize),
    /// Space in the send buffer of the socket.
    Blocked(usize),
    /// An HTTP/2 client whose flow-control windows are closed for all responses. The number is that of
    /// [`Activity::taken`], so that the client's requests do not begin a new wait.
    WindowClosed(usize),
}

impl Phase {
    /// Returns the number of a wait for a request.
    const fn without_request(self) -> Option<usize> {
        match self {
            Self::Head(steps) | Self::Idle(steps) => Some(steps),
            Self::Busy | Self::Blocked(_) | Self::WindowClosed(_) => None,
        }
    }
}

/// The timeouts of one connection. Measures how long the connection has waited for the same thing.
#[derive(Debug)]
pub(super) struct ConnectionTimeouts<'a> {
    activity: &'a Activity,
    pub(super) config: &'a ServerConfig,
    phase: Phase,
    since: Instant,
    /// Number and duration of the last wait for a closed window, if it ended with unread bytes. It continues
    /// once the service is not busy any more.
    interrupted: Option<(usize, Duration)>,
    /// Time since when the connection has held many unsent bytes, without interruption.
    holding_since: Option<Instant>,
    /// Number of the wait in which the connection was parked last.
    parked_in: Option<usize>,
    /// `true` once the graceful shutdown of the connection has begun.
    pub(super) closing: bool,
}

impl<'a> ConnectionTimeouts<'a> {
    /// Creates the timeouts of a connection that was accepted at `since`.
    pub(super) fn new(activity: &'a Activity, config: &'a ServerConfig, since: Instant) -> Self {
        Self {
            activity,
            config,
            phase: activity.phase(),
            since,
            interrupted: None,
            holding_since: None,
            parked_in: None,
            closing: false,
        }
    }

    /// Asks the stream to end the connection with a GOAWAY.
    pub(super) fn go_away(&self) {
        self.activity.go_away();
    }

    /// Returns the next step of the connection once a wait has exceeded its time.
    ///
    /// `timer` is shared by all waits. It is moved only if the new wait ends before it fires; a
    /// timer that fires too early is set again. Most requests therefore cost no timer operation.
    ///
    /// The timer runs even while the service is busy: responses of HTTP/2 can end on other threads,
    /// which does not wake this task.
    ///
    /// A client that has reset too many requests is closed at once. If the process holds too many unsent
    /// bytes, the connections that have held many of them for a while are closed.
    pub(super) fn poll(&mut self, mut timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Next> {
        let phase = self.activity.phase();
        if phase != self.phase {
            self.begin_wait(phase);
        }
        if self.activity.calls.exceed_resets() {
            return Poll::Ready(Next::Close(CloseReason::Resets));
        }
        self.record_holding();
        let (limit, next) = self.limit();
        let due = self.since + limit;
        if next.is_some() && due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        if self.holding_since.is_some() {
            let check = clock::now() + HOLDING;
            if check < timer.deadline() {
                timer.as_mut().reset(check);
            }
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = clock::now();
            match next {
                Some(next) if due <= now => return Poll::Ready(next),
                _ if self.is_overdue(now) => {
                    return Poll::Ready(Next::Close(CloseReason::Stalled));
                }
                Some(_) if self.holding_since.is_none() => timer.as_mut().reset(due),
                _ if self.holding_since.is_some() => timer.as_mut().reset(now + HOLDING),
                _ => timer.as_mut().reset(now + limit.max(BUSY_CHECK)),
            }
        }
        Poll::Pending
    }

    fn begin_wait(&mut self, phase: Phase) {
        let now = clock::now();
        if let Phase::WindowClosed(taken) = self.phase {
            let unread = self.activity.calls.unsent() > 0;
            self.interrupted = unread.then(|| (taken, now - self.since));
        }
        let waited = match (phase, self.interrupted) {
            (Phase::WindowClosed(taken), Some((before, waited))) if taken == before => waited,
            _ => Duration::ZERO,
        };
        (self.phase, self.since) = (phase, now - waited);
    }

    fn record_holding(&mut self) {
        if self.activity.calls.unsent() < MANY {
            self.holding_since = None;
        } else if self.holding_since.is_none() {
            self.holding_since = Some(clock::now());
        }
    }

    /// Returns `true` if the connection must give back its unsent bytes.
    fn is_overdue(&self, now: Instant) -> bool {
        let held = self
            .holding_since
            .is_some_and(|since| since + HOLDING <= now);
        held && self.activity.calls.are_pressed()
    }

    /// Returns the time of the current wait and the step after it. `None` means that the wait may go on.
    fn limit(&self) -> (Duration, Option<Next>) {
        let config = self.config;
        let (limit, reason) = match self.phase {
            Phase::Busy => return (config.idle_timeout.min(config.write_timeout), None),
            Phase::Head(_) => (config.header_timeout, CloseReason::Slow),
            Phase::Idle(_) if self.closing => (config.write_timeout, CloseReason::Idle),
            Phase::Idle(_) => (config.idle_timeout, CloseReason::Idle),
            Phase::Blocked(_) | Phase::WindowClosed(_) => {
                (config.write_timeout, CloseReason::Stalled)
            }
        };
        if self.may_park() && PARK < limit {
            return (PARK, Some(Next::Park));
        }
        (limit, Some(Next::Close(reason)))
    }

    /// Records that the connection is parked.
    pub(super) fn record_parked(&mut self) {
        self.parked_in = self.phase.without_request();
    }

    /// Returns `true` if no request is in flight, nothing is left to send, and the connection was not
    /// parked since the last request. So hyper keeps a long head until it is complete.
    fn may_park(&self) -> bool {
        let wait = self.phase.without_request();
        let is_new = wait.is_some() && wait != self.parked_in;
        is_new && !self.closing && !self.activity.is_multiplexed()
    }
}

/// The next step of a connection whose wait has exceeded its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An HTTP/1 connection without a request is taken from hyper, which frees its buffers.
    Park,
    Close(CloseReason),
}

/// Time after which an HTTP/1 connection without a request is parked.
const PARK: Duration = Duration::from_millis(250);

/// Minimum time between two checks of a busy connection.
const BUSY_CHECK: Duration = Duration::from_millis(100);

/// Number of unsent response bytes of a connection from which on they count as many.
const MANY: usize = 16 << 10;

/// Time for which a connection may hold many unsent bytes while the process holds too many.
const HOLDING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::time::sleep_until;

    use super::{
        super::calls::{Call, Unsent},
        *,
    };

    /// Returns the reason why a connection with the activity of `act` is closed, and the time of
    /// the close in seconds after it was accepted.
    async fn close_of(act: impl AsyncFnOnce(&Arc<Activity>)) -> (CloseReason, u64) {
        let (activity, config) = (Arc::default(), ServerConfig::default());
        let start = Instant::now();
        let mut timeouts = ConnectionTimeouts::new(&activity, &config, start);
        let mut timer = std::pin::pin!(sleep_until(start + config.header_timeout));
        let mut acting = std::pin::pin!(async {
            act(&activity).await;
            std::future::pending::<()>().await;
        });
        let closed = std::future::poll_fn(|cx| {
            let _ = acting.as_mut().poll(cx);
            loop {
                match timeouts.poll(timer.as_mut(), cx) {
                    Poll::Ready(Next::Close(reason)) => return Poll::Ready(reason),
                    Poll::Ready(Next::Park) => timeouts.record_parked(),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        (closed.await, start.elapsed().as_secs())
    }

    async fn seconds(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn write(activity: &Activity, room: bool) {
        activity.record_write(&if room { Poll::Ready(()) } else { Poll::Pending });
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d1_header_timeout_starts_at_the_first_byte() {
        assert_eq!(close_of(async |_| {}).await, (CloseReason::Slow, 10));
        let dripping = async |activity: &Arc<Activity>| loop {
            activity.record_read();
            seconds(1).await;
        };
        assert_eq!(close_of(dripping).await, (CloseReason::Slow, 10));
        let second = async |activity: &Arc<Activity>| {
            drop(activity.begin(false));
            seconds(20).await;
            dripping(activity).await;
        };
        assert_eq!(close_of(second).await, (CloseReason::Slow, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d4_idle_timeout_starts_at_the_last_response() {
        let used = async |activity: &Arc<Activity>| {
            let request = activity.begin(false);
            seconds(500).await;
            let mut response = request.respond();
            response.record_poll(&Poll::Ready(()));
            drop(response);
            seconds(30).await;
            drop(activity.begin(false));
        };
        assert_eq!(close_of(used).await, (CloseReason::Idle, 590));
        let pinging = async |activity: &Arc<Activity>| {
            activity.begin_http(true);
            drop(activity.begin(false));
            loop {
                activity.record_read();
                write(activity, true);
                seconds(1).await;
            }
        };
        assert_eq!(close_of(pinging).await, (CloseReason::Idle, 60));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d3_write_timeout_starts_at_the_last_progress() {
        let blocked = async |activity: &Arc<Activity>| {
            let _request = activity.begin(false).respond();
            for _ in 0..3 {
                write(activity, false);
                seconds(20).await;
                write(activity, true);
            }
            write(activity, false);
            seconds(1_000).await;
        };
        assert_eq!(close_of(blocked).await, (CloseReason::Stalled, 90));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d3_calls_that_wait_until_the_client_reads_do_not_prevent_the_close() {
        let unread = async |activity: &Arc<Activity>| {
            activity.begin_http(true);
            let _response = activity.begin(false).respond();
            let _unsent = Unsent::new(Arc::clone(activity), 8 << 20);
            seconds(10).await;
            let _waiting = (activity.begin(false), Call::new(Arc::clone(activity)));
            seconds(1_000).await;
        };
        assert_eq!(close_of(unread).await, (CloseReason::Stalled, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d3_further_requests_do_not_extend_the_time_of_a_client_that_does_not_read() {
        let requesting = async |activity: &Arc<Activity>| {
            activity.begin_http(true);
            let _response = activity.begin(false).respond();
            let _unsent = Unsent::new(Arc::clone(activity), 1);
            for _ in 0..10 {
                seconds(9).await;
                let _request = activity.begin(false);
                seconds(1).await;
            }
        };
        // 1 s of 10 is that of the service.
        assert_eq!(close_of(requesting).await, (CloseReason::Stalled, 33));
        let reading = async |activity: &Arc<Activity>| {
            activity.begin_http(true);
            let response = activity.begin(false).respond();
            let _unsent = Unsent::new(Arc::clone(activity), 1);
            for _ in 0..5 {
                seconds(20).await;
                response.record_taken();
            }
            seconds(1_000).await;
        };
        assert_eq!(close_of(reading).await, (CloseReason::Stalled, 130));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d3_a_closed_window_is_a_stall_a_slow_service_is_not() {
        let stalled = async |activity: &Arc<Activity>| {
            let (mut first, mut second) = (
                activity.begin(false).respond(),
                activity.begin(false).respond(),
            );
            first.record_poll::<()>(&Poll::Pending);
            second.record_poll(&Poll::Ready(()));
            seconds(100).await;
            first.record_poll(&Poll::Ready(()));
            seconds(1_000).await;
        };
        assert_eq!(close_of(stalled).await, (CloseReason::Stalled, 130));
    }
}
