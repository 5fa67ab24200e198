//! What a run works with, kept for the next one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    End,
    ready::Ready,
    seats::{Seats, Watch},
};

/// More runs at once than this make rooms of their own.
const KEPT: usize = 64;

/// One node's place in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub(super) state: State,
    /// Dependencies that have not ended.
    pub(super) waits_for: u32,
    /// What is expected of the longest chain of nodes that come after it and that it makes room for.
    pub(super) after: Duration,
    /// When it is ended; none for the end of the run.
    pub(super) due: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// It was not asked for, or has ended.
    #[default]
    Over,
    /// It has not been started.
    Waits,
    /// It runs.
    Runs,
}

/// What a run works with: none of it is allocated anew for each.
pub(super) struct Room {
    pub(super) seats: Seats,
    pub(super) slots: Vec<Slot>,
    pub(super) ready: Ready,
    /// Ends that were not taken note of yet.
    pub(super) ends: VecDeque<(usize, End)>,
    /// Nodes that ended, and were not told of yet.
    pub(super) told: VecDeque<usize>,
}

/// Rooms that are not in use.
pub(crate) struct Rooms {
    watch: Watch,
    kept: Mutex<Vec<Room>>,
}

impl Rooms {
    pub(crate) fn new(
        names: Arc<[Box<str>]>,
        observer: Option<Arc<dyn super::RunObserver>>,
    ) -> Self {
        Self {
            watch: Watch { observer, names },
            kept: Mutex::default(),
        }
    }

    pub(super) fn observer(&self) -> Option<&dyn super::RunObserver> {
        self.watch.observer.as_deref()
    }

    pub(super) fn take(&self) -> Room {
        let kept = self.lock().pop();
        kept.unwrap_or_else(|| {
            let nodes = self.watch.names.len();
            Room {
                seats: Seats::new(self.watch.clone()),
                slots: vec![Slot::default(); nodes],
                ready: Ready::default(),
                ends: VecDeque::with_capacity(nodes),
                told: VecDeque::with_capacity(nodes),
            }
        })
    }

    /// Takes back a room in which nothing runs any more.
    pub(super) fn put_back(&self, mut room: Room) {
        room.seats.reset();
        room.slots.fill(Slot::default());
        room.ends.clear();
        room.told.clear();
        let mut kept = self.lock();
        if kept.len() < KEPT {
            kept.push(room);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Room>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
