//! Bounds the calls of one connection: those that the client resets, and those whose responses it does not
//! read.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::{Connections, activity::Activity, clients::Client, reading::Reading};

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

/// Time between two attempts to begin a call or to continue a body.
const RETRY: Duration = Duration::from_millis(10);

/// The calls of one connection.
#[derive(Debug, Default)]
pub(super) struct Calls {
    client: Arc<Client>,
    connections: Connections,
    requests: AtomicUsize,
    /// Number of calls in flight that the service has begun.
    running: AtomicUsize,
    answered: AtomicUsize,
    /// Number of requests that the client reset before the end of the call.
    early_resets: AtomicUsize,
    /// Number of response bytes that were produced and not sent.
    unsent: AtomicUsize,
    reading: Reading,
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
        let (running, unsent) = (self.running.load(Relaxed), self.unsent());
        let expected = running.saturating_mul(self.connections.typical_response());
        match (running, unsent) {
            (_, 0) if self.are_pressed() => true,
            _ if self.are_pressed() => false,
            (0, 0) => true,
            _ => unsent.saturating_add(expected) < MAX_EXPECTED,
        }
    }

    fn try_begin(&self) -> bool {
        let (running, answered) = (self.running.load(Relaxed), self.answered.load(Relaxed));
        let trusted = 2 * self.early_resets.load(Relaxed) <= answered && running <= answered;
        let begins = self.have_space() && self.client.begin(trusted);
        if begins {
            self.running.fetch_add(1, Relaxed);
        }
        begins
    }

    fn end(&self, answered: bool) {
        self.running.fetch_sub(1, Relaxed);
        self.client.end(answered);
        if answered {
            self.answered.fetch_add(1, Relaxed);
        } else {
            self.connections.count_cancelled();
        }
    }
}

/// A request and its call, until the response is complete or the client has cancelled it.
#[derive(Debug)]
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
        Self {
            activity,
            running: false,
            ended: false,
            wait: Wait::default(),
        }
    }

    /// Waits until the service may begin.
    pub(super) fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let calls = self.activity.calls();
        if !self.running {
            ready!(self.wait.poll_until(cx, || calls.try_begin()));
            self.running = true;
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
        }
    }
}

/// A wait for a condition that nothing announces. Costs nothing while the condition holds.
#[derive(Debug, Default)]
pub(super) struct Wait(Option<Pin<Box<Sleep>>>);

