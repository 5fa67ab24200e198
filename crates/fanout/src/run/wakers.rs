//! Who wakes what: each branch of a run has a waker of its own, so that only those that were woken
//! are polled.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures_util::task::AtomicWaker;

use super::recorder::{Recorder, Watch};

/// Which branches were woken, and the task that polls them.
#[derive(Debug)]
pub(super) struct WakeSet {
    bits: Box<[AtomicU64]>,
    task: AtomicWaker,
    /// The task will look at the bits before it sleeps: it need not be woken.
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

    /// The task runs.
    pub(super) fn awake(&self) {
        self.awake.store(true, Ordering::Relaxed);
    }

    /// The task sleeps, unless somebody was woken while it ran: then it is to come back.
    ///
    /// Who wakes sets a bit and then looks whether the task is awake; the task says that it is not and
    /// then looks at the bits. All of it is in one order, so one of the two sees the other.
    pub(super) fn sleep(&self, cx: &Context<'_>) {
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

    /// Takes out who was woken among the 64 branches from `64 * word` on.
    pub(super) fn take(&self, word: usize) -> u64 {
        let bits = &self.bits[word];
        // Most words are empty, and looking costs less than taking.
        match bits.load(Ordering::Relaxed) {
            0 => 0,
            _ => bits.swap(0, Ordering::Acquire),
        }
    }

    fn forget(&self) {
        self.task.take();
        self.awake.store(false, Ordering::Relaxed);
        for bits in &self.bits {
            bits.store(0, Ordering::Relaxed);
        }
    }
}

/// One branch's place: it is woken here, and tells here what happens to it.
pub(super) struct NodeWaker {
    woken: Arc<WakeSet>,
    node: usize,
    pub(super) recorder: Recorder,
}

impl Wake for NodeWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let bit = 1 << (self.node % 64);
        self.woken.bits[self.node / 64].fetch_or(bit, Ordering::SeqCst);
        if !self.woken.awake.load(Ordering::SeqCst) {
            self.woken.task.wake();
        }
    }
}

impl tower_fanout_layers::EventSink for NodeWaker {
    fn on(&self, event: tower_fanout_layers::Event) {
        self.recorder.on(self.node, event);
    }
}

/// The seats of all nodes of a plan. They are kept from run to run, so that a run allocates none.
pub(super) struct NodeWakers {
    pub(super) woken: Arc<WakeSet>,
    wakers: Vec<(Arc<NodeWaker>, Waker)>,
    watch: Watch,
}

impl NodeWakers {
    pub(super) fn new(watch: Watch) -> Self {
        let woken = Arc::new(WakeSet::new(watch.names.len()));
        let wakers = (0..watch.names.len())
            .map(|node| node_waker(&woken, node, &watch))
            .collect();
        Self {
            woken,
            wakers,
            watch,
        }
    }

    pub(super) fn node_waker(&self, node: usize) -> &Arc<NodeWaker> {
        &self.wakers[node].0
    }

    pub(super) fn waker(&self, node: usize) -> &Waker {
        &self.wakers[node].1
    }

    /// Makes them fit for another run: a seat that somebody still holds is given up to them.
    pub(super) fn reset(&mut self) {
        self.woken.forget();
        for node in 0..self.wakers.len() {
            // One is ours, and one our waker's.
            if Arc::strong_count(&self.wakers[node].0) > 2 {
                let fresh = node_waker(&self.woken, node, &self.watch);
                drop(mem::replace(&mut self.wakers[node], fresh));
            }
        }
    }
}

fn node_waker(woken: &Arc<WakeSet>, node: usize, watch: &Watch) -> (Arc<NodeWaker>, Waker) {
    let node_waker = Arc::new(NodeWaker {
        woken: Arc::clone(woken),
        node,
        recorder: Recorder::new(watch.clone()),
    });
    (Arc::clone(&node_waker), Waker::from(node_waker))
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn, hint, sync::atomic::AtomicUsize, task::Poll, thread, time::Duration,
    };

    use super::*;

    const WAKES: usize = 100_000;

    /// Another thread wakes a seat, with no regard to whether the task runs or sleeps, and does so
    /// again when the task has seen it: nothing else would make up for a wake that is lost.
    #[test]
    fn no_wake_from_another_thread_is_lost() {
        let wakers = NodeWakers::new(Watch {
            observer: None,
            names: Arc::new(["users".into()]),
        });
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
            wakers.woken.awake();
            if wakers.woken.take(0) != 0 && seen.fetch_add(1, Ordering::Release) + 1 == WAKES {
                return Poll::Ready(());
            }
            wakers.woken.sleep(cx);
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
