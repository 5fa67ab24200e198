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
pub(super) struct Woken {
    bits: Box<[AtomicU64]>,
    task: AtomicWaker,
    /// The task will look at the bits before it sleeps: it need not be woken.
    awake: AtomicBool,
}

impl Woken {
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
pub(super) struct Seat {
    woken: Arc<Woken>,
    node: usize,
    pub(super) recorder: Recorder,
}

impl Wake for Seat {
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

impl tower_fanout_layers::EventSink for Seat {
    fn on(&self, event: tower_fanout_layers::Event) {
        self.recorder.on(self.node, event);
    }
}

/// The seats of all nodes of a plan. They are kept from run to run, so that a run allocates none.
pub(super) struct Seats {
    pub(super) woken: Arc<Woken>,
    seats: Vec<(Arc<Seat>, Waker)>,
    watch: Watch,
}

impl Seats {
    pub(super) fn new(watch: Watch) -> Self {
        let woken = Arc::new(Woken::new(watch.names.len()));
        let seats = (0..watch.names.len())
            .map(|node| seat(&woken, node, &watch))
            .collect();
        Self {
            woken,
            seats,
            watch,
        }
    }

    pub(super) fn seat(&self, node: usize) -> &Arc<Seat> {
        &self.seats[node].0
    }

    pub(super) fn waker(&self, node: usize) -> &Waker {
        &self.seats[node].1
    }

    /// Makes them fit for another run: a seat that somebody still holds is given up to them.
    pub(super) fn reset(&mut self) {
        self.woken.forget();
        for node in 0..self.seats.len() {
            // One is ours, and one our waker's.
            if Arc::strong_count(&self.seats[node].0) > 2 {
                let fresh = seat(&self.woken, node, &self.watch);
                drop(mem::replace(&mut self.seats[node], fresh));
            }
        }
    }
}

fn seat(woken: &Arc<Woken>, node: usize, watch: &Watch) -> (Arc<Seat>, Waker) {
    let seat = Arc::new(Seat {
        woken: Arc::clone(woken),
        node,
        recorder: Recorder::new(watch.clone()),
    });
    (Arc::clone(&seat), Waker::from(seat))
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
        let seats = Seats::new(Watch {
            observer: None,
            names: Arc::new(["users".into()]),
        });
        let (waker, seen) = (seats.waker(0).clone(), Arc::new(AtomicUsize::new(0)));
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
            seats.woken.awake();
            if seats.woken.take(0) != 0 && seen.fetch_add(1, Ordering::Release) + 1 == WAKES {
                return Poll::Ready(());
            }
            seats.woken.sleep(cx);
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
