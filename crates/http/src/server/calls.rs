//! Bounds the calls of one connection: those that the client resets, and those whose responses it does not
//! read.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    task::{Context, Poll, ready},
};

use super::{
    Connections,
    activity::Activity,
    clients::Client,
    reading::Reading,
    wait_queue::{Wait, WaitQueue},
};

/// Number of early resets above which an HTTP/2 connection is closed, if at least half of its requests were
/// reset early. Envoy allows 500, nginx one per request and some.
const MAX_EARLY_RESETS: usize = 200;

/// Maximum number of response bytes, unsent ones and those expected of calls in flight, with which a
/// connection begins a further call.
const MAX_EXPECTED: usize = 8 << 20;

/// Number of unsent response bytes of one connection from which on no further response is accepted, unless its
/// client reads.
const MAX_UNSENT: usize = 16 << 20;

/// Minimum number of bytes for which an unsent part of a streamed response counts, as the parts after it wait
/// in memory too.
const MIN_STREAMED: usize = 256 << 10;

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    client: Arc<Client>,
    connections: Connections,
    requests: AtomicUsize,
    /// Number of calls that the service has not begun.
    waiting: AtomicUsize,
    /// Number of calls in flight that the service has begun.
    running: AtomicUsize,
    answered: AtomicUsize,
    /// Number of requests that the client reset before the end of the call.
    early_resets: AtomicUsize,
    /// Number of response bytes that were produced and not sent.
    unsent: AtomicUsize,
    reading: Reading,
    /// Calls that wait to begin.
    begins: WaitQueue,
    /// Response bodies that wait to continue.
    bodies: WaitQueue,
}

impl Calls {
    pub(super) fn new(client: Arc<Client>, connections: Connections) -> Self {
        Self {
            client,
            connections,
            ..Self::default()
        }
    }

    /// Returns `true` if the client has reset too many requests.
    pub(super) fn exceed_resets(&self) -> bool {
        let resets = self.early_resets.load(Relaxed);
        resets >= MAX_EARLY_RESETS && 2 * resets >= self.requests.load(Relaxed)
    }

    /// Returns the number of response bytes that were produced and not sent.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.load(Relaxed)
    }

    /// Returns `true` if slow readers are disconnected, because the process holds too many unsent bytes.
    pub(super) fn are_pressed(&self) -> bool {
        self.connections.is_pressed()
    }

    /// Returns `true` if the connection or the process holds too many unsent bytes for a further response.
    ///
    /// While the process has space, the limit of the connection applies only if its client does not read.
    pub(super) fn are_full(&self) -> bool {
        let many = self.unsent() >= MAX_UNSENT;
        many && (self.are_pressed() || !self.reading.is_recent()) || self.connections.is_full()
    }

    /// Returns `true` if streamed responses must end, because the client does not read and space is short.
    pub(super) fn drop_streamed(&self) -> bool {
        self.unsent() > 0 && self.are_full()
    }

    /// Counts a response that was dropped.
    pub(super) fn count_dropped(&self) {
        self.connections.count_refused();
    }

    /// Returns `true` if the response of a further call is likely to find space.
    fn have_space(&self) -> bool {
        self.have_space_beside(self.unsent())
    }

    fn have_space_beside(&self, unsent: usize) -> bool {
        let running = self.running.load(Relaxed);
        let expected = running.saturating_mul(self.connections.typical_response());
        match (running, unsent) {
            (_, 0) if self.are_pressed() => true,
            _ if self.are_pressed() => false,
            (0, 0) => true,
            _ => unsent.saturating_add(expected) < MAX_EXPECTED,
        }
    }

    /// Returns the number of calls that wait until the client reads earlier responses, or until the service
    /// completes those.
    pub(super) fn waiting_for_space(&self) -> usize {
        let waiting = self.waiting.load(Relaxed);
        if waiting == 0 || self.have_space() {
            return 0;
        }
        waiting
    }

    /// Returns `true` if the connection cancels few of its calls.
    fn is_trusted(&self) -> bool {
        let (running, answered) = (self.running.load(Relaxed), self.answered.load(Relaxed));
        2 * self.early_resets.load(Relaxed) <= answered && running <= answered
    }

    /// Counts a call as begun, if it need not wait.
    fn try_begin(&self) -> bool {
        let Some(_first) = self.begins.try_first() else {
            return false;
        };
        let trusted = self.is_trusted();
        let affordable = (!trusted).then(|| self.client.try_affordable());
        affordable.is_none_or(|first| first.is_some()) && self.count_begin(trusted)
    }

    /// Counts a call as begun, if there is space and budget for it.
    fn count_begin(&self, trusted: bool) -> bool {
        let begins = self.have_space() && self.client.begin(trusted);
        if begins {
            self.running.fetch_add(1, Relaxed);
        }
        begins
    }

    /// Waits until a further call may begin, and counts it as begun.
    async fn begin(&self) {
        let first = self.begins.first().await;
        loop {
            while !self.have_space() {
                tokio::select! {
                    () = first.changed() => {}
                    () = self.connections.relieved() => {}
                }
            }
            let affordable = tokio::select! {
                biased;
                () = first.until(|| self.is_trusted()) => None,
                first = self.client.affordable() => Some(first),
            };
            if self.count_begin(affordable.is_none()) {
                return;
            }
        }
    }

    /// Waits until a response body may continue.
    async fn room(&self) {
        let first = self.bodies.first().await;
        while self.are_full() {
            tokio::select! {
                () = first.changed() => {}
                () = self.connections.relieved() => {}
            }
        }
    }

    fn end(&self, answered: bool) {
        self.running.fetch_sub(1, Relaxed);
        self.client.end(answered);
        if answered {
            self.answered.fetch_add(1, Relaxed);
        } else {
            self.connections.count_cancelled();
        }
        fence(SeqCst);
        if self.have_space() {
            self.begins.wake();
        }
    }

    /// Removes unsent bytes of the connection, and wakes the first call and the first body that can continue.
    fn remove_unsent(&self, bytes: usize) {
        let before = self.unsent.fetch_sub(bytes, Relaxed);
        self.connections.remove_unsent(bytes);
        // Of two concurrent changes, at least one sees both.
        fence(SeqCst);
        if !self.have_space_beside(before) && self.have_space() {
            self.begins.wake();
        }
        if !self.are_full() {
            self.bodies.wake();
        }
    }
}

