//! Tests of the bounds and waits of calls.

use std::{future::poll_fn, sync::Mutex, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};

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
        sleep(Duration::from_secs(5)).await;
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

/// Calls that wait on tasks of their own, and what became of them.
#[derive(Default)]
struct Waiting {
    tasks: JoinSet<()>,
    polls: Arc<AtomicUsize>,
    /// The calls that have begun, by the order in which they were added.
    begun: Arc<Mutex<Vec<(usize, Call)>>>,
    added: usize,
}

impl Waiting {
    async fn add(&mut self, count: usize, activity: &Arc<Activity>) {
        for _ in 0..count {
            let mut call = Call::new(Arc::clone(activity));
            let (polls, begun, number) =
                (Arc::clone(&self.polls), Arc::clone(&self.begun), self.added);
            self.added += 1;
            self.tasks.spawn(async move {
                let begin = |cx: &mut Context<'_>| {
                    polls.fetch_add(1, Relaxed);
                    call.poll_begin(cx)
                };
                poll_fn(begin).await;
                begun.lock().unwrap().push((number, call));
            });
        }
        sleep(Duration::from_millis(1)).await;
    }

    fn polls(&self) -> usize {
        self.polls.load(Relaxed)
    }

    fn take_begun(&self) -> Vec<(usize, Call)> {
        std::mem::take(&mut *self.begun.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn fault_d43_calls_that_wait_for_space_are_woken_only_by_space() {
    let (activity, mut waiting) = (activity(), Waiting::default());
    let mut unsent = Unsent::new(Arc::clone(&activity), MAX_EXPECTED + 600_000);
    waiting.add(95, &activity).await;
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        unsent.sent(1_000);
    }
    assert_eq!((waiting.polls(), waiting.take_begun().len()), (95, 0));
    unsent.sent(1);
    sleep(Duration::from_millis(1)).await;
    let begun: Vec<_> = waiting.take_begun().iter().map(|(call, _)| *call).collect();
    assert_eq!(begun, (0..95).collect::<Vec<_>>(), "in order of arrival");
    assert!(waiting.polls() <= 3 * 95, "{} polls", waiting.polls());
}

#[tokio::test(start_paused = true)]
async fn fault_d43_a_call_that_is_reset_leaves_its_place_to_the_next() {
    let (activity, mut waiting) = (activity(), Waiting::default());
    let unsent = Unsent::new(Arc::clone(&activity), MAX_EXPECTED);
    waiting.add(1, &activity).await;
    let (mut tasks, begun) = (waiting.tasks, Arc::clone(&waiting.begun));
    waiting.tasks = JoinSet::new();
    waiting.add(1, &activity).await;
    drop(unsent);
    // The first call is woken, and reset before it runs.
    tasks.abort_all();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(begun.lock().unwrap().len(), 1);
    assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
    assert_eq!(activity.calls().waiting.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn fault_d42_calls_that_wait_for_the_budget_are_woken_once_each() {
    let client = Arc::new(Client::default());
    for _ in 0..400 {
        client.begin(true);
        client.end(false);
    }
    let mut waiting = Waiting::default();
    for _ in 0..60 {
        let calls = Calls::new(Arc::clone(&client), Connections::default());
        let activity = Arc::new(Activity::new(calls));
        activity.begin_http(true);
        // Two resets of three requests, so that no connection is trusted.
        (0..2).for_each(|_| reset(&activity));
        waiting.add(95, &activity).await;
    }
    let queued = waiting.polls();
    assert_eq!(queued, 60 * 95);
    let (start, mut cancelled) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_millis(10)).await;
        cancelled += waiting.take_begun().len();
    }
    // The budget was 200 below zero.
    assert!((900..=1_010).contains(&cancelled), "{cancelled} cancelled");
    let polls = waiting.polls() - queued;
    assert!(polls <= 4 * cancelled, "{polls} polls, {cancelled} calls");
}

#[tokio::test(start_paused = true)]
async fn fault_d42_a_call_begins_as_soon_as_an_answer_makes_its_connection_trusted() {
    let client = Arc::new(Client::default());
    for _ in 0..400 {
        client.begin(true);
        client.end(false);
    }
    let calls = Calls::new(Arc::clone(&client), Connections::default());
    let activity = Arc::new(Activity::new(calls));
    let (first, mut waiting) = (begin(&activity).await, Waiting::default());
    waiting.add(3, &activity).await;
    assert_eq!(waiting.take_begun().len(), 0);
    let start = Instant::now();
    first.end();
    sleep(Duration::from_millis(1)).await;
    let begun = waiting.take_begun();
    assert_eq!(begun.len(), 2, "one answer trusts two calls in flight");
    begun.into_iter().for_each(|(_, call)| call.end());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(waiting.take_begun().len(), 1);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn fault_d43_bodies_are_woken_when_the_process_has_space() {
    let connections = Connections::with_max_unsent(4 << 20);
    let activity = |connections: &Connections| {
        Arc::new(Activity::new(Calls::new(
            Arc::default(),
            connections.clone(),
        )))
    };
    let unread = Unsent::new(activity(&connections), 4 << 20);
    let (polls, mut bodies) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..50 {
        let (activity, polls) = (activity(&connections), Arc::clone(&polls));
        bodies.spawn(async move {
            let mut wait = Wait::default();
            let room = |cx: &mut Context<'_>| {
                polls.fetch_add(1, Relaxed);
                poll_room(&mut wait, &activity, cx)
            };
            poll_fn(room).await;
        });
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!((polls.load(Relaxed), bodies.len()), (50, 50));
    assert!(bodies.try_join_next().is_none());
    drop(unread);
    let start = Instant::now();
    while bodies.join_next().await.is_some() {}
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(polls.load(Relaxed) <= 3 * 50);
}

#[tokio::test(start_paused = true)]
async fn fault_d43_calls_of_all_connections_begin_when_the_process_is_relieved() {
    let connections = Connections::with_max_unsent(4 << 20);
    let activity = || {
        let calls = Calls::new(Arc::default(), connections.clone());
        Arc::new(Activity::new(calls))
    };
    let unread = Unsent::new(activity(), 2 << 20);
    let (mut waiting, mut held) = (Waiting::default(), Vec::new());
    for _ in 0..50 {
        let activity = activity();
        held.push(Unsent::new(Arc::clone(&activity), 1));
        waiting.add(2, &activity).await;
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!((waiting.polls(), waiting.take_begun().len()), (100, 0));
    drop(unread);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(waiting.take_begun().len(), 100);
    assert!(waiting.polls() <= 4 * 100, "{} polls", waiting.polls());
}
