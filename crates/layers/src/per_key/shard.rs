//! A part of the map: its entries, and the order in which they are looked at for eviction.
//!
//! The order is that of a clock with a second chance (CLOCK): a hand goes round the keys, and clears the
//! mark of each entry that was used since the last round. An entry without the mark was used least
//! recently. A new entry has no mark, so keys that come once leave before keys that come again.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    mem,
    time::Duration,
};

use tokio::time::Instant;

use super::keyed::{Keyed, Retention};
use crate::sync::Arc;

/// Maximum number of entries that are looked at to find one that can be evicted.
pub(super) const LOOKS: usize = 8;
/// Number of entries that each new key checks for idleness.
const SWEEP: usize = 2;

/// A key with its hash, which is computed once per call.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct HashedKey<K> {
    // First, so that the comparison of keys with different hashes ends here.
    pub(super) hash: u64,
    pub(super) key: K,
}

impl<K> Hash for HashedKey<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Returns the hash of a [`HashedKey`].
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        // Only the shard's map uses this hasher, and `HashedKey` writes a `u64`.
        unreachable!("a hashed key writes its hash");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

struct Entry<L> {
    layer: Arc<L>,
    /// The entry was used since the hand passed it.
    used: bool,
    /// A time after the last use: the last time at which the hand found `used`, or the creation.
    last_seen: Instant,
}

/// An entry that has left the map. The caller drops the layer after unlocking.
pub(super) struct Evicted<L> {
    pub(super) layer: Arc<L>,
    /// The state had counts, which are lost.
    pub(super) had_counts: bool,
}

pub(super) struct Shard<K, L> {
    entries: HashMap<HashedKey<K>, Entry<L>, BuildHasherDefault<KeyHasher>>,
    /// The keys of all entries, in the order of the hand.
    clock: Vec<HashedKey<K>>,
    hand: usize,
}

impl<K, L> Shard<K, L> {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::default(),
            clock: Vec::new(),
            hand: 0,
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.clock.iter().map(|hashed| &hashed.key)
    }
}

impl<K: Eq + Clone, L> Shard<K, L> {
    /// Returns the layer of `key`, and marks the entry as used.
    #[inline]
    pub(super) fn use_layer(&mut self, key: &HashedKey<K>) -> Option<Arc<L>> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        Some(Arc::clone(&entry.layer))
    }

    /// Returns the layer of `key`.
    pub(super) fn layer(&self, key: &HashedKey<K>) -> Option<&L> {
        self.entries.get(key).map(|entry| &*entry.layer)
    }

    /// Adds an entry for a key that has none.
    pub(super) fn insert(&mut self, key: HashedKey<K>, layer: Arc<L>, now: Instant) {
        self.clock.push(key.clone());
        let entry = Entry {
            layer,
            used: false,
            last_seen: now,
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, index: usize) -> Option<Arc<L>> {
        let key = self.clock.swap_remove(index);
        self.entries.remove(&key).map(|entry| entry.layer)
    }
}

impl<K: Eq + Clone, L: Keyed> Shard<K, L> {
    /// Evicts the entry that is worth least among the next ones of the hand. Returns `None` if all of
    /// them must stay.
    pub(super) fn evict(&mut self, now: Instant, idle_after: Duration) -> Option<Evicted<L>> {
        let mut least: Option<(Worth, usize)> = None;
        for _ in 0..LOOKS.min(self.clock.len()) {
            let index = self.next_index();
            let Some(worth) = self.look(index, now, idle_after) else {
                continue;
            };
            if least.is_none_or(|(least, _)| worth < least) {
                least = Some((worth, index));
            }
            if worth.is_least() {
                break;
            }
        }
        let (worth, index) = least?;
        let layer = self.remove(index)?;
        Some(Evicted {
            layer,
            had_counts: worth >= Worth::Counts { used: false },
        })
    }

    /// Removes idle entries among the next ones of the hand.
    pub(super) fn sweep(&mut self, now: Instant, idle_after: Duration) -> Vec<Arc<L>> {
        let mut idle = Vec::new();
        for _ in 0..SWEEP.min(self.clock.len()) {
            let index = self.next_index();
            if self.look(index, now, idle_after) == Some(Worth::Idle) {
                idle.extend(self.remove(index));
                self.hand = index;
            }
        }
        idle
    }

    /// Returns the worth of an entry, or `None` if the entry must stay. Clears the mark of the entry.
    fn look(&mut self, index: usize, now: Instant, idle_after: Duration) -> Option<Worth> {
        let entry = self.entries.get_mut(&self.clock[index])?;
        let used = mem::take(&mut entry.used);
        if used {
            entry.last_seen = now;
        }
        let is_idle = now.saturating_duration_since(entry.last_seen) >= idle_after;
        // While a call has the layer, the entry has a second reference.
        if Arc::strong_count(&entry.layer) > 1 {
            return None;
        }
        match entry.layer.retention() {
            Retention::Held => None,
            _ if is_idle => Some(Worth::Idle),
            Retention::Lossless => Some(Worth::Lossless { used }),
            Retention::Counts => Some(Worth::Counts { used }),
            Retention::UntilIdle => None,
        }
    }

    fn next_index(&mut self) -> usize {
        let index = if self.hand < self.clock.len() {
            self.hand
        } else {
            0
        };
        self.hand = index + 1;
        index
    }
}

/// The worth of an entry that can be evicted. The entry with the least worth goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Not used for the time after which an entry is idle.
    Idle,
    Lossless {
        used: bool,
    },
    Counts {
        used: bool,
    },
}

impl Worth {
    /// Returns `true` if no other entry can be worth less, except an idle one.
    fn is_least(self) -> bool {
        self <= Self::Lossless { used: false }
    }
}
