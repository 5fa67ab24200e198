//! Wakers for the branches of a run. Each branch has its own, so that only woken branches are
//! polled.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Context,
};

use futures_util::task::{ArcWake, AtomicWaker, WakerRef, waker_ref};

use tower_fanout_layers::{BoxError, Events};

use super::recorder::Recorder;

/// The set of woken branches, and the task that polls them. Bit `n` of the set is branch `n`.
#[derive(Debug)]
pub(super) struct WakeSet {
    bits: Box<[AtomicU64]>,
    task: AtomicWaker,
    /// `true` while the task is sure to read the bits before it returns `Pending`. Then a wake need
    /// not wake the task.
    awake: AtomicBool,
}

impl WakeSet {
    fn new(branches: usize) -> Self {
        Self {
            bits: (0..branches.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            task: AtomicWaker::new(),
            awake: AtomicBool::new(false),
        }
    }

    /// Marks the task as running. Wakes from other threads then only set their bit.
    pub(super) fn mark_running(&self) {
        // No ordering is needed: a waker that reads the old value wakes the task once too often.
        self.awake.store(true, Ordering::Relaxed);
    }

    /// Marks the task as not running, before it returns `Pending`. If a branch was woken in the
    /// meantime, the task is woken at once.
    ///
    /// A waker sets its bit and then reads `awake`. The task clears `awake` and then reads the
    /// bits. All four operations are sequentially consistent, so at least one side sees the write
    /// of the other, and no wake is lost.
    pub(super) fn prepare_to_sleep(&self, cx: &Context<'_>) {
        // The task's waker is registered first: a waker that reads `awake == false` must find it.
        self.task.register(cx.waker());
        self.awake.store(false, Ordering::SeqCst);
        if self
            .bits
            .iter()
            .any(|bits| bits.load(Ordering::SeqCst) != 0)
        {
            cx.waker().wake_by_ref();
        }
    }

    /// Removes and returns the woken branches from `64 * word` to `64 * word + 63`, as a bit mask.
    pub(super) fn take(&self, word: usize) -> u64 {
        let bits = &self.bits[word];
        // Most words are 0, and a load is cheaper than a swap. The load may miss a bit that is set
        // concurrently; `prepare_to_sleep` finds it.
        match bits.load(Ordering::Relaxed) {
            0 => 0,
            _ => bits.swap(0, Ordering::Acquire),
        }
    }

    /// Clears all bits and drops the task's waker.
    fn clear(&self) {
        self.task.take();
        self.awake.store(false, Ordering::Relaxed);
        for bits in &self.bits {
            bits.store(0, Ordering::Relaxed);
        }
    }
}

/// The waker of one branch, which also receives the events of its layers.
pub(super) struct NodeWaker {
    wake_set: Arc<WakeSet>,
    node: usize,
    pub(super) recorder: Recorder,
}

impl ArcWake for NodeWaker {
    fn wake_by_ref(waker: &Arc<Self>) {
        let (wake_set, bit) = (&waker.wake_set, 1 << (waker.node % 64));
        // The bit must be set before `awake` is read: see `WakeSet::prepare_to_sleep`.
        wake_set.bits[waker.node / 64].fetch_or(bit, Ordering::SeqCst);
        if !wake_set.awake.load(Ordering::SeqCst) {
            wake_set.task.wake();
        }
    }
}

impl tower_fanout_layers::EventSink for NodeWaker {
    fn on(&self, event: tower_fanout_layers::Event) {
        self.recorder.on(event);
    }

    fn on_replaced(&self, error: &dyn Fn() -> BoxError) {
        self.recorder.on_replaced(error());
    }
}

/// The wakers of all nodes of a plan. They are reused by later runs, so that a run allocates none.
pub(super) struct NodeWakers {
    pub(super) wake_set: Arc<WakeSet>,
    wakers: Vec<Arc<NodeWaker>>,
    /// Handles to the wakers as receivers of events.
    events: Vec<Events>,
}

impl NodeWakers {
    pub(super) fn new(nodes: usize) -> Self {
        let wake_set = Arc::new(WakeSet::new(nodes));
        let wakers: Vec<_> = (0..nodes).map(|node| node_waker(&wake_set, node)).collect();
        Self {
            wake_set,
            events: wakers
                .iter()
                .map(|waker| Events::new(waker.clone()))
                .collect(),
            wakers,
        }
    }

    pub(super) fn node_waker(&self, node: usize) -> &Arc<NodeWaker> {
        &self.wakers[node]
    }

    /// Returns the receiver of the events of `node`.
    pub(super) fn events(&self, node: usize) -> &Events {
        &self.events[node]
    }

    pub(super) fn waker(&self, node: usize) -> WakerRef<'_> {
        waker_ref(&self.wakers[node])
    }

    /// Prepares the wakers for another run. A waker that is still held elsewhere is replaced.
    pub(super) fn reset(&mut self) {
        // A clone of a replaced waker can still set its bit. That only polls a branch once too
        // often; its events go to the old recorder.
        self.wake_set.clear();
        for (node, (waker, events)) in self.wakers.iter_mut().zip(&mut self.events).enumerate() {
            // One reference is that of `events`.
            if Arc::strong_count(waker) > 2 || events.is_shared() {
                *waker = node_waker(&self.wake_set, node);
                *events = Events::new(waker.clone());
            }
        }
    }
}

fn node_waker(wake_set: &Arc<WakeSet>, node: usize) -> Arc<NodeWaker> {
    Arc::new(NodeWaker {
        wake_set: Arc::clone(wake_set),
        node,
        recorder: Recorder::default(),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn, hint, sync::atomic::AtomicUsize, task::Poll, thread, time::Duration,
    };

    use super::*;

    const WAKES: usize = 100_000;

    /// A second thread wakes a branch at any time, whether the task runs or sleeps. It waits until
    /// the task has seen the wake before it wakes again, so no later wake makes up for a lost one.
    #[test]
    fn no_wake_from_another_thread_is_lost() {
        let wakers = NodeWakers::new(1);
        let (waker, seen) = (wakers.waker(0).clone(), Arc::new(AtomicUsize::new(0)));
        let watched = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            for wakes in 0..WAKES {
                waker.wake_by_ref();
                while watched.load(Ordering::Acquire) <= wakes {
                    hint::spin_loop();
                }
            }
        });
        let task = poll_fn(|cx| {
            wakers.wake_set.mark_running();
            if wakers.wake_set.take(0) != 0 && seen.fetch_add(1, Ordering::Release) + 1 == WAKES {
                return Poll::Ready(());
            }
            wakers.wake_set.prepare_to_sleep(cx);
            Poll::Pending
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let all = async { tokio::time::timeout(Duration::from_secs(20), task).await };
        let lost = runtime.unwrap().block_on(all).is_err();
        assert!(!lost, "a wake was lost");
        thread.join().unwrap();
    }
}