impl Wait {
    /// Waits until `condition` is `true`.
    pub(super) fn poll_until(
        &mut self,
        cx: &mut Context<'_>,
        condition: impl Fn() -> bool,
    ) -> Poll<()> {
        while !condition() {
            let timer = self.0.get_or_insert_with(|| Box::pin(sleep(RETRY)));
            ready!(timer.as_mut().poll(cx));
            self.0 = None;
        }
        self.0 = None;
        Poll::Ready(())
    }
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
        let calls = self.activity.calls();
        calls.unsent.fetch_sub(count, Relaxed);
        calls.connections.remove_unsent(count);
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, advance};

    use super::{super::reading::PROGRESS, *};

    fn activity() -> Arc<Activity> {
        let activity = Activity::default();
        activity.begin_http(true);
        Arc::new(activity)
    }

    fn reset(activity: &Arc<Activity>) {
        drop(Call::new(Arc::clone(activity)));
    }

    async fn begin(activity: &Arc<Activity>) -> Call {
        let mut call = Call::new(Arc::clone(activity));
        poll_fn(|cx| call.poll_begin(cx)).await;
        call
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d41_allows_200_early_resets_and_half_of_the_requests() {
        let activity = activity();
        (0..199).for_each(|_| reset(&activity));
        assert!(!activity.calls().exceed_resets());
        reset(&activity);
        assert!(activity.calls().exceed_resets());
        for _ in 0..201 {
            let call = begin(&activity).await;
            assert!(call.respond(Some(1)));
            call.end();
        }
        assert!(!activity.calls().exceed_resets());
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d42_cancelled_calls_are_counted_answered_ones_are_not() {
        let activity = activity();
        let connections = &activity.calls().connections;
        drop(begin(&activity).await);
        begin(&activity).await.end();
        reset(&activity);
        assert_eq!(connections.cancelled(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d41_a_reset_after_the_head_is_early_until_the_body_ends() {
        let activity = activity();
        for _ in 0..200 {
            let call = begin(&activity).await;
            assert!(call.respond(None));
        }
        assert!(activity.calls().exceed_resets());
        assert_eq!(activity.calls().connections.cancelled(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d43_a_call_waits_while_the_client_does_not_read() {
        let activity = activity();
        let unsent = Unsent::new(Arc::clone(&activity), MAX_EXPECTED);
        let start = Instant::now();
        let reading = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(unsent);
        };
        let (_call, ()) = tokio::join!(begin(&activity), reading);
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d43_drops_responses_above_the_limits() {
        let activity = activity();
        let unsent = Unsent::new(Arc::clone(&activity), MAX_UNSENT - 1);
        assert!(Call::new(Arc::clone(&activity)).respond(Some(1)));
        let last = Unsent::new(Arc::clone(&activity), 1);
        advance(Duration::from_secs(1)).await;
        assert!(!Call::new(Arc::clone(&activity)).respond(Some(1)));
        assert_eq!(activity.calls().connections.refused(), 1);
        drop((unsent, last));
        assert!(Call::new(Arc::clone(&activity)).respond(Some(1)));
        assert_eq!(activity.calls().connections.unsent(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d43_a_client_that_reads_gets_all_responses() {
        let activity = activity();
        let responds = || Call::new(Arc::clone(&activity)).respond(Some(1));
        let mut unsent = Unsent::new(Arc::clone(&activity), 3 * MAX_UNSENT);
        for _ in 0..100 {
            advance(Duration::from_millis(900)).await;
            assert!(responds());
            unsent.sent(PROGRESS);
        }
        unsent.sent(PROGRESS - 1);
        advance(Duration::from_secs(1)).await;
        assert!(!responds(), "less than the least progress");
        unsent.sent(1);
        assert!(responds());
        let _others = Unsent::new(Arc::clone(&activity), 5 * MAX_UNSENT);
        assert!(responds());
        let _more = Unsent::new(Arc::clone(&activity), MAX_UNSENT);
        assert!(!responds(), "the process holds half of its limit");
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d43_unread_parts_of_streamed_responses_count_256_kib() {
        let activity = activity();
        let part = |bytes| Unsent::streamed(Arc::clone(&activity), bytes);
        let mut parts: Vec<_> = (0..63).map(|_| part(10)).collect();
        advance(Duration::from_secs(1)).await;
        assert!(!activity.calls().drop_streamed());
        parts.push(part(10));
        assert!(activity.calls().drop_streamed());
        parts.truncate(1);
        parts[0].sent(10);
        assert_eq!(activity.calls().unsent(), MIN_STREAMED - 10);
        parts.clear();
        assert_eq!(activity.calls().unsent(), 0);
        let long = part(MIN_STREAMED + 1);
        assert_eq!(activity.calls().unsent(), MIN_STREAMED + 1);
        drop(long);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_d43_calls_in_flight_count_with_the_typical_response() {
        let activity = activity();
        for _ in 0..100 {
            activity.calls().connections.record_response(1 << 20);
        }
        let mut begun = Vec::new();
        for _ in 0..20 {
            let mut call = Call::new(Arc::clone(&activity));
            let begins = poll_fn(|cx| Poll::Ready(call.poll_begin(cx).is_ready())).await;
            begun.push((call, begins));
        }
        let begun = begun.iter().filter(|(_, begins)| *begins).count();
        assert!((8..=9).contains(&begun), "{begun} calls began");
    }
}