/// A request and its call, until the response is complete or the client has cancelled it.
pub(super) struct Call {
    activity: Arc<Activity>,
    /// `true` once the service has the request.
    running: bool,
    /// `true` once the call needs nothing more of the service.
    ended: bool,
    wait: Wait,
}

impl Call {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.calls().requests.fetch_add(1, Relaxed);
        activity.calls().waiting.fetch_add(1, Relaxed);
        Self {
            activity,
            running: false,
            ended: false,
            wait: Wait::default(),
        }
    }

    /// Waits until the service may begin.
    pub(super) fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.running {
            let activity = &self.activity;
            let now = || activity.calls().try_begin();
            let begin = async |activity: Arc<Activity>| activity.calls().begin().await;
            ready!(self.wait.poll(cx, now, || begin(Arc::clone(activity))));
            self.running = true;
            activity.calls().waiting.fetch_sub(1, Relaxed);
        }
        Poll::Ready(())
    }

    /// Records the begin of the response, with its size if that is known. Returns `false` if the response
    /// must be dropped, as too many bytes are unsent already.
    pub(super) fn respond(&self, size: Option<u64>) -> bool {
        let calls = self.activity.calls();
        if let Some(size) = size {
            calls.connections.record_response(size);
        }
        let accepted = !calls.are_full();
        if !accepted {
            calls.count_dropped();
        }
        accepted
    }

    /// Ends a call that the client has not cancelled.
    pub(super) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let calls = self.activity.calls();
        // A panic of the service is not the client's doing.
        let answered = self.ended || std::thread::panicking();
        if !answered && self.activity.is_multiplexed() {
            calls.early_resets.fetch_add(1, Relaxed);
        }
        if self.running {
            calls.end(answered);
        } else {
            calls.waiting.fetch_sub(1, Relaxed);
        }
    }
}

/// Waits in `wait` until a response body of the connection may continue.
pub(super) fn poll_room(
    wait: &mut Wait,
    activity: &Arc<Activity>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let room = async |activity: Arc<Activity>| activity.calls().room().await;
    let now = || !activity.calls().are_full();
    wait.poll(cx, now, || room(Arc::clone(activity)))
}

/// Unsent bytes of a response, counted until they are sent or dropped.
#[derive(Debug)]
pub(super) struct Unsent {
    activity: Arc<Activity>,
    bytes: usize,
}

impl Unsent {
    pub(super) fn new(activity: Arc<Activity>, bytes: usize) -> Self {
        let calls = activity.calls();
        if calls.unsent.fetch_add(bytes, Relaxed) == 0 {
            calls.reading.record_sign();
        }
        calls.connections.add_unsent(bytes);
        Self { activity, bytes }
    }

    /// Counts a part of a streamed response, of `bytes` bytes.
    pub(super) fn streamed(activity: Arc<Activity>, bytes: usize) -> Self {
        Self::new(activity, bytes.max(MIN_STREAMED))
    }

    /// Records that `count` bytes were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.activity.calls().reading.record_sent(count);
        self.release(count);
    }

    fn release(&mut self, count: usize) {
        let count = count.min(self.bytes);
        self.bytes -= count;
        self.activity.calls().remove_unsent(count);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests;
